"""The few HTML building blocks that every section is made of. Escaping happens here or before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmcompile.report.style import STYLE
from slmcompile.report.text import escape

# Nothing may be fetched or run, even if an escape were missed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Column:
    """A table column: its heading, and whether it holds numbers (aligned right)."""

    heading: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One table row of ready HTML cells, the first a row heading; a style class for the row."""

    cells: Sequence[str]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A heading over the table rows that follow it."""

    heading: str


def table(
    caption: str, columns: Sequence[Column], lines: Sequence[Line | Group], style: str = ""
) -> str:
    """A table with a caption; cells are HTML already, headings and caption are text."""
    heads = "".join(
        f'<th scope="col"{_numeric(column)}>{escape(column.heading)}</th>' for column in columns
    )
    body = "".join(_row(line, columns) for line in lines)
    return (
        f'<div class="scroll"><table class="{escape(style)}">'
        f"<caption><span>{escape(caption)}</span></caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _numeric(column: Column) -> str:
    return ' class="n"' if column.numeric else ""


def _row(line: Line | Group, columns: Sequence[Column]) -> str:
    if isinstance(line, Group):
        return (
            f'<tr class="group"><th colspan="{len(columns)}" scope="colgroup">'
            f"{escape(line.heading)}</th></tr>"
        )
    first, *rest = line.cells
    cells = "".join(
        f"<td{_numeric(column)}>{cell}</td>" for column, cell in zip(columns[1:], rest, strict=True)
    )
    return f'<tr class="{escape(line.style)}"><th scope="row">{first}</th>{cells}</tr>'


def section(heading: str, *parts: str) -> str:
    """A section with a heading, or nothing if it has no content."""
    content = "".join(parts)
    return f"<section><h2>{escape(heading)}</h2>{content}</section>" if content else ""


def figure(caption: str, chart: str) -> str:
    """A chart with a caption, or nothing without a chart."""
    if not chart:
        return ""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>"


def document(title: str, body: str) -> str:
    """A whole page: self-contained, nothing to fetch, no script."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
