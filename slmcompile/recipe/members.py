"""The adapters of a recipe as recipes of their own: what most of the package sees of a group.

An adapter has data and evaluation of its own, and a training section that is the recipe's with
what it gives laid over it. With these in the places that a plain recipe has for them it is one: it
is checked, exported and measured as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slmcompile.recipe.merge import lay_over, own
from slmcompile.recipe.schema import Recipe
from slmcompile.recipe.yaml_file import KeyPath

ADAPTERS = "adapters"
SECTIONS = ("data", "train", "eval")
"""What an adapter has of its own, in the places that a plain recipe has for it."""
TAKEN_FROM = "recipe"
"""The key of an adapter that says instead of all these which recipe trains it."""


def is_group(values: Mapping[str, Any]) -> bool:
    """Whether composed values name adapters."""
    return ADAPTERS in values


def laid_out(values: dict[str, Any]) -> dict[str, Any]:
    """Composed values with every adapter whole.

    ``data`` and ``eval`` of the recipe are the first one's: they stand there only for the schema,
    which wants them of every recipe; and so does ``train`` where all are other recipes' adapters.
    """
    adapters = values[ADAPTERS]
    if not isinstance(adapters, dict):
        return values
    whole = {
        name: _laid_over(values, given) if isinstance(given, dict) else given
        for name, given in adapters.items()
    }
    first = next((each for each in whole.values() if isinstance(each, dict)), {})
    return {
        **values,
        ADAPTERS: whole,
        **{
            key: first[key]
            for key in SECTIONS
            if key in first and (key != "train" or key not in values)
        },
    }


def _laid_over(values: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = own(given)
    if TAKEN_FROM in found:
        return found  # another recipe's, and whole
    for key in ("train", "eval"):
        common = own(values.get(key, {}))
        if isinstance(common, dict) and isinstance(found.get(key, {}), dict):
            lay_over(common, found.get(key, {}))
            found[key] = common
    return found


def typed(values: dict[str, Any]) -> Recipe:
    """The typed recipe of JSON values such as it dumps.

    Raises:
        ValidationError: of pydantic's, where they are none.
    """
    whole = laid_out(values) if is_group(values) else values
    # Through JSON, where strict mode knows lists as tuples.
    return Recipe.model_validate_json(json.dumps(whole))


def where_given(loc: tuple[int | str, ...], values: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Where a person wrote what lies at ``loc`` of values that were laid out.

    Args:
        loc: keys of an adapter's value, or others, which stay as they are.
        values: as they were composed.
    """
    if loc[0] != ADAPTERS or len(loc) < 4 or loc[2] not in {"train", "eval"}:
        return loc
    given: Any = values
    for key in loc[:4]:
        if not isinstance(given, Mapping) or key not in given:
            return loc[2:] if loc[3] in values.get(str(loc[2]), {}) else loc
        given = given[key]
    return loc


def recipes(recipe: Recipe) -> dict[str, Recipe]:
    """A recipe for each adapter, by name; of a plain recipe itself, without one."""
    if not recipe.adapters:
        return {"": recipe}
    return {
        name: recipe.model_copy(
            update={
                "data": adapter.data,
                "train": adapter.train,
                "eval": adapter.eval,
                "adapters": {},
                "gates": tuple(
                    gate.model_copy(update={"adapter": None})
                    for gate in recipe.gates
                    if gate.adapter == name
                ),
            }
        )
        for name, adapter in recipe.adapters.items()
    }


def origins_of(origins: Mapping[KeyPath, str], recipe: Recipe, member: str) -> dict[KeyPath, str]:
    """Where the keys of a member's recipe came from."""
    above = (ADAPTERS, member)
    # Nothing of these that the recipe gives reaches an adapter which another one trains.
    others = {ADAPTERS, "gates", *(SECTIONS if recipe.adapters[member].recipe else ())}
    found = {keys: at for keys, at in origins.items() if keys[0] not in others}
    for keys, at in origins.items():
        if keys[:2] == above and len(keys) > 2 and keys[2] in SECTIONS:
            found[keys[2:]] = at
    own_gates = [n for n, gate in enumerate(recipe.gates) if gate.adapter == member]
    for number, place in enumerate(own_gates):
        for keys, at in origins.items():
            if keys[:2] == ("gates", str(place)):
                renumbered = ("gates", str(number), *keys[2:])
                found[renumbered] = at
    return found
