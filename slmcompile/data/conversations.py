"""A column of messages as conversations: in OpenAI's form or in ShareGPT's, checked.

What a message says is handed to the chat template or refused, never passed over: a field without a
value says nothing, ``INERT`` ones are left out and counted, ``weight`` and ``train`` say what is
trained, and everything else must change what the template writes (``slmcompile.data.turns``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.chat_render import Message
from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.formats import json_value
from slmcompile.data.guard import Guard
from slmcompile.data.rows import SourceRow, column
from slmcompile.data.tool_calls import read_calls, read_tools
from slmcompile.templates.messages import MessagesTemplate

ROLES = ("system", "user", "assistant", "tool")
INERT = ("id", "timestamp")
"""Fields of a message that no chat template reads; left out, and counted in the data report."""

TOOLS_COLUMN = str(MessagesTemplate.model_fields["tools"].default)
_SHAREGPT = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_THINK = ("<think>", "</think>")
_EXAMPLE = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row as the chat template gets it.

    Attributes:
        messages: up to the last turn that is trained.
        trained: indexes of the assistant's messages that are trained, the last message's last.
        tools: schemas of the tools that the row offers, or None.
        untrained: assistant turns that the row says not to train.
        cut: messages behind the last trained turn, which are left out.
        ignored: messages by field of ``INERT`` that was left out of them.
    """

    messages: tuple[Message, ...]
    trained: tuple[int, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    untrained: int = 0
    cut: int = 0
    ignored: Mapping[str, int] | None = None


def read_conversation(
    row: SourceRow, template: MessagesTemplate, renamed: Mapping[str, str]
) -> Conversation:
    """The conversation of a row.

    Raises:
        BadDataError: not a list of messages or its JSON text, an unknown role, a content that is no
            text, a broken tool call, a weight between 0 and 1, nothing to train, or the last
            message is not the assistant's.
    """
    name = template.column
    where = f"{row.where}: column {name!r}"
    value = _parsed(column(row, name, renamed), where, "messages")
    value = _list(value, where, "messages", _EXAMPLE)
    value = without_nulls(value) if row.columnar else value
    ignored: Counter[str] = Counter()
    messages: list[Message] = []
    wanted: list[bool] = []
    for number, each in enumerate(value):
        message, is_trained = _message(each, f"{where}, message {number}", ignored)
        messages.append(message)
        wanted.append(is_trained)
    if messages[-1]["role"] != "assistant":
        raise BadDataError(
            f"{where}: the last message is the {messages[-1]['role']}'s",
            "end each conversation with the assistant's answer",
        )
    turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    trained = tuple(n for n in turns if wanted[n])
    if not trained:
        raise BadDataError(
            f"{where}: no turn of the assistant is trained (weight 0 or train false)",
            "remove the row, or let one of its turns be trained",
        )
    end = trained[-1] + 1
    return Conversation(
        messages=tuple(messages[:end]),
        trained=trained,
        tools=_tools(row, template.tools, renamed),
        untrained=len(turns) - len(trained),
        cut=len(messages) - end,
        ignored=ignored,
    )


def reasoning_apart(each: Conversation, controls: ControlTokens) -> Conversation:
    """A conversation whose answers' leading think blocks stand in a field of their own.

    Only where the marks are control tokens (Qwen 3), which a text may not spell: templates of such
    models write the same text for ``reasoning_content``.
    """
    if not controls.ids.keys() >= set(_THINK):
        return each
    return replace(each, messages=tuple(map(_reasoning_apart, each.messages)))


def _reasoning_apart(message: Message) -> Message:
    opened, closed = _THINK
    head, found, rest = message.get("content", "").partition(closed)
    thought = head.strip().removeprefix(opened)
    if (
        message["role"] != "assistant"
        or not found
        or thought == head.strip()
        or message.keys() & {"reasoning_content", "thinking"}
    ):
        return message
    content = rest.lstrip("\n")
    return message | {"content": content, "reasoning_content": thought.strip("\n")}


def guarded(each: Conversation, row: SourceRow, guard: Guard) -> Conversation:
    """With every text checked, or marked where it is cut."""
    return replace(
        each,
        messages=tuple(
            guard.value(message, f"{row.where}: message {number}")
            for number, message in enumerate(each.messages)
        ),
        tools=each.tools and tuple(guard.value(each.tools, f"{row.where}: the column of tools")),
    )


def without_nulls(value: Any) -> Any:
    """Nested objects without their null values, which columnar formats fill gaps with."""
    if isinstance(value, Mapping):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def _parsed(value: Any, where: str, what: str) -> Any:
    """A value, given as such or as its JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json_value(value)
    except ValueError as error:
        raise BadDataError(
            f"{where} is text, and not the JSON of a list of {what}: {error}",
            "write it by json.dumps (Python's str() gives no JSON)",
        ) from error


def _list(value: Any, where: str, what: str, mend: str) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise BadDataError(f"{where} is not a list of {what}", mend)
    return list(value)


def _tools(
    row: SourceRow, name: str | None, renamed: Mapping[str, str]
) -> tuple[dict[str, Any], ...] | None:
    """The row's tools, None without any; a column of the usual name may be missing, another not."""
    if name is None:
        return None
    if name == TOOLS_COLUMN and renamed.get(name, name) not in row.values:
        return None
    if (source := renamed.get(name, name)) in row.values and not row.values[source]:
        return None
    where = f"{row.where}: column {name!r}"
    mend = "write a list of tool schemas, or set data.template.tools=null to leave it out"
    given = _parsed(column(row, name, renamed), where, "tools")
    if _says_nothing(given):
        return None
    found = _list(given, where, "tools", mend)
    return read_tools(without_nulls(found) if row.columnar else found, where, mend)


def _message(value: Any, where: str, ignored: Counter[str]) -> tuple[Message, bool]:
    """A message as templates take it, and whether it is trained if it is the assistant's."""
    if not isinstance(value, Mapping):
        raise BadDataError(f"{where} is not an object", "write role and content")
    fields = {str(name): each for name, each in value.items() if not _says_nothing(each)}
    for name in INERT:
        if fields.pop(name, None) is not None:
            ignored[name] += 1
    role, content = _role_and_content(fields, where)
    is_trained = _is_trained(fields, role, where)
    message: Message = {"role": role}
    if content is not None:
        message["content"] = content
    calls = read_calls(fields.pop("tool_calls", None), where)
    if calls:
        if role != "assistant":
            raise BadDataError(f"{where}: the {role} calls tools", "let the assistant call them")
        message["tool_calls"] = calls
    empty = content is None or not content.strip()
    if empty and not calls and role != "tool":
        raise BadDataError(f"{where} has no text as content", "write the message's text")
    return message | fields, is_trained


def _says_nothing(value: Any) -> bool:
    """Null and empty lists and objects; an empty text is the business of the field."""
    return value is None or (isinstance(value, (list, dict)) and not value)


def _role_and_content(fields: dict[str, Any], where: str) -> tuple[str, str | None]:
    """Takes role and content out of a message's fields; of a ShareGPT call its tool calls in."""
    sharegpt = "from" in fields and "role" not in fields
    given, known = (
        (fields.pop("from"), list(_SHAREGPT)) if sharegpt else (fields.pop("role", None), ROLES)
    )
    if not isinstance(given, str) or given not in known:
        raise BadDataError(
            f"{where} has role {shortened(str(given))!r}", f"use one of {', '.join(known)}"
        )
    content = fields.pop("value" if sharegpt else "content", None)
    if sharegpt and given == "function_call":
        if "tool_calls" in fields:
            raise BadDataError(f"{where} has its calls twice", "write them once")
        fields["tool_calls"] = content
        return "assistant", None
    text = None if content is None else _text(content, where)
    if text is None and given == "tool":
        text = ""
    return (_SHAREGPT[given] if sharegpt else given), text


def _text(content: Any, where: str) -> str:
    """Text as it is, or a list of text parts one behind the other, as chat templates write them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_parts(content, where))
    raise BadDataError(f"{where} has no text as content", "write the message's text")


def _parts(content: list[Any], where: str) -> Iterator[str]:
    for part in content:
        if isinstance(part, str):
            yield part
            continue
        said = {} if not isinstance(part, Mapping) else {k: v for k, v in part.items() if v}
        kind = said.get("type", "text" if "text" in said else "unknown")
        if kind != "text":
            raise BadDataError(
                f"{where}: its content has a part of type {shortened(str(kind))!r}",
                "models are trained on text parts only; remove the row or the part",
            )
        if others := sorted(map(str, said.keys() - {"type", "text"})):
            raise BadDataError(
                f"{where}: a text part has {shortened(others[0])!r}", "remove it from the part"
            )
        if not isinstance(part.get("text"), str):
            raise BadDataError(f"{where}: a text part has no text", "write its text")
        yield part["text"]


def _is_trained(fields: dict[str, Any], role: str, where: str) -> bool:
    """Takes ``weight`` (OpenAI) and ``train`` (Axolotl) out of a message's fields."""
    said: list[bool] = []
    if (weight := fields.pop("weight", None)) is not None:
        if not isinstance(weight, (int, float)) or weight not in (0, 1):
            raise BadDataError(
                f"{where} has weight {shortened(json.dumps(weight, default=str))}",
                "use 0 (not trained) or 1; turns are not weighted in parts",
            )
        said.append(bool(weight))
    if (train := fields.pop("train", None)) is not None:
        if not isinstance(train, bool):
            raise BadDataError(
                f"{where} has train {shortened(json.dumps(train, default=str))}",
                "use true or false",
            )
        said.append(train)
    if len(set(said)) > 1:
        raise BadDataError(f"{where}: weight and train contradict each other", "keep one of them")
    if role != "assistant" and True in said:
        raise BadDataError(
            f"{where}: the {role}'s message is to be trained",
            "only the assistant's are; take weight or train out of it",
        )
    return not said or said[0]
