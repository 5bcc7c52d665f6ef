"""What a row's reference is worth to a model, from logits in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmcompile.data.store import IGNORED


def log_likelihood(logits: Any, labels: Sequence[int]) -> tuple[float, int]:
    """Sum of ln p over the trained positions, and their number.

    Args:
        logits: float32 [positions, vocabulary]; those behind the row's end are not read.
        labels: of the row, ``IGNORED`` where nothing is trained.
    """
    import numpy as np

    following = np.asarray(labels[1:])
    (trained,) = np.nonzero(following != IGNORED)
    scores = logits[trained]
    top = scores.max(axis=-1)
    norm = top + np.log(np.exp(scores - top[:, None]).sum(axis=-1))
    chosen = scores[np.arange(len(trained)), following[trained]]
    return float((chosen - norm).sum(dtype=np.float64)), len(trained)
