"""Cross entropy: the mean of -log p(token), which is what language models are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from slmcompile.losses.keys import LossName, WeightedKeys, weights_in_words
from slmcompile.losses.loss import Loss


class CrossEntropy(WeightedKeys):
    """Cross entropy of the trained tokens."""

    type: LossName = "cross_entropy"
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that is spread evenly over the vocabulary"
        " (arXiv:1512.00567), as in torch's cross_entropy.",
    )


def _words(values: Mapping[str, Any]) -> str:
    smoothing = values.get("label_smoothing") or 0
    told = [f"label smoothing {smoothing:g}" if smoothing else "", weights_in_words(values)]
    beside = " and ".join(filter(None, told))
    return f"cross entropy with {beside}" if beside else "cross entropy"


ENTRIES = (
    Loss(
        name="cross_entropy",
        place=10,
        section=CrossEntropy,
        program="slmcompile.training.losses.cross_entropy:cross_entropy",
        words=_words,
    ),
)
