"""``probe``: what 4 bits cost a trained model, group of weights by group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from slmcompile.console.errors import BadDataError
from slmcompile.data.sample import sample
from slmcompile.data.store import open_split
from slmcompile.files.artifact import write_json
from slmcompile.providers.cpu import CpuTarget
from slmcompile.recipe.schema import target_section
from slmcompile.stages.context import Context, Result
from slmcompile.stages.lineage import require_trained_over
from slmcompile.training.outputs import trained_weights

PROBES = "probes.json"


def run(context: Context) -> Result:
    """Measures it on the answers of validation rows, and writes it down."""
    from slmcompile.export.probe import ROWS, asked_of, probe
    from slmcompile.models.merge import load_merged

    require_trained_over(context)
    config = context.config
    validation = open_split(context.inputs["data"], "validation").counted()
    rows = sample(validation, ROWS, config["seed"], labelled=config["labelled"])
    if not rows:
        raise BadDataError(
            f"{context.inputs['data']}: no validation rows to measure 4 bits on",
            "add validation rows, or choose another precision",
        )
    model = load_merged(context.inputs["base"], trained_weights(context.inputs["train"]))
    rows = asked_of(rows, model.config.vocab_size)
    target = cast("CpuTarget", target_section(config["target"]))
    found = probe(model, rows, target.int4_block_size, context.progress)
    write_json(context.out / PROBES, {"format_version": "1.0", "rows": len(rows), **found})
    return Result()


def read_probes(folder: Path) -> dict[str, Any]:
    """What such a stage has written."""
    found: dict[str, Any] = json.loads((folder / PROBES).read_text(encoding="utf-8"))
    return found
