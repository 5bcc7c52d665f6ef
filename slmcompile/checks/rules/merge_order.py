"""Check 11: merge first, into full precision; then quantise; then ONNX.

What does not merge goes into the graph last, in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.plans.definition import Stage


@check(
    11,
    "merge-before-quantising",
    "an adapter merged into quantised weights is rounded away, and the artifact is worse for it",
    needs=("C", "H"),
)
def merge_before_quantising(context: CheckContext) -> Verdict:
    """Every export reads the base as it was fetched and what was trained, and quantises last.

    A base whose weights are quantised is refused here if its files can be read, and by the base
    stage otherwise; the 4-bit base of QLoRA exists in the train stage alone and is no output.
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
    kinds = {stage.address: stage.kind for stage in plan.stages()}
    exports = plan.of("export")
    for stage in exports:
        if why := _out_of_order(kinds, stage):
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
    beside = [stage for stage in exports if "quantized" in stage.inputs]
    if beside:
        merged = len(exports) - len(beside)
        trained = "trained over it and kept" if context.recipe.train.over else "kept"
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


def _out_of_order(kinds: Mapping[str, str], export: Stage) -> str:
    """What is wrong with the order of an export's inputs; empty where nothing is."""
    read = {role: kinds.get(address, "") for role, address in export.input_stages.items()}
    for role in ("base", "train"):
        if read.get(role) != role:
            return f"does not read the {role} stage's output"
    if "export" in read.values():
        return "reads what another export has quantised"
    return ""
