"""The report's section on data: how much, of what kinds, how long, and what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slmcompile.report.charts import histogram
from slmcompile.report.markup import Column, Line, figure, table
from slmcompile.report.shown_data import Segment, ShownData
from slmcompile.report.text import count, escape, shorten
from slmcompile.shapes.splits import SPLITS

_MOST_LABELS = 30
_LONGEST_SEGMENT = 1200


def data_section(data: ShownData) -> str:
    """Counts, lengths, labels and examples; parts without data are left out."""
    return "".join(
        [
            _counts(data),
            source_table(data),
            _lengths(data),
            label_table(data.labels),
            _examples(data),
        ]
    )


def _counts(data: ShownData) -> str:
    if not data.rows:
        return ""
    total = sum(data.rows.values())
    parts = [f"{escape(split)} {count(n)}" for split, n in data.rows.items()]
    happened = [f"{what}: {count(n)}" for what, n in data.notes.items() if n]
    quality = "; ".join(happened) if happened else "no duplicates, contradictions or leaks found"
    said = "".join(f"<p>{escape(line)}.</p>" for line in data.said)
    return f"<p>{count(total)} rows: {', '.join(parts)}. Checks: {escape(quality)}.</p>{said}"


def source_table(data: ShownData) -> str:
    """What is trained and measured of each of several sources; empty of one."""
    if not data.sources:
        return ""
    heads = [Column("Source"), Column("Template")]
    heads += [Column(split, numeric=True) for split in SPLITS]
    heads += [Column("of train", numeric=True), Column("of trained tokens", numeric=True)]
    lines = [
        Line(
            [
                escape(each.name),
                escape(each.template),
                *(_of(each.rows.get(split, 0), each.divided.get(split, 0)) for split in SPLITS),
                f"{each.share:.1%}",
                f"{each.token_share:.1%}",
            ]
        )
        for each in data.sources
    ]
    return table("Sources, rows of each split used of those there are", heads, lines)


def _of(used: int, there: int) -> str:
    return count(used) if used == there else f"{count(used)} of {count(there)}"


def _lengths(data: ShownData) -> str:
    chart = histogram("Rows by length in tokens", data.edges, data.counts)
    lines = [
        Line([escape(name), f"{value:,.0f}" if value >= 10 else f"{value:,.1f}"])
        for name, value in data.lengths.items()
    ]
    heads = [Column("Statistic"), Column("Tokens a row", numeric=True)]
    statistics = table("Length, prompt and answer together", heads, lines) if lines else ""
    drawn = figure("Rows by length, tokens of prompt and answer", chart)
    return f'<div class="pair">{drawn}{statistics}</div>' if drawn or statistics else ""


def label_table(labels: Mapping[str, Mapping[str, int]]) -> str:
    """Rows of each label in each split with a bar for the total; empty without labels."""
    if not labels:
        return ""
    splits = [s for s in SPLITS if any(s in n for n in labels.values())]
    totals = {label: sum(counts.values()) for label, counts in labels.items()}
    largest = max(totals.values()) or 1
    shown = list(labels)[:_MOST_LABELS]
    lines = [
        Line(
            [
                escape(shorten(label, 60)),
                *(count(labels[label].get(split, 0)) for split in splits),
                f'<span class="share" style="width:{totals[label] / largest * 100:.1f}%"></span>',
            ]
        )
        for label in shown
    ]
    more = f", the {_MOST_LABELS} most frequent" if len(labels) > _MOST_LABELS else ""
    heads = [Column("Label"), *(Column(split, numeric=True) for split in splits), Column("Share")]
    return table(f"{count(len(labels))} labels by split{more}", heads, lines, "labels")


def _examples(data: ShownData) -> str:
    if not data.examples:
        return ""
    shown = "".join(
        f"<p>{escape(each.name)}</p>{_rows(each.examples)}" for each in data.sources
    ) or _rows(data.examples)
    return (
        "<h3>Training rows as the model sees them</h3>"
        '<p class="soft">Decoded from the token ids. '
        "Loss is computed on the <mark>marked</mark> tokens only.</p>" + shown
    )


def _rows(examples: Sequence[Sequence[Segment]]) -> str:
    return "".join(f'<div class="text segments">{_row(row)}</div>' for row in examples)


def _row(segments: Sequence[Segment]) -> str:
    pieces = []
    for segment in segments:
        text = escape(shorten(segment.text, _LONGEST_SEGMENT))
        pieces.append(f"<mark>{text}</mark>" if segment.trained else text)
    return "".join(pieces)
