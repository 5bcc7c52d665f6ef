"""Accuracy and macro F1 over labels; None stands for an answer without a label and is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from slmcompile.scoring.measures import Rows, Share
from slmcompile.scoring.paired import Difference, of_f1


def f1_macro(predictions: Sequence[str | None], references: Sequence[str]) -> float:
    """Mean over the references' labels of F1 = 2·TP / (2·TP + FP + FN), in [0, 1].

    A label that only a prediction has does not enter the mean; it has cost recall already. The
    same as ``sklearn.metrics.f1_score(average="macro", labels=<reference labels>)``.
    """
    true_positives: Counter[str] = Counter()
    predicted: Counter[str | None] = Counter(predictions)
    wanted = Counter(references)
    for prediction, reference in zip(predictions, references, strict=True):
        if prediction == reference:
            true_positives[reference] += 1
    scores = [
        2 * true_positives[label] / (predicted[label] + wanted[label]) for label in sorted(wanted)
    ]
    return sum(scores) / len(scores)


ACCURACY = Share(lambda row: bool(row["predicted_label"] == row["label"]))


class _F1Macro:
    """Over the references' labels."""

    def value(self, rows: Rows) -> float:
        """See ``f1_macro``."""
        return f1_macro(_predicted(rows), _wanted(rows))

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no mean over rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference:
        """By a paired bootstrap."""
        return of_f1(_predicted(one), _predicted(other), _wanted(one))


def _predicted(rows: Rows) -> list[str | None]:
    return [row["predicted_label"] for row in rows]


def _wanted(rows: Rows) -> list[str]:
    return [row["label"] for row in rows]


F1_MACRO = _F1Macro()
