"""``score``: the answers of all artifacts become metrics, in seconds and without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.metrics import METRICS
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.metric_inputs import metric_inputs

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
    read = metric_inputs(making, wanted, "eval.metrics")
    making.add(
        "score",
        {
            "metrics": list(recipe.eval.metrics),
            "task": recipe.data.task,
            "label": recipe.data.label,
            "label_steps": list(recipe.data.label_steps),
            "labelled": recipe.data.labelled,
            **read.config,
        },
        {
            "metrics": "eval.metrics",
            "task": "data.task",
            "label": "data.label",
            "label_steps": "data.normalize_labels",
            "labelled": "data.label",
            **read.reads,
        },
        versions("numpy") | dict(read.packages),
        {
            "data": making.stage("data"),
            **{stage.role: stage for stage in answers},
            **{kind: making.stage(kind) for metric in wanted for kind in metric.stages},
        },
        metrics=tuple(making.metrics(stage.artifact) for stage in answers),
        files=read.files,
        names=read.names,
        epochs=read.epochs,
    )


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
