"""``base``: a pinned model source becomes a folder of safetensors, config and tokenizer."""

from __future__ import annotations

from pydantic import TypeAdapter

from slmcompile.recipe.schema import AnyModelSource
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Fetches the model; one of the two stages that may use the network."""
    from slmcompile.base.fetch import fetch

    source = TypeAdapter(AnyModelSource).validate_python(context.config["source"])
    return Result(info=fetch(source, context.project, context.out, context.progress))
