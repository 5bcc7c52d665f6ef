"""The same metrics over each of several sources' rows alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slmcompile.data.store import Row
from slmcompile.metrics import AGAINST_FORGETTING, METRICS
from slmcompile.metrics.metric import Metric, Needs
from slmcompile.scoring.score import score


def scores_by_source(
    records: Sequence[Mapping[str, Any]],
    rows: Mapping[int, Row],
    wanted: Sequence[Metric],
    known: Collection[Needs],
) -> dict[str, dict[str, Any]]:
    """Metrics of each source by its name, in the order of the rows; empty of one source.

    Of a source that is there against forgetting nobody asks answers, so that only likelihoods of
    its references are known. ``rows`` and ``test_rows`` say how many were measured, of how many.

    Args:
        records: all of one artifact.
        rows: the test rows by id.
        wanted: what is measured of the task.
        known: what the artifact's answers hold.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(rows[record["id"]].source, []).append(record)
    found.pop("", None)
    there = [row.source for row in rows.values()]
    scored: dict[str, dict[str, Any]] = {}
    for source, own in found.items():
        counted = all(rows[record["id"]].counted for record in own)
        metrics = wanted if counted else _of_likelihood(wanted)
        scored[source] = {
            "rows": len(own),
            "test_rows": there.count(source),
            "counted": counted,
            **score(own, metrics, known),
        }
    return scored


def _of_likelihood(wanted: Sequence[Metric]) -> list[Metric]:
    return [metric for metric in wanted if metric.needs == "likelihood"] or [
        METRICS[AGAINST_FORGETTING]
    ]
