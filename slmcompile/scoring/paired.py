"""Two artifacts on the same test rows: by how much they differ, and whether chance explains it.

Rows are paired, so whether two intervals overlap says nothing; what counts is the rows on which the
two differ. Right or wrong answers are tested by McNemar's exact test, two-sided (McNemar 1947; the
binomial form), with Newcombe's interval of the difference (Statistics in Medicine 17, 1998, pages
2635 to 2650, method 10). F1 and perplexity, which are no means over rows, by a paired bootstrap:
rows are drawn with replacement, 95 % percentile interval, and twice the smaller share of resamples
on either side of zero as p (Efron & Tibshirani 1993), which resamples of few rows make too small:
it is never below what the signs of the rows that differ could give, 2 / 2 ** rows.
Pure over lists of per-row values; equal lists give equal results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from slmcompile.scoring.confidence import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[Any]
    Floats = NDArray[Any]

SIGNIFICANT = 0.05
"""Below this p, chance alone is not believed to explain a difference."""

RESAMPLES = 2500
_SEED = 0
_ELEMENTS = 2_000_000
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
    ways = way = 1
    for k in range(fewer):
        way = way * (tossed - k) // (k + 1)
        ways += way
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

    return of_labels(
        one, other, references, lambda hits, named, wanted: 2 * hits / np.maximum(named + wanted, 1)
    )


def of_labels(
    one: Sequence[str | None],
    other: Sequence[str | None],
    references: Sequence[str],
    score: Callable[[Integers, Integers, Integers], Floats],
    mean: Callable[[Floats, Integers], Floats] = lambda scores, occurs: (
        scores.sum(axis=1, where=occurs) / occurs.sum(axis=1)
    ),
) -> Difference:
    """The difference of two means of a score over the references' labels.

    Args:
        one: the one's labels; None is an answer without a label.
        other: the other's.
        references: the rows' labels.
        score: of each label, by how often it was named rightly, named, and wanted; all three are
            [resamples, labels].
        mean: over the labels that occur.
    """
    import numpy as np

    names = {name: at for at, name in enumerate(dict.fromkeys([*references, *one, *other]))}
    # Rows with the same reference and the same two answers are one cell, drawn together.
    cells = Counter(
        (names[wanted], names[a], names[b])
        for a, b, wanted in zip(one, other, references, strict=True)
    )
    truth, *guesses = np.asarray(list(cells)).T
    seen = np.asarray(list(cells.values()))

    def macro(drawn: Integers, guess: Integers) -> Floats:
        """Of each resample; ``drawn`` is [resamples, cells]."""
        wanted = _by_label(drawn, truth, len(names))
        hits = _by_label(drawn * (truth == guess), truth, len(names))
        return mean(score(hits, _by_label(drawn, guess, len(names)), wanted), wanted > 0)

    def difference(drawn: Integers) -> Floats:
        return macro(drawn, guesses[0]) - macro(drawn, guesses[1])

    chance = np.random.default_rng(_SEED)
    shares = seen / len(references)
    drawn = [
        difference(chance.multinomial(len(references), shares, size=resamples))
        for resamples in _some_at_a_time(len(cells) + len(names))
    ]
    differ = int(seen[guesses[0] != guesses[1]].sum())
    return _bootstrapped(float(difference(seen[None, :])[0]), drawn, differ)


def _by_label(drawn: Integers, label: Integers, labels: int) -> Integers:
    """Sums of the cells of each label, [resamples, labels]."""
    import numpy as np

    order = np.argsort(label, kind="stable")
    present, starts = np.unique(label[order], return_index=True)
    sums = np.zeros((len(drawn), labels), dtype=drawn.dtype)
    sums[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return sums


def of_perplexity(
    one: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]]
) -> Difference:
    """The difference of two perplexities; a row is its log-likelihood (nats) and its tokens."""
    import numpy as np

    parts = [np.asarray(rows, dtype=np.float64).T for rows in (one, other)]

    def perplexities(drawn: Integers, part: Floats) -> Floats:
        totals, tokens = (np.take(column, drawn).sum(axis=1) for column in part)
        found: Floats = np.exp(np.minimum(-totals / tokens, _LARGEST_EXPONENT))
        return found

    def difference(drawn: Integers) -> Floats:
        return perplexities(drawn, parts[0]) - perplexities(drawn, parts[1])

    chance = np.random.default_rng(_SEED)
    drawn = [
        difference(chance.integers(0, len(one), (resamples, len(one)), dtype=np.int32))
        for resamples in _some_at_a_time(len(one))
    ]
    differ = int((parts[0] != parts[1]).any(axis=0).sum())
    return _bootstrapped(float(difference(np.arange(len(one))[None, :])[0]), drawn, differ)


def of_sums(
    one: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    value: Callable[[Floats], Floats],
) -> Difference:
    """The difference of two metrics that follow from sums over rows.

    Args:
        one: the one's terms, [rows, terms].
        other: the other's.
        value: the metric of sums, [..., terms] → [...].
    """
    import numpy as np

    parts = [np.asarray(rows, dtype=np.float64) for rows in (one, other)]

    def difference(drawn: Integers) -> Floats:
        sums = [drawn @ part for part in parts]
        found: Floats = value(sums[0]) - value(sums[1])
        return found

    rows = len(one)
    chance, shares = np.random.default_rng(_SEED), np.full(rows, 1 / rows)
    drawn = [
        difference(chance.multinomial(rows, shares, size=resamples))
        for resamples in _some_at_a_time(rows)
    ]
    differ = int((parts[0] != parts[1]).any(axis=1).sum())
    return _bootstrapped(float(difference(np.ones((1, rows)))[0]), drawn, differ)


def _some_at_a_time(width: int) -> Iterator[int]:
    """How many resamples are made together, so that memory is bounded."""
    at_once = max(1, _ELEMENTS // width)
    for start in range(0, RESAMPLES, at_once):
        yield min(at_once, RESAMPLES - start)


def _bootstrapped(observed: float, parts: Sequence[Floats], differ: int) -> Difference:
    """Of a difference and its resamples; ``differ`` is the number of rows that differ."""
    import numpy as np

    drawn = np.concatenate(parts)
    low, high = np.percentile(drawn, [2.5, 97.5])
    aside = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, max(2 * (aside + 1) / (RESAMPLES + 1), 2.0 ** (1 - differ)))
    return Difference(observed, float(low), float(high), p)
