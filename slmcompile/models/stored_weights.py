"""Weights of a base-model folder by name, one at a time, without opening the model."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from slmcompile.console.errors import StageFailedError

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


class StoredWeights:
    """Reads tensors where they lie, in the one safetensors file or in the shard of an index.

    Args:
        folder: in the hub's layout.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / _INDEX
        self._folder = folder
        self._shards: dict[str, str] | None = None
        if index.is_file():
            self._shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]

    def of_layer(self, name: str) -> torch.Tensor:
        """The weight of a module, as it is stored.

        Raises:
            StageFailedError: none is stored under that name; modelling code may join what is
                stored apart (exit 1).
        """
        from safetensors import SafetensorError, safe_open

        tensor = f"{name}.weight"
        shard = _WHOLE if self._shards is None else self._shards.get(tensor)
        try:
            if shard is not None:
                with safe_open(self._folder / shard, framework="pt") as file:
                    found: torch.Tensor = file.get_tensor(tensor)
                    return found
        except SafetensorError:
            pass
        raise StageFailedError(
            f"train: the base model stores no tensor {tensor}",
            "set train.lora.init_lora_weights to true",
        )
