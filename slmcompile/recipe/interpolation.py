"""``${section.key}``: a value that is another key's, with a budget.

References to keys alone, absolute or relative (``${.sibling}``, ``${..aunt}``), in whole values or
inside text; no resolver exists here, so no environment, clock or function can be reached. What all
references together may bring in is bounded, so ``${a}${a}`` over and over ends in an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from slmcompile.console.errors import BadRecipeError, RefusedError, all_of
from slmcompile.console.printable import shortened
from slmcompile.recipe.limits import MAX_BYTES, MAX_DEPTH, MAX_NODES
from slmcompile.recipe.merge import MISSING
from slmcompile.recipe.places import in_order
from slmcompile.recipe.yaml_file import KeyPath

MAX_REFERENCES = 1_000
MAX_CHARACTERS = 4 * MAX_BYTES
_MOST_ERRORS = 40
_REFERENCE = re.compile(r"(?P<escapes>\\*)\$\{(?P<name>[^{}$]*)(?P<end>\}?)")
_NAME = re.compile(r"(\.*)([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)?")


@dataclass
class Resolution:
    """Values with their references followed.

    Attributes:
        config: the merged values, references and all.
        origin: where a key path got its value, for messages.
        through: for each value that is a reference as a whole, the key path that it took.
    """

    config: Mapping[str, Any]
    origin: Callable[[KeyPath], str]
    through: dict[KeyPath, KeyPath] = field(default_factory=dict)
    # What each reference came to, and what it spent: each further use spends as much again.
    _done: dict[KeyPath, tuple[Any, int, int]] = field(default_factory=dict)
    _active: list[KeyPath] = field(default_factory=list)
    _errors: dict[KeyPath, BadRecipeError] = field(default_factory=dict)
    _references: int = 0
    _nodes: int = 0
    _characters: int = 0

    def resolve(self) -> dict[str, Any]:
        """The whole config without references.

        Raises:
            BadRecipeError: references to nothing or in a loop, values still to be given, or more
                than the budget (exit 78).
            RefusedError: a computed reference (exit 77).
        """
        found = {key: self._each((key,), value) for key, value in self.config.items()}
        self._tell()
        return found

    def _each(self, keys: KeyPath, value: Any) -> Any:
        """One of several values: what is wrong with it is noted, and the others are looked at."""
        if self._active:
            return self._value(keys, value)
        try:
            return self._value(keys, value)
        except BadRecipeError as error:
            for path in self._active or [keys]:
                self._errors.setdefault(path, error)
            self._active.clear()
            if self._spent() or len(self._errors) >= _MOST_ERRORS:
                self._tell()
            return None

    def _tell(self) -> None:
        if self._errors:  # whoever refers to what is wrong says the same
            raise all_of(in_order({error.what: error for error in self._errors.values()}.values()))

    def _value(self, keys: KeyPath, value: Any) -> Any:
        self._spend(keys, nodes=1)
        if len(keys) > MAX_DEPTH + 1:
            raise BadRecipeError(
                f"{self._at(keys)}: nested deeper than {MAX_DEPTH} levels", "flatten it"
            )
        if isinstance(value, dict):
            return {key: self._each((*keys, key), below) for key, below in value.items()}
        if isinstance(value, list):
            return [self._each((*keys, str(i)), below) for i, below in enumerate(value)]
        if value == MISSING:
            raise BadRecipeError(
                f"{self._at(keys)}: a value must be given (it is ???)",
                f"write it in the recipe, or add {'.'.join(keys)}=VALUE",
            )
        if isinstance(value, str):
            if "${" in value:
                return self._text(keys, value)
            self._spend(keys, characters=len(value))
        return value

    def _text(self, keys: KeyPath, text: str) -> Any:
        if keys in self._done:
            result, nodes, characters = self._done[keys]
            self._spend(keys, nodes=nodes, characters=characters)
            return result
        if keys in self._errors:
            raise self._errors[keys]
        if keys in self._active:
            loop = [".".join(path) for path in (*self._active[self._active.index(keys) :], keys)]
            raise BadRecipeError(
                f"{self._at(keys)}: the references form a loop: {shortened(' → '.join(loop), 200)}",
                "give one of them a value",
            )
        if len(self._active) >= MAX_DEPTH:
            raise BadRecipeError(
                f"{self._at(keys)}: more than {MAX_DEPTH} references behind one another",
                "refer to the value itself",
            )
        spent = (self._nodes, self._characters)
        self._active.append(keys)
        whole = _REFERENCE.fullmatch(text)
        if whole and not whole["escapes"]:
            result = self._follow(keys, whole)
        else:
            result = self._pieces(keys, text)
        self._active.pop()
        self._done[keys] = (result, self._nodes - spent[0], self._characters - spent[1])
        return result

    def _pieces(self, keys: KeyPath, text: str) -> str:
        pieces: list[str] = []
        position = 0
        for found in _REFERENCE.finditer(text):
            pieces.append(text[position : found.start()])
            position = found.end()
            escapes = len(found["escapes"])
            pieces.append("\\" * (escapes // 2))
            if escapes % 2:
                pieces.append(found[0].lstrip("\\"))
                continue
            value = self._follow(keys, found)
            if isinstance(value, dict | list):
                raise BadRecipeError(
                    f"{self._at(keys)}: {_shown(found)} is a section or a list, inside text",
                    "refer to one value of it",
                )
            pieces.append(str(value))
            self._spend(keys, characters=len(pieces[-1]))
        pieces.append(text[position:])
        return "".join(pieces)

    def _follow(self, keys: KeyPath, found: re.Match[str]) -> Any:
        self._references += 1
        if self._references > MAX_REFERENCES:
            raise BadRecipeError(
                f"{self._at(keys)}: more than {MAX_REFERENCES} references", "write values instead"
            )
        name = _NAME.fullmatch(found["name"])
        if not found["end"] or not name or not name[0]:
            raise RefusedError(
                f"{self._at(keys)}: {_shown(found)} is not the name of a key",
                "refer to a key as ${section.key}",
            )
        dots, dotted = name[1], tuple((name[2] or "").split(".")) if name[2] else ()
        target = (*(keys[: max(0, len(keys) - len(dots))] if dots else ()), *dotted)
        if len(dots) > len(keys) or not target:
            raise BadRecipeError(
                f"{self._at(keys)}: {_shown(found)} leads above the recipe", "use fewer dots"
            )
        if target == keys[: len(target)]:
            raise BadRecipeError(
                f"{self._at(keys)}: {_shown(found)} refers to itself", "give it a value"
            )
        value = self._select(keys, target, found)
        if found[0] == self._raw(keys):
            self.through[keys] = target
        return value

    def _select(self, keys: KeyPath, target: KeyPath, found: re.Match[str]) -> Any:
        current: Any = self.config
        for depth, part in enumerate(target, start=1):
            if isinstance(current, str) and "${" in current:
                current = self._text(target[: depth - 1], current)
            if isinstance(current, dict) and part in current:
                current = current[part]
            elif isinstance(current, list) and part.isdigit() and int(part[:7]) < len(current):
                current = current[int(part[:7])]
            else:
                raise BadRecipeError(
                    f"{self._at(keys)}: {_shown(found)} refers to no key", self._nearest(target)
                )
        return self._value(target, current)

    def _raw(self, keys: KeyPath) -> Any:
        current: Any = self.config
        for part in keys:
            current = current[int(part) if isinstance(current, list) else part]
        return current

    def _nearest(self, target: KeyPath) -> str:
        known = [".".join(path) for path in _paths(self.config) if len(path) < 8]
        near = [name for name in known[:500] if len(name) < 128]
        close = get_close_matches(".".join(target)[:128], near, n=1, cutoff=0.75)
        if close:
            return f"did you mean ${{{close[0]}}}?"
        return "refer to a key that a file of the recipe gives; defaults have no line to refer to"

    def _spend(self, keys: KeyPath, *, nodes: int = 0, characters: int = 0) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._spent():
            raise BadRecipeError(
                f"{self._at(keys)}: the recipe is too large once its references are followed",
                f"stay below {MAX_NODES} values and {MAX_CHARACTERS} characters",
            )

    def _spent(self) -> bool:
        return (
            self._nodes > MAX_NODES
            or self._characters > MAX_CHARACTERS
            or self._references > MAX_REFERENCES
        )

    def _at(self, keys: KeyPath) -> str:
        return f"{self.origin(keys)}: {'.'.join(keys)}"


def _shown(found: re.Match[str]) -> str:
    return shortened(found[0].lstrip("\\"))


def _paths(value: Any, keys: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = [keys] if keys else []
    if isinstance(value, dict):
        for key, below in value.items():
            found += _paths(below, (*keys, key))
    return found
