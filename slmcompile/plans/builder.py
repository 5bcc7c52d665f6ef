"""Recipe → Plan: which stages there are, what each reads of the recipe, and how they connect.

Pure but for reading the bytes of the project files that stages depend on. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from slmcompile.console.errors import BadRecipeError, Exit, SlmcompileError, all_of
from slmcompile.files.file_hash import file_hash
from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import RESERVED, TUNED
from slmcompile.plans.data_files import followed, glob_folders
from slmcompile.plans.definition import OF_MEMBER, Pipeline, Plan
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.making import Making
from slmcompile.plans.sections import cosmetic_names
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
    rows = [part.source for part in composed.recipe.data.parts]
    making = _looked_over(project, composed)
    composed, recipe = making.composed, making.recipe
    for kind in KINDS.values():
        if not making.of(kind.name):
            kind.plan(making)
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
        origins={".".join(keys): where for keys, where in composed.origins.items()},
        effective=making.values,
        files={
            path: file_hash(project.root / path, "sha256")
            for stage in making.stages
            for path in stage.files
        },
    )


def _looked_over(project: Project, composed: Composed) -> Making:
    """The recipe with its files followed, and its base; raises all that is wrong with it at once.

    What is refused by policy is named first.
    """
    wrong: list[SlmcompileError] = [*_wrong_names(composed)]
    making = Making(project, composed)
    try:
        KINDS["base"].plan(making)
    except SlmcompileError as error:
        wrong.append(error)
    try:
        making.composed = _with_files_followed(project, composed)
    except SlmcompileError as error:
        wrong.insert(len(wrong) - (not making.stages), error)
    if wrong:
        raise all_of(sorted(wrong, key=lambda error: error.code != Exit.REFUSED))
    return making


def _with_files_followed(project: Project, composed: Composed) -> Composed:
    """Globs are followed once, here: what reads the recipe later reads the same files."""
    recipe = composed.recipe
    found = [followed(project, part, composed) for part in recipe.data.parts]
    data = recipe.data.with_sources(found)
    return replace(composed, recipe=recipe.model_copy(update={"data": data}))


def _wrong_names(composed: Composed) -> Iterator[BadRecipeError]:
    """Targets and gates that cannot be; one error a gate."""
    recipe = composed.recipe
    if not recipe.target:
        yield BadRecipeError(
            f"{composed.origin(('target',))}: target: no target is named",
            "name at least one, e.g. `- target: [cpu-int8]`",
        )
    for name in recipe.target:
        if name in RESERVED:
            yield BadRecipeError(
                f"{composed.origin(('target', name))}: target.{name}: the name is taken",
                f"choose a name other than {', '.join(sorted(RESERVED))}",
            )
        if OF_MEMBER in name:
            where = f"{composed.origin(('target', name))}: target.{name}"
            yield BadRecipeError(
                f"{where}: a name with {OF_MEMBER} in it",
                f"choose a name without it: {re.sub('-+', '-', name)}",
            )
    yield from _files_missing(composed)
    for index, gate in enumerate(recipe.gates):
        where = f"{composed.origin(('gates', str(index)))}: gates.{index}"
        known = [TUNED, *recipe.target]
        if gate.artifact not in known:
            yield BadRecipeError(
                f"{where}: no artifact is called {gate.artifact!r}",
                f"artifacts: {', '.join(known)}",
            )
        elif gate.metric not in recipe.eval.metrics and not METRICS[gate.metric].always_of(
            recipe.data.task
        ):
            yield BadRecipeError(
                f"{where}: {gate.metric} is not measured", f"add {gate.metric} to eval.metrics"
            )
        elif gate.min is None and gate.max is None and gate.max_drop is None:
            yield BadRecipeError(f"{where}: it has no bar", "give min, max or max_drop")
        elif gate.max_drop is not None and gate.artifact == TUNED:
            yield BadRecipeError(
                f"{where}: max_drop compares an export with the torch model",
                "name the export: artifact: cpu-int8",
            )


def _files_missing(composed: Composed) -> Iterator[BadRecipeError]:
    """Metrics whose file the recipe does not name."""
    section = composed.recipe.eval
    for index, name in enumerate(section.metrics):
        key = METRICS[name].file
        if key and getattr(section, key) is None:
            where = composed.origin(("eval", "metrics", str(index)))
            yield BadRecipeError(
                f"{where}: eval.metrics.{index}: {name} needs eval.{key}",
                f"name a file of the project: eval.{key}=PATH",
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
