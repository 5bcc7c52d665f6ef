"""All weights: the masters begin as the base's own weights in fp32, not rounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from slmcompile.methods.full import FullTrain
from slmcompile.models.base_model import load_base_model
from slmcompile.models.model_folder import read_model, write_model


class _Full:
    """Nothing is attached, and a model folder in the hub's layout is written."""

    def open(self, _config: FullTrain, base: Path, device: torch.device) -> Any:
        """In fp32, whatever it is computed in."""
        return load_base_model(base, "fp32", device)

    def attach(self, model: Any, _config: FullTrain, _adapter: str) -> Any:
        """The model as it is."""
        return model

    def write(
        self, model: Any, weights: Mapping[str, torch.Tensor], base: Path, out: Path, _adapter: str
    ) -> None:
        """See ``model_folder.write_model``."""
        write_model(model, weights, base, out)

    def read(
        self, model: Any, names: Collection[str], trained: Path, _adapter: str
    ) -> Mapping[str, torch.Tensor]:
        """See ``model_folder.read_model``."""
        return read_model(model, names, trained)

    def apply(self, model: Any, trained: Path) -> Any:
        """Never asked: what is written is a model of its own."""
        raise NotImplementedError(f"{trained} is a model, which takes the place of {type(model)}")


FULL = _Full()
