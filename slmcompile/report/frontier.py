"""What a target was chosen among: a table, a picture with the chosen one marked, and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.metrics import METRICS
from slmcompile.report.facts import ReportFacts
from slmcompile.report.inert import prose
from slmcompile.report.markup import Column, Line, figure, table
from slmcompile.report.scatter import Bar, Place, scatter
from slmcompile.report.text import MISSING, escape, is_number, number, size

_MB = 1e6


def chosen_keys(facts: ReportFacts, target: str) -> Mapping[str, Any]:
    """The keys of the candidate that a target is; those of the recipe of one that was given."""
    frontier = facts.frontiers.get(target, {})
    for candidate in frontier.get("candidates", ()):
        if candidate["name"] == frontier["chosen"]:
            keys: Mapping[str, Any] = candidate["keys"]
            return keys
    given: Mapping[str, Any] = facts.recipe.get("target", {}).get(target, {})
    return given


def frontiers(facts: ReportFacts) -> str:
    """As HTML; empty where every precision was given."""
    return "".join(_one(target, found) for target, found in facts.frontiers.items())


def frontiers_markdown(facts: ReportFacts) -> str:
    """As Markdown, without the picture."""
    parts = []
    for target, found in facts.frontiers.items():
        heads, rows = _cells(found)
        lines = [heads, ["---", "---"] + ["--:"] * (len(heads) - 3) + ["---"]]
        lines += [[prose(cell) for cell in row] for row in rows]
        parts.append(prose(_reason(target, found)))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts += [f"- {prose(line)}" for line in _left_out(found)]
    return "\n\n".join(parts)


def _one(target: str, found: Mapping[str, Any]) -> str:
    heads, rows = _cells(found)
    chosen = found["chosen"]
    columns = [Column(heads[0]), Column(heads[1])]
    columns += [Column(head, numeric=True) for head in heads[2:-1]]
    columns.append(Column(heads[-1]))
    lines = [
        Line([escape(cell) for cell in row], "tuned" if row[1] == f"{chosen} (chosen)" else "")
        for row in rows
    ]
    out = "".join(f"<p>{escape(line)}</p>" for line in _left_out(found))
    caption = f"What {target} was chosen among, on {found['rows']:,} validation rows; ranges are"
    caption += " 95 % intervals."
    return (
        f"<p>{escape(_reason(target, found))}</p>{table(caption, columns, lines)}{out}"
        f'<div class="narrow">{figure(_under(found), _picture(target, found))}</div>'
    )


def _reason(target: str, found: Mapping[str, Any]) -> str:
    return f"{target}: {found['reason']}."


def _under(found: Mapping[str, Any]) -> str:
    title = METRICS[found["budget"]["metric"]].title
    return f"{title} over size in MB. Large: chosen; filled: holds the budget; hollow: misses it."


def _left_out(found: Mapping[str, Any]) -> list[str]:
    return [f"{name} was left out: {why}." for name, why in sorted(found["left_out"].items())]


def _cells(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: number, who, figures, and what is missed."""
    metric = METRICS[found["budget"]["metric"]]
    every = [found["torch"], *found["candidates"]]
    timed = any(each["tokens_per_second"] is not None for each in every)
    heads = ["", "Candidate", "Size", metric.title, "Against torch", "Nats a token"]
    heads += ["Tokens/s"] if timed else []
    rows = []
    for at, each in enumerate(every):
        name = each["name"]
        held = "; ".join(each["misses"]) or MISSING
        rows.append(
            [
                str(at) if at else MISSING,
                f"{name} (chosen)" if at and name == found["chosen"] else name,
                size(each["size_bytes"]),
                _ranged(each["value"], each["interval"], metric.digits),
                _against(each),
                _ranged(each["nll"], each["nll_interval"], 4),
                *([number(each["tokens_per_second"], 1)] if timed else []),
                held if at else "",
            ]
        )
    return [*heads, "Misses of the budget"], rows


def _ranged(value: Any, bounds: Sequence[float] | None, digits: int) -> str:
    if not is_number(value):
        return MISSING
    between = f" ({number(bounds[0], digits)} to {number(bounds[1], digits)})" if bounds else ""
    return f"{number(value, digits)}{between}"


def _against(each: Mapping[str, Any]) -> str:
    """The candidate minus torch, as differences are written elsewhere."""
    found = each["difference"]
    return _ranged(found["value"], (found["low"], found["high"]), 3) if found else MISSING


def _picture(target: str, found: Mapping[str, Any]) -> str:
    budget = found["budget"]
    metric, torch = METRICS[budget["metric"]], found["torch"]["value"]
    least = torch - budget["max_drop"] * (1 if metric.higher_is_better else -1)
    places = []
    for at, each in enumerate(found["candidates"], 1):
        style = "misses" if each["misses"] else "holds"
        places.append(
            Place(
                str(at),
                each["size_bytes"] / _MB,
                each["value"],
                tuple(each["interval"]) if each["interval"] else None,
                "chosen" if each["name"] == found["chosen"] else style,
            )
        )
    told = ", ".join(
        f"{each['name']} {number(each['value'], metric.digits)} at {size(each['size_bytes'])}"
        for each in found["candidates"]
    )
    words = f"{metric.title} of the candidates of {target} over size: {told}; chosen is"
    words += f" {found['chosen']}"
    bars = [Bar(torch, "torch")]
    bars += [Bar(least, f"max_drop {budget['max_drop']:g}")] if budget["max_drop"] else []
    return scatter(f"{metric.title} over size", words, places, bars)
