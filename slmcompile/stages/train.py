"""``train``: base weights and tokenized rows become an adapter, or a model of its own.

``adapter/`` comes of the methods that train beside the base, ``model/`` (the hub's layout) of those
that train it. Which of the two is there tells the stages behind this one what they have.
"""

from __future__ import annotations

import torch

from slmcompile.files.artifact import write_json
from slmcompile.methods import METHODS
from slmcompile.models.adapter import CONFIG_FILE
from slmcompile.models.merge import METHOD_FILE
from slmcompile.recipe.schema import train_section
from slmcompile.stages.context import Context, Result
from slmcompile.stages.track import stage_tracker
from slmcompile.training.group import Member
from slmcompile.training.loop import train
from slmcompile.training.record import COMPARABLE, TrainRuntime


def run(context: Context) -> Result:
    """Trains, keeps the best weights and tells the tracker how it went."""
    config = train_section(context.config)
    cadence = context.runtime.get("train", {})
    tracker = stage_tracker(context, "train", context.config)
    weights = context.out / METHODS[config.method].writes
    weights.mkdir()
    try:
        record = train(
            Member(
                "", config, context.inputs["data"], weights, context.scratch, context.fingerprint
            ),
            context.inputs["base"],
            TrainRuntime(**cadence),
            context.progress,
            tracker.log,
            torch.device("cpu"),
        )
        if METHODS[config.method].writes == "adapter" and not (weights / CONFIG_FILE).is_file():
            write_json(weights / METHOD_FILE, {"method": config.method})
        whole = record.to_json()
        summary = {name: value for name, value in whole.items() if name != "curve"}
        tracker.summary({name: value for name, value in summary.items() if value is not None})
    finally:
        tracker.finish()
    return Result(
        metrics={"format_version": "2.0", **{name: whole[name] for name in COMPARABLE}},
        plots={"format_version": "1.0", **whole},
    )
