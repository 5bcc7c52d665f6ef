"""JSON Schema (draft 2020-12) of recipe files and of group files, for editors.

Generated from the pydantic schema, with three differences that follow from how files are
composed. A file is partial, as its groups fill in the rest, so nothing is required (but inside
lists, which are replaced whole). An interpolation, ``${section.key}``, may stand wherever a value
may. And a file has a ``defaults`` list. Knows nothing of files on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, get_origin

from pydantic import BaseModel, TypeAdapter

from slmcompile.recipe.policy import Policy
from slmcompile.recipe.schema import Adapter, Recipe
from slmcompile.registry.markers import by_name, sections_within

DRAFT = "https://json-schema.org/draft/2020-12/schema"
INTERPOLATION = r"\$\{[^}:]+\}"
_GROUP_KEY = r"^((override|optional)\s+)?/?(?!(hydra|policy)([/@]|$))\w[\w/@.-]*$"
_DROPPED = ("title", "discriminator", "cosmetic", "default_by", "description", "$defs")
_COSMETIC = "Cosmetic: moves no result."


def groups() -> tuple[str, ...]:
    """The recipe's sections that are Hydra groups, in the schema's order."""
    return tuple(name for name, field in Recipe.model_fields.items() if _is_group(field.annotation))


def recipe_schema() -> dict[str, Any]:
    """The schema of ``recipes/*.yaml``."""
    return _document(Recipe.model_json_schema(), "A slmcompile recipe", Recipe.__doc__ or "")


def group_schema(group: str) -> dict[str, Any]:
    """The schema of ``conf/<group>/*.yaml``.

    Raises:
        KeyError: the recipe has no such group.
    """
    field = Recipe.model_fields[group]
    annotation: Any = field.annotation
    description = field.description or ""
    if marker := by_name(annotation, field.metadata):
        generated = TypeAdapter(Annotated[annotation, marker]).json_schema()
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        generated = annotation.model_json_schema()
    else:  # a mapping of names to sections: the file holds one or more of its entries
        whole = Recipe.model_json_schema()
        generated = {**whole["properties"][group], "$defs": whole["$defs"]}
    return _document(generated, f"A slmcompile {group} group", description)


def adapter_schema() -> dict[str, Any]:
    """The schema of ``conf/adapter/*.yaml``: one adapter, which the recipe that takes it names."""
    sections = Recipe.model_json_schema()["$defs"]
    adapter = sections[Adapter.__name__]
    return _document(
        {**adapter, "$defs": sections}, "A slmcompile adapter group", Adapter.__doc__ or ""
    )


def policy_schema() -> dict[str, Any]:
    """The schema of ``conf/policy/default.yaml``: plain values, as nothing is composed."""
    generated = Policy.model_json_schema()
    properties = {
        name: {key: value for key, value in below.items() if key not in {"title", "cosmetic"}}
        for name, below in generated["properties"].items()
    }
    return {
        "$schema": DRAFT,
        "title": "A slmcompile policy",
        "description": _plain(Policy.__doc__ or ""),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def schema_files() -> dict[str, str]:
    """Every schema's file name and text, as they lie in a project's ``schema/``."""
    documents = {"recipe": recipe_schema()} | {group: group_schema(group) for group in groups()}
    documents |= {"adapter": adapter_schema(), "policy": policy_schema()}
    return {
        f"{name}.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def _is_group(annotation: Any) -> bool:
    """A section, or a mapping of names to sections."""
    return get_origin(annotation) is not tuple and bool(sections_within(annotation))


def _document(generated: dict[str, Any], title: str, description: str) -> dict[str, Any]:
    """A file's schema out of a section's."""
    sections: dict[str, Any] = generated.get("$defs", {})
    listed = set(_references(list(_items(generated))))
    definitions = {
        name: _for_files(section, required=name in listed) for name, section in sections.items()
    }
    definitions |= {
        "defaults": _defaults(),
        "option": _option(),
        "interpolation": _interpolation(),
    }
    body = _for_files(generated, required=False)
    body.setdefault("properties", {})["defaults"] = {"$ref": "#/$defs/defaults"}
    body["additionalProperties"] = False
    body.pop("default", None)
    body.pop("description", None)
    return {
        "$schema": DRAFT,
        "title": title,
        "description": _plain(description),
        **body,
        "$defs": {name: definitions[name] for name in sorted(_reachable(body, definitions))},
    }


def _for_files(schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A section's schema as a file may hold it: partial, unless ``required``."""
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key not in _DROPPED and (required or key != "required"):
            made |= _keyword(key, value)
    text = schema.get("description")
    if isinstance(text, str):
        text = _plain(text) + (f" {_COSMETIC}" if schema.get("cosmetic") else "")
        made = {"description": text, **made}
    return made


def _keyword(key: str, value: Any) -> dict[str, Any]:
    """One keyword of a schema, with what lies below it, as a file may hold it."""
    match key:
        case "properties":
            return {key: {name: _value(below) for name, below in value.items()}}
        case "patternProperties":  # a mapping by name; in a file, defaults is not a name
            names = {p.replace("^", "^(?!defaults$)", 1): below for p, below in value.items()}
            return {
                key: {pattern: _value(below) for pattern, below in names.items()},
                "additionalProperties": False,
            }
        case "items" | "additionalProperties" if isinstance(value, dict):
            return {key: _value(value)}
        case "prefixItems":
            return {key: [_value(below) for below in value]}
        case "oneOf" | "anyOf":  # a partial section can look like two kinds at once
            return {"anyOf": [_for_files(below, required=False) for below in value]}
    return {key: value}


def _value(schema: dict[str, Any]) -> dict[str, Any]:
    """What may stand where ``schema`` is expected: it, or an interpolation."""
    made: dict[str, Any] = _for_files(schema, required=False)
    if made.get("type") == "string" and not {"pattern", "enum", "const", "maxLength"} & made.keys():
        return made  # any text; an interpolation is one
    outer: dict[str, Any] = {
        key: made.pop(key) for key in ("description", "default") if key in made
    }
    choices = made["anyOf"] if set(made) == {"anyOf"} else [made]
    return {**outer, "anyOf": [*choices, {"$ref": "#/$defs/interpolation"}]}


def _interpolation() -> dict[str, Any]:
    return {
        "description": "Another key's value: ${section.key}.",
        "type": "string",
        "pattern": INTERPOLATION,
    }


def _defaults() -> dict[str, Any]:
    """Hydra's defaults list: https://hydra.cc/docs/1.3/advanced/defaults_list/."""
    return {
        "description": "Which option of each group takes part, in the order they are merged.",
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string", "description": "`_self_` (this file), or another recipe."},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": {name: {"$ref": "#/$defs/option"} for name in groups()},
                    "propertyNames": {"pattern": _GROUP_KEY},
                    "additionalProperties": {"$ref": "#/$defs/option"},
                },
            ]
        },
    }


def _option() -> dict[str, Any]:
    one = {"type": "string"}
    return {
        "description": "A file's name in the group, without .yaml; a list takes several.",
        "anyOf": [one, {"type": "array", "items": one}, {"type": "null"}],
    }


def _items(schema: Any) -> Iterator[Any]:
    """Everything that stands as an entry of a list."""
    if isinstance(schema, dict):
        yield from (value for key, value in schema.items() if key in {"items", "prefixItems"})
        schema = list(schema.values())
    if isinstance(schema, list):
        for value in schema:
            yield from _items(value)


def _reachable(body: Any, definitions: dict[str, Any]) -> set[str]:
    """Names of the definitions that ``body`` refers to, directly or not."""
    found: set[str] = set()
    waiting = list(_references(body))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(definitions[name])
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield str(value).removeprefix("#/$defs/")
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _plain(text: str) -> str:
    """Docstring text as an editor shows it: one paragraph, single backticks."""
    return " ".join(text.replace("``", "`").split())
