"""Accuracy and macro F1 over labels; None stands for an answer without a label and is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def accuracy(predictions: Sequence[str | None], references: Sequence[str]) -> float:
    """Share of right labels, in [0, 1]."""
    right = [p == r for p, r in zip(predictions, references, strict=True)]
    return sum(right) / len(right)


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
