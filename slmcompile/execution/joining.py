"""``add-adapter``: a recipe of an export's adapters and one more, once both are found whole."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from slmcompile.console.errors import BadRecipeError, SlmcompileError, UsageError
from slmcompile.execution.last_overrides import how_to_clear, last_overrides
from slmcompile.execution.sync import compile_recipe
from slmcompile.files.artifact import verify, write_text
from slmcompile.files.safe_read import read_regular
from slmcompile.lock.file import lock_name, read_lock, write_lock
from slmcompile.plans.added import follows, recipe_text
from slmcompile.plans.definition import Plan, Stage, stage_name
from slmcompile.recipe.compose import Composed, compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project, nearest
from slmcompile.registry.scalars import ID_PATTERN


def add_adapter(
    project: Project, export: str, recipe: str, name: str = ""
) -> tuple[str, tuple[str, ...]]:
    """Writes the recipe; see ``api.add_adapter``."""
    joined, target = _export(project, export)
    whole, other = compose(project, joined), compose(project, recipe)
    _refuse_what_cannot_join(whole, other)
    if target and follows(whole, target) and not _leaves_out(project, joined, target):
        raise BadRecipeError(
            f"{joined}: its targets are no list of names, of which one could be left",
            f"name the recipe alone: slmcompile add-adapter {joined} {recipe}",
        )
    name = name or f"{joined}-{recipe}"
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"{name!r}: not a recipe name", "give --name: a-z, 0-9, - and _")
    for each, kept in ((joined, target), (recipe, "")):
        plan = compile_recipe(project, each, [])
        _refuse_another_run(project, plan, kept)
        _verify_whole(project, plan, kept)
    text, left = recipe_text(whole, other, target)
    _write(project, name, text, whole, other)
    return name, tuple(
        f"left out: the gate on {gate.metric} of {gate.artifact}, which {name} does not have"
        for gate in left
    )


def _refuse_what_cannot_join(export: Composed, other: Composed) -> None:
    if other.whole.adapters:
        raise UsageError(
            f"{other.name}: it has several adapters, and one is added",
            "name a recipe of one adapter",
        )
    there = {name: each.recipe or name for name, each in export.whole.adapters.items()}
    for name, named in (there or {export.name: export.name}).items():
        if other.name in {name, named}:
            known = f", as {name}" if name != other.name else ""
            raise UsageError(
                f"{export.name} has an adapter {other.name} already{known}",
                "name another recipe, or rename this one",
            )


def _write(project: Project, name: str, text: str, whole: Composed, other: Composed) -> None:
    """Writes it, with the versions that the two are locked to; leaves nothing of one that fails.

    One that says just this already was left by a run that was killed, which now goes on.
    """
    path = project.recipes / f"{name}.yaml"
    shown = f"recipes/{name}.yaml"
    there = read_regular(project.root, shown, shown, MAX_BYTES) if path.exists() else None
    if path.exists() and there != text.encode("utf-8"):
        raise UsageError(f"{shown} exists", "choose another --name")
    locks = [read_lock(project, each.name) for each in (other, whole)]
    entries = {key: value for lock in locks if lock for key, value in lock.entries.items()}
    if there is None:
        write_text(path, text)
        if entries:
            write_lock(project, name, entries)
    try:
        compile_recipe(project, name, [])
    except BaseException as error:
        if there is None:
            path.unlink()
            (project.root / lock_name(name)).unlink(missing_ok=True)
        if isinstance(error, SlmcompileError):
            # Without the place in a file that is not there any more.
            what = re.sub(rf"^{re.escape(shown)}(:\d+)?: ", "", error.what)
            raise SlmcompileError(
                f"{other.name} cannot join {whole.name}: {what}",
                error.mend,
                code=error.code,
                also=error.also,
            ) from error
        raise


def _leaves_out(project: Project, recipe: str, target: str) -> bool:
    """Whether a recipe that goes on from this one can have this of its targets alone."""
    try:
        return {*compose(project, recipe, [f"target=[{target}]"]).whole.target} == {target}
    except SlmcompileError:
        return False


def _export(project: Project, text: str) -> tuple[str, str]:
    """The recipe that is meant, and the target where one is named."""
    path = Path(text)
    inside = path.is_absolute() and path.is_relative_to(project.root)
    parts = PurePosixPath(path.relative_to(project.root) if inside else path).parts
    if len(parts) > 1 and parts[0] == "outputs":
        parts = parts[1:]
    names = project.names()
    if not parts or len(parts) > 2 or parts[0] not in names:
        mend = nearest("recipes are", parts[0] if parts else "", names)
        raise UsageError(f"{text or repr(text)}: no recipe and no export's folder", mend)
    if len(parts) == 1:
        return parts[0], ""
    targets = compose(project, parts[0]).whole.target
    stages = {stage_name("export", each): each for each in targets}
    if parts[1] not in stages:
        raise UsageError(f"{text}: no export", nearest("exports are", parts[1], [*stages]))
    return parts[0], stages[parts[1]]


def _refuse_another_run(project: Project, plan: Plan, target: str) -> None:
    """What lies there is of the last run, whose overrides the new recipe would not have.

    Raises:
        UsageError: it would be trained or exported otherwise by the recipe's file alone.
    """
    overrides = last_overrides(project, plan.recipe)
    if not overrides:
        return
    try:
        same = _work(compile_recipe(project, plan.recipe, overrides), target) == _work(plan, target)
    except SlmcompileError:
        same = False  # the recipe was edited since, and does not take them any more
    if not same:
        raise UsageError(
            f"{plan.recipe} ran last with {' '.join(overrides)}, which its file does not say",
            how_to_clear(plan.recipe, overrides),
        )


def _work(plan: Plan, target: str) -> dict[str, str]:
    found = plan.fingerprints()
    return {stage.address: found[stage.address] for stage in _taken(plan, target)}


def _taken(plan: Plan, target: str) -> list[Stage]:
    """What trains its adapters, in whichever pipeline, and its exports, or that to one target."""
    return [
        stage
        for stage in plan.stages()
        if stage.kind == "train" or (stage.kind == "export" and target in {"", stage.artifact})
    ]


def _verify_whole(project: Project, plan: Plan, target: str) -> None:
    """Reads what is there of a recipe's training and exports; what is not is made by the run.

    Raises:
        CorruptError: a file has other bytes than were written (exit 74).
    """
    for stage in _taken(plan, target):
        folder = project.root / stage.out
        if folder.is_dir():
            verify(folder)
