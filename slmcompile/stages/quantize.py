"""``quantize``: the base model becomes a target's ONNX base, beside which adapters stand."""

from __future__ import annotations

from slmcompile.plans.kinds.quantize import OVER
from slmcompile.recipe.schema import target_section
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Builds it, and proves that the weights it multiplies with can be read back."""
    from slmcompile.export.quantize import quantize

    info = quantize(
        target_section(context.config["target"]),
        context.inputs["base"],
        context.inputs.get(OVER),
        context.out,
        context.empty_scratch(),
        context.progress,
    )
    return Result(info=info)
