"""Two artifacts on the same test rows: by how much they differ, and whether chance explains it.

Rows are paired, so whether two intervals overlap says nothing; what counts is the rows on which the
two differ. Right or wrong answers are tested by McNemar's exact test, two-sided (McNemar 1947; the
binomial form), with Newcombe's interval of the difference (Statistics in Medicine 17, 1998, pages
2635 to 2650, method 10). F1 and perplexity, which are no means over rows, by a paired bootstrap:
rows are drawn with replacement, 95 % percentile interval, and twice the smaller share of resamples
on either side of zero as p (Efron & Tibshirani 1993).
Pure over lists of per-row values; equal lists give equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import TYPE_CHECKING, Any

from slmcompile.metrics.interval import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[Any]
    Floats = NDArray[Any]

SIGNIFICANT = 0.05
"""Below this p, chance alone is not believed to explain a difference."""

RESAMPLES = 4000
_SEED = 0
_ELEMENTS = 4_000_000
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One artifact minus another at one metric, in the metric's own unit.

    Attributes:
        value: the difference.
        low, high: its 95 % interval.
        p: probability of a difference this large, either way, if there were none.
        only_one, only_other: rows that only the one, or only the other, has right; None where the
            metric is not one of right and wrong rows.
    """

    value: float
    low: float
    high: float
    p: float
    only_one: int | None = None
    only_other: int | None = None

    def reversed(self) -> Difference:
        """The other minus the one."""
        return Difference(
            -self.value, -self.high, -self.low, self.p, self.only_other, self.only_one
        )

    @property
    def significant(self) -> bool:
        """Whether chance alone is not believed to explain it."""
        return self.p < SIGNIFICANT


def mcnemar(only_one: int, only_other: int) -> float:
    """Two-sided p of the exact test: the rows that differ fall either way like a coin."""
    tossed, fewer = only_one + only_other, min(only_one, only_other)
    ways: int = sum(comb(tossed, k) for k in range(fewer + 1))
    # As a ratio of integers: 2 ** tossed is beyond floating point from 1,024 rows on.
    return min(1.0, float(2 * ways / 2**tossed))


def newcombe(both: int, only_one: int, only_other: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference of two paired shares, within [-1, 1]."""
    rows = both + only_one + only_other + neither
    one, other = (both + only_one) / rows, (both + only_other) / rows
    (low, high), (other_low, other_high) = wilson(one, rows), wilson(other, rows)
    margins = (
        (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    )
    product = float(both * neither - only_one * only_other)
    if product > 0:  # the correction for continuity
        product = max(product - rows / 2, 0.0)
    phi = product / sqrt(margins) if margins else 0.0

    def reach(a: float, b: float) -> float:
        return sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    return (
        max(-1.0, one - other - reach(one - low, other_high - other)),
        min(1.0, one - other + reach(high - one, other - other_low)),
    )


def of_right(one: Sequence[bool], other: Sequence[bool]) -> Difference:
    """The difference of two shares of right rows."""
    pairs = list(zip(one, other, strict=True))
    both, neither = sum(a and b for a, b in pairs), sum(not (a or b) for a, b in pairs)
    only_one = sum(a and not b for a, b in pairs)
    only_other = len(pairs) - both - neither - only_one
    low, high = newcombe(both, only_one, only_other, neither)
    return Difference(
        (only_one - only_other) / len(pairs),
        low,
        high,
        mcnemar(only_one, only_other),
        only_one,
        only_other,
    )


def of_f1(
    one: Sequence[str | None], other: Sequence[str | None], references: Sequence[str]
) -> Difference:
    """The difference of two macro F1 over labels; None is an answer without a label."""
    import numpy as np

    names = {name: at for at, name in enumerate(dict.fromkeys([*references, *one, *other]))}
    truth = np.asarray([names[each] for each in references])
    guesses = [np.asarray([names[each] for each in labels]) for labels in (one, other)]

    def macro(chosen: Integers, guess: Integers) -> Floats:
        """F1 of each resample, as ``classification.f1_macro``; ``chosen`` is [resamples, rows]."""
        bins = np.arange(len(chosen))[:, None] * len(names)
        wanted = truth[chosen]

        def counts(labels: Integers) -> Integers:
            found = np.bincount((bins + labels).ravel(), minlength=len(chosen) * len(names))
            return found.reshape(len(chosen), len(names))

        right = (bins + wanted)[wanted == guess[chosen]]
        hits = np.bincount(right, minlength=len(chosen) * len(names)).reshape(len(chosen), -1)
        occurs = counts(wanted)
        scores = 2 * hits / np.maximum(counts(guess[chosen]) + occurs, 1)
        means: Floats = scores.sum(axis=1, where=occurs > 0) / (occurs > 0).sum(axis=1)
        return means

    return _bootstrap(
        len(truth), len(names), lambda rows: macro(rows, guesses[0]) - macro(rows, guesses[1])
    )


def of_perplexity(
    one: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]]
) -> Difference:
    """The difference of two perplexities; a row is its log-likelihood (nats) and its tokens."""
    import numpy as np

    parts = [np.asarray(rows, dtype=np.float64) for rows in (one, other)]

    def perplexities(chosen: Integers, rows: Floats) -> Floats:
        total = rows[chosen].sum(axis=1)
        exponent = np.minimum(-total[:, 0] / total[:, 1], _LARGEST_EXPONENT)
        found: Floats = np.exp(exponent)
        return found

    return _bootstrap(
        len(one), 2, lambda rows: perplexities(rows, parts[0]) - perplexities(rows, parts[1])
    )


def _bootstrap(rows: int, width: int, statistic: Callable[[Integers], Floats]) -> Difference:
    import numpy as np

    observed = float(statistic(np.arange(rows)[None, :])[0])
    drawn = np.concatenate([statistic(chosen) for chosen in _resamples(rows, width)])
    low, high = np.percentile(drawn, [2.5, 97.5])
    aside = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (aside + 1) / (RESAMPLES + 1))
    return Difference(observed, float(low), float(high), p)


def _resamples(rows: int, width: int) -> Iterator[Integers]:
    """Row numbers of every resample, some at a time, so that memory is bounded."""
    import numpy as np

    chance = np.random.default_rng(_SEED)
    at_once = max(1, _ELEMENTS // (rows + width))
    for start in range(0, RESAMPLES, at_once):
        yield chance.integers(0, rows, (min(at_once, RESAMPLES - start), rows))
