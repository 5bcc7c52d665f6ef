"""The data report as typed facts; tolerant of keys that a report does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.shapes.splits import SPLITS


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a decoded row and whether its tokens are trained."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class ShownSource:
    """One of several sources.

    Attributes:
        name: what the recipe calls it.
        template: the type of its template.
        rows: split → rows that are trained and measured.
        divided: split → rows that it has.
        share: of all training rows, 0 to 1.
        token_share: of all trained tokens.
        examples: decoded training rows.
    """

    name: str
    template: str
    rows: Mapping[str, int]
    divided: Mapping[str, int]
    share: float
    token_share: float
    examples: Sequence[Sequence[Segment]]


@dataclass(frozen=True, slots=True)
class ShownData:
    """What a reader wants to know about the data.

    Attributes:
        rows: split → rows.
        notes: what was dropped, contradicts or leaks: sentence fragment → how often.
        said: sentences of the data stage on what it did with conversations.
        edges, counts: histogram of tokens a row; one more edge than counts.
        lengths: name of a statistic (``mean``, ``p95``, ``max``) → tokens.
        labels: label → split → rows, the most frequent label first.
        examples: decoded training rows.
        sources: of several, each.
    """

    rows: Mapping[str, int]
    notes: Mapping[str, int]
    said: Sequence[str]
    edges: Sequence[float]
    counts: Sequence[int]
    lengths: Mapping[str, float]
    labels: Mapping[str, Mapping[str, int]]
    examples: Sequence[Sequence[Segment]]
    sources: Sequence[ShownSource] = ()


def shown_data(report: Mapping[str, Any]) -> ShownData:
    """Reads a ``data_report.json`` of format 1."""
    dropped = _mapping(report.get("dropped"))
    edges, counts = _histogram(report)
    return ShownData(
        rows=_ordered({k: _amount(v) for k, v in _mapping(report.get("counts")).items()}),
        notes={
            "duplicate rows dropped": _amount(dropped.get("duplicates")),
            "rows dropped as too long": _amount(dropped.get("too_long")),
            "prompts with contradicting answers": _amount(report.get("contradicting")),
            "rows whose prompt is also in another split": _amount(report.get("leaks")),
            "labels that are tested but never trained": _amount(report.get("labels_never_trained")),
        },
        said=[str(line) for line in report.get("notes") or ()],
        edges=edges,
        counts=counts,
        lengths=_lengths(report),
        labels=_labels(_mapping(report.get("labels"))),
        examples=_examples(report.get("examples") or ()),
        sources=[_source(_mapping(each)) for each in report.get("sources") or ()],
    )


def _source(found: Mapping[str, Any]) -> ShownSource:
    return ShownSource(
        name=str(found.get("name", "")),
        template=str(found.get("template", "")),
        rows=_ordered({k: _amount(v) for k, v in _mapping(found.get("counts")).items()}),
        divided=_ordered({k: _amount(v) for k, v in _mapping(found.get("divided")).items()}),
        share=float(found.get("share", 0.0)),
        token_share=float(found.get("token_share", 0.0)),
        examples=_examples(found.get("examples") or ()),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _amount(value: Any) -> int:
    """A count given as a number, as a list of cases, or as counts by name."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, Mapping):
        return _amount(value["count"]) if "count" in value else sum(map(_amount, value.values()))
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 0


def _ordered(rows: Mapping[str, int]) -> dict[str, int]:
    known = {split: rows[split] for split in SPLITS if split in rows}
    return known | {split: n for split, n in rows.items() if split not in known}


def _histogram(report: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    lengths = _mapping(report.get("lengths"))
    total = _mapping(lengths.get("total")) or lengths
    found = _mapping(total.get("histogram")) or _mapping(report.get("length_histogram"))
    edges = [float(edge) for edge in found.get("edges") or found.get("bins") or ()]
    counts = found.get("counts") or found.get("total") or ()
    return edges, [int(n) for n in counts]


def _lengths(report: Mapping[str, Any]) -> dict[str, float]:
    lengths = _mapping(report.get("lengths"))
    found = _mapping(lengths.get("total")) or lengths or _mapping(report.get("percentiles"))
    flat = dict(found) | dict(_mapping(found.get("percentiles")))
    return {
        name: float(value)
        for name, value in flat.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _labels(by_split: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for split, labels in by_split.items():
        for label, n in _mapping(labels).items():
            found.setdefault(label, {})[split] = int(n)
    order = sorted(found, key=lambda label: (-sum(found[label].values()), label))
    return {label: found[label] for label in order}


def _examples(examples: Sequence[Any]) -> list[list[Segment]]:
    rows = [
        _mapping(one).get("segments", ()) if isinstance(one, Mapping) else one for one in examples
    ]
    return [
        [Segment(str(part.get("text", "")), bool(part.get("trained"))) for part in row]
        for row in rows
    ]
