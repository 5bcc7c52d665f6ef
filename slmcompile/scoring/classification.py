"""Precision, recall and F1 over labels; None stands for an answer without a label and is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.scoring.measures import Rows, Share, Sums, ratio
from slmcompile.scoring.paired import Difference, of_labels


@dataclass(frozen=True, slots=True)
class LabelScores:
    """One label of the references as one artifact tells it.

    Attributes:
        label: its name.
        support: rows whose reference it is.
        precision: of the answers that name it, the share that is right; 0 where none names it.
        recall: of its rows, the share that is answered with it.
        f1: their harmonic mean.
    """

    label: str
    support: int
    precision: float
    recall: float
    f1: float


def label_scores(rows: Rows) -> list[LabelScores]:
    """Each label of the references, the most frequent first, then by name."""
    support = Counter(_wanted(rows))
    precision, recall, f1 = (per_label(rows, score) for score in (_precision, _recall, _f1))
    return [
        LabelScores(label, support[label], precision[label], recall[label], f1[label])
        for label in sorted(support, key=lambda label: (-support[label], label))
    ]


class _OverLabels:
    """The mean of a score over the references' labels; one that is only named does not enter it.

    The same as scikit-learn's with ``average="macro"``, ``labels=<reference labels>`` and
    ``zero_division=0``.
    """

    def __init__(self, score: Callable[[Any, Any, Any], Any], *, lowest: bool = False) -> None:
        self._score, self._lowest = score, lowest

    def value(self, rows: Rows) -> float:
        """Of one artifact."""
        scores = per_label(rows, self._score).values()
        return min(scores) if self._lowest else sum(scores) / len(scores)

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no mean over rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference | None:
        """By a paired bootstrap; None of the lowest, which resamples of a rare label decide."""
        if self._lowest:
            return None
        return of_labels(_predicted(one), _predicted(other), _wanted(one), self._score)


def per_label(rows: Rows, score: Callable[[Any, Any, Any], Any]) -> dict[str, float]:
    """A score of each label of the references, by name."""
    hits = Counter(row["label"] for row in rows if row["predicted_label"] == row["label"])
    named, wanted = Counter(_predicted(rows)), Counter(_wanted(rows))
    return {
        label: float(score(hits[label], named[label], wanted[label])) for label in sorted(wanted)
    }


def _precision(hits: Any, named: Any, _wanted: Any) -> Any:
    return hits / _at_least_one(named)


def _recall(hits: Any, _named: Any, wanted: Any) -> Any:
    return hits / _at_least_one(wanted)


def _f1(hits: Any, named: Any, wanted: Any) -> Any:
    return 2 * hits / _at_least_one(named + wanted)


def _at_least_one(counts: Any) -> Any:
    import numpy as np

    return np.maximum(counts, 1)


def _right(row: Mapping[str, Any]) -> bool:
    return bool(row["predicted_label"] == row["label"])


def _predicted(rows: Rows) -> list[str | None]:
    return [row["predicted_label"] for row in rows]


def _wanted(rows: Rows) -> list[str]:
    return [row["label"] for row in rows]


def _named(row: Mapping[str, Any]) -> bool:
    return row["predicted_label"] is not None


ACCURACY = Share(_right)
F1_MACRO = _OverLabels(_f1)
PRECISION_MACRO = _OverLabels(_precision)
RECALL_MACRO = _OverLabels(_recall)
F1_LOWEST = _OverLabels(_f1, lowest=True)
PRECISION_MICRO = Sums(lambda row: (_right(row), _named(row)), ratio)
RECALL_MICRO = Sums(lambda row: (_right(row), 1), ratio)
F1_MICRO = Sums(lambda row: (2 * _right(row), _named(row) + 1), ratio)
