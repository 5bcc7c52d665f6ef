"""A difference between two plans as text for a person."""

from __future__ import annotations

from slmcompile.console.printable import printable
from slmcompile.explain.diff import Difference, KeyDifference, MetricDifference, StageDifference
from slmcompile.state.reasons import Reason
from slmcompile.state.short_values import short_pair

_SHOWN = 3
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def diff_text(difference: Difference) -> str:
    """Keys, stages and metrics that differ, old → new; one line says so if nothing does."""
    old, new = difference.old, difference.new
    lines = [f"{old.name} → {new.name}"]
    lines += [f"  note: {side.name}: {note}" for side in (old, new) for note in side.notes]
    if difference.keys:
        lines += ["", "keys", *_table([_key(key) for key in difference.keys])]
    touched = [stage for stage in difference.stages if stage.status != "same"]
    if touched:
        lines += ["", "stages", *_table([_stage(stage) for stage in touched])]
    if difference.metrics:
        lines += ["", "metrics", *_table([_metric(metric) for metric in difference.metrics])]
    if not difference.any:
        lines += ["", "No key and no stage differs."]
    else:
        same = len(difference.stages) - len(touched)
        lines += ["", f"{_count(difference)}, {same} the same."]
    return "\n".join(printable(line) for line in lines)


def _count(difference: Difference) -> str:
    parts = [f"{len(difference.keys)} key{' differs' if len(difference.keys) == 1 else 's differ'}"]
    for status in ("added", "changed", "removed"):
        count = sum(stage.status == status for stage in difference.stages)
        if count:
            parts.append(f"{count} stage{'' if count == 1 else 's'} {status}")
    return ", ".join(parts)


def _key(key: KeyDifference) -> tuple[str, str, str]:
    if key.old_where == key.new_where:
        where = key.new_where or "default"
    else:
        where = f"{key.old_where or 'default'} → {key.new_where or 'default'}"
    return (f"~ {key.key}", " → ".join(short_pair(key.old, key.new)), where)


def _stage(stage: StageDifference) -> tuple[str, str, str]:
    parts = _first([_reason(reason) for reason in stage.reasons])
    if stage.inputs:
        parts.append(f"input {', '.join(_first(list(stage.inputs)))}")
    prints = f"{(stage.old or '–')[:10]} → {(stage.new or '–')[:10]}"
    if stage.status != "changed":
        parts = [stage.status]
    return (f"{_SIGNS[stage.status]} {stage.name}", prints, ", ".join(parts))


def _first(words: list[str]) -> list[str]:
    more = len(words) - _SHOWN
    return [*words[:_SHOWN], f"{more} more"] if more > 1 else words


def _reason(reason: Reason) -> str:
    if reason.cause == "file":
        old, new = ((value or "none")[:10] for value in (reason.old, reason.new))
        return f"{reason.subject}{reason.of_source} SHA-256 {old} → {new}"
    return reason.sentence()


def _metric(metric: MetricDifference) -> tuple[str, str, str]:
    change = metric.new - metric.old
    return (
        f"{metric.artifact} {metric.metric}",
        f"{metric.old:.4g} → {metric.new:.4g}",
        f"{change:+.3g}",
    )


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    return [f"  {a.ljust(first)}  {b.ljust(second)}  {c}".rstrip() for a, b, c in rows]
