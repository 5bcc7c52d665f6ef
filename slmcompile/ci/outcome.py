"""What came of an approval, as comments: the answer, figures beside the target's, bars, what next.

An answer and a result are two comments: anybody can be refused, and must not write over what came
of somebody's training. Values are inert text as in the plan's comment. Figures are those of the
run alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slmcompile.ci.promoted import Merged
from slmcompile.ci.result import Record
from slmcompile.console.errors import GateFailedError, SlmcompileError
from slmcompile.console.printable import printable
from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import place
from slmcompile.provenance.statement import Statement
from slmcompile.report.inert import code

MARKER = "<!-- slmcompile result -->"
MARKER_OF_ANSWER = "<!-- slmcompile answer -->"
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
    """The answer to an approval that does not count."""
    return _joined(
        [
            MARKER_OF_ANSWER,
            "## slmcompile answer",
            f"❌ Not trained: {_value(what)}",
            "The plan's comment has the line to approve by, and who may.",
        ]
    )


def unpushed(error: SlmcompileError, page: str) -> str:
    """The answer where what was trained could not be stated, committed or pushed."""
    log = f" [Its log]({page}) says more." if page else ""
    hint = f" Mend: {_value(error.mend)}." if error.mend else ""
    return _joined(
        [
            MARKER_OF_ANSWER,
            "## slmcompile answer",
            f"❌ Trained, and not pushed: {_value(error.what)}.{hint}{log}",
            "What was finished is kept: approved again by the plan's line, it is taken from there.",
        ]
    )


def started(login: str, page: str) -> str:
    """The answer to one that does."""
    run = f"[This run]({page})" if page else "A run"
    return _joined(
        [
            MARKER_OF_ANSWER,
            "## slmcompile answer",
            f"⏳ Approved by {_value(login)}. {run} trains it; what comes out is said here, in a"
            " comment of its own. A push before that voids the approval.",
        ]
    )


def unfinished(what: str, page: str) -> str:
    """The comment of a training that has left no result."""
    log = f" [Its log]({page}) says more." if page else ""
    return _joined(
        [
            MARKER,
            "## slmcompile result",
            f"❌ Nothing was trained: {_value(what)}.{log}",
            "What was finished is kept: approved again by the plan's line, it goes on from there.",
        ]
    )


def merged(made: Merged) -> str:
    """The comment of a merge: the versions that it made, and why it made others not."""
    lines = []
    for each in made.done:
        number = each.version.partition("@")[2]
        use = f"`slmcompile fetch {each.recipe}@{each.stage or number}`"
        if each.stage:
            back = f"`slmcompile rollback {each.recipe}`"
            lines.append(f"- {_value(each.version)} is {_value(each.stage)}: {use}; back: {back}")
        else:
            give = f"`slmcompile promote {each.recipe} {number} --to production`"
            lines.append(
                f"- {_value(each.version)}: {use}. It is in no stage yet; an owner gives it one by"
                f" {give}, and later versions follow when they are merged."
            )
    for error in made.wrong:
        hint = f". Mend: {_value(error.mend)}" if error.mend else ""
        lines.append(f"- ❌ No version was made: {_value(error.what)}{hint}")
    return _joined([MARKER_OF_MERGE, "## slmcompile versions", "\n".join(lines)])


def failed(record: Record) -> str:
    """The comment of a training that did not end well."""
    missed = record.code == GateFailedError.code
    said = "is trained, and misses a bar" if missed else "was not trained to its end"
    lines = []
    for each in record.recipes:
        if each.code:
            at_gate = each.code == GateFailedError.code
            # Of a gate it names a report that nobody has here, and a way that is closed.
            hint = f". Mend: {_value(each.mend)}" if each.mend and not at_gate else ""
            kind = "bars are missed" if at_gate else f"exit {each.code}"
            lines.append(f"- ❌ <code>{each.recipe}</code>: {kind}: {_value(each.what)}{hint}")
        else:
            lines.append(f"- ✅ <code>{each.recipe}</code>: done, every bar met.")
    if missed:
        lines.append(
            "- The target's bars hold as well as those of the pull request: one is lowered by a"
            " pull request of its own."
        )
    return _joined(
        [
            MARKER,
            "## slmcompile result",
            f"❌ {_of(record)} {said}.",
            "\n".join(lines),
            "Nothing was committed, and merging it makes no version. Push a change: it is planned"
            " anew and wants an approval of its own. What is finished and does not change by it is"
            " not done again.",
        ]
    )


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
            " without training again; pull it before you push more, which would void it."
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
    for artifact in sorted(statement.metrics, key=place)[:_MOST_ROWS]:
        values = statement.metrics[artifact]
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
