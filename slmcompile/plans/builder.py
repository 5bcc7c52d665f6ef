"""Recipe → Plan: which stages there are, what each reads of the recipe, and how they connect.

Pure but for reading the bytes of the project files that stages depend on. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slmcompile.console.errors import Exit, SlmcompileError, all_of
from slmcompile.files.file_hash import file_hash
from slmcompile.plans.data_files import followed, glob_folders
from slmcompile.plans.default_gates import with_default_gates
from slmcompile.plans.definition import Pipeline, Plan
from slmcompile.plans.earlier import origins_of, with_earlier
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.making import Making
from slmcompile.plans.sections import cosmetic_names
from slmcompile.plans.wrong_names import wrong_names
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe


def build(project: Project, composed: Composed) -> Plan:
    """Compiles a recipe.

    Raises:
        BadRecipeError: targets or gates that contradict each other (exit 78).
        BadDataError: a data file that is not there (exit 65).
        RefusedError: a path outside the project (exit 77).
    """
    rows = [
        part.source
        for each in with_earlier(composed)
        for view in each.members.values()
        for part in view.recipe.data.parts
    ]
    making = _looked_over(project, composed)
    composed, recipe = making.composed, making.composed.whole
    for kind in KINDS.values():
        views = making.members
        if kind.joins is not None and "" not in views:
            making.join(kind.name, {name: view.draft(kind.plan) for name, view in views.items()})
            continue
        for view in views.values() if kind.of_members else [making]:
            if not any(stage.kind == kind.name for stage in view.known.values()):
                kind.plan(view)
    own = tuple(stage for stage in making.stages if stage.pipeline == composed.name)
    return Plan(
        recipe=composed.name,
        overrides=composed.overrides,
        shared=tuple(
            Pipeline(stage.pipeline, (stage,)) for stage in making.stages if stage not in own
        ),
        own=Pipeline(
            composed.name,
            own,
            sources=tuple(
                project.shown(path) for path in composed.files if path.is_relative_to(project.root)
            ),
            folders=glob_folders(rows),
            runtime=_cosmetic(recipe, making.values),
        ),
        origins=origins_of(composed),
        effective=making.values,
        files={
            path: file_hash(project.root / path, "sha256")
            for stage in making.stages
            for path in stage.files
        },
        members={
            name: {own: stage.address for own, stage in {**making.known, **view.known}.items()}
            for name, view in making.members.items()
            if name
        },
    )


def _looked_over(project: Project, composed: Composed) -> Making:
    """The recipe with its files followed, and its base; raises all that is wrong with it at once.

    What is refused by policy is named first.
    """
    wrong: list[SlmcompileError] = [*wrong_names(composed)]
    making = Making(project, composed)
    try:
        KINDS["base"].plan(making)
    except SlmcompileError as error:
        wrong.append(error)
    try:
        making.composed = with_default_gates(_with_files_followed(project, composed))
    except SlmcompileError as error:
        wrong.insert(len(wrong) - (not making.stages), error)
    if wrong:
        raise all_of(sorted(wrong, key=lambda error: error.code != Exit.REFUSED))
    return making


def _with_files_followed(project: Project, composed: Composed) -> Composed:
    """Globs are followed once, here: what reads the recipe later reads the same files."""
    if composed.earlier is not None:
        composed = replace(composed, earlier=_with_files_followed(project, composed.earlier))
    taken = {name: _with_files_followed(project, each) for name, each in composed.taken.items()}
    composed = replace(composed, taken=taken)
    return composed.with_data(
        {
            name: view.recipe.data.with_sources(
                [followed(project, part, view) for part in view.recipe.data.parts]
            )
            for name, view in composed.members.items()
        }
    )


def _cosmetic(recipe: Recipe, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``exec`` may read beside a spec: settings that cannot change a result."""
    cosmetic = cosmetic_names(type(recipe.train))
    return {
        "train": {key: value for key, value in values["train"].items() if key in cosmetic},
        "track": values["track"],
        "device": values["device"],
        "targets": list(recipe.target),
    }


def same_packages(plan: Plan) -> bool:
    """Whether the packages that a plan names are the ones that are installed now."""
    named = {name: found for stage in plan.stages() for name, found in stage.packages.items()}
    return named == versions(*named)
