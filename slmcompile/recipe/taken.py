"""Adapters that other recipes train, taken into a recipe of several as they are.

``adapters.NAME.recipe`` names a recipe of one adapter. Data, training and evaluation are what it
says, so that the adapter is that recipe's, byte for byte; keys of one's own beside it are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import BadRecipeError
from slmcompile.recipe.members import ADAPTERS, SECTIONS, TAKEN_FROM, is_group
from slmcompile.recipe.project import Project, nearest
from slmcompile.recipe.yaml_file import KeyPath

if TYPE_CHECKING:
    from slmcompile.recipe.compose import Composed


def named_by(
    project: Project,
    values: Mapping[str, Any],
    names: Sequence[str],
    origin: Callable[[KeyPath], str],
) -> dict[str, str]:
    """The recipe that each adapter is taken from, by the adapter's name; only those that are.

    Args:
        project: whose recipes there are.
        values: as they were composed.
        names: recipes that need this one, and its own behind them.
        origin: where a key was given.

    Raises:
        BadRecipeError: there is no such recipe, or the adapter has keys beside it (exit 78).
    """
    adapters = values[ADAPTERS] if is_group(values) else None
    if not isinstance(adapters, Mapping):
        return {}
    if len(names) > 1:
        # What would be taken from it is not said, and it may lead back.
        raise BadRecipeError(
            f"{origin((ADAPTERS,))}: {names[-2]} needs a recipe of one adapter, and {names[-1]} has"
            " several",
            f"name another in {names[-2]}",
        )
    found: dict[str, str] = {}
    for member, given in adapters.items():
        named = given.get(TAKEN_FROM) if isinstance(given, Mapping) else None
        if not isinstance(named, str):
            continue  # trained here, or what validation refuses
        key = (ADAPTERS, member, TAKEN_FROM)
        where = f"{origin(key)}: {'.'.join(key)}"
        known = project.names()
        if named not in known:
            raise BadRecipeError(
                f"{where}: no recipe is called {named!r}",
                nearest("recipes are", named, known),
            )
        for other in given:
            if other != TAKEN_FROM:
                at = (ADAPTERS, member, str(other))
                raise BadRecipeError(
                    f"{origin(at)}: {'.'.join(at)}: the adapter is as recipe {named} trains it",
                    f"change it there, or take {'.'.join(key)} out",
                )
        found[member] = named
    return found


def lay_in(
    values: dict[str, Any], origins: dict[KeyPath, str], taken: Mapping[str, Composed]
) -> None:
    """Puts what the other recipes say where a member's own keys would be, with its origins."""
    for member, other in taken.items():
        theirs = other.whole.model_dump(mode="json")
        whole = {section: theirs[section] for section in SECTIONS}
        # How several are trained is none of its recipe's.
        common = values.get("train")
        whole["train"] |= {
            key: value
            for key, value in (common if isinstance(common, Mapping) else {}).items()
            if key in {"together", "isolated"}
        }
        values[ADAPTERS][member] = {TAKEN_FROM: other.name, **whole}
        for keys, where in other.origins.items():
            if keys[0] in SECTIONS:
                origins[(ADAPTERS, member) + keys] = where  # noqa: RUF005 (Python 3.10)
