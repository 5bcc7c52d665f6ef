"""The Wilson score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def wilson(share: float, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share of ``rows`` independent rows, within [0, 1]."""
    square = Z95 * Z95
    middle = share + square / (2 * rows)
    spread = Z95 * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
    scale = 1 + square / rows
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
