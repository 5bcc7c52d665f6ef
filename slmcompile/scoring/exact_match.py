"""Exact match: the share of answers that say just what the reference says."""

from __future__ import annotations

from collections.abc import Sequence

from slmcompile.data.labels import parse_json, same_json


def is_correct(task: str, prediction: str, reference: str) -> bool:
    """Whether one answer matches.

    For extraction both are JSON and are compared as values, so that key order and spacing are
    nothing; a prediction that is no JSON is wrong. Otherwise the stripped texts must be equal.
    """
    if task == "extraction":
        valid, wanted = parse_json(reference)
        if valid:
            parsed, found = parse_json(prediction)
            return parsed and same_json(found, wanted)
    return prediction.strip() == reference.strip()


def exact_match(task: str, predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of correct answers, in [0, 1]."""
    right = [is_correct(task, *pair) for pair in zip(predictions, references, strict=True)]
    return sum(right) / len(right)


def valid_json(predictions: Sequence[str]) -> float:
    """Share of answers that are one JSON value, in [0, 1]."""
    return sum(parse_json(prediction)[0] for prediction in predictions) / len(predictions)
