"""How fast one answer is decoded, by steps that a runtime takes one token at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

_RUNS = 3


def speed(steps: Callable[[], Iterator[int]]) -> float:
    """Tokens a second behind the first: warm, the median of three runs.

    Args:
        steps: begins an answer anew; of two tokens at least.
    """
    _timed(steps())
    return statistics.median(_timed(steps()) for _ in range(_RUNS))


def _timed(steps: Iterator[int]) -> float:
    next(steps)
    start = time.perf_counter()
    count = sum(1 for _ in steps)
    return count / (time.perf_counter() - start)
