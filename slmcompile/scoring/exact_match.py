"""Exact match: the share of answers that say just what the reference says."""

from __future__ import annotations

from slmcompile.data.labels import parse_json, same_json
from slmcompile.scoring.measures import Share


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


EXACT_MATCH = Share(lambda row: bool(row["correct"]))
