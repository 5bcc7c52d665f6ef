"""The messages of a conversation: from columns, from a column of messages, and as a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slmcompile.data.chat_render import Message
from slmcompile.data.rows import SourceRow, column
from slmcompile.data.template import Piece, fill, parse
from slmcompile.errors import BadDataError
from slmcompile.recipe.schema import ChatTemplate, MessagesTemplate

ROLES = ("system", "user", "assistant")
PROBE_ANSWER = "answer"


def chat_messages(
    template: ChatTemplate, fill: Callable[[tuple[Piece, ...]], str]
) -> list[Message]:
    """System turn if there is one, user turn, assistant turn; ``fill`` fills in a row's values."""
    user = parse(template.user, "data.template.user")
    assistant = parse(template.assistant, "data.template.assistant")
    return conversation(template.system, fill(user), fill(assistant))


def conversation(system: str | None, user: str, assistant: str | None) -> list[Message]:
    """Messages of one question and, unless None, its answer."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": user})
    if assistant is not None:
        messages.append({"role": "assistant", "content": assistant})
    return messages


def read_messages(row: SourceRow, name: str, renamed: Mapping[str, str]) -> list[Message]:
    """A column of ``{role, content}`` messages, checked.

    Raises:
        BadDataError: not a list of messages, an unknown role, a content that is no text, or the
            last message is not the assistant's.
    """
    value = column(row, name, renamed)
    where = f"{row.where}: column {name!r}"
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise BadDataError(
            f"{where} is not a list of messages",
            'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]',
        )
    messages = [_message(message, f"{where}, message {n}") for n, message in enumerate(value)]
    if messages[-1]["role"] != "assistant":
        raise BadDataError(
            f"{where}: the last message is the {messages[-1]['role']}'s",
            "end each conversation with the assistant's answer",
        )
    return messages


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise BadDataError(f"{where} is not an object", "write role and content")
    role, content = value.get("role"), value.get("content")
    if role not in ROLES:
        raise BadDataError(f"{where} has role {role!r}", f"use one of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise BadDataError(f"{where} has no text as content", "write the message's text")
    return {"role": role, "content": content}


def field_mark(number: int) -> str:
    """A text that stands for a column while a chat template is rendered (private-use letters)."""
    return f"\ue000{number}\ue001"


def probe(template: ChatTemplate | MessagesTemplate, columns: tuple[str, ...]) -> list[Message]:
    """A conversation whose user turn holds marks for the columns; it shows the prompt's form."""
    if isinstance(template, MessagesTemplate):
        return conversation(None, field_mark(0), PROBE_ANSWER)
    user = fill(
        parse(template.user, "data.template.user"), lambda name: field_mark(columns.index(name))
    )
    return conversation(template.system, user, PROBE_ANSWER)
