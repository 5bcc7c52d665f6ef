"""Focal loss: cross entropy in which tokens that are right already count less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from slmcompile.losses.keys import WeightedKeys, weights_in_words
from slmcompile.losses.loss import Loss


class Focal(WeightedKeys):
    """-(1 - p)^gamma · log p of each trained token (Lin et al. 2017, arXiv:1708.02002)."""

    gamma: float = Field(
        2.0, ge=0, le=20, description="How much less a likely token counts; 0 is cross entropy."
    )


def _words(values: Mapping[str, Any]) -> str:
    gamma, weights = values.get("gamma", 2.0), weights_in_words(values)
    return f"focal loss (gamma {gamma:g})" + (f" with {weights}" if weights else "")


ENTRIES = (
    Loss(
        name="focal",
        place=20,
        section=Focal,
        program="slmcompile.training.losses.focal:focal",
        words=_words,
    ),
)
