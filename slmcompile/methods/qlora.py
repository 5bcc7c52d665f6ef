"""QLoRA: LoRA over a base that is held in 4 bits while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from slmcompile.methods import lora
from slmcompile.methods.keys import MethodName
from slmcompile.methods.lora import LoraTrain
from slmcompile.methods.method import MemoryTerms, Method
from slmcompile.registry.section import Section
from slmcompile.shapes.architecture import Architecture
from slmcompile.shapes.interval import Interval


class Quantization(Section):
    """The frozen base while QLoRA trains (arXiv:2305.14314), as ``BitsAndBytesConfig`` names it.

    It is what the adapter learns over and nothing more: every artifact is the adapter merged into
    the base at full precision, or beside the base of a target that asks for it.
    """

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field(
        "nf4", description="4-bit data type: NormalFloat or floating point."
    )
    bnb_4bit_use_double_quant: bool = Field(
        True, description="Also quantises the scales of the blocks."
    )
    bnb_4bit_compute_dtype: Literal["float32", "bfloat16"] | None = Field(
        None, description="What a 4-bit layer multiplies in; null follows train.precision."
    )


class QLoraTrain(LoraTrain):
    """A low-rank adapter is trained over a base that is held in 4 bits."""

    method: MethodName = "qlora"
    quantization: Quantization = Field(
        Quantization(), description="How the base is held in training."
    )


def quantised_base(train: QLoraTrain, model: Architecture) -> float:
    """Bytes: half a byte a weight of a linear layer, and blocks of 64 with a scale each."""
    scale = 1 + 4 / 256 if train.quantization.bnb_4bit_use_double_quant else 4
    quantised = model.linear_parameters * (0.5 + scale / 64)
    rest = model.parameters - model.linear_parameters
    return quantised + rest * (4 if train.precision == "fp32" else 2)


def base_held_in(train: Mapping[str, Any]) -> str:
    """``NF4``."""
    return str((train.get("quantization") or {}).get("bnb_4bit_quant_type", "")).upper()


def details(train: Mapping[str, Any]) -> list[str]:
    """``rank 16`` and ``over a base in NF4``."""
    kind = base_held_in(train)
    return [*lora.details(train), *([f"over a base in {kind}"] if kind else [])]


LOADING = Interval(0.25, 0.6)
"""What loading in 4 bits leaves behind, as a share of the file; measured."""

ENTRIES = (
    Method(
        name="qlora",
        title="QLoRA",
        section=QLoraTrain,
        program="slmcompile.training.methods.qlora:QLORA",
        writes="adapter",
        packages=("torch", "transformers", "peft", "bitsandbytes"),
        usual_rate=lora.USUAL_RATE,
        trainable=lora.trainable,
        memory=MemoryTerms(
            base=quantised_base,
            read_as=lambda _: None,
            kept_in_all=lora.kept,
            beside=lora.beside,
            reached=lora.reached,
            left_by_loading=LOADING,
        ),
        details=details,
        alone=lora.alone,
        forms=lora.FORMS,
        only_merged=lora.only_merged,
        base_held_in=base_held_in,
        made_one="merged into the full-precision base and ",
    ),
)
