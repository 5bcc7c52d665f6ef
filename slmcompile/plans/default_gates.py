"""The bar of a target that no gate of the recipe is about, so that no broken model ships unseen.

Weights in floating point need none: an export of them that predicts other tokens than torch fails.
Quantised ones are judged by the task, which nobody may have thought of: the first metric of
``eval.metrics`` that tells that answers are right may fall by three points of its span. On few rows
one answer is more than that, so what chance explains passes: nobody has chosen this bar, and a
broken model loses more. Where no metric tells, as of plain text, there is no bar. A target that was
chosen by a budget is held to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from slmcompile.console.errors import BadRecipeError
from slmcompile.plans.budgets import leading, resolved, usual_drop
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.schema import MOST_GATES, Gate

_FLOAT = ("fp", "bf", "f16")


def with_default_gates(composed: Composed) -> Composed:
    """The recipe with a gate on every quantised target that has none, unless it wants none.

    Raises:
        BadRecipeError: there would be too many (exit 78).
    """
    whole = composed.whole
    gates = (*whole.gates, *_missing(composed)) if whole.default_gates else whole.gates
    if len(gates) > MOST_GATES:
        raise BadRecipeError(
            f"{composed.name}: {len(gates)} gates with those of targets that have none, of at most"
            f" {MOST_GATES}",
            "name fewer adapters or targets, or write default_gates: false",
        )
    return replace(composed, whole=whole.model_copy(update={"gates": gates}))


def _missing(composed: Composed) -> Iterator[Gate]:
    for member, view in composed.members.items():
        recipe = view.recipe
        gated = {gate.artifact for gate in recipe.gates}
        first = leading(recipe)
        usual = (first.name, usual_drop(first)) if first else None
        for name, target in recipe.target.items():
            bar = usual
            if target.is_auto and (budget := resolved(recipe, target)):
                # What was chosen by on validation rows is confirmed on the others.
                bar = str(budget.metric), float(budget.max_drop or 0.0)
            if bar and name not in gated and not target.precision.startswith(_FLOAT):
                yield Gate(
                    adapter=member or None,
                    metric=bar[0],
                    artifact=name,
                    max_drop=bar[1],
                    beyond_chance=True,
                )
