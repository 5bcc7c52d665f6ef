"""Rows of answers to a dictionary of metrics, the same way for every artifact."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric, Needs
from slmcompile.registry.table import program
from slmcompile.scoring.foreign import Foreign
from slmcompile.scoring.measures import Measure, Rows

Scores = dict[str, float | list[float]]

OF_ANSWERS: tuple[Needs, ...] = ("text", "label")
"""What is known of every answer; of a model's also the others."""
OF_LABELS: tuple[Needs, ...] = ("label",)
"""What is known where a label alone was predicted."""


def measure_of(metric: Metric) -> Measure:
    """A metric's program, imported now; a plug-in's faults are told as its own.

    Raises:
        SlmcompileError: the plug-in cannot be imported (exit 1).
    """
    if metric.plugin:
        return Foreign(metric)
    found: Measure = program(metric.program)
    return found


def wanted_metrics(named: Iterable[str], task: str) -> list[Metric]:
    """Those that are measured of a task: the ones named, and what is always measured."""
    names = set(named)
    return [m for m in METRICS.values() if m.name in names or m.always_of(task)]


_KEY: Mapping[Needs, str] = {
    "text": "compared",
    "label": "predicted_label",
    "ending": "cut_off",
    "likelihood": "log_likelihood",
}
"""What a row has that a metric can be computed of; not all rows of a data set need have all."""


def measurable(rows: Rows, metric: Metric) -> Rows:
    """The rows that a metric can be computed of."""
    return [row for row in rows if _KEY[metric.needs] in row]


def score(rows: Rows, metrics: Iterable[Metric], known: Collection[Needs] = OF_ANSWERS) -> Scores:
    """Measures answers.

    Answers that cannot be parsed count as wrong and raise nothing.

    Args:
        rows: see ``measures``; each metric is over those that have what it needs.
        metrics: what is wanted.
        known: what the rows hold; a metric that needs something else is passed over.

    Returns:
        Metric → value; where there is one also ``<metric>_ci`` as [low, high] (95 %).
    """
    scores: Scores = {}
    for metric in metrics:
        own = measurable(rows, metric) if metric.needs in known else ()
        if own:
            measure = measure_of(metric)
            scores[metric.name] = measure.value(own)
            bounds = measure.interval(own)
            if bounds is not None:
                scores[f"{metric.name}_ci"] = list(bounds)
    return scores
