"""A proposal as the comment of a pull request: GitHub Markdown of bounded size.

Every value is one line of inert text in ``<code>``: it mentions nobody, links nowhere, loads
nothing, closes nothing and begins no line. Words and markup around it are ours. What an approver
says yes to is shown whole, or there is nothing to say yes by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from slmcompile.ci.approval import command
from slmcompile.ci.proposal import (
    NO_BAR,
    CodeEntry,
    Forecast,
    KeyEntry,
    Problem,
    Proposal,
    RecipeEntry,
    StageEntry,
)
from slmcompile.console.printable import printable
from slmcompile.plans.kinds import KINDS
from slmcompile.report.inert import code
from slmcompile.report.text import duration

MARKER = "<!-- slmcompile plan -->"
"""First line of the comment, by which it is found again; its author has to be looked at as well."""

LARGEST = 60_000
"""Characters; the host takes 65,536."""

_LONGEST = 300
_SHORT = 12
_ENOUGH = 2_000
"""Characters kept free for the last words."""

_BETWEEN = 8
"""Characters around a line or a heading, at most."""

_OPEN = 3
"""Recipes that are shown unfolded: nobody should approve of what he has not seen."""

_ARROW = " &lrm;→&lrm; "
"""Marks of direction, for two texts that are written from the right not to change places."""

_ALONE = {
    "added": "A recipe that was not there: its file says all.",
    "changed": "No key differs.",
    "removed": "Nothing of it is left.",
    "refused": "It does not compile.",
}
_UNLESS = ", unless it is trained already as it says below"
_STATUSES = ("changed", "added", "removed", "refused")


def comment(proposal: Proposal, largest: int = LARGEST) -> str:
    """The comment, of at most ``largest`` characters."""
    parts = [MARKER, "## slmcompile plan", _headline(proposal)]
    room = largest - _ENOUGH - sum(map(len, parts))
    few = len(proposal.recipes) <= _OPEN
    left_out = 0
    for heading, lines in (
        ("Cannot be trained as it is", _problems(proposal)),
        ("Read before you approve", _warned(proposal)),
        ("Recipes", [_recipe(entry, few) for entry in proposal.recipes]),
    ):
        text, more = _fitted(heading, lines, room)
        parts += text
        left_out += more
        room -= sum(map(len, text))
    parts += _end(proposal, left_out)
    text, more = _fitted("What it may take", [_forecast(each) for each in proposal.forecast], room)
    parts += text
    room -= sum(map(len, text))
    if more:
        parts.append(f"{more} more recipes do not fit in here.")
    # What the plan's machine found is not what is approved of, so it may be cut.
    text, more = _fitted("Checks, as the machine of the plan found them", _judged(proposal), room)
    parts += text
    if more:
        parts.append(f"{more} more findings do not fit in here.")
    return "\n\n".join(parts) + "\n"


def _fitted(heading: str, lines: Sequence[str], room: int) -> tuple[list[str], int]:
    """A section as far as there is room, and how many of its lines are left out."""
    kept: list[str] = []
    room -= len(heading) + _BETWEEN
    for line in lines:
        room -= len(line) + _BETWEEN
        if room < 0:
            break
        kept.append(line)
    text = [f"### {heading}\n\n" + "\n".join(kept)] if kept else []
    return text, len(lines) - len(kept)


def _headline(proposal: Proposal) -> str:
    counts: Counter[str] = Counter(entry.status for entry in proposal.recipes)
    words = [f"{counts[status]} {status}" for status in _STATUSES if counts[status]]
    recipes = ", ".join(words) or "none touched"
    trains = sum(
        stage.kind == "train" and stage.status != "removed"
        for entry in proposal.recipes
        for stage in entry.stages
    )
    commits = f"<code>{proposal.head[:_SHORT]}</code> against <code>{proposal.base[:_SHORT]}</code>"
    will = f" **{trains} to train.**" if trains else " Nothing to train."
    return f"{commits}. Recipes: {recipes}, {proposal.unchanged} unchanged.{will}"


def _problems(proposal: Proposal) -> list[str]:
    named = [(f"{_named(each)}: ", each.problem) for each in proposal.recipes]
    return [
        f"- {of}{_value(problem.what)}{_mended(problem)}"
        for of, problem in (*named, *(("", each) for each in proposal.refused))
        if problem
    ]


def _named(entry: RecipeEntry) -> str:
    return f"<code>{entry.recipe}</code>"


def _mended(problem: Problem) -> str:
    hint = f" Mend: {_value(problem.hint)}" if problem.hint else ""
    return f" (exit {problem.code}).{hint}"


def _warned(proposal: Proposal) -> list[str]:
    """What an approver has to know first, whichever recipe it is of."""
    lines: list[str] = []
    for entry in proposal.recipes:
        of = _named(entry)
        lines += [f"- {of}: code that would be executed: {_file(each)}" for each in entry.executes]
        lines += [f"- {of} {_bar(each, new=entry.status == 'added')}" for each in entry.bars]
        if entry.rows or entry.measured:
            said = (("rows", entry.rows), ("evaluation", entry.measured))
            what = " and ".join(word for word, so in said if so)
            lines.append(f"- {of}: other {what}: figures do not compare with the target's.")
    return lines


def _bar(each: KeyEntry, *, new: bool) -> str:
    if each.old == NO_BAR:
        return f"{'has' if new else 'adds'} the bar {_value(each.new)}"
    if each.new == NO_BAR:
        return f"**takes the bar** {_value(each.old)} **away**; it holds until this is merged"
    return f"changes a bar: {_pair(each)}"


def _file(each: CodeEntry) -> str:
    news = "**changed**" if each.changed else "as at the base"
    return f"{_value(each.path)}, {news}, SHA-256 <code>{each.sha256}</code>"


def _forecast(each: Forecast) -> str:
    """What is known of a recipe's cost, which is no part of what is approved."""
    of = f"- <code>{each.recipe}</code>:"
    if each.stated:
        return (
            f"{of} trained already: it brings the statement of this very work. Merging makes a"
            " version of it, and nothing has to be approved again."
        )
    left = each.stages - each.finished
    if each.finished:
        said = [f"{left} of {each.stages} stages to run; the others are finished at the target"]
    else:
        said = [f"at most {each.stages} stages to run; none is known to be finished"]
    if each.tokens is not None:
        said.append(f"{each.tokens:,} tokens to train on")
    if each.memory is not None:
        said.append(f"at most {each.memory / 1e9:.1f} GB of memory")
    if each.seconds is not None:
        said.append(f"the target's training took {duration(each.seconds)}")
    return f"{of} {'; '.join(said)}."


def _judged(proposal: Proposal) -> list[str]:
    return [
        f"- {'❌' if each.code else '⚠️'} <code>{each.recipe}</code> <code>{each.check}</code>:"
        f" {_value(each.evidence)}" + (f". Mend: {_value(each.hint)}" if each.hint else "")
        for each in proposal.judged
    ]


def _recipe(entry: RecipeEntry, unfolded: bool) -> str:
    """A recipe to fold: what it comes to, its keys, and the stages where a change begins."""
    told = {f"{key.key} {key.old} → {key.new}" for key in entry.keys}
    begin = [stage for stage in entry.stages if stage.reasons]
    lines = [f"- {_value(key.key)}: {_pair(key)}{_where(key)}" for key in entry.keys]
    alike: dict[tuple[str, ...], list[str]] = {}
    for stage in begin:
        others = tuple(reason for reason in stage.reasons if reason not in told)
        if others:
            alike.setdefault(others, []).append(f"<code>{stage.stage}</code>")
    for reasons, stages in alike.items():
        lines.append(f"- {', '.join(stages)}: {'; '.join(map(_value, reasons))}")
    if entry.status == "changed" and begin:
        names = ", ".join(f"<code>{stage.stage}</code>" for stage in begin)
        lines.append(f"- It begins at {names}; the others read what comes out.")
    summary = f"{_named(entry)} {entry.status}{_counts(entry.stages)}"
    body = "\n".join(lines) or _ALONE[entry.status]
    opened = "<details open>" if unfolded else "<details>"
    return f"{opened}<summary>{summary}</summary>\n\n{body}\n\n</details>"


def _counts(stages: Sequence[StageEntry]) -> str:
    """``: 1 train, 2 answer, 1 gone``."""
    counts = Counter(stage.kind for stage in stages if stage.status != "removed")
    gone = sum(stage.status == "removed" for stage in stages)
    parts = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
    parts += [f"{gone} gone"] if gone else []
    return f": {', '.join(parts)}" if parts else ""


def _pair(key: KeyEntry) -> str:
    return f"{_value(key.old)}{_ARROW}{_value(key.new)}"


def _where(key: KeyEntry) -> str:
    return f" ({_value(key.where)})" if key.where else ""


def _value(text: str) -> str:
    return code(printable(text), _LONGEST)


def _end(proposal: Proposal, left_out: int) -> Iterator[str]:
    """How to approve, or why nobody can."""
    if left_out:
        yield (
            f"**{left_out} more lines do not fit into a comment.** What cannot be shown whole"
            " cannot be approved: make it several pull requests."
        )
    elif proposal.problems:
        yield "Nothing can be approved before this is mended."
    elif any(entry.status != "removed" for entry in proposal.recipes):
        done = {each.recipe for each in proposal.forecast if each.stated}
        left = [each for each in proposal.recipes if each.status != "removed"]
        unless = "" if any(each.recipe not in done for each in left) else _UNLESS
        yield (
            f"To train it{unless}, somebody with write access comments this line and nothing else."
            " It holds for these two commits alone."
        )
        yield f"```\n{command(proposal.digest)}\n```"
