"""Predictions and references to a dictionary of metrics, the same way for every artifact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slmcompile.data.labels import label_of
from slmcompile.metrics.registry import METRICS
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.exact_match import is_correct, valid_json

Scores = dict[str, float | list[float]]

__all__ = ["Scores", "cut_off", "is_correct", "score", "score_labels"]


def score(
    task: str,
    label_key: str | None,
    predictions: Sequence[str],
    references: Sequence[str],
    wanted: Iterable[str],
) -> Scores:
    """Scores answers against references.

    Answers that cannot be parsed count as wrong and raise nothing.

    Args:
        task: the recipe's ``data.task``; extraction compares JSON.
        label_key: the recipe's ``data.label``.
        predictions: the artifact's answers.
        references: the test rows' completions, in the same order; at least one.
        wanted: names of ``METRICS``; those that need log-likelihoods are passed over.

    Returns:
        Metric → value; for proportions also ``<metric>_ci`` as [low, high] (95 %); for
        extraction also ``valid_json``.
    """
    predicted_labels = [label_of(text, label_key) for text in predictions]
    wanted = list(wanted)
    scores: Scores = {}
    for name in wanted:
        metric = METRICS[name]
        if metric.of_text is not None:
            value = metric.of_text(task, predictions, references)
            scores |= _with_interval(name, value, len(references))
    reference_labels = [label_of(text, label_key) or "" for text in references]
    scores |= score_labels(predicted_labels, reference_labels, wanted)
    if task == "extraction":
        scores["valid_json"] = valid_json(predictions)
    return scores


def score_labels(
    predictions: Sequence[str | None], references: Sequence[str], wanted: Iterable[str]
) -> Scores:
    """Scores labels against labels: what a baseline that predicts labels alone can be measured by.

    Args:
        predictions: a label a row; None where there is none.
        references: the rows' labels; at least one.
        wanted: names of ``METRICS``; those that need more than labels are passed over.
    """
    scores: Scores = {}
    for name in wanted:
        of_labels = METRICS[name].of_labels
        if of_labels is not None:
            scores |= _with_interval(name, of_labels(predictions, references), len(references))
    return scores


def cut_off(ends: Sequence[bool]) -> Scores:
    """The share of answers that ended at their limit and not at a stop token."""
    return _with_interval("cut_off", sum(ends) / len(ends), len(ends))


def _with_interval(name: str, value: float, rows: int) -> Scores:
    if not METRICS[name].proportion:
        return {name: value}
    return {name: value, f"{name}_ci": list(wilson(value, rows))}
