"""``candidate``: an export among which is chosen; one that cannot be built says so and is none."""

from __future__ import annotations

from slmcompile.base.facts import read_model_facts
from slmcompile.facts.architecture import architecture
from slmcompile.files.artifact import write_json
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.schema import target_section
from slmcompile.stages import export
from slmcompile.stages.answer import LEFT_OUT
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Builds it, unless the model's shapes do not allow it and the recipe does not name it."""
    target = target_section(context.config["target"])
    base = context.inputs["base"]
    facts = read_model_facts(base, str(base))
    found = None
    if facts is not None and context.config.get("may_be_left_out"):
        model = architecture(facts.config, facts.tensors, facts.dtypes)
        found = PROVIDERS[target.execution_provider].fault(target, model)
    if found is None:
        return export.run(context)
    _, reason = found
    context.progress.say(f"left out: {reason}")
    write_json(context.out / f"{LEFT_OUT}.json", {"format_version": "1.0", "reason": reason})
    return Result(info={LEFT_OUT: reason})
