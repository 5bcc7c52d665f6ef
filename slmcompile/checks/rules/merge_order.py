"""Check 11: merge first, into full precision; then quantise; then ONNX.

What does not merge goes into the graph last, in fp32.
"""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.budgets import CHOICE
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER


@check(
    11,
    "merge-before-quantising",
    "an adapter merged into quantised weights is rounded away, and the artifact is worse for it",
    needs=("C", "H"),
)
def merge_before_quantising(context: CheckContext) -> Verdict:
    """Every export merges into the base as it was fetched and quantises last, or merges nothing.

    An adapter that was trained over a quantised base stands beside that base, or beside one that is
    made of its weights. A base whose weights were quantised before is refused here if its files can
    be read, and by the base stage otherwise; the 4-bit base of QLoRA exists in the train stage
    alone and is no output.
    """
    if context.model is not None and context.model.config.get("quantization_config"):
        return refuted(
            f"{context.model.where}: its weights are quantised already",
            "name the model that it was quantised from",
            context.at("model.source"),
        )
    if refusal := _into_quantised(context):
        return refusal
    plan = context.plan
    if plan is None:
        return proved("the base's weights are not quantised; the order was judged with the plan")
    # What is chosen is one of the candidates as it is.
    exports = [each for each in plan.of("export") if CHOICE not in each.inputs]
    exports += plan.of("candidate")
    for stage in (*exports, plan.stage("answer", TUNED)):
        if why := _out_of_order(plan, stage) or _over_another(plan, stage):
            return refuted(
                f"{stage.address} {why}",
                "report this; it is a fault of slmcompile and not of the recipe",
                code=Exit.BUG,
            )
    count = f"{len(exports)} export{'' if len(exports) == 1 else 's'}"
    method = METHODS[context.recipe.train.method]
    if method.writes == "model":
        return proved(f"{count}: trained weights, then quantised, then ONNX; nothing to merge")
    if "merged" not in method.forms:
        return proved(
            f"{count}: the base quantised, then a {method.name} adapter in fp32 into the graph"
            " beside it; it does not merge"
        )
    beside = [stage for stage in exports if BASE_ALONE in stage.inputs]
    if beside:
        merged = len(exports) - len(beside)
        trained = "trained over it and kept" if OVER in beside[0].inputs else "kept"
        others = f"; {merged} merged into the base in fp32, then quantised" if merged else ""
        return proved(
            f"{len(beside)} export{'s' * (len(beside) > 1)}: the base quantised first, the adapter"
            f" {trained} in fp32 beside it, never merged{others}"
        )
    quantised = method.memory.read_as(context.recipe.train) is None
    apart = "; the 4-bit base is there in training alone" if quantised else ""
    return proved(f"{count}: merged into the base in fp32, then quantised, then ONNX{apart}")


def _into_quantised(context: CheckContext) -> Verdict | None:
    """The refusal of a merge into the quantised weights that an adapter was trained over."""
    if context.recipe.train.over is None:
        return None
    for name, target in context.recipe.target.items():
        if target.adapters == "merged":
            return refuted(
                f"target.{name} merges an adapter that train.over has trained over quantised"
                " weights",
                f"take target.{name}.adapters out, or train.over",
                context.at(f"target.{name}.adapters"),
            )
    return None


def _out_of_order(plan: Plan, stage: Stage) -> str:
    """What is wrong with the order of an artifact's inputs; empty where nothing is."""
    kinds = {each.address: each.kind for each in plan.stages()}
    read = {role: kinds.get(address, "") for role, address in stage.input_stages.items()}
    for role in ("base", "train"):
        if read.get(role) != role:
            return f"does not read the {role} stage's output"
    if "export" in read.values():
        return "reads what another export has quantised"
    return ""


def _over_another(plan: Plan, stage: Stage) -> str:
    """What of an artifact is over other weights than was trained; empty where nothing is."""
    by_address = {each.address: each for each in plan.stages()}
    read = stage.input_stages
    over = by_address[read["train"]].input_stages.get(OVER)
    fetched = "the fetched base"
    if read.get(OVER) != over:
        return f"is over {read.get(OVER) or fetched}, what is trained over {over or fetched}"
    held = by_address[read[BASE_ALONE]] if BASE_ALONE in read else None
    if stage.kind == "export" and over and held is None:
        return f"merges what was trained over {over}"
    if held is not None and over not in {held.address, held.input_stages.get(OVER)}:
        return f"ships {held.address}, which is not made of {over or fetched}"
    return ""
