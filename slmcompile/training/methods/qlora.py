"""QLoRA: LoRA over a base in 4 bits, which is there in training alone.

The adapter is that of the full-precision base: it is merged there, and quantised afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slmcompile.methods.lora import LoraTrain
from slmcompile.methods.qlora import QLoraTrain
from slmcompile.models.adapter import attach
from slmcompile.models.base_model import load_base_model
from slmcompile.models.stored_weights import StoredWeights
from slmcompile.training.methods.lora import Lora


class _QLora(Lora):
    """LoRA but for how the base is opened."""

    def open(self, config: QLoraTrain, base: Path, device: torch.device) -> Any:
        """Its linear layers in 4 bits."""
        return load_base_model(base, config.precision, device, config.quantization)

    def attach(self, model: Any, config: LoraTrain, adapter: str) -> Any:
        """An adapter that begins as a part of the weights takes it from those in the folder."""
        stored = StoredWeights(Path(model.name_or_path))
        return attach(model, config.lora, adapter, stored.of_layer)


QLORA = _QLora()
