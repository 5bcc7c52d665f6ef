"""What ``train`` reads of the rest of a recipe where answers to the validation split decide.

Nothing where the loss does: such a spec says of validations what ``train`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import BadRecipeError
from slmcompile.methods.early_stopping import LOSS
from slmcompile.metrics import METRICS
from slmcompile.plans.metric_inputs import MetricInputs, metric_inputs

if TYPE_CHECKING:
    from slmcompile.plans.making import Making

SECTION = "validation"
"""Where it stands in the stage's config, beside the keys of ``train``."""
_METRIC = "train.metric_for_best_model"
_FOLDERS = frozenset({"base"})
"""Kinds of stages whose folders training reads."""


def answered_validation(making: Making) -> MetricInputs:
    """What is added to the ``train`` stage.

    Raises:
        BadRecipeError: the metric needs a file that is not named, or a stage that training does
            not have behind it (exit 78).
    """
    recipe = making.recipe
    if recipe.train.metric_for_best_model == LOSS:
        return MetricInputs()
    metric = METRICS[recipe.train.metric_for_best_model]
    where = f"{making.composed.origin(tuple(_METRIC.split('.')))}: {_METRIC}"
    if metric.file and getattr(recipe.eval, metric.file) is None:
        raise BadRecipeError(
            f"{where}: {metric.name} needs eval.{metric.file}",
            f"name a file of the project: eval.{metric.file}=PATH",
        )
    if missing := sorted({*metric.stages} - _FOLDERS):
        raise BadRecipeError(
            f"{where}: {metric.name} needs stage {', '.join(missing)}, which comes after training",
            "choose another metric",
        )
    values = making.values
    asked: Mapping[str, tuple[str, Any]] = {
        "task": ("data.task", values["data"]["task"]),
        "label": ("data.label", values["data"]["label"]),
        "label_steps": ("data.normalize_labels", list(recipe.data.label_steps)),
        "labelled": ("data.label", recipe.data.labelled),
        "seed": ("data.seed", recipe.data.seed),
        "max_new_tokens": ("eval.max_new_tokens", recipe.eval.max_new_tokens),
        "batch_size": ("eval.batch_size", recipe.eval.batch_size),
    }
    read = metric_inputs(making, [metric], _METRIC)
    own = {key: value for key, (_, value) in asked.items()} | dict(read.config)
    lies = {key: there for key, (there, _) in asked.items()} | dict(read.reads)
    return MetricInputs(
        config={SECTION: own},
        reads={f"{SECTION}.{key}": there for key, there in lies.items()},
        packages=read.packages,
        files=read.files,
        names=tuple(f"{SECTION}.{name}" for name in read.names),
        epochs=read.epochs,
    )
