"""One page over all recipes: what each was measured at, and whether its gates passed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.report.facts import Artifact, ReportFacts, facts_from, metric_title
from slmcompile.report.findings import best_baseline, verdict
from slmcompile.report.headline import smallest_export
from slmcompile.report.inert import prose
from slmcompile.report.markdown import grid
from slmcompile.report.markup import Column, Line, document, table
from slmcompile.report.sizes import shared_by
from slmcompile.report.text import MISSING, escape, number, size

_COLUMNS = (
    ("Base model", False),
    ("Gates", False),
    ("Metric", False),
    ("Fine-tuned", True),
    ("Before", True),
    ("Best baseline", True),
    ("Smallest export", False),
    ("Size", True),
    ("Its score", True),
)
# A relative path and nothing else: no scheme, no host, no way up beyond the project.
_RELATIVE = re.compile(r"^(?!.*(?:^|/)\.\.(?:/|$))[\w][\w./-]*$")


@dataclass(frozen=True)
class Told:
    """What a page over several reports calls them.

    Attributes:
        title: heading of the page.
        one: one of them.
        several: more of them.
        about: a sentence on all; it stands once, in the place of each one's own.
    """

    title: str = "Recipes"
    one: str = "recipe"
    several: str = "recipes"
    about: str = ""


def overview(recipes: Sequence[Mapping[str, Any]], told: Told = Told()) -> tuple[str, str]:
    """The page as (HTML, Markdown).

    Args:
        recipes: the JSON of each recipe's ``ReportFacts``, and under ``report`` the relative path
            of its ``report.html`` if there is one.
        told: what they are called.
    """
    known = sorted(
        ((facts_from(recipe), str(recipe.get("report", ""))) for recipe in recipes),
        key=lambda pair: pair[0].name,
    )
    return _html(known, told), _markdown(known, told)


def _html(recipes: Sequence[tuple[ReportFacts, str]], told: Told) -> str:
    lines = []
    for facts, link in recipes:
        name = escape(facts.name)
        linked = f'<a href="{escape(link)}">{name}</a>' if _RELATIVE.match(link) else name
        about = f'<small class="ci">{escape(facts.description)}</small>'
        first = linked + (about if facts.description and not told.about else "")
        passed, *rest = _cells(facts)[1:]
        cells = [first, escape(facts.model_name), _sign(facts, passed), *map(escape, rest)]
        lines.append(Line(cells))
    heads = [Column(heading, numeric) for heading, numeric in _columns(told)]
    counted = f"1 {told.one}" if len(recipes) == 1 else f"{len(recipes)} {told.several}"
    title, none = escape(told.title), f"<p>No {told.several} yet.</p>"
    lead = f'<p class="lead">{escape(told.about)}</p>' if told.about else ""
    shown = table(counted, heads, lines) if recipes else none
    body = f"<header><h1>{title}</h1>{lead}</header>{shown}"
    return document(f"{told.title} · slmcompile", body)


def _columns(told: Told) -> list[tuple[str, bool]]:
    return [(told.one.capitalize(), False), *_COLUMNS]


def _sign(facts: ReportFacts, text: str) -> str:
    passed, _ = verdict(facts)
    style = {True: "pass", False: "fail", None: "soft"}[passed]
    return f'<span class="{style}">{escape(text)}</span>'


def _markdown(recipes: Sequence[tuple[ReportFacts, str]], told: Told) -> str:
    rows = []
    for facts, link in recipes:
        name = prose(facts.name)
        linked = f"[{name}]({link})" if _RELATIVE.match(link) else name
        model, *rest = _cells(facts)
        rows.append([linked, *map(prose, [model, *rest])])
    columns = _columns(told)
    shown = grid([heading for heading, _ in columns], rows, [right for _, right in columns])
    about = f"{prose(told.about)}\n\n" if told.about else ""
    return f"# {prose(told.title)}\n\n{about}{shown or f'No {told.several} yet.'}\n"


def _cells(facts: ReportFacts) -> list[str]:
    """The row after the recipe's name, as plain text."""
    passed, _ = verdict(facts)
    gates = {True: "✓ passed", False: "✗ failed", None: "none"}[passed]
    metric = facts.headline_metric
    best = best_baseline(facts, metric)
    base = next(iter(facts.of_kind("base")), None)
    smallest = smallest_export(facts)
    return [
        facts.model_name,
        gates,
        metric_title(metric),
        _value(facts.tuned, metric),
        _value(base, metric),
        f"{_value(best, metric)} {best.name}" if best else MISSING,
        smallest.name if smallest else MISSING,
        " ".join(filter(None, (size(smallest.size_bytes), shared_by(smallest))))
        if smallest
        else MISSING,
        _value(smallest, metric),
    ]


def _value(artifact: Artifact | None, metric: str) -> str:
    return number(artifact.metric(metric)) if artifact else MISSING
