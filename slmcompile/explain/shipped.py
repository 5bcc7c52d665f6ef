"""What a recipe's artifacts are made of, where that is not the base merged with an adapter."""

from __future__ import annotations

from slmcompile.methods import METHODS
from slmcompile.plans.definition import Plan
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER
from slmcompile.recipe.members import ADAPTERS, TAKEN_FROM


def shipped_lines(plan: Plan) -> list[str]:
    """What is trained over, what stands beside a base, and which adapters others train.

    Nothing of what is merged with an adapter of one's own.
    """
    return [*_made_of(plan), *_taken(plan)]


def _taken(plan: Plan) -> list[str]:
    adapters = plan.effective.get(ADAPTERS, {})
    return [
        f"{name} is the adapter of recipe {given[TAKEN_FROM]}, as that trains it."
        for name, given in adapters.items()
        if TAKEN_FROM in given
    ]


def _made_of(plan: Plan) -> list[str]:
    exports = {stage.artifact: stage for stage in plan.of("export")}
    beside = [name for name, stage in exports.items() if BASE_ALONE in stage.inputs]
    # What this recipe goes on from may have been trained over another base.
    trains = [plan.stage("train", member=name) for name in plan.members or [""]]
    trained = {stage.inputs[OVER] for stage in trains if OVER in stage.inputs}
    if not trained:
        names = ", ".join(beside)
        kept = f"Adapters stay in fp32 beside the base of {names}"
        return [f"{kept}{_trained_in_4_bits(plan, names)}."] if beside else []
    over = next(n for n, stage in exports.items() if stage.inputs[BASE_ALONE] in trained)
    precisions = {n: stage.config["target"]["precision"] for n, stage in exports.items()}
    others = [name for name in exports if name != over]
    are = "is" if len(others) == 1 else "are"
    kept = " and ".join(dict.fromkeys(precisions[name] for name in others))
    also = f"; {' and '.join(others)} {are} made of those weights too, in {kept}" if others else ""
    return [
        f"Trained over the weights that {over} holds, and kept in fp32 beside them: what is"
        f" measured as torch is what ships{also}."
    ]


def _trained_in_4_bits(plan: Plan, beside: str) -> str:
    """What of them a method trains over weights that no target holds; empty where none does."""
    sections = [view.effective["train"] for view in plan.views.values()]
    held = {METHODS[train["method"]].base_held_in(train) for train in sections} - {""}
    if not held:
        return ""
    kinds = " or ".join(sorted(held))
    return (
        f", and are trained over the base in {kinds}: weights that nothing ships (train=lora with"
        f" train.over learns over those of {beside})"
    )
