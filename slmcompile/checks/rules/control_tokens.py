"""The rule over control tokens that the rows spell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.base.facts import ModelFacts
from slmcompile.base.layout import CHAT_TEMPLATES
from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.first_rows import Source, first_rows_of
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import BadDataError, Exit, SlmcompileError
from slmcompile.data.control_tokens import ControlTokens, control_tokens, strings
from slmcompile.data.guard import Guard, SpelledError
from slmcompile.data.render import program_of
from slmcompile.facts.context import CheckContext
from slmcompile.files.safe_read import read_regular

_HEAD = 256 << 10
"""Bytes of ``tokenizer.json``, of which the added tokens come before a vocabulary of megabytes."""


@check(
    35,
    "control-tokens-are-text",
    "a row that spells a control token opens a turn or ends an answer, which then never is right",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def control_tokens_are_text(context: CheckContext) -> Verdict:
    """No value spells a control token, or what it spells is encoded as text."""
    config = context.recipe.data
    if context.data is not None:
        spelled = context.data.facts.spelled
        if spelled:
            return proved(f"{spelled} rows spell control tokens, which are encoded as text")
        return proved("no row spells a control token")
    if config.special_tokens == "refuse" and context.model is not None:
        controls = read_control_tokens(context.model)
        for source in Source.all_of(context):
            found = _first(source, controls)
            if found is not None:
                where = context.at(source.part.key("data.source"))
                return refuted(found.what, found.mend, where)
    return needs_rows(context)


def _first(source: Source, controls: ControlTokens) -> SpelledError | None:
    """The first of the first rows that spells one; other mistakes are found by other rules."""
    try:
        rows = first_rows_of(source).rows
    except SlmcompileError:
        return None
    part = source.part
    for row in rows:
        try:
            program_of(part.template).spell(row, part.template, part.columns, Guard(controls))
        except SpelledError as error:
            return error
        except BadDataError:
            continue
        except SlmcompileError:
            return None
    return None


def read_control_tokens(model: ModelFacts) -> ControlTokens:
    """The control tokens of a base-model folder, as far as its files say without the tokenizer."""
    config = model.tokenizer
    named = [
        name["content"] if isinstance(name, dict) else name
        for key, name in config.items()
        if key.endswith("_token") and (isinstance(name, str) or _is_token(name))
    ]
    listed = config.get("added_tokens_decoder")
    entries = [*(listed.values() if isinstance(listed, dict) else ()), *_added(model.folder)]
    added = {
        number: (entry["content"], entry.get("special") is True)
        for number, entry in enumerate(filter(_is_token, entries))
    }
    files = ["chat_template.jinja", "chat_template.json", *_named_templates(model.folder)]
    templates = [_head(model.folder, name) or "" for name in files]
    templates += strings(config.get("chat_template", ""))
    return control_tokens(added, named, "".join(templates))


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str)


def _added(folder: Path) -> list[Any]:
    """``added_tokens`` of ``tokenizer.json``."""
    head = _head(folder, "tokenizer.json") or ""
    _, key, rest = head.partition('"added_tokens":')
    try:
        found = json.JSONDecoder().raw_decode(rest.lstrip())[0] if key else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _named_templates(folder: Path) -> list[str]:
    found = sorted((folder / CHAT_TEMPLATES).glob("*.jinja"))
    return [path.relative_to(folder).as_posix() for path in found]


def _head(folder: Path, name: str) -> str | None:
    """The beginning of a file of a stage's output, which may be DVC's link into its cache."""
    real = (folder / name).resolve()
    try:
        data = read_regular(real.parent, real.name, name, _HEAD)
    except (OSError, SlmcompileError):
        return None
    return None if data is None else data.decode("utf-8", "ignore")
