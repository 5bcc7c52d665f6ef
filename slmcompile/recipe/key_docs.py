"""``docs/keys.md``: every recipe key, written from the schema, so that it cannot be out of date."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slmcompile.recipe.other_tools import KEYS as PEERS
from slmcompile.recipe.policy import Policy
from slmcompile.recipe.project import builtin_conf
from slmcompile.recipe.schema import Recipe
from slmcompile.registry.markers import ByName, NameIn, by_name, sections_of, sections_within

_INTRODUCTION = """\
<!-- Written by `slmcompile schema --docs` from slmcompile/recipe/schema.py. Do not edit. -->
# Every recipe key

A key may stand in a recipe, in a group file (without the section's name in front) or behind a
recipe's name on the command line (`slmcompile plan R train.learning_rate=1e-4`). A **cosmetic**
key cannot change a result: editing it retrains nothing. *Elsewhere* gives the names that other
tools use; a recipe that uses one is told ours.
"""
_SHIPPED = """
## Choices that come with it

What `defaults` of a recipe may name: `- train: lora`, `- target: [cpu-int4, cpu-int8]`. Each is a
small file; `conf/GROUP/NAME.yaml` of your project is one more, or stands in its place.

"""
_ABOUT_POLICY = """
A policy is no part of a recipe: it stands in `conf/policy/default.yaml` without the section's name,
and a recipe that names, overrides or contains one is refused (exit 77).
"""
_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false"}


def key_docs() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    told: set[type[BaseModel]] = set()
    parts.append(f"\n## The recipe\n\n{_table(Recipe, '', list(Recipe.model_fields))}")
    parts.append(_SHIPPED + _shipped())
    for name, field in Recipe.model_fields.items():
        path = _below(name, field.annotation)
        # Of a mapping by name the values are what a table gives.
        below = get_args(field.annotation)[-1] if path.endswith(".NAME") else field.annotation
        marker = by_name(below, field.metadata)
        if marker and marker.default:
            common = get_args(below)[0] if get_origin(below) is Annotated else below
            parts += _union(marker, common, path, told)
            continue
        for section in sections_within(field.annotation):
            parts += _pages(section, path, 2, told)
    parts += _pages(Policy, "policy", 2, told)
    parts.append(_ABOUT_POLICY)
    return "".join(parts)


def _shipped() -> str:
    """The groups of the package and the names of their files."""
    rows = ["| group | names |", "|---|---|"]
    for group in (*Recipe.model_fields, "adapter"):
        names = sorted(file.stem for file in (builtin_conf() / group).glob("*.yaml"))
        if names:
            rows.append(f"| `{group}` | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(rows) + "\n"


def _union(marker: ByName, common: Any, path: str, told: set[type[BaseModel]]) -> Iterator[str]:
    """The keys that every entry of a table has, and behind them those that only some have."""
    told.update(marker.sections().values())
    keys = set(common.model_fields)
    table = _table(marker.sections()[marker.default], path, list(common.model_fields))
    yield f"\n## `{path}`\n\n{_one_line(common.__doc__ or '')}\n\n{table}"
    for key, field in common.model_fields.items():
        choice = by_name(field.annotation, field.metadata)
        if choice:
            told.update(choice.sections().values())
            yield from _choice(choice, f"{path}.{key}")
            continue
        for inner in sections_within(field.annotation, field.metadata):
            yield from _pages(inner, f"{path}.{key}", 3, told)
    for name, section in marker.sections().items():
        about = _one_line(section.__doc__ or "")
        yield f"\n### `{path}` with `{marker.key}: {name}`\n\n{about}\n"
        own = [key for key in section.model_fields if key not in common.model_fields]
        if own:
            yield f"\n{_table(section, path, own)}"
        for key in own:
            field = section.model_fields[key]
            if key not in keys:
                keys.add(key)
                for inner in sections_within(field.annotation, field.metadata):
                    yield from _pages(inner, f"{path}.{key}", 4, told)


def _choice(marker: ByName, path: str) -> Iterator[str]:
    """All keys of each entry of a table, inside of a section that a table gives too."""
    for name, section in marker.sections().items():
        about = _one_line(section.__doc__ or "")
        table = _table(section, path, list(section.model_fields))
        yield f"\n### `{path}` with `{marker.key}: {name}`\n\n{about}\n\n{table}"


def _pages(
    section: type[BaseModel], path: str, level: int, told: set[type[BaseModel]]
) -> Iterator[str]:
    """A heading and a table for a section and for each one inside it, unless it is told of."""
    if section in told:
        return
    told.add(section)
    kind = _tag(section)
    title = f"`{path}`" + (f" with `type: {kind}`" if kind else "")
    about = _one_line(section.__doc__ or "")
    table = _table(section, path, list(section.model_fields))
    yield f"\n{'#' * level} {title}\n\n{about}\n\n{table}"
    for name, field in section.model_fields.items():
        for inner in sections_within(field.annotation, field.metadata):
            below = f"{path}.{_below(name, field.annotation)}"
            yield from _pages(inner, below, min(level + 1, 4), told)


def _table(section: type[BaseModel], path: str, names: list[str]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name in names:
        field = section.model_fields[name]
        full = f"{path}.{name}" if path else name
        cells = (f"`{name}`", _type(field), _default(field), _meaning(field, full))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _meaning(field: FieldInfo, path: str) -> str:
    text = _one_line(field.description or "")
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("cosmetic"):
        text += " **Cosmetic.**"
    peers = sorted(peer for peer, ours in PEERS.items() if ours == path)
    if peers:
        text += f" *Elsewhere:* {', '.join(f'`{peer}`' for peer in peers)}."
    return text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_by" in extra:
        return f"by `{extra['default_by']}`"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, float) and value.is_integer() is False:
        return f"`{value:g}`"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {bound:g}"
        for item in field.metadata
        for sign, bound in (
            ("≥", getattr(item, "ge", None)),
            (">", getattr(item, "gt", None)),
            ("≤", getattr(item, "le", None)),
            ("<", getattr(item, "lt", None)),
        )
        if bound is not None
    ]
    kind = _choices(field.metadata) or _words(field.annotation)
    return f"{kind}{', ' if bounds else ''}{', '.join(bounds)}"


def _words(annotation: Any) -> str:
    """A type in words: `` `linear` or `cosine` ``, list of text, number."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _choices(arguments[1:]) or _words(arguments[0])
    if origin is Literal:
        return _one_of(arguments)
    if origin in {Union, UnionType}:
        if all(sections_of(part) for part in arguments):
            return "section, by `type`"
        return " or ".join(_words(part) for part in arguments)
    if origin is tuple:
        return f"list of {'sections' if sections_within(annotation) else _words(arguments[0])}"
    if origin is dict:
        key = "name" if sections_within(annotation) else _words(arguments[0])
        return f"mapping of {key} to {_words(arguments[1])}"
    if annotation is NoneType:
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _WORDS.get(annotation, "value")


def _choices(metadata: Iterable[Any]) -> str:
    """What a table gives to choose from; empty where none stands in a type's metadata."""
    for part in metadata:
        if isinstance(part, NameIn):
            return _one_of(part.names())
        if isinstance(part, ByName) and not part.default:
            return f"section, by `{part.key}`"
    return ""


def _one_of(choices: Iterable[Any]) -> str:
    """As a recipe writes them: ``true``, and text as it is."""
    shown = (choice if isinstance(choice, str) else json.dumps(choice) for choice in choices)
    return " or ".join(f"`{choice}`" for choice in shown)


def _below(name: str, annotation: Any) -> str:
    """A key as a path to the sections in it: ``target.NAME``, ``gates[]``."""
    origin = get_origin(annotation)
    return f"{name}.NAME" if origin is dict else f"{name}[]" if origin is tuple else name


def _tag(section: type[BaseModel]) -> str:
    """The ``type`` that chooses this section among its alternatives, empty if there is none."""
    field = section.model_fields.get("type")
    choices = get_args(field.annotation) if field and field.is_required() else ()
    return str(choices[0]) if len(choices) == 1 else ""


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
