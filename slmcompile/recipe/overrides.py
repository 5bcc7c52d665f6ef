"""Overrides: ``a.b=c`` and its ``+``, ``++`` and ``~`` forms, in Hydra's own grammar.

Parsed by Hydra with its casts and without its other functions (a shuffle would make two plans of
one command line). Applied to plain dicts by Hydra's rules; knows nothing of what keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.grammar import grammar_functions
from hydra._internal.grammar.functions import Functions
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from slmcompile.console.errors import BadRecipeError, RefusedError
from slmcompile.console.printable import shortened
from slmcompile.recipe.defaults import check_option, refuse_escape, refuse_repeated
from slmcompile.recipe.dump import as_written
from slmcompile.recipe.limits import INSTANTIATE_KEYS, MAX_DEPTH, check_value
from slmcompile.recipe.merge import merged
from slmcompile.recipe.policy_keys import refuse_policy
from slmcompile.recipe.yaml_file import KeyPath

# Hydra's parser takes a sixth of a second for a thousand characters.
MAX_TEXT = 4 * 1024
MAX_TOTAL = 8 * 1024
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_][A-Za-z0-9_-]*)*")
_SWEEP = re.compile(r"^[^=]*=\s*(choice|range|interval|glob|tag|sort|shuffle)\s*\(")
_KEY_FORM = "write section.key=value"
_OPENING, _CLOSING = "[{(", "]})"


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parses and checks overrides.

    Raises:
        BadRecipeError: not ``key=value``, over a limit (exit 78).
        RefusedError: Hydra's own settings, code, resolvers, files outside the groups (exit 77).
    """
    if sum(map(len, overrides)) > MAX_TOTAL:
        raise BadRecipeError(
            f"overrides: longer than {MAX_TOTAL} characters together", "write a recipe file"
        )
    return [_parse(text) for text in overrides]


def shown(text: str | None) -> str:
    """How messages name an override."""
    return f"override {shortened(text or '')!r}"


def is_override(where: str) -> bool:
    """Whether a place, as messages name it, is an override and not a line of a file."""
    return where.startswith("override ")


def _parse(text: str) -> Override:
    where = shown(text)
    if len(text) > MAX_TEXT:
        raise BadRecipeError(
            f"{where}: longer than {MAX_TEXT} characters", "write it in the recipe file"
        )
    if _depth(text) > MAX_DEPTH:
        raise BadRecipeError(f"{where}: nested deeper than {MAX_DEPTH} levels", "flatten it")
    _check_name(text.partition("=")[0].strip().lstrip("+~"), where)
    if _SWEEP.search(text):
        raise BadRecipeError(f"{where}: a sweep is not one value", "give a single value")
    try:
        override: Override = OverridesParser(_casts()).parse_rule(text, "override")
        value = override.value()
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise BadRecipeError(f"{where}: cannot be read as key=value", _mend(text)) from error
    if override.is_sweep_override():
        raise BadRecipeError(
            f"{where}: a sweep is not one value",
            "give a single value, a list as key=[a,b], or text with commas in quotes",
        )
    key = override.key_or_group
    if not _KEY.fullmatch(key):
        raise BadRecipeError(f"{where}: {key!r} is not a key", _KEY_FORM)
    for part in re.split(r"[./]", key):
        if part in INSTANTIATE_KEYS:
            raise RefusedError(f"{where}: {part}: recipes cannot name code to run", "remove it")
    check_value(value, where, key=key)
    return override


def _check_name(name: str, where: str) -> None:
    """Checks what stands before the ``=``, as Hydra's parser has yet to see it."""
    if re.search(r"(^|[/@:.])hydra($|[/@:.])", name):
        raise RefusedError(f"{where}: hydra settings are refused", "remove it")
    if ".." in name and "/" not in name:
        raise BadRecipeError(f"{where}: {shortened(name)!r} is not a key", _KEY_FORM)
    refuse_escape(name, where)
    refuse_policy(name, where)


def _mend(text: str) -> str:
    if "=" not in text and not text.startswith("~"):
        return _KEY_FORM
    return """put text with special characters in quotes: key='"a, b: c"'"""


def _casts() -> Functions:
    functions = Functions()
    functions.register(name="int", func=grammar_functions.cast_int)
    functions.register(name="str", func=grammar_functions.cast_str)
    functions.register(name="bool", func=grammar_functions.cast_bool)
    functions.register(name="float", func=grammar_functions.cast_float)
    return functions


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside quotes."""
    deepest = depth = 0
    quote = ""
    previous = ""
    for character in text:
        if quote:
            quote = "" if character == quote and previous != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSING:
            depth -= 1
        previous = "" if previous == "\\" else character
    return deepest


def check_groups(overrides: Sequence[Override], is_group: Callable[[str], bool]) -> None:
    """Checks the overrides that choose an option of a group, before a file is looked for."""
    for override in overrides:
        value = override.value()
        if not is_group(override.key_or_group):
            if override.package is not None:
                raise BadRecipeError(
                    f"{shown(override.input_line)}: no group is called {override.key_or_group!r}",
                    "only a group takes @package",
                )
            continue
        if isinstance(value, dict):
            continue  # values for the section of the same name
        where = shown(override.input_line)
        group = override.key_or_group
        if override.is_force_add():
            raise BadRecipeError(f"{where}: ++ is for keys, not groups", "write + or nothing")
        if override.is_delete() and isinstance(value, list):
            raise BadRecipeError(
                f"{where}: ~ takes nothing out of a list of options",
                f"write the list to keep, {group}=[NAME, …], or ~{group} for one option",
            )
        options: list[Any] = value if isinstance(value, list) else [value]
        if override.is_delete() and value in (None, ""):
            continue
        for option in options:
            if not isinstance(option, str) or not option:
                raise BadRecipeError(
                    f"{where}: {group} takes the name of an option (given {as_written(option)})",
                    f"write {group}=NAME; for one of its values {group}.key=value",
                )
            check_option(option, where)
        refuse_repeated(options, where)


def refuse_twice(overrides: Sequence[Override], is_group: Callable[[str], bool]) -> None:
    """Refuses two overrides of one key, in whatever spelling, as the later would win in silence.

    Raises:
        BadRecipeError: a key, or a key above or below it, is given twice (exit 78).
    """
    at: dict[KeyPath, str] = {}
    above: dict[KeyPath, str] = {}
    for override in overrides:
        text = str(override.input_line)
        written = _written(override, chooses=is_group(override.key_or_group))
        for keys in written:
            over = [keys[:length] for length in range(1, len(keys) + 1)]
            first = next((at[path] for path in over if path in at), above.get(keys))
            if first is not None:
                raise BadRecipeError(
                    f"{shown(text)}: {'.'.join(keys).rstrip('@')} is given twice",
                    f"drop this or {shortened(first)!r}",
                )
        for keys in written:
            at[keys] = text
            above |= {keys[:length]: text for length in range(1, len(keys))}


def _written(override: Override, *, chooses: bool) -> list[KeyPath]:
    """The paths of the values that an override gives; the choice of a group's option is its own."""
    key, value = override.key_or_group, override.value()
    if chooses and not isinstance(value, dict):
        return [(f"{key}@{override.package or ''}",)]
    return _leaves(value, tuple(key.split(".")))


def _leaves(value: Any, keys: KeyPath) -> list[KeyPath]:
    if not isinstance(value, dict) or not value:
        return [keys]
    return [leaf for key, below in value.items() for leaf in _leaves(below, (*keys, key))]


def apply_override(config: dict[str, Any], override: Override, origins: dict[KeyPath, str]) -> None:
    """Changes ``config`` and ``origins`` as one override says.

    Raises:
        BadRecipeError: it changes what is not there, or adds what is (exit 78).
    """
    where = shown(override.input_line)
    key, value = override.key_or_group, override.value()
    if "/" in key:
        raise BadRecipeError(f"{where}: no group is called {key!r}", "keys are written a.b.c")
    keys = tuple(key.split("."))
    parent = _parent(config, keys, where, create=not override.is_delete())
    exists = parent is not None and _has(parent, keys[-1])
    if override.is_delete():
        old = _get(parent, keys[-1]) if exists else None
        if old is None:
            raise BadRecipeError(f"{where}: {key} is not there to be removed", "drop the override")
        given = value is not None and value != ""
        if given and value != old:
            raise BadRecipeError(
                f"{where}: {key} has another value (it is {shortened(repr(old))})",
                f"write ~{key}",
            )
        _forget(origins, keys)
        origins[keys] = where
        del parent[keys[-1] if isinstance(parent, dict) else int(keys[-1])]
        return
    if override.type is OverrideType.ADD and exists:
        old = _get(parent, keys[-1])
        if old is not None and not isinstance(value, dict | list):
            raise BadRecipeError(
                f"{where}: {key} has a value already ({_origin_of(origins, keys)})",
                f"write {key}=… without +",
            )
    new = merged(_get(parent, keys[-1]) if exists else None, value)
    if isinstance(value, dict):
        for below in _paths(value, keys):
            _forget(origins, below)
            origins[below] = where
    else:
        _forget(origins, keys)
    origins[keys] = where
    if isinstance(parent, dict):
        parent[keys[-1]] = new
    else:
        parent[_index(parent, keys, where)] = new


def _parent(config: dict[str, Any], keys: KeyPath, where: str, *, create: bool) -> Any:
    """The dict or list that holds the last key."""
    current: Any = config
    for depth, part in enumerate(keys[:-1], start=1):
        below = _get(current, part)
        if below is None and isinstance(current, dict):
            if not create:
                return None
            below = current[part] = {}
        elif isinstance(current, list):
            below = current[_index(current, keys[:depth], where)]
        if not isinstance(below, dict | list):
            at = ".".join(keys[:depth])
            problem = (
                f"refers to {below}"
                if isinstance(below, str) and "${" in below
                else "is a value and not a section"
            )
            raise BadRecipeError(f"{where}: {at} {problem}", f"override {at} itself")
        current = below
    if isinstance(current, list) and (create or _has(current, keys[-1])):
        _index(current, keys, where)
    return current


def _index(entries: list[Any], keys: KeyPath, where: str) -> int:
    if keys[-1].isdigit() and len(keys[-1]) < 7 and int(keys[-1]) < len(entries):
        return int(keys[-1])
    at = ".".join(keys[:-1])
    raise BadRecipeError(
        f"{where}: {at} is a list of {len(entries)} without an entry {keys[-1]}",
        f"entries are {at}.0 and on; or give the whole list: {at}=[…]",
    )


def _has(container: Any, key: str) -> bool:
    if isinstance(container, dict):
        return key in container
    return key.isdigit() and len(key) < 7 and int(key) < len(container)


def _get(container: Any, key: str) -> Any:
    if not _has(container, key):
        return None
    return container[key] if isinstance(container, dict) else container[int(key)]


def _paths(value: dict[str, Any], keys: KeyPath) -> list[KeyPath]:
    found: list[KeyPath] = []
    for key, below in value.items():
        found.append((*keys, key))
        if isinstance(below, dict):
            found += _paths(below, (*keys, key))
    return found


def _forget(origins: dict[KeyPath, str], keys: KeyPath) -> None:
    for below in [known for known in origins if known[: len(keys)] == keys]:
        del origins[below]


def _origin_of(origins: dict[KeyPath, str], keys: KeyPath) -> str:
    return next((origins[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in origins), "?")
