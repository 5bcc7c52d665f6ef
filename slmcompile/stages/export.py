"""``export``: base and what was trained become a folder that its runtime opens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.store import Row, open_split
from slmcompile.files.second_name import link_or_copy
from slmcompile.plans.budgets import CHOICE, OF_CANDIDATE
from slmcompile.plans.definition import stage_name
from slmcompile.plans.kinds.probe import PROBE
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.recipe.schema import target_section
from slmcompile.shapes.sizes import PARITY_ROWS
from slmcompile.stages.choice import read_choice
from slmcompile.stages.context import Context, Result
from slmcompile.stages.lineage import require_trained_over
from slmcompile.stages.probe import read_probes
from slmcompile.training.outputs import trained_weights


def run(context: Context) -> Result:
    """Merges or inserts, exports and measures how far the export's logits lie from torch's."""
    if BASE_ALONE in context.inputs:
        return _told(context, _beside(context))
    if CHOICE in context.inputs:
        return Result(info=_chosen(context))
    from slmcompile.export.export import export

    require_trained_over(context)
    data = context.inputs["data"]
    info = export(
        target_section(context.config["target"]),
        context.inputs["base"],
        trained_weights(context.inputs["train"]),
        data / "prompt.json",
        _compared(data),
        context.out,
        context.empty_scratch(),
        context.progress,
        _calibration(target_section(context.config["target"]), data),
        read_probes(context.inputs[PROBE]) if PROBE in context.inputs else None,
    )
    return _told(context, info)


def _told(context: Context, info: Mapping[str, Any]) -> Result:
    """With what whoever ships the folder has to know of it."""
    from slmcompile.export.graphs import graphs

    made_of = graphs(context.out)
    packages = dict(context.spec.get("packages", {}))
    return Result(info={**info, "packages": packages, **({"graphs": made_of} if made_of else {})})


def _calibration(target: Target, data: Path) -> list[Row]:
    """Rows of training, from all over the split, for a builder that takes ranges from them."""
    wanted = PROVIDERS[target.execution_provider].calibration_rows(target)
    rows: Sequence[Row] = open_split(data, "train") if wanted else ()
    count = min(wanted, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def _chosen(context: Context) -> dict[str, Any]:
    """The candidate that was chosen, by second names of its files; what its manifest says of it."""
    name = read_choice(context.inputs[CHOICE])
    role = f"{OF_CANDIDATE}{name}"
    folder, manifest = context.inputs[role], context.manifests[role]
    for file in manifest["files"]:
        # DVC may have left a link into its cache.
        link_or_copy(os.path.realpath(folder / file), context.out / file)
    context.progress.say(f"{name} was chosen: taken from {folder.name}")
    return {**manifest["info"], "chosen": name}


def _beside(context: Context) -> dict[str, Any]:
    """All of a recipe's adapters in one folder, or its one, beside the base that is there."""
    from slmcompile.export.beside import Standing, export_beside

    standing = []
    for name in context.config.get("members", [""]):
        require_trained_over(context, name)
        data = context.inputs[stage_name("data", member=name)]
        trained = trained_weights(context.inputs[stage_name("train", member=name)])
        standing.append(Standing(name, trained, data / "prompt.json", _compared(data)))
    return export_beside(
        target_section(context.config["target"]),
        context.inputs["base"],
        context.inputs.get(OVER),
        context.inputs[BASE_ALONE],
        standing,
        context.out,
        context.progress,
    )


def _compared(data: Path) -> list[Row]:
    """Of several sources prompts of the one that the artifact is served with.

    Those first in which a value spells a control token.
    """
    served = json.loads((data / "prompt.json").read_text(encoding="utf-8")).get("source", "")
    rows = [row for row in open_split(data, "test") if row.source == served]
    return sorted(rows, key=lambda row: not row.prompt_cuts)[:PARITY_ROWS]
