"""Rules over the rows as the source holds them: columns, roles, answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from slmcompile.base.layout import CHAT_TEMPLATES
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.checks.rules.first_rows import FirstRows, Source, first_rows_of
from slmcompile.checks.rules.label_writings import answer_of, said_of_case
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import BadDataError, Exit, SlmcompileError
from slmcompile.console.printable import shortened
from slmcompile.data.labels import label_of, parse_json
from slmcompile.data.render import program_of
from slmcompile.data.report_facts import DataFacts
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data.template import fields, parse
from slmcompile.facts.context import CheckContext
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.project import nearest
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS
from slmcompile.templates import TEMPLATES

GIVEN_AWAY = 0.9
"""Share of rows with their answer in the prompt from which that looks like a mistake."""

_BY = "data.split.by"
"""A column that only the rows must have from which splits are taken."""

_ROLES_SHOWN = 3
_STEP = re.compile(r"(data\.steps\.[0-9]+): ")


@check(
    6,
    "columns",
    "a template names a column that the data does not have, or that is empty in some row",
    needs=("D",),
    code=Exit.BAD_DATA,
)
def columns(context: CheckContext) -> Verdict:
    """The columns that the recipe names are there, typed and filled, in every split."""
    told: list[str] = []
    for source in Source.all_of(context):
        part = source.part
        try:
            wanted = _wanted(part, source.data)
        except SlmcompileError as error:
            key, _, problem = part.key(error.what).partition(": ")
            return refuted(problem, part.key(error.mend), context.at(key), error.code)
        names = ", ".join(dict.fromkeys(name for _, name in wanted))
        told.append(f"{part.name}: {names}" if part.name else names)
        if context.data is not None:
            continue
        looked = _look(source, tuple(wanted))
        if looked.error is not None:
            what, mend = part.key(looked.error.what), part.key(looked.error.mend)
            return refuted(what, mend, context.at(part.key(looked.key)), looked.error.code)
        told[-1] = f"{told[-1]}: {looked.seen}"
    if context.data is not None:
        return proved(f"{'; '.join(told)}: filled in all {sum(context.data.rows.values())} rows")
    return needs_probe(context.data_stage, "; ".join(told))


@dataclass(frozen=True)
class _Looked:
    """The first thing wrong and the key at fault, or what was seen."""

    seen: str
    key: str = ""
    error: SlmcompileError | None = None


@lru_cache(maxsize=64)
def _look(source: Source, wanted: tuple[tuple[str, str], ...]) -> _Looked:
    """Many recipes read the same rows; they are looked through once."""
    part, data = source.part, source.data
    asked = part.counted and TEMPLATES[part.template.type].asks
    try:
        seen = first_rows_of(source)
    except SlmcompileError as error:
        step = _STEP.match(error.what)
        if step is None:
            return _Looked("", "data.source", error)
        what = error.what[step.end() :]
        return _Looked("", step[1], SlmcompileError(what, error.mend, code=error.code))
    for number, row in enumerate(seen.rows):
        for key, name in wanted:
            if key == _BY and number >= seen.train:
                continue
            found = _error(row, key, name, part)
            if found is not None:
                renamed = part.columns.get(name)
                at_fault = renamed is not None and renamed not in row.values
                return _Looked("", f"data.columns.{name}" if at_fault else key, found)
        found = _label_error(row, part, data) if asked else None
        if found is not None:
            return _Looked("", "data.label", found)
    extracted = data.task == "extraction" and asked
    if extracted and seen.rows and not _some_json(seen.rows, part, data):
        what = f"{seen.rows[0].where}: the answer is no JSON, and none is of the rows seen"
        mend = "set data.task=generation, or let the template write whole JSON answers"
        return _Looked("", "data.task", BadDataError(what, mend))
    return _Looked(_seen(seen))


def _some_json(rows: Sequence[SourceRow], part: Part, data: Data) -> bool:
    return any(parse_json(answer_of(row, part, data))[0] for row in rows)


def _wanted(part: Part, data: Data) -> list[tuple[str, str]]:
    """Key of a single source's recipe and column that it names."""
    found = [
        (f"data.template.{key}", name)
        for key, text in _texts(part).items()
        for name in fields(parse(text, f"data.template.{key}"))
    ]
    named = TEMPLATES[part.template.type].columns(part.template)
    found += [(f"data.template.{key}", name) for key, name in named.items()]
    divided = part.counted and any(split not in part.splits for split in SPLITS)
    if data.split.by is not None and data.split.strategy != "random" and divided:
        found.append((_BY, data.split.by))
    return found


def _texts(part: Part) -> Mapping[str, str]:
    """The template's format strings, the prompt's first."""
    return TEMPLATES[part.template.type].texts(part.template)


def _error(row: SourceRow, key: str, name: str, part: Part) -> SlmcompileError | None:
    try:
        if key == _BY:
            as_text(row, name, part.columns)
        else:
            program_of(part.template).look(row, part.template, part.columns, name)
    except SlmcompileError as error:
        return error
    return None


def _label_error(row: SourceRow, part: Part, data: Data) -> SlmcompileError | None:
    """What is wrong where ``data.label`` is a key that the row's answer does not have."""
    try:
        answer = answer_of(row, part, data)
    except SlmcompileError as error:
        return error
    if data.label is None or label_of(answer, data.label) is not None:
        return None
    whole, value = parse_json(answer)
    if not whole or not isinstance(value, dict):
        mend = "take data.label out, which makes the whole answer the label, or write JSON objects"
        return BadDataError(f"{row.where}: the answer is no JSON object", mend)
    problem = "is null" if data.label in value else "is no key of the answer"
    mend = nearest("its keys:", data.label, [shortened(str(key), 40) for key in value][:20])
    return BadDataError(f"{row.where}: {data.label!r} {problem}", mend)


def _seen(seen: FirstRows) -> str:
    if not seen.rows:
        return "the rows are read by then"
    return (
        f"filled in {'all' if seen.whole else 'the first'} {len(seen.rows)} rows, not rendered yet"
    )


@check(
    17,
    "roles-render",
    "the chat template refuses some order of roles, which then stops a run or is dropped",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def roles_render(context: CheckContext) -> Verdict:
    """Every pattern of roles in the data is rendered by the chat template."""
    parts = context.recipe.data.parts
    chats = [part for part in parts if TEMPLATES[part.template.type].chat]
    if not chats:
        return proved("a text template has no roles")
    model = context.model
    if model is not None and not (
        model.tokenizer.get("chat_template")
        or {"chat_template.jinja", "chat_template.json", CHAT_TEMPLATES} & set(model.files)
    ):
        return refuted(
            f"{model.where}: its tokenizer has no chat template",
            "use data.template.type=text, or an instruct model",
            context.at(chats[0].key("data.template.type")),
            Exit.BAD_RECIPE,
        )
    if context.data is None:
        return needs_rows(context)
    roles = context.data.facts.roles
    rendered, rows = sum(roles.values()), _rows_of(context.data, chats)
    if rendered < rows:
        return refuted(
            f"{rows - rendered} of {rows} rows were not rendered by the chat template",
            "correct the roles and their order",
            context.at(chats[0].key("data.template")),
        )
    often = sorted(roles, key=lambda pattern: (-roles[pattern], pattern))
    shown = ", ".join(f"{pattern} ({roles[pattern]})" for pattern in often[:_ROLES_SHOWN])
    more = f" and {len(often) - _ROLES_SHOWN} more" if len(often) > _ROLES_SHOWN else ""
    return proved(f"rendered: {shown}{more}")


@check(
    27,
    "label-noise",
    "one prompt with two answers cannot be learnt, and one that holds its answer teaches copying",
    needs=("C", "D"),
    code=Exit.BAD_DATA,
    warning=True,
)
def label_noise(context: CheckContext) -> Verdict:
    """No prompt is answered in two ways, and the prompts do not give the answers away."""
    parts = context.recipe.data.parts
    copied = next((part for part in parts if _answers_itself(part)), None)
    if copied is not None:
        return refuted(
            "every column of the answer stands in the prompt too",
            "take the answer's column out of the prompt",
            context.at(copied.key("data.template")),
        )
    if context.data is None:
        return needs_rows(context)
    data, rows = context.data, sum(context.data.rows.values())
    noise = data.report["contradicting"]
    if noise["count"]:
        places = noise["listed"][0]["where"]
        return refuted(
            f"{noise['count']} prompts are answered in more than one way,"
            f" first {' and '.join(places[:2])}",
            "keep one answer a prompt, or put into the prompt what tells them apart",
            context.at(context.recipe.data.source_key),
        )
    if case := said_of_case(context):
        return refuted(*case, context.at("data.label"))
    given = data.facts.given_away
    if given >= GIVEN_AWAY * rows:
        return refuted(
            f"{given} of {rows} prompts hold their whole answer",
            "take it out of the prompt's columns, unless the task is to copy",
            context.at(parts[0].key("data.template")),
        )
    return proved(f"no prompt has two answers; {given} of {rows} hold theirs")


def _rows_of(data: DataFacts, parts: Sequence[Part]) -> int:
    """Different rows of some of the sources."""
    if not parts[0].name:
        return sum(data.rows.values())
    names = {part.name for part in parts}
    found = [each["divided"] for each in data.report["sources"] if each["name"] in names]
    return sum(count for of_splits in found for count in of_splits.values())


def _answers_itself(part: Part) -> bool:
    try:
        named = [set(fields(parse(text, key))) for key, text in _texts(part).items()]
    except SlmcompileError:
        return False
    return len(named) == 2 and bool(named[1]) and named[1] <= named[0]
