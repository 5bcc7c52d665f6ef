"""Bottleneck adapters over a base in the precision that it is computed in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from slmcompile.methods.bottleneck import BottleneckTrain
from slmcompile.models import bottleneck
from slmcompile.models.base_model import load_base_model


class _Bottleneck:
    """Adapters in a format of our own; they stay beside the base's weights, and never merge."""

    def open(self, config: BottleneckTrain, base: Path, device: torch.device) -> Any:
        """Frozen, so it may be rounded."""
        return load_base_model(base, config.precision, device)

    def attach(
        self,
        model: Any,
        config: BottleneckTrain,
        adapter: str,  # noqa: ARG002
    ) -> Any:
        """The model itself, which holds one member's adapters and no others."""
        bottleneck.attach(model, config.bottleneck)
        return model

    def write(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        base: Path,  # noqa: ARG002
        out: Path,
        adapter: str,  # noqa: ARG002
    ) -> None:
        """See ``models.bottleneck.write``."""
        bottleneck.write(model, weights, out)

    def read(
        self,
        model: Any,
        names: Collection[str],
        trained: Path,
        adapter: str,  # noqa: ARG002
    ) -> Mapping[str, torch.Tensor]:
        """See ``models.bottleneck.read``."""
        return bottleneck.read(model, names, trained)

    def apply(self, model: Any, trained: Path) -> Any:
        """The base with the adapters in it as modules: a non-linearity merges into no matrix."""
        return bottleneck.apply(model, trained)


BOTTLENECK = _Bottleneck()
