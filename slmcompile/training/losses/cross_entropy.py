"""The program of cross entropy, with smoothed labels and weights by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slmcompile.data.store import Row
from slmcompile.losses.cross_entropy import CrossEntropy
from slmcompile.training.losses.class_weights import ClassWeights
from slmcompile.training.losses.program import Losses, Trained


class _CrossEntropy:
    def __init__(self, smoothing: float, weights: ClassWeights) -> None:
        self._smoothing = smoothing
        self._weights = weights
        self.plain = not smoothing and not weights

    def __call__(self, trained: Trained) -> Losses:
        if self._smoothing:
            smoothed = Smoothed(trained.targets, self._smoothing)
            losses = trained.by_chunk(smoothed)
            nats = torch.cat(smoothed.nats)
        else:
            losses = trained.cross_entropy()
            nats = losses.detach()
        return Losses(self._weights.weighed(losses, trained.positions), nats)


class Smoothed:
    """Cross entropy against (1 - s) · target + s / vocabulary (Szegedy et al., arXiv:1512.00567).

    An ``OfChunk``.

    Attributes:
        nats: plain cross entropy of each chunk so far.
    """

    def __init__(self, targets: torch.Tensor, smoothing: float) -> None:
        self._targets = targets
        self._smoothing = smoothing
        self.nats: list[torch.Tensor] = []

    def __call__(
        self, logits: torch.Tensor, part: slice, wanted: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See ``OfChunk``."""
        share = self._smoothing
        chosen = self._targets[part].unsqueeze(1)
        log_probs = torch.log_softmax(logits, dim=-1)
        nats = -log_probs.gather(1, chosen).squeeze(1)
        self.nats.append(nats)
        losses = (1 - share) * nats - share * log_probs.mean(dim=-1)
        if not wanted:
            return losses, None
        slope = log_probs.exp_().sub_(share / logits.shape[1])
        return losses, slope.scatter_add_(
            1, chosen, torch.full_like(chosen, share - 1, dtype=slope.dtype)
        )


def cross_entropy(keys: CrossEntropy, rows: Sequence[Row], _project: Path) -> _CrossEntropy:
    """See ``program.OpenedLoss``."""
    return _CrossEntropy(keys.label_smoothing, ClassWeights(keys.class_weights, rows))
