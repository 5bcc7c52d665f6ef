"""Tool calls and tool schemas of a row, in the form that chat templates expect.

Templates of the hub are written for arguments as objects, whereas OpenAI's API gives them as JSON
text; ``transformers`` leaves that to the caller. Knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.formats import json_value

_CALL = {"id", "type", "index", "function"}
_FORM = 'write {"function": {"name": "…", "arguments": {…}}}'


def read_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """A message's calls: a list, a single call, None, or the JSON text of these.

    Each becomes ``{"type": "function", "function": {"name", "arguments"}}`` with its ``id`` if it
    has one; a call may also be given as its bare function.

    Raises:
        BadDataError: one is broken or has a key that is not understood.
    """
    value = _parsed(value, f"{where}: tool_calls")
    calls = value if isinstance(value, list) else [value] * (value is not None)
    return [_call(call, f"{where}, call {number}") for number, call in enumerate(calls)]


def _call(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadDataError(f"{where} is not an object", _FORM)
    given = {key: each for key, each in value.items() if each is not None}
    if "function" in given:
        outer, function = given, given["function"]
    else:
        outer = {key: each for key, each in given.items() if key in {"id", "index"}}
        function = {key: each for key, each in given.items() if key not in outer}
    if not isinstance(function, Mapping):
        raise BadDataError(f"{where} has no function", _FORM)
    function = {key: each for key, each in function.items() if each is not None}
    if others := sorted(
        map(str, (outer.keys() - _CALL) | (function.keys() - {"name", "arguments"}))
    ):
        raise BadDataError(f"{where} has the unknown key {shortened(others[0])!r}", _FORM)
    if outer.get("type", "function") != "function":
        raise BadDataError(f"{where} is of type {shortened(str(outer['type']))!r}", _FORM)
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadDataError(f"{where} names no function", _FORM)
    arguments = _parsed(function.get("arguments") or {}, f"{where}: arguments")
    if not isinstance(arguments, Mapping):
        raise BadDataError(f"{where}: its arguments are no object", _FORM)
    call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
    return call | ({"id": outer["id"]} if "id" in outer else {})


def read_tools(value: list[Any], where: str, mend: str) -> tuple[dict[str, Any], ...]:
    """The schemas of a row's tools, each an object or its JSON text.

    Raises:
        BadDataError: one is not an object.
    """
    tools = []
    for number, each in enumerate(value):
        tool = _parsed(each, f"{where}, tool {number}")
        if not isinstance(tool, Mapping):
            raise BadDataError(f"{where}, tool {number} is not an object", mend)
        tools.append(dict(tool))
    return tuple(tools)


def _parsed(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json_value(value)
    except ValueError as error:
        raise BadDataError(f"{where}: not JSON: {error}", "write an object, or its JSON") from error
