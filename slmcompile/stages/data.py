"""``data``: rows become tokenized train, validation and test splits."""

from __future__ import annotations

import json

from slmcompile.recipe.policy import load_policy
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Data
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Reads, checks, renders, tokenizes and splits the rows."""
    from slmcompile.data.prepare import prepare

    config = Data.model_validate_json(json.dumps({"name": "data", **context.config}))
    base, roots = context.inputs["base"], load_policy(Project(context.project)).linked_roots
    info = prepare(config, context.project, base, context.out, context.progress, roots)
    return Result(info=info)
