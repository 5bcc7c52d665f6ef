"""Reads what the ``score`` stage wrote; what report, gate and ``show`` have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.scoring.classification import LabelScores
from slmcompile.scoring.compared import Comparison
from slmcompile.scoring.paired import Difference

METRICS_FILE = "metrics.json"
PREDICTIONS = "predictions.jsonl"
COMPARISONS = "comparisons.json"
LABELS = "labels.json"


def read_metrics(scored: Path) -> dict[str, dict[str, Any]]:
    """Metrics by artifact name (``torch``, a target, a baseline)."""
    found: dict[str, dict[str, Any]] = _read(scored / METRICS_FILE)["artifacts"]
    return found


def read_predictions(scored: Path) -> dict[str, list[dict[str, Any]]]:
    """Predictions by artifact name, of the rows that an answer was asked of."""
    found: dict[str, list[dict[str, Any]]] = {}
    with (scored / PREDICTIONS).open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            if "prediction" in row:
                found.setdefault(row.pop("artifact"), []).append(row)
    return found


def read_comparisons(scored: Path) -> list[Comparison]:
    """Every export against the tuned model, and that against all that is no export."""
    return [
        Comparison(**{**each, "difference": Difference(**each["difference"])})
        for each in _read(scored / COMPARISONS)["comparisons"]
    ]


def read_labels(scored: Path) -> dict[str, list[LabelScores]]:
    """Scores of each label by artifact name; empty where the recipe has no labels."""
    if not (scored / LABELS).is_file():
        return {}
    return {
        name: [LabelScores(**each) for each in listed]
        for name, listed in _read(scored / LABELS)["artifacts"].items()
    }


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
