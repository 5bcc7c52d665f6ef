"""``train``: base weights and tokenized rows become an adapter, or a model of its own.

``adapter/`` (PEFT's format) comes of the methods lora and qlora, ``model/`` (the hub's layout) of
full. Which of the two is there tells the stages behind this one what they have.
"""

from __future__ import annotations

import json

from slmcompile.recipe.schema import Train
from slmcompile.stages.context import Context, Result
from slmcompile.stages.track import stage_tracker
from slmcompile.training.loop import train
from slmcompile.training.outputs import ADAPTER, MODEL
from slmcompile.training.record import COMPARABLE, TrainRuntime


def run(context: Context) -> Result:
    """Trains, keeps the best weights and tells the tracker how it went."""
    config = Train.model_validate_json(json.dumps(context.config))
    cadence = context.runtime.get("train", {})
    tracker = stage_tracker(context, "train", context.config)
    weights = context.out / (MODEL if config.lora is None else ADAPTER)
    weights.mkdir()
    try:
        record = train(
            config,
            context.inputs["base"],
            context.inputs["data"],
            weights,
            context.scratch,
            TrainRuntime(identity=context.fingerprint, **cadence),
            context.progress,
            tracker.log,
        )
        whole = record.to_json()
        summary = {name: value for name, value in whole.items() if name != "curve"}
        tracker.summary({name: value for name, value in summary.items() if value is not None})
    finally:
        tracker.finish()
    return Result(
        metrics={"format_version": "2.0", **{name: whole[name] for name in COMPARABLE}},
        plots={"format_version": "1.0", **whole},
    )
