"""``prompt.json``: how serving writes a prompt, so that it is the text that training saw.

Needs no tokenizer and no chat template wherever the prompt can be written as a format string,
which the data stage has proved on every row. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slmcompile.console.errors import CorruptError, UsageError
from slmcompile.data.control_tokens import (
    RULE,
    ControlTokens,
    free_mark,
    marked,
    split_at,
    unmarked,
)
from slmcompile.data.messages import conversation
from slmcompile.data.part_rows import PartRows
from slmcompile.data.template import Piece, parse, parts
from slmcompile.recipe.schema import Data

FORMAT_VERSION = "1.1"

ChatRenderer = Callable[[list[dict[str, str]]], str]
"""Renders messages with the generation prompt."""


def describe_prompts(
    config: Data, parts: Sequence[PartRows], controls: ControlTokens
) -> dict[str, Any]:
    """The content of ``prompt.json``: how prompts of the first source of the task are written.

    Of several sources ``source`` is its name, and ``sources`` says the same of each.
    """
    found = {rows.part.name: describe_prompt(config, rows, controls) for rows in parts}
    served = min(parts, key=lambda rows: (not rows.part.counted, not rows.asks))
    first = found[served.part.name]
    return {**first, "source": served.part.name, "sources": found} if served.part.name else first


def describe_prompt(config: Data, rows: PartRows, controls: ControlTokens) -> dict[str, Any]:
    """How serving writes a prompt of one source.

    ``text`` is the prompt as a format string over ``columns`` (chat template applied) or null;
    ``enable_thinking`` is the chat template's variable of that name; ``prefix_ids`` go before the
    prompt's own ids, which are encoded without special tokens; generation ends at ``stop``.
    ``control_tokens`` (text → id) and ``values`` say how the values of columns, which a user
    writes, are kept from being read as control tokens.
    """
    rendering = rows.rendering
    return {
        "format_version": FORMAT_VERSION,
        "task": config.task,
        "label": config.label,
        "template": rows.part.template.model_dump(mode="json"),
        "text": rendering.prompt_text,
        "columns": list(rendering.columns),
        "stop": {"id": rendering.stop.id, "text": rendering.stop.text},
        "enable_thinking": rendering.conversations.thinking,
        "prefix_ids": list(rows.prefix),
        "add_special_tokens": False,
        "control_tokens": dict(controls.ids),
        "values": RULE,
    }


def prompt_pieces(
    prompt: Mapping[str, Any], values: Mapping[str, str], chat: ChatRenderer | None = None
) -> tuple[str, ...]:
    """The prompt for new values, in pieces that are encoded apart.

    It is one piece unless a value spells a control token. Whatever the recipe says of its rows, a
    user's text is text.

    Args:
        prompt: content of ``prompt.json``.
        values: column → text, for every column in ``prompt["columns"]``.
        chat: renders messages; needed only where ``prompt["text"]`` is null.

    Raises:
        UsageError: a column is missing or unknown, ``chat`` is needed, or a value holds a control
            token of one character (exit 64).
        CorruptError: another major format version (exit 74).
    """
    version = str(prompt.get("format_version", ""))
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise CorruptError(
            f"prompt.json: format_version {version!r} is not {FORMAT_VERSION}",
            "use the slmcompile version that wrote it, or run the recipe again",
        )
    columns = prompt["columns"]
    for name in sorted(set(columns) ^ set(values)):
        problem = "is missing" if name in columns else "is not in the prompt's template"
        raise UsageError(f"column {name!r} {problem}", f"give exactly: {', '.join(columns)}")
    if prompt["text"] is not None:
        return split_at(*_filled(prompt, parse(prompt["text"], "prompt.json: text"), values))
    if chat is None:
        raise UsageError(
            "this prompt needs the model's chat template, which changes what values say",
            "write it by the base model's tokenizer, or train with data.template.type=text",
        )
    template = prompt["template"]
    pieces = parse(template["user"], "prompt.json: template.user")
    mark = free_mark([values, template])
    user = marked(*_filled(prompt, pieces, values), mark)
    return split_at(*unmarked(chat(conversation(template["system"], user, None)), mark))


def _filled(
    prompt: Mapping[str, Any], pieces: tuple[Piece, ...], values: Mapping[str, str]
) -> tuple[str, list[int]]:
    """A format string with its values, and where it is to be cut."""
    filled = parts(pieces, values.__getitem__)
    found = ControlTokens(prompt.get("control_tokens", {})).spellings(filled)
    for each in found:
        if not each.divisible:
            raise UsageError(
                f"{each.column} holds {each.token!r}, a control token of the model", "remove it"
            )
    return "".join(part.text for part in filled), [each.at for each in found]
