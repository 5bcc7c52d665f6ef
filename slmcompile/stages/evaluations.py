"""Reads the folders that ``evaluate`` stages wrote; what report and gate have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "evaluate-"


def read_metrics(inputs: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Metrics by artifact name (``torch``, a target, a baseline) over all evaluations."""
    found: dict[str, dict[str, Any]] = {}
    for role, folder in inputs.items():
        if role.startswith(PREFIX):
            found |= json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["artifacts"]
    return found


def read_predictions(inputs: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Predictions by artifact name over all evaluations."""
    found: dict[str, list[dict[str, Any]]] = {}
    for role, folder in inputs.items():
        if not role.startswith(PREFIX):
            continue
        with (folder / "predictions.jsonl").open(encoding="utf-8") as stream:
            for line in stream:
                row = json.loads(line)
                found.setdefault(row.pop("artifact"), []).append(row)
    return found
