"""How each artifact does on each of several sources alone; nothing here is HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.report.facts import ReportFacts
from slmcompile.report.text import MISSING, number


@dataclass(frozen=True, slots=True)
class OfSource:
    """One source's lines.

    Attributes:
        heading: its name, how many of its rows were measured, and whether they are of the task.
        lines: artifact, and its figures by column.
    """

    heading: str
    lines: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class BySource:
    """The table of sources.

    Attributes:
        metrics: the columns.
        sources: in the recipe's order.
    """

    metrics: Sequence[Metric]
    sources: Sequence[OfSource]

    caption = "Each source's test rows alone; those against forgetting enter no other figure"


def by_source(facts: ReportFacts) -> BySource | None:
    """None of one source."""
    there = dict.fromkeys(name for each in facts.artifacts for name in each.sources)
    order = [str(each.get("name")) for each in facts.data_report.get("sources", ())]
    names = [name for name in dict.fromkeys([*order, *there]) if name in there]
    measured = [own for each in facts.artifacts for own in each.sources.values()]
    metrics = [
        metric
        for metric in METRICS.values()
        if any(own.get(metric.name) or (metric.name in own and not metric.silent_at_zero)
               for own in measured)
    ]  # fmt: skip
    if not names:
        return None
    return BySource(metrics, [_of(facts, name, metrics) for name in names])


def _of(facts: ReportFacts, name: str, metrics: Sequence[Metric]) -> OfSource:
    artifacts = [each for each in facts.artifacts if name in each.sources]
    # A baseline answers questions alone; whoever measures most rows says how many there are.
    most = max((each.sources[name] for each in artifacts), key=lambda own: int(own["rows"]))
    of = "" if most["rows"] == most["test_rows"] else f" of {most['test_rows']:,}"
    role = "" if most["counted"] else ", against forgetting"
    lines = [
        (
            each.name,
            [
                number(value, metric.digits) if value is not None else MISSING
                for metric in metrics
                for value in (each.sources[name].get(metric.name),)
            ],
        )
        for each in artifacts
        if any(metric.name in each.sources[name] for metric in metrics)
    ]
    return OfSource(f"{name}: {most['rows']:,}{of} test rows{role}", lines)
