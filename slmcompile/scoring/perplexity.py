"""Perplexity of the references under a model."""

from __future__ import annotations

import math


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
