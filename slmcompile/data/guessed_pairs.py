"""Rows as prompts and answers before any tokenizer is there, and how long they may become.

Knows nothing of tasks: which columns are read is told (``slmcompile.data.column_roles``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from slmcompile.console.errors import BadDataError
from slmcompile.data.column_roles import Roles
from slmcompile.data.conversations import Conversation, read_conversation
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.templates.messages import MessagesTemplate

_TEMPLATE = 64
"""Tokens that a chat template may write around a prompt and its answer."""
_TURN = 8
"""Tokens that it may write around each further turn."""
_WRITTEN = {"role", "content", "name", "tool_call_id"}
"""Fields of messages that every chat template writes, or may leave out."""
_LETTERS = re.compile(r"[A-Za-z ]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """A row's prompt and answer as text; of plain text the prompt is empty.

    Attributes:
        prompt: all before the answer.
        answer: what is trained, or the last of it.
        where: the row's place.
        around: tokens that the chat template may write around them.
        needs: what else it must write.
    """

    prompt: str
    answer: str
    where: str
    around: int = _TEMPLATE
    needs: frozenset[str] = frozenset()


def pairs_of(rows: Sequence[SourceRow], roles: Roles) -> list[Pair]:
    """Every row as its columns' roles say.

    Raises:
        BadDataError: a row is no conversation, or its prompt or answer is missing (exit 65).
    """
    if roles.messages:
        template = MessagesTemplate(type="messages", column=roles.messages)
        return [_said(read_conversation(row, template, {}), row.where) for row in rows]
    return [
        Pair(_filled(row, roles.prompt), _filled(row, (roles.answer or roles.text,)), row.where)
        for row in rows
    ]


def _filled(row: SourceRow, names: Sequence[str]) -> str:
    """The text of columns one behind the other, some of which may be empty, but not all."""
    text = "\n\n".join(as_text(row, name, {}) for name in names)
    if names and not text.strip():
        raise BadDataError(
            f"{row.where}: {' and '.join(map(repr, names))} is empty",
            "fill it in or remove the row",
        )
    return text


def _said(talk: Conversation, where: str) -> Pair:
    """All before the last trained turn is its prompt."""
    texts = [" ".join(_texts(message)) for message in talk.messages]
    fields = {name for message in talk.messages for name in message} - _WRITTEN
    around = _TEMPLATE + _TURN * len(texts) + len(str(talk.tools or ""))
    needs = frozenset(fields | ({"tools"} if talk.tools else set()))
    return Pair("\n".join(texts[:-1]), texts[-1], where, around, needs)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name != "role":
                yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


def tokens_of(text: str) -> int:
    """Tokens that a text hardly exceeds: 0.6 an English letter or space, a digit or mark its own.

    What is not ASCII counts by its bytes, of which a byte-level tokenizer makes a token at most.
    """
    ascii_only = len(text.encode("ascii", "ignore"))
    others = len(text.encode("utf-8", "surrogatepass")) - ascii_only
    letters = len(text) - len(_LETTERS.sub("", text))
    return ceil(0.6 * letters) + ascii_only - letters + others
