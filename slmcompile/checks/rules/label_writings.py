"""The rule over labels that are written in several ways."""

from __future__ import annotations

from functools import lru_cache

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.first_rows import Source, first_rows_of
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.data.label_writings import several_writings
from slmcompile.data.normal_label import normal_answer
from slmcompile.data.render import program_of
from slmcompile.data.report_facts import OneLabel
from slmcompile.data.rows import SourceRow
from slmcompile.facts.context import CheckContext
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.schema import Data


@check(
    34,
    "labels-written-once",
    "one label written in several ways (1, 1.0, true) is trained as several and counted as one",
    needs=("D",),
    code=Exit.BAD_DATA,
)
def labels_written_once(context: CheckContext) -> Verdict:
    """White space, whole numbers and truth values make no other label."""
    config = context.recipe.data
    if not config.labelled:
        return proved("the task has no labels")
    if config.normalize_labels == ():
        return proved("data.normalize_labels=[] says that each writing is a label")
    if context.data is not None:
        found, of = context.data.facts.several_writings, ""
    else:
        found, of = _in_first_rows(tuple(Source.all_of(context)))
    sure = [one for one in found if one.sure]
    if sure:
        return refuted(_said(sure, of), mend_of(sure[0], config), context.at("data.label"))
    if context.data is None:
        return needs_rows(context)
    return proved("no label is written in several ways")


def said_of_case(context: CheckContext) -> tuple[str, str] | None:
    """Labels that differ in the case or the form of their letters alone, and how to mend it."""
    config = context.recipe.data
    facts = context.data.facts.several_writings if context.data else ()
    found = [one for one in facts if not one.sure]
    if not found or config.normalize_labels == ():
        return None
    return _said(found), mend_of(found[0], config)


def _said(found: list[OneLabel], of: str = "") -> str:
    labels = f"{len(found)} labels are" if len(found) > 1 else "one label is"
    first = "the first: " if len(found) > 1 else ""
    return f"{labels} written in several ways{of}: {first}{found[0]}"


def mend_of(one: OneLabel, config: Data) -> str:
    """Names the steps that make it one label."""
    steps = ", ".join(dict.fromkeys((*(config.normalize_labels or ()), *one.steps)))
    return (
        f"set data.normalize_labels=[{steps}], mend the data,"
        " or set data.normalize_labels=[] if they are different labels"
    )


@lru_cache(maxsize=64)
def _in_first_rows(sources: tuple[Source, ...]) -> tuple[tuple[OneLabel, ...], str]:
    """What is found there, and in how many rows; nothing where they cannot be read."""
    config = sources[0].data
    try:
        answers = [
            (answer_of(row, source.part, config), row.where)
            for source in sources
            if source.part.counted
            for row in first_rows_of(source).rows
        ]
    except SlmcompileError:  # another rule says so
        return (), ""
    return several_writings(answers, config.label), f" (first {len(answers)} rows)"


def answer_of(row: SourceRow, part: Part, config: Data) -> str:
    """The row's answer; of a conversation its ends do not count, which templates trim."""
    text = program_of(part.template).answer(row, part.template, part.columns)
    return normal_answer(text, config.label, config.label_steps)
