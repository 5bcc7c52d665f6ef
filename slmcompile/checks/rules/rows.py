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
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data.template import fields, parse
from slmcompile.facts.context import CheckContext
from slmcompile.recipe.project import nearest
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS
from slmcompile.sources import DATA_SOURCES
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
    data = context.recipe.data
    try:
        wanted = _wanted(data)
    except SlmcompileError as error:
        key, _, problem = error.what.partition(": ")
        return refuted(problem, error.mend, context.at(key), error.code)
    names = ", ".join(dict.fromkeys(name for _, name in wanted))
    if context.data is not None:
        return proved(f"{names}: filled in all {sum(context.data.rows.values())} rows")
    looked = _look(Source.of(context), tuple(wanted))
    if looked.error is not None:
        what, mend, code = looked.error.what, looked.error.mend, looked.error.code
        return refuted(what, mend, context.at(looked.key), code)
    return needs_probe(context.data_stage, f"{names}: {looked.seen}")


@dataclass(frozen=True)
class _Looked:
    """The first thing wrong and the key at fault, or what was seen."""

    seen: str
    key: str = ""
    error: SlmcompileError | None = None


@lru_cache(maxsize=64)
def _look(source: Source, wanted: tuple[tuple[str, str], ...]) -> _Looked:
    """Many recipes read the same rows; they are looked through once."""
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
            found = _error(row, key, name, source.data)
            if found is not None:
                renamed = source.data.columns.get(name)
                at_fault = renamed is not None and renamed not in row.values
                return _Looked("", f"data.columns.{name}" if at_fault else key, found)
        found = _label_error(row, source.data)
        if found is not None:
            return _Looked("", "data.label", found)
    if source.data.task == "extraction" and seen.rows and not _some_json(seen.rows, source.data):
        what = f"{seen.rows[0].where}: the answer is no JSON, and none is of the rows seen"
        mend = "set data.task=generation, or let the template write whole JSON answers"
        return _Looked("", "data.task", BadDataError(what, mend))
    return _Looked(_seen(seen))


def _some_json(rows: Sequence[SourceRow], data: Data) -> bool:
    return any(parse_json(answer_of(row, data))[0] for row in rows)


def _wanted(data: Data) -> list[tuple[str, str]]:
    """Key of the recipe and column that it names."""
    found = [
        (f"data.template.{key}", name)
        for key, text in _texts(data).items()
        for name in fields(parse(text, f"data.template.{key}"))
    ]
    named = TEMPLATES[data.template.type].columns(data.template)
    found += [(f"data.template.{key}", name) for key, name in named.items()]
    if data.split.by is not None and data.split.strategy != "random" and _splits(data):
        found.append((_BY, data.split.by))
    return found


def _texts(data: Data) -> Mapping[str, str]:
    """The template's format strings, the prompt's first."""
    return TEMPLATES[data.template.type].texts(data.template)


def _splits(data: Data) -> bool:
    """Whether any split is left to be made."""
    given = DATA_SOURCES[data.source.type].splits(data.source)
    return any(split not in given for split in SPLITS)


def _error(row: SourceRow, key: str, name: str, data: Data) -> SlmcompileError | None:
    try:
        if key == _BY:
            as_text(row, name, data.columns)
        else:
            program_of(data.template).look(row, data.template, data.columns, name)
    except SlmcompileError as error:
        return error
    return None


def _label_error(row: SourceRow, data: Data) -> SlmcompileError | None:
    """What is wrong where ``data.label`` is a key that the row's answer does not have."""
    try:
        answer = answer_of(row, data)
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
    template = context.recipe.data.template
    if not TEMPLATES[template.type].chat:
        return proved("a text template has no roles")
    model = context.model
    if model is not None and not (
        model.tokenizer.get("chat_template")
        or {"chat_template.jinja", "chat_template.json", CHAT_TEMPLATES} & set(model.files)
    ):
        return refuted(
            f"{model.where}: its tokenizer has no chat template",
            "use data.template.type=text, or an instruct model",
            context.at("data.template.type"),
            Exit.BAD_RECIPE,
        )
    if context.data is None:
        return needs_rows(context)
    roles = context.data.facts.roles
    rendered, rows = sum(roles.values()), sum(context.data.rows.values())
    if rendered < rows:
        return refuted(
            f"{rows - rendered} of {rows} rows were not rendered by the chat template",
            "correct the roles and their order",
            context.at("data.template"),
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
    config = context.recipe.data
    if _answers_itself(config):
        return refuted(
            "every column of the answer stands in the prompt too",
            "take the answer's column out of the prompt",
            context.at("data.template"),
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
            context.at("data.source"),
        )
    if case := said_of_case(context):
        return refuted(*case, context.at("data.label"))
    given = data.facts.given_away
    if given >= GIVEN_AWAY * rows:
        return refuted(
            f"{given} of {rows} prompts hold their whole answer",
            "take it out of the prompt's columns, unless the task is to copy",
            context.at("data.template"),
        )
    return proved(f"no prompt has two answers; {given} of {rows} hold theirs")


def _answers_itself(config: Data) -> bool:
    try:
        named = [set(fields(parse(text, key))) for key, text in _texts(config).items()]
    except SlmcompileError:
        return False
    return len(named) == 2 and bool(named[1]) and named[1] <= named[0]
