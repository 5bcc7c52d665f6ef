"""``score``: the answers of all artifacts become metrics, in seconds and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.plugins import package_hash, project_files

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, which reads every ``answer`` stage."""
    recipe, answers = making.recipe, making.of("answer")
    wanted = [
        metric
        for metric in METRICS.values()
        if metric.name in recipe.eval.metrics or metric.always_of(recipe.data.task)
    ]
    plugins = sorted({metric.plugin for metric in wanted if metric.plugin})
    hashes = {plugin: package_hash(making.project, plugin) for plugin in plugins}
    installed = {plugin: known for plugin, known in hashes.items() if known}
    read = _files(making, wanted)
    making.add(
        "score",
        {
            **({"plugins": installed} if installed else {}),
            "metrics": list(recipe.eval.metrics),
            "task": recipe.data.task,
            "label": recipe.data.label,
            "label_steps": list(recipe.data.label_steps),
            "labelled": recipe.data.labelled,
            **read,
        },
        {
            "plugins": "eval.metrics",
            "metrics": "eval.metrics",
            "task": "data.task",
            "label": "data.label",
            "label_steps": "data.normalize_labels",
            "labelled": "data.label",
            **{key: f"eval.{key}" for key in read},
        },
        versions(
            "numpy", *installed, *(package for metric in wanted for package in metric.packages)
        ),
        {
            "data": making.stage("data"),
            **{stage.role: stage for stage in answers},
            **{kind: making.stage(kind) for metric in wanted for kind in metric.stages},
        },
        metrics=tuple(making.metrics(stage.artifact) for stage in answers),
        files=(
            *read.values(),
            *(path for plugin in plugins for path in project_files(making.project, plugin)),
        ),
        names=tuple(read),
        epochs=METRICS.raised(*(metric.name for metric in wanted)),
    )


def _files(making: Making, wanted: Sequence[Metric]) -> dict[str, str]:
    """Project files that metrics read, by their keys of ``eval``."""
    # Beside the project's files lies the policy, which whoever only runs a stage does without.
    from slmcompile.plans.project_files import inside

    found: dict[str, str] = {}
    for key in dict.fromkeys(metric.file for metric in wanted if metric.file):
        where = f"{making.composed.origin(('eval', key))}: eval.{key}"
        found[key] = inside(making.project, getattr(making.recipe.eval, key), where)
    return found


ENTRIES = (
    Kind(
        name="score",
        verb="score",
        place=65,
        program="slmcompile.stages.score:run",
        plan=plan,
        joins="",
        epoch=2,
        instant=True,
    ),
)
