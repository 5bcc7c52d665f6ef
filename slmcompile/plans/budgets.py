"""Targets whose precision is chosen: what is chosen among, and what the choice must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.sections import typed
from slmcompile.providers.keys import OF_THE_CHOICE, Budget, Target

if TYPE_CHECKING:
    from slmcompile.recipe.schema import Recipe

DROP = 0.03
"""Share of a metric's span that a quantised model may fall by, where nobody says what."""

CHOICE = "choose"
"""What the choice is called among the inputs of the export that it is about."""

OF_CANDIDATE = "candidate-"
"""What stands before a candidate's name among the inputs of whoever reads it."""


def auto_targets(recipe: Recipe) -> dict[str, Target]:
    """Targets whose precision is chosen, by name."""
    return {name: target for name, target in sorted(recipe.target.items()) if target.is_auto}


def candidate_name(target: str, candidate: str) -> str:
    """What a candidate's stages are of."""
    return f"{target}-{candidate}"


def leading(recipe: Recipe) -> Metric | None:
    """The first metric of a plain recipe that tells that answers are right; None of plain text."""
    return next((METRICS[name] for name in recipe.eval.metrics if _leads(METRICS[name])), None)


def _leads(metric: Metric) -> bool:
    return metric.of_task and metric.higher_is_better and metric.bounded


def usual_drop(metric: Metric) -> float:
    """By how much a metric with a largest value may fall where nobody says it."""
    return round(DROP * (metric.span or 0.0), 4)


def resolved(recipe: Recipe, target: Target) -> Budget | None:
    """A target's budget with the metric and the drop that hold where it names none.

    None where there is no such metric, or no such drop of it.
    """
    budget = target.budget or Budget()
    metric = METRICS[budget.metric] if budget.metric else leading(recipe)
    if metric is None or (budget.max_drop is None and not metric.bounded):
        return None
    drop = usual_drop(metric) if budget.max_drop is None else budget.max_drop
    return budget.model_copy(update={"metric": metric.name, "max_drop": drop})


def keys_of(target: Target) -> dict[str, Any]:
    """What a stage that builds one reads of it: not how it came to be built."""
    values: Mapping[str, Any] = typed(target, target.model_dump(mode="json"))
    return {k: v for k, v in values.items() if k not in OF_THE_CHOICE}
