"""The messages of one question and answer: from columns, and as a probe."""

from __future__ import annotations

from collections.abc import Callable

from slmcompile.data.chat_render import Message
from slmcompile.data.template import Piece, fill, parse
from slmcompile.templates.chat import ChatTemplate
from slmcompile.templates.messages import MessagesTemplate

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
