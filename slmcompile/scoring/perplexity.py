"""Perplexity of the references under a model."""

from __future__ import annotations

import math

from slmcompile.scoring.measures import Rows
from slmcompile.scoring.paired import Difference, of_perplexity


def perplexity(log_likelihood: float, tokens: int) -> float:
    """exp(-log-likelihood / tokens).

    Args:
        log_likelihood: sum of natural-log probabilities over the trained positions.
        tokens: how many positions.

    Returns:
        At least 1; infinity where the exponent is beyond floating point.

    Raises:
        ValueError: no tokens.
    """
    if tokens <= 0:
        raise ValueError("perplexity of no tokens")
    try:
        return math.exp(-log_likelihood / tokens)
    except OverflowError:
        return math.inf


class _Perplexity:
    """Of the references, over all rows' tokens."""

    def value(self, rows: Rows) -> float:
        """See ``perplexity``."""
        return perplexity(*(sum(part) for part in zip(*_scored(rows), strict=True)))

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no mean over rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference:
        """By a paired bootstrap."""
        return of_perplexity(_scored(one), _scored(other))


def _scored(rows: Rows) -> list[tuple[float, int]]:
    return [(row["log_likelihood"], row["tokens"]) for row in rows]


PERPLEXITY = _Perplexity()
