"""LoRA: PEFT's adapter over a base in the precision that it is computed in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from slmcompile.methods.lora import LoraTrain
from slmcompile.models.adapter import attach, read_adapter, write_adapter
from slmcompile.models.base_model import load_base_model
from slmcompile.models.merge import merged_by_peft


class Lora:
    """An adapter in PEFT's format is written, and merged by PEFT."""

    def open(self, config: Any, base: Path, device: torch.device) -> Any:
        """Frozen, so it may be rounded."""
        return load_base_model(base, config.precision, device)

    def attach(self, model: Any, config: LoraTrain, adapter: str) -> Any:
        """The PeftModel around it."""
        return attach(model, config.lora, adapter)

    def write(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        base: Path,  # noqa: ARG002
        out: Path,
        adapter: str,
    ) -> None:
        """PEFT's two files."""
        write_adapter(model, weights, out, adapter)

    def read(
        self, model: Any, names: Collection[str], trained: Path, adapter: str
    ) -> Mapping[str, torch.Tensor]:
        """See ``models.adapter.read_adapter``."""
        return read_adapter(model, names, trained, adapter)

    def apply(self, model: Any, trained: Path) -> Any:
        """See ``models.merge.merged_by_peft``."""
        return merged_by_peft(model, trained)


LORA = Lora()
