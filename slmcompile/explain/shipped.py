"""What a recipe's artifacts are made of, where that is not the base merged with an adapter."""

from __future__ import annotations

from slmcompile.plans.definition import Plan
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER


def shipped_lines(plan: Plan) -> list[str]:
    """A sentence about what is trained over and what stands beside a base; none of merges alone."""
    exports = {stage.artifact: stage for stage in plan.of("export")}
    beside = [name for name, stage in exports.items() if BASE_ALONE in stage.inputs]
    # What this recipe goes on from may have been trained over another base.
    own = (stage for stage in plan.own.stages if stage.kind == "train")
    trained = {stage.inputs[OVER] for stage in own if OVER in stage.inputs}
    if not trained:
        names = ", ".join(beside)
        return [f"Adapters stay in fp32 beside the base of {names}."] if beside else []
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
