"""The nearest valid name for an unknown key: a typing error, a key of another section, a peer's."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from slmcompile.console.printable import shortened
from slmcompile.data_steps import DATA_STEPS
from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.other_tools import ABSENT, DIFFERS, KEYS, SECTIONS
from slmcompile.recipe.schema import Recipe
from slmcompile.registry.markers import by_name, sections_of
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.templates import TEMPLATES

# Ratios of difflib. A guess that misleads costs more than the list of the keys.
_NEAR = 0.66
_NEAR_ELSEWHERE = 0.8


def suggest(unknown: str, model: type[BaseModel], at: tuple[str, ...], value: Any = None) -> str:
    """A mend line for an unknown key.

    Args:
        unknown: the key.
        model: the section that it stands in.
        at: where that section lies.
        value: what was written for it; names a key inside an unknown section.
    """
    word = unknown[:64]
    fields = list(model.model_fields)
    if named := _peer(word, at, value):
        return named
    if close := get_close_matches(word, fields, n=1, cutoff=_NEAR):
        return f"did you mean {'.'.join((*at, close[0]))!r}?"
    if named := _elsewhere(word, at):
        return named
    near = get_close_matches(word, [*paths_by_name(), *KEYS, *ABSENT], n=1, cutoff=_NEAR_ELSEWHERE)
    named = (_peer(near[0], at, None) or _elsewhere(near[0], at)) if near else None
    return named or f"keys here: {', '.join(sorted(fields))}"


def nested_group(keys: tuple[str, ...], where: str) -> str:
    """A mend line for a section within a group's file, which stands in the group's already.

    Args:
        keys: of an unknown key.
        where: ``file:line`` of it.
    """
    group = keys[0]
    in_its_file = where.startswith((f"conf/{group}/", f"slmcompile/conf/{group}/"))
    if len(keys) != 2 or keys[1] not in Recipe.model_fields or not in_its_file:
        return ""
    above = "# @package _global_"
    if keys[1] == group:
        return f"take {group}: out of the file, whose keys are {group}'s, or begin it with {above}"
    return f"begin the file with {above}, so that its keys are the recipe's and not {group}'s"


def _peer(word: str, at: tuple[str, ...], value: Any) -> str | None:
    """What to do about a key that another tool has."""
    if isinstance(value, dict) and word in SECTIONS:
        return _section_elsewhere(word, at, value)
    if word in KEYS:
        differs = f": {DIFFERS[word]}" if word in DIFFERS else ""
        return f"here it is called {KEYS[word]}{differs}"
    if word in SECTIONS:
        return f"here it is called {SECTIONS[word]}"
    return ABSENT.get(word)


def _elsewhere(word: str, at: tuple[str, ...]) -> str | None:
    """Where a key of this name lies, if other sections have it."""
    paths = [path for path in paths_by_name().get(word, ()) if path != ".".join((*at, word))]
    paths = [path for path in paths if at and path.startswith(".".join(at) + ".")] or paths
    if len(paths) > 1:
        return f"write the one that is meant: {', '.join(paths[:-1])} or {paths[-1]}"
    return f"here it is called {paths[0]}" if paths else None


def _section_elsewhere(word: str, at: tuple[str, ...], value: dict[Any, Any]) -> str:
    ours = SECTIONS[word]
    for key in map(str, value):
        paths = paths_by_name().get(key, ())
        known = f"{ours}.{key}" if f"{ours}.{key}" in paths else (KEYS.get(key) or "")
        known = known or (paths[0] if len(paths) == 1 else "")
        if known:
            written = ".".join((*at, word, shortened(key)))
            return f"here {word} is called {ours}, and {written} is {known}"
    return f"here it is called {ours}"


@cache
def paths_by_name() -> dict[str, tuple[str, ...]]:
    """Every key of the schema that lies at a fixed place: its last name → its dotted paths."""
    found: dict[str, tuple[str, ...]] = {}

    def walk(model: type[BaseModel], at: tuple[str, ...]) -> None:
        for name, field in model.model_fields.items():
            path = ".".join((*at, name))
            if path not in found.get(name, ()):
                found[name] = (*found.get(name, ()), path)
            for below in sections_of(field.annotation, field.metadata):
                walk(below, (*at, name))

    walk(Recipe, ())
    return found


for _table in (MODEL_SOURCES, DATA_SOURCES, DATA_STEPS, TEMPLATES, LOSSES, METHODS, PROVIDERS):
    _table.watch(paths_by_name.cache_clear)


def section_at(model: type[BaseModel], keys: tuple[str, ...], raw: Any) -> type[BaseModel] | None:
    """The section type that holds the value at ``keys``; ``raw`` decides unions."""
    return _chosen(*_type_at(model, keys, raw))


def kinds_at(keys: tuple[str, ...], raw: Any) -> tuple[str, dict[str, type[BaseModel]]]:
    """The key that says which section lies at ``keys``, and the sections by what it may say.

    ``raw`` decides those above; the key is empty where there is one section or none.
    """
    annotation, metadata, _ = _type_at(Recipe, keys, raw)
    return _kinds(annotation, metadata)


def _type_at(
    model: type[BaseModel], keys: tuple[str, ...], raw: Any
) -> tuple[Any, Iterable[Any], Any]:
    """What is annotated where ``keys`` lead, the markers beside it, and the value there."""
    annotation: Any = model
    metadata: Iterable[Any] = ()
    value = raw
    for key in keys:
        origin = get_origin(annotation)
        if origin in {dict, tuple} and not sections_of(annotation, metadata):
            annotation, metadata = get_args(annotation)[-1 if origin is dict else 0], ()
        else:
            section = _chosen(annotation, metadata, value)
            field = section.model_fields.get(key) if section else None
            if field is None:
                return None, (), None
            annotation, metadata = _plain(field.annotation), field.metadata
        value = _child(value, key)
    return annotation, metadata, value


def _kinds(annotation: Any, metadata: Iterable[Any]) -> tuple[str, dict[str, type[BaseModel]]]:
    marker = by_name(annotation, metadata)
    if marker:
        return marker.key, marker.sections()
    kinds = sections_of(annotation, metadata)
    if len(kinds) < 2:
        return "", dict(zip([""], kinds, strict=False))
    return "type", {
        str(tag): kind for kind in kinds for tag in get_args(kind.model_fields["type"].annotation)
    }


def _child(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    return None


def _plain(annotation: Any) -> Any:
    """Without what says that it may be null; a marker that stands within is kept."""
    if get_origin(annotation) in {Union, UnionType}:
        some = [part for part in get_args(annotation) if part is not NoneType]
        annotation = some[0] if len(some) == 1 else annotation
    if get_origin(annotation) is Annotated and by_name(annotation) is None:
        return get_args(annotation)[0]
    return annotation


def _chosen(annotation: Any, metadata: Iterable[Any], value: Any) -> type[BaseModel] | None:
    marker = by_name(annotation, metadata)
    if marker:
        return marker.sections().get(marker.chosen(value))
    key, kinds = _kinds(annotation, metadata)
    tag = value.get(key, "") if key and isinstance(value, dict) else ""
    return kinds.get(tag) if isinstance(tag, str) else None
