"""``prompt.json``: how serving writes a prompt, so that it is the text that training saw.

Needs no tokenizer and no chat template wherever the prompt can be written as a format string,
which the data stage has proved on every row. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slmcompile.data.messages import conversation
from slmcompile.data.rows import Rendering
from slmcompile.data.template import fill, parse
from slmcompile.errors import CorruptError, UsageError
from slmcompile.recipe.schema import Data

FORMAT_VERSION = "1.0"

ChatRenderer = Callable[[list[dict[str, str]]], str]
"""Renders messages with the generation prompt, as ``chat_renderer`` makes it."""


def describe_prompt(config: Data, rendering: Rendering, prefix: Sequence[int]) -> dict[str, Any]:
    """The content of ``prompt.json``.

    ``text`` is the prompt as a format string over ``columns`` (chat template applied) or null;
    ``prefix_ids`` go before the prompt's own ids, which are encoded without special tokens;
    generation ends at ``stop``.
    """
    return {
        "format_version": FORMAT_VERSION,
        "task": config.task,
        "label": config.label,
        "template": config.template.model_dump(mode="json"),
        "text": rendering.prompt_text,
        "columns": list(rendering.columns),
        "stop": {"id": rendering.stop.id, "text": rendering.stop.text},
        "prefix_ids": list(prefix),
        "add_special_tokens": False,
    }


def render_prompt(
    prompt: Mapping[str, Any], values: Mapping[str, str], chat: ChatRenderer | None = None
) -> str:
    """The prompt text for new values.

    Args:
        prompt: content of ``prompt.json``.
        values: column → text, for every column in ``prompt["columns"]``.
        chat: renders messages; needed only where ``prompt["text"]`` is null.

    Raises:
        UsageError: a column is missing or unknown, or ``chat`` is needed (exit 64).
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
        return fill(parse(prompt["text"], "prompt.json: text"), values.__getitem__)
    if chat is None:
        raise UsageError(
            "this prompt needs the model's chat template", "generate from the recipe's own folder"
        )
    template = prompt["template"]
    user = fill(parse(template["user"], "prompt.json: template.user"), values.__getitem__)
    return chat(conversation(template["system"], user, None))


def chat_renderer(tokenizer: Any) -> ChatRenderer:
    """Renders by a tokenizer's chat template, with the limits and variables of the data stage."""
    from slmcompile.data.chat_render import Conversation, render_all

    def rendered(messages: list[dict[str, str]]) -> str:
        outcome = render_all(tokenizer, [Conversation(messages, open=True)])[0]
        if outcome.error:
            raise UsageError(f"the chat template refuses the prompt: {outcome.error}")
        return outcome.text

    return rendered
