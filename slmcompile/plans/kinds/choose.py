"""``choose``: the smallest of a target's candidates that holds its budget on validation rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.budgets import OF_CANDIDATE, auto_targets, candidate_name, keys_of, resolved
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.measure import torch_of
from slmcompile.plans.metric_inputs import metric_inputs

if TYPE_CHECKING:
    from slmcompile.plans.making import Making
    from slmcompile.providers.keys import Target


def plan(making: Making) -> None:
    """One stage a target, which reads what was measured and no model."""
    recipe = making.recipe
    for name, target in auto_targets(recipe).items():
        budget = resolved(recipe, target)
        if budget is None or budget.metric is None:
            raise ValueError(f"target.{name}: a budget without a metric")  # refused before
        metric, key = METRICS[budget.metric], f"target.{name}.budget"
        read = metric_inputs(making, [metric], f"{key}.metric")
        asked = {
            "task": ("data.task", recipe.data.task),
            "label": ("data.label", recipe.data.label),
            "label_steps": ("data.normalize_labels", list(recipe.data.label_steps)),
        }
        own = f"choose-{name}" + (f"--{making.member}" if making.member else "")
        making.add(
            "choose",
            {
                "budget": budget.model_dump(mode="json"),
                "candidates": {label: _told(each) for label, each in target.among.items()},
                **{each: value for each, (_, value) in asked.items()},
                **read.config,
            },
            {
                "budget": key,
                "candidates": f"target.{name}.candidates",
                **{each: there for each, (there, _) in asked.items()},
                **read.reads,
            },
            versions("numpy") | dict(read.packages),
            {
                "data": making.stage("data"),
                TUNED: torch_of(making, budget.limit),
                **{
                    f"{OF_CANDIDATE}{label}": making.stage("measure", candidate_name(name, label))
                    for label in target.among
                },
                **{kind: making.stage(kind) for kind in metric.stages},
            },
            artifact=name,
            metrics=(making.metrics(own),),
            plots=(making.plots(own),),
            files=read.files,
            names=read.names,
            epochs=read.epochs,
        )


def _told(candidate: Target) -> dict[str, Any]:
    """What it is, for a report: its keys, and whether its adapter stands beside its base."""
    beside = {"adapters": candidate.adapters} if candidate.adapters else {}
    return {**keys_of(candidate), **beside}


ENTRIES = (
    Kind(
        name="choose",
        verb="choose",
        place=46,
        program="slmcompile.stages.choose:run",
        plan=plan,
        of_members=True,
        instant=True,
        plotted=("size_mb", ("nll",)),
        outdated="of an earlier choice",
    ),
)
