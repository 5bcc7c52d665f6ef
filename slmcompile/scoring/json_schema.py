"""Whether answers are valid under a JSON Schema of the project (draft 2020-12), by jsonschema.

What is asked is the answer as the model wrote it, as whoever calls the model would. Nothing is
fetched: a schema refers to itself and to the draft's own schemas, and any other reference is
refused. ``format`` is an annotation, as the draft has it by default
(https://json-schema.org/draft/2020-12/json-schema-validation#section-7.2.1).

jsonschema 4.26 recurses with the depth of a value, and at Python's limit its Rust half (rpds
2026.9) may end the process. So what is deeper than ``DEEPEST`` is not valid, and there is room for
that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.labels import parse_json
from slmcompile.data.store import Row
from slmcompile.files.strict_json import decoder
from slmcompile.scoring.measures import Share
from slmcompile.scoring.records import Beside, Column

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DEEPEST = 64
"""Objects and lists one in another, of an answer and of a schema."""

_MOST_CHAINED = 24
_FRAMES = 4 * DEEPEST * (_MOST_CHAINED + 1)
"""Twice what jsonschema takes: a frame for a schema and for its keyword, of each chained one."""

_ONE, _LISTED, _NAMED = (
    ("not", "if", "then", "else"),
    ("allOf", "anyOf", "oneOf"),
    "dependentSchemas",
)
_REFERENCES = ("$ref", "$dynamicRef")
_SHOWN = 200

JSON_SCHEMA_VALID = Share(lambda row: bool(row["schema_valid"]))
"""One JSON value and nothing else, and valid; what is no JSON is not."""


def open_column(beside: Beside) -> Column:
    """Whether each answer is valid under ``eval.json_schema``, as ``schema_valid``."""
    path = beside.files["json_schema"]
    valid = open_schema(path.read_bytes(), path.name)

    def column(record: Mapping[str, Any], _: Row) -> Mapping[str, Any]:
        return {"schema_valid": valid(str(record["prediction"]))}

    return column


def open_schema(raw: bytes, path: str) -> Callable[[str], bool]:
    """What tells of a text whether it is JSON that is valid under a schema; it raises nothing.

    Args:
        raw: the schema file's bytes.
        path: how errors call it.

    Raises:
        BadDataError: no JSON, no JSON Schema of the draft, a reference that leads nowhere in it, or
            one that comes back to where it began (exit 65).
    """
    from jsonschema import Draft202012Validator
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    schema = _schema(raw, path)
    # Given none, jsonschema has a registry that fetches.
    registry = REGISTRY.with_resource("", DRAFT202012.create_resource(schema))
    _require_an_end(_asked_of_one_value(schema, registry, path), path)
    validator = Draft202012Validator(schema, registry=registry)

    def valid(text: str) -> bool:
        is_json, value = parse_json(text)
        if not is_json or _deep(value):
            return False
        try:
            with _room():
                return bool(validator.is_valid(value))
        except ArithmeticError:  # a number beyond Python's
            return False

    return valid


def _schema(raw: bytes, path: str) -> Any:
    """The file's value, a schema by the draft's own schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        schema = decoder().decode(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadDataError(
            f"{path}: no JSON: {shortened(str(error), _SHOWN)}", "write a JSON Schema into it"
        ) from error
    said = schema.get("$schema", DRAFT) if isinstance(schema, dict) else DRAFT
    if not isinstance(said, str) or said.rstrip("#") != DRAFT:
        raise BadDataError(
            f"{path}: $schema is {shortened(json.dumps(said), _SHOWN)}, and draft 2020-12 alone is"
            " read",
            f"write the schema for it: {DRAFT}",
        )
    if _deep(schema):
        raise BadDataError(
            f"{path}: more than {DEEPEST} objects and lists one in another",
            "put parts of it under $defs",
        )
    try:
        with _room():
            Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadDataError(
            f"{path}: no JSON Schema: {error.json_path}: {shortened(error.message, _SHOWN)}",
            "correct the schema there",
        ) from error
    return schema


def _asked_of_one_value(schema: Any, registry: Any, path: str) -> dict[int, set[int]]:
    """Of each schema in the file, and of each that it refers to, those asked of the same value.

    Schemas are named by their ``id``.

    Raises:
        BadDataError: a reference leads to nothing that is there (exit 65).
    """
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    root = DRAFT202012.create_resource(schema)
    found: dict[int, set[int]] = {}
    waiting = [(root, registry.resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        if not isinstance(contents, dict) or id(contents) in found:
            continue
        found[id(contents)] = set(map(id, _within(contents)))
        for keyword in _REFERENCES:
            if keyword not in contents:
                continue
            try:
                there = resolver.lookup(contents[keyword])
            except (Unresolvable, ValueError) as error:
                raise BadDataError(
                    f"{path}: {keyword} {shortened(str(contents[keyword]), _SHOWN)} is not in the"
                    " file, and nothing is fetched",
                    "copy the schema it means under $defs, and refer to #/$defs/NAME",
                ) from error
            found[id(contents)].add(id(there.contents))
            waiting.append((DRAFT202012.create_resource(there.contents), there.resolver))
        waiting += [(below, resolver.in_subresource(below)) for below in resource.subresources()]
    return found


def _within(contents: Mapping[str, Any]) -> Iterator[Any]:
    """Schemas in a schema that are asked of the same value as it."""
    yield from (contents[keyword] for keyword in _ONE if keyword in contents)
    for keyword in _LISTED:
        yield from contents.get(keyword, ())
    yield from contents.get(_NAMED, {}).values()


def _require_an_end(asked: Mapping[int, set[int]], path: str) -> None:
    """That no schema asks itself of the same value, which would never end (section 9.4.1)."""
    chained: dict[int, int] = {}
    try:
        for each in TopologicalSorter(asked).static_order():
            chained[each] = 1 + max((chained[below] for below in asked.get(each, ())), default=0)
    except CycleError as error:
        raise BadDataError(
            f"{path}: a schema refers to itself for one and the same value, without end",
            "let the reference stand below properties or items",
        ) from error
    if max(chained.values(), default=0) > _MOST_CHAINED:
        raise BadDataError(
            f"{path}: more than {_MOST_CHAINED} schemas are asked of one value, each by the one"
            " before",
            "refer to the last of them directly",
        )


def _deep(value: Any) -> bool:
    """Whether more than ``DEEPEST`` objects and lists lie one in another."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return False
        level = [
            below for each in level for below in (each.values() if isinstance(each, dict) else each)
        ]
    return True


@contextmanager
def _room() -> Iterator[None]:
    """Python's limit on recursion raised by what a value of ``DEEPEST`` may take.

    A stack of 8 MiB holds three times as many.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + _FRAMES)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
