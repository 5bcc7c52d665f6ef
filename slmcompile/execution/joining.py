"""``add-adapter``: a recipe of an export's adapters and one more, once both are found whole."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from slmcompile.console.errors import BadRecipeError, SlmcompileError, UsageError
from slmcompile.execution.sync import compile_recipe
from slmcompile.files.artifact import verify, write_text
from slmcompile.plans.added import recipe_text
from slmcompile.plans.definition import Plan, stage_name
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project, nearest
from slmcompile.registry.scalars import ID_PATTERN


def add_adapter(
    project: Project, export: str, recipe: str, name: str = ""
) -> tuple[str, tuple[str, ...]]:
    """Writes the recipe; see ``api.add_adapter``."""
    joined, target = _export(project, export)
    whole, other = compose(project, joined), compose(project, recipe)
    if other.whole.adapters:
        raise UsageError(
            f"{recipe}: it has several adapters, and one is added",
            "name a recipe of one adapter",
        )
    if recipe in {joined, *whole.whole.adapters}:
        raise UsageError(
            f"{joined} has an adapter {recipe} already", "name another recipe, or rename this one"
        )
    name = name or f"{joined}-{recipe}"
    path = project.recipes / f"{name}.yaml"
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"{name!r}: not a recipe name", "give --name: a-z, 0-9, - and _")
    if path.exists():
        raise UsageError(f"recipes/{name}.yaml exists", "choose another --name")
    for plan in (compile_recipe(project, joined, []), compile_recipe(project, recipe, [])):
        _verify_whole(project, plan, target)
    text, left = recipe_text(whole, other, target)
    write_text(path, text)
    try:
        found = compile_recipe(project, name, [])
        if target and {*found.effective["target"]} != {target}:
            raise BadRecipeError(
                f"{joined}: its targets are no list of names, of which one could be left",
                f"name the recipe alone: slmcompile add-adapter {joined} {recipe}",
            )
    except SlmcompileError:
        path.unlink()
        raise
    return name, tuple(
        f"left out: the gate on {gate.metric} of {gate.artifact}, which {name} does not have"
        for gate in left
    )


def _export(project: Project, text: str) -> tuple[str, str]:
    """The recipe that is meant, and the target where one is named."""
    parts = [part for part in PurePosixPath(text).parts if part != "outputs"]
    names = project.names()
    if not parts or len(parts) > 2 or parts[0] not in names:
        mend = nearest("recipes are", parts[0] if parts else "", names)
        raise UsageError(f"{text}: no recipe and no export's folder", mend)
    if len(parts) == 1:
        return parts[0], ""
    targets = compose(project, parts[0]).whole.target
    stages = {stage_name("export", each): each for each in targets}
    if parts[1] not in stages:
        raise UsageError(f"{text}: no export", nearest("exports are", parts[1], [*stages]))
    return parts[0], stages[parts[1]]


def _verify_whole(project: Project, plan: Plan, target: str) -> None:
    """Reads what is there of a recipe's training and exports; what is not is made by the run.

    Raises:
        CorruptError: a file has other bytes than were written (exit 74).
    """
    for stage in plan.own.stages:
        if stage.kind == "train" or (stage.kind == "export" and target in {"", stage.artifact}):
            folder = project.root / stage.out
            if folder.is_dir():
                verify(folder)
