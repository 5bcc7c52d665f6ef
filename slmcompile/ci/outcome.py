"""What came of an approved training, as a comment: figures beside the target's, bars, what next.

Values are inert text as in the plan's comment. Figures are those of the run alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slmcompile.ci.promoted import Merged
from slmcompile.ci.result import Record
from slmcompile.console.printable import printable
from slmcompile.metrics import METRICS
from slmcompile.provenance.statement import Statement
from slmcompile.report.inert import code

MARKER = "<!-- slmcompile result -->"
MARKER_OF_MERGE = "<!-- slmcompile versions -->"
_SHORT = 12
_MOST_ROWS = 60
_BRANCH = "refs/heads/"
_SHOWN = 4
"""Metrics of a table; all are in the report."""


@dataclass(frozen=True)
class Outcome:
    """A training that met every bar.

    Attributes:
        record: as the training wrote it.
        statements: of the recipes.
        before: the target's statements, by recipe.
        commit: that holds locks, figures and statements.
        ref: where it was put.
        incomparable: recipes whose rows or measuring differ from the target's.
    """

    record: Record
    statements: Sequence[Statement]
    before: Mapping[str, Statement]
    commit: str
    ref: str
    incomparable: frozenset[str] = frozenset()


def refused(what: str) -> str:
    """The comment of an approval that nothing was trained for."""
    return _joined([MARKER, "## slmcompile result", f"❌ Nothing was trained: {_value(what)}"])


def merged(made: Merged) -> str:
    """The comment of a merge: the versions that it made, and why it made others not."""
    parts = [MARKER_OF_MERGE, "## slmcompile versions"]
    for each in made.done:
        use = f"`slmcompile fetch {each.recipe}@{each.stage or each.version.partition('@')[2]}`"
        if each.stage:
            parts.append(f"- {_value(each.version)} is {_value(each.stage)}: {use}")
        else:
            parts.append(f"- {_value(each.version)}: {use}. Its stage is for an owner to give.")
    for error in made.wrong:
        hint = f" Mend: {_value(error.mend)}" if error.mend else ""
        parts.append(f"- ❌ No version was made: {_value(error.what)}{hint}")
    return _joined(parts)


def failed(record: Record) -> str:
    """The comment of a training that did not end well."""
    parts = [MARKER, "## slmcompile result", f"❌ {_of(record)} was not trained to its end."]
    for each in record.recipes:
        if each.code:
            hint = f" Mend: {_value(each.mend)}" if each.mend else ""
            kind = "bars are missed" if each.code == 3 else f"exit {each.code}"
            parts.append(f"- <code>{each.recipe}</code>: {kind}: {_value(each.what)}{hint}")
        else:
            parts.append(f"- <code>{each.recipe}</code>: done, every bar met.")
    parts.append(
        "Nothing was committed. What was finished is kept: what does not change is not done again."
    )
    return _joined(parts)


def passed(outcome: Outcome) -> str:
    """The comment of one that did."""
    parts = [MARKER, "## slmcompile result", f"✅ {_of(outcome.record)} is trained: every bar met."]
    for statement in outcome.statements:
        parts.append(f"### <code>{statement.recipe}</code>")
        parts.append(_table(statement, outcome.before.get(statement.recipe), outcome))
        bars = statement.gates[:_MOST_ROWS]
        if bars:
            marks = ("✅" if each.passed else "❌" for each in bars)
            told = zip(marks, bars, strict=True)
            parts.append("\n".join(f"- {mark} {_value(each.text)}" for mark, each in told))
    where = code(outcome.ref.removeprefix(_BRANCH))
    short = outcome.commit[:_SHORT]
    if outcome.ref.startswith(_BRANCH):
        parts.append(
            f"Locks, figures and statement: <code>{short}</code> on {where}. Merging promotes it"
            " without training again."
        )
    else:
        parts.append(
            f"Locks, figures and statement: <code>{short}</code> at {where} of this repository;"
            f" take it over by <code>git pull ORIGIN {outcome.ref}</code> and push. Merging then"
            " promotes it without training again."
        )
    return _joined(parts)


def _of(record: Record) -> str:
    return f"<code>{record.head[:_SHORT]}</code>"


def _table(statement: Statement, before: Statement | None, outcome: Outcome) -> str:
    """Metrics by artifact, each with the target's behind it."""
    found = {name for values in statement.metrics.values() for name in values}
    names = [name for name in METRICS if name in found][:_SHOWN]
    comparable = before is not None and statement.recipe not in outcome.incomparable
    lines = [
        "| artifact | " + " | ".join(METRICS[name].title for name in names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    for artifact, values in list(statement.metrics.items())[:_MOST_ROWS]:
        cells = []
        for name in names:
            old = before.metrics.get(artifact, {}).get(name) if before and comparable else None
            cells.append(_cell(name, values.get(name), old))
        lines.append(f"| {_value(artifact)} | " + " | ".join(cells) + " |")
    said = "In brackets: the target's figures."
    if before is None:
        said = "The target has no statement of this recipe: there is nothing to compare with."
    elif not comparable:
        said = "Rows or measuring differ from the target's: its figures are not comparable."
    return "\n".join(lines) + f"\n\n{said}"


def _cell(name: str, value: float | None, old: float | None) -> str:
    if value is None:
        return "–"
    digits = METRICS[name].digits
    return f"{value:.{digits}f}" + (f" ({old:.{digits}f})" if old is not None else "")


def _value(text: str) -> str:
    return code(printable(text))


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"
