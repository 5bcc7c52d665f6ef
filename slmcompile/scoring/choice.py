"""Which of several exports is chosen: the smallest that holds a budget, by rows all have answered.

Every candidate is held against torch on the same rows. What is compared with the bars are measured
values; intervals are there to be seen beside them (95 %): a drop's is of pairs of rows, as of every
comparison (``scoring/paired.py``), a value's Wilson's or, where it is no share, a bootstrap's over
rows, percentiles of resamples with a fixed seed.

Pure: equal figures give the same choice. Where two are equal in size the faster is chosen, then the
better by the metric, then by likelihood, then the first by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.providers.keys import Budget
from slmcompile.scoring.compared import compared
from slmcompile.scoring.measures import Rows
from slmcompile.scoring.paired import Difference
from slmcompile.scoring.score import measurable, measure_of

MB = 1e6
_RESAMPLES = 400
_SEED = 0
_DIGITS = 9
"""Of a drop: 0.03 of 1 is 0.03, whatever is left of a subtraction."""


@dataclass(frozen=True)
class Figures:
    """What was measured of torch, or of a candidate.

    Attributes:
        name: torch, or the candidate's.
        size_bytes: of the folder.
        value, interval: of the budget's metric.
        nll, nll_interval: nats a token of the references.
        drop: loss against torch in the metric's unit, negative where it is better; None of torch.
        difference: the candidate minus torch, by pairs of rows; None where nothing is known of it.
        tokens_per_second: None where no bar is on speed, or it was not measured.
        misses: what of the budget it does not hold, in words.
        best: whether no other is as small and as likely at once.
    """

    name: str
    size_bytes: int
    value: float
    interval: tuple[float, float] | None
    nll: float | None
    nll_interval: tuple[float, float] | None
    drop: float | None = None
    difference: Difference | None = None
    tokens_per_second: float | None = None
    misses: tuple[str, ...] = ()
    best: bool = False


def figures(
    name: str, rows: Rows, measured: Mapping[str, Any], metric: Metric, torch: Rows = ()
) -> Figures:
    """The figures of who answered ``rows``, against torch's answers to them.

    Args:
        name: whose.
        rows: records of its answers.
        measured: its size, and its speed where that was measured.
        metric: the budget's.
        torch: records of torch's; empty of torch itself.
    """
    measure, own = measure_of(metric), measurable(rows, metric)
    value = float(measure.value(own))
    interval = measure.interval(own)
    if interval is None and not metric.plugin:
        interval = _resampled(own, measure.value)
    scored = [row for row in rows if row.get("tokens")]
    found = Figures(
        name=name,
        size_bytes=int(measured["size_bytes"]),
        value=value,
        interval=interval,
        nll=_nll(scored) if scored else None,
        nll_interval=_resampled(scored, _nll) if scored else None,
        tokens_per_second=measured.get("tokens_per_second"),
    )
    if not torch:
        return found
    before = float(measure.value(measurable(torch, metric)))
    drop = before - value if metric.higher_is_better else value - before
    difference = compared(metric.name, rows, torch)
    return replace(found, drop=round(drop, _DIGITS), difference=difference)


def _nll(rows: Rows) -> float:
    """Nats a token of all rows' references."""
    tokens = sum(row["tokens"] for row in rows)
    return float(-sum(row["log_likelihood"] for row in rows) / tokens)


def _resampled(rows: Rows, value: Callable[[Rows], float]) -> tuple[float, float]:
    """95 % percentile interval of a value of rows that are drawn with replacement."""
    import numpy as np

    chance = np.random.default_rng(_SEED)
    drawn = chance.integers(0, len(rows), (_RESAMPLES, len(rows)))
    found = [value([rows[at] for at in one]) for one in drawn.tolist()]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def judged(candidates: Sequence[Figures], budget: Budget) -> list[Figures]:
    """The candidates, smallest first, with what each misses of the budget."""
    ordered = sorted(candidates, key=_place(budget))
    return [
        replace(
            each,
            misses=tuple(_misses(each, budget)),
            best=not any(_beats(other, each) for other in candidates),
        )
        for each in ordered
    ]


def chosen(candidates: Sequence[Figures]) -> Figures | None:
    """The first of those that were judged that misses nothing; None where all do."""
    return next((each for each in candidates if not each.misses), None)


def _place(budget: Budget) -> Callable[[Figures], tuple[Any, ...]]:
    sign = -1.0 if METRICS[str(budget.metric)].higher_is_better else 1.0

    def place(of: Figures) -> tuple[Any, ...]:
        nll = float("inf") if of.nll is None else of.nll
        return of.size_bytes, -(of.tokens_per_second or 0.0), sign * of.value, nll, of.name

    return place


def _misses(of: Figures, budget: Budget) -> list[str]:
    missed = []
    size, speed = of.size_bytes / MB, of.tokens_per_second
    if budget.max_size is not None and size > budget.max_size:
        over = size - budget.max_size
        missed.append(f"{size:.1f} MB, {over:.1f} more than max_size {budget.max_size:g}")
    least = budget.min_tokens_per_s
    if least is not None and speed is None:
        missed.append(f"its speed is not measured here, and min_tokens_per_s is {least:g}")
    elif least is not None and speed is not None and speed < least:
        missed.append(
            f"{speed:.1f} tokens/s, {least - speed:.1f} less than min_tokens_per_s {least:g}"
        )
    most = budget.max_drop or 0.0
    if of.drop is not None and not of.drop <= most:
        missed.append(
            f"{budget.metric} {of.value:.4g} is {of.drop:.3g} worse,"
            f" {of.drop - most:.2g} more than max_drop {most:g}"
        )
    return missed


def _beats(one: Figures, other: Figures) -> bool:
    """Whether one is no larger and no less likely, and one of the two better."""
    if one.nll is None or other.nll is None:
        return False
    no_worse = one.size_bytes <= other.size_bytes and one.nll <= other.nll
    return no_worse and (one.size_bytes, one.nll) != (other.size_bytes, other.nll)
