"""``train``: base weights and tokenized rows become an adapter, or a model of its own.

``adapter/`` comes of the methods that train beside the base, ``model/`` (the hub's layout) of those
that train it. Which of the two is there tells the stages behind this one what they have. Of several
adapters that are trained together each lies in ``adapters/``, by its name, with a manifest of its
own: what the stages behind it read is its alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slmcompile.files.artifact import write_json
from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.metrics import METRICS
from slmcompile.models.adapter import CONFIG_FILE
from slmcompile.models.merge import METHOD_FILE
from slmcompile.plans.answered_validation import SECTION
from slmcompile.plans.definition import of_member
from slmcompile.plans.earlier import ROLE
from slmcompile.plans.kinds.quantize import OVER
from slmcompile.plans.plugins import require_planned
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import train_section
from slmcompile.scoring.records import Asked, beside
from slmcompile.stages.adapter_identity import adapter_folder, identities, sign
from slmcompile.stages.context import Context, Result
from slmcompile.stages.lineage import lineage
from slmcompile.stages.track import stage_tracker
from slmcompile.state.scratch import scratch_beside
from slmcompile.training.group import Member
from slmcompile.training.loop import train_together
from slmcompile.training.outputs import trained_weights
from slmcompile.training.record import COMPARABLE, IF_ASKED, TrainingRecord, TrainRuntime
from slmcompile.training.task_metric import Answering


def run(context: Context) -> Result:
    """Trains, keeps the best weights and tells the tracker how it went."""
    members = _group(context) if "members" in context.config else [_alone(context)]
    tracker = stage_tracker(context, "train", context.config)
    try:
        records = train_together(
            members,
            context.inputs["base"],
            TrainRuntime(**context.runtime.get("train", {})),
            context.progress,
            tracker.log,
            torch.device("cpu"),
            isolated=context.config.get("isolated", False),
            over=context.inputs.get(OVER),
        )
        for member in members:
            _sign(context, member)
            tracker.summary(_summary(member.name, records[member.name]))
    finally:
        tracker.finish()
    told = {name: record.to_json() for name, record in records.items()}
    compared = {
        name: {key: of[key] for key in (*COMPARABLE, *IF_ASKED) if key in of}
        for name, of in told.items()
    }
    if "" in told:
        return Result(
            info=lineage(context),
            metrics={"format_version": "2.0", **compared[""]},
            plots={"format_version": "1.0", **told[""]},
        )
    return Result(
        metrics={"format_version": "2.0", "members": compared},
        plots={name: {"format_version": "1.0", **of} for name, of in told.items()},
    )


def _alone(context: Context) -> Member:
    config, answering = _asked(context, context.config)
    weights = context.out / METHODS[config.method].writes
    weights.mkdir()
    _tell_code(context, config)
    return Member(
        "",
        config,
        context.inputs["data"],
        weights,
        context.scratch,
        context.fingerprint,
        context.project,
        answering,
        trained_weights(context.inputs[ROLE]) if ROLE in context.inputs else None,
    )


def _group(context: Context) -> list[Member]:
    found = []
    names = identities(context)
    for name, values in context.config["members"].items():
        out, identity = adapter_folder(context, name), names[name]
        out.mkdir(parents=True)
        scratch = scratch_beside(context.scratch, identity)
        config, answering = _asked(context, values)
        _tell_code(context, config)
        rows = of_member(context.inputs, name)["data"]
        found.append(Member(name, config, rows, out, scratch, identity, context.project, answering))
    return found


def _tell_code(context: Context, config: Train) -> None:
    """Says which file of the project is about to be executed."""
    if key := LOSSES[config.loss.type].code:
        context.progress.say(f"executes {getattr(config.loss, key)}, code of this project")


def _asked(context: Context, given: Mapping[str, Any]) -> tuple[Train, Answering | None]:
    """A train section, and how its validation split is answered where that decides."""
    values = dict(given)
    how = values.pop(SECTION, None)
    config = train_section(values)
    if how is None:
        return config, None
    metric = METRICS[config.metric_for_best_model]
    require_planned(Project(context.project), how.get("plugins", {}))
    return config, Answering(
        metric=metric,
        asked=Asked(how["task"], how["label"], how["label_steps"]),
        labelled=how["labelled"],
        seed=how["seed"],
        max_new_tokens=how["max_new_tokens"],
        batch_size=how["batch_size"],
        read=beside([metric], context.project, how, context.inputs),
        limit=config.eval_limit,
    )


def _sign(context: Context, member: Member) -> None:
    """Says what kind of adapter it is, and of a group's that it is whole."""
    config: Train = member.config
    peft = (member.out / CONFIG_FILE).is_file()
    if METHODS[config.method].writes == "adapter" and not peft:
        write_json(member.out / METHOD_FILE, {"method": config.method})
    if member.name:
        sign(context, member.out, member.identity)


def _summary(name: str, record: TrainingRecord) -> dict[str, Any]:
    """For a tracker: no curve, and nothing that was not measured."""
    whose = f"{name}/" if name else ""
    return {
        f"{whose}{key}": value
        for key, value in record.to_json().items()
        if key != "curve" and value is not None
    }
