"""The handful of figures that stand at the top of every document."""

from __future__ import annotations

from dataclasses import dataclass

from slmcompile.report.facts import Artifact, ReportFacts, metric_title
from slmcompile.report.findings import best_baseline, lost_the_task
from slmcompile.report.sizes import shared_by
from slmcompile.report.text import duration, is_number, number, size


@dataclass(frozen=True, slots=True)
class Item:
    """A figure, its name, and what it should be read against."""

    name: str
    value: str
    note: str = ""


def headline(facts: ReportFacts) -> list[Item]:
    """Quality against the base model, the smallest export, and the time of training."""
    items = [_quality(facts, metric) for metric in ("exact_match", "accuracy")]
    if not any(items):  # of plain text, or where answers are compared otherwise
        items = [_quality(facts, facts.headline_metric)]
    smallest = smallest_export(facts)
    if smallest is not None:
        whose = " ".join(filter(None, (smallest.name, shared_by(smallest))))
        items.append(Item("Smallest export", size(smallest.size_bytes), whose))
    elif facts.of_kind("export"):
        items.append(Item("Smallest export", "none", "each missed a gate or answers worse"))
    seconds = facts.training.get("wall_seconds")
    if is_number(seconds):
        rate = number(facts.training.get("tokens_per_second"), 0)
        items.append(Item("Training", duration(seconds), f"{rate} tokens/s"))
    return [item for item in items if item is not None]


def smallest_export(facts: ReportFacts) -> Artifact | None:
    """The export with the fewest bytes among those that have not lost the task."""
    kept = [a for a in facts.of_kind("export") if not lost_the_task(facts, a)]
    exports = [a for a in kept if a.size_bytes]
    return min(exports, key=lambda artifact: artifact.size_bytes or 0, default=None)


def _quality(facts: ReportFacts, metric: str) -> Item | None:
    tuned = facts.tuned
    value = tuned.metric(metric) if tuned else None
    if value is None:
        return None
    base = next(iter(facts.of_kind("base")), None)
    before = base.metric(metric) if base else None
    best = best_baseline(facts, metric)
    against = [
        *([f"base model {number(before)}"] if before is not None else []),
        *([f"{best.name} {number(best.metric(metric))}"] if best and best is not base else []),
    ]
    return Item(metric_title(metric), number(value), ", ".join(against) or "fine-tuned model")
