"""The program of focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slmcompile.data.store import Row
from slmcompile.losses.focal import Focal
from slmcompile.training.losses.class_weights import ClassWeights
from slmcompile.training.losses.program import Losses, Trained


class _Focal:
    """(1 - p)^gamma · -log p, p of the target (Lin et al., arXiv:1708.02002, equation 4).

    It is a function of the cross entropy alone, so the fused head serves it as it is.
    """

    plain = False

    def __init__(self, gamma: float, weights: ClassWeights) -> None:
        self._gamma = gamma
        self._weights = weights

    def __call__(self, trained: Trained) -> Losses:
        nats = trained.cross_entropy()
        # At p = 1 the slope of a root has no end, where its product with -log p is to be 0.
        missed = -torch.expm1(-nats).clamp_max(-torch.finfo(nats.dtype).tiny)
        losses = missed**self._gamma * nats
        return Losses(self._weights.weighed(losses, trained.positions), nats.detach())


def focal(keys: Focal, rows: Sequence[Row], _project: Path) -> _Focal:
    """See ``program.OpenedLoss``."""
    return _Focal(keys.gamma, ClassWeights(keys.class_weights, rows))
