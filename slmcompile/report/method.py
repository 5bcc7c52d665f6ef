"""The training method in words, for report and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.report.text import is_number, number


def fine_tuned(train: Mapping[str, Any]) -> str:
    """``fine-tuned with LoRA (rank 16)``; a method that is not known is not named."""
    method = train.get("method")
    if method == "full":
        return "fine-tuned in full (all weights)"
    name = {"lora": "LoRA", "qlora": "QLoRA"}.get(str(method))
    if name is None:
        return "fine-tuned"
    details = [_rank(train.get("lora") or {}), _base(train.get("quantization") or {})]
    known = ", ".join(detail for detail in details if detail)
    return f"fine-tuned with {name}" + (f" ({known})" if known else "")


def overridden(overrides: Sequence[str]) -> str:
    """A sentence about what the run had beside the recipe's file; empty where it had nothing."""
    return f"With the overrides {' '.join(overrides)} of this run." if overrides else ""


def made_one(train: Mapping[str, Any]) -> str:
    """What became of the adapter before the export; full training has none."""
    return {
        "full": "",
        "qlora": "merged into the full-precision base and ",
    }.get(str(train.get("method")), "merged and ")


def _rank(lora: Mapping[str, Any]) -> str:
    rank = lora.get("r")
    return f"rank {number(rank, 0)}" if is_number(rank) else ""


def _base(quantization: Mapping[str, Any]) -> str:
    kind = str(quantization.get("bnb_4bit_quant_type", "")).upper()
    return f"over a base in {kind}" if kind else ""
