"""Which recipe another goes on from, as far as names tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmcompile.console.errors import BadRecipeError
from slmcompile.recipe.project import Project, nearest
from slmcompile.recipe.schema import Recipe
from slmcompile.recipe.yaml_file import KeyPath

KEY = "train.continue_from"


def continued(
    project: Project, recipe: Recipe, names: Sequence[str], origin: Callable[[KeyPath], str]
) -> str | None:
    """The recipe that ``train.continue_from`` names; None where it names none.

    Args:
        project: whose recipes there are.
        recipe: the one that goes on.
        names: those that go on from it, and its own behind them.
        origin: where a key was given.

    Raises:
        BadRecipeError: there is no such recipe, they go round in a circle, or an adapter of
            several names one (exit 78).
    """
    for name, adapter in recipe.adapters.items():
        if adapter.train.continue_from is not None and adapter.recipe is None:
            where = origin(("adapters", name, "train", "continue_from"))
            raise BadRecipeError(
                f"{where}: {KEY}: adapters of one recipe begin from nothing",
                "give this adapter a recipe of its own",
            )
    named = recipe.train.continue_from
    if named is None:
        return None
    where = f"{origin(('train', 'continue_from'))}: {KEY}"
    if named in names:
        round_ = " → ".join([*names[names.index(named) :], named])
        raise BadRecipeError(
            f"{where}: recipes go on from one another in a circle: {round_}",
            "let one of them begin from its base model",
        )
    known = project.names()
    if named not in known:
        raise BadRecipeError(
            f"{where}: no recipe is called {named!r}", nearest("recipes are", named, known)
        )
    return named
