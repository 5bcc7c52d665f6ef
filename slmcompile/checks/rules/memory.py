"""The rule over memory: an interval for each kind of stage that holds the model."""

from __future__ import annotations

from dataclasses import replace

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.estimate.peak import GB, Memory, predict, shown
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS


@check(
    7,
    "fits-memory",
    "out of memory after an hour of training, or only when it is evaluated or exported",
    needs=("H", "D", "M"),
    code=Exit.MISSING,
)
def fits_memory(context: CheckContext) -> Verdict:
    """Refuted if even the lower bound exceeds the device, proved if the upper one fits."""
    if context.idle(*_TOLD):
        return proved("nothing is left to train, evaluate or build")
    if architecture_of(context) is None:
        return needs_probe(context.base_stage, "the model's shapes are known by then")
    found, limit = predict(context), context.device.memory_bytes
    train_stage = f"{context.name}/train"
    if found is None:
        return needs_probe(train_stage, "config.json does not name the sizes of its layers")
    told = (f"{_TOLD[kind]} {shown(amount)}" for kind, amount in found.by_kind.items())
    figures = ", ".join(told)
    if limit is None:
        return needs_probe(train_stage, f"{figures}; the device's memory is not known")
    source = "stated" if context.device.stated else "detected"
    figures = f"{figures}; the device has {limit / GB:.1f} GB ({source})"
    peak = found.peak_of(context)
    if peak.low > limit:
        return refuted(figures, *_mend_of(context, found, limit))
    if peak.high <= limit:
        return proved(figures)
    if context.data is None:
        return needs_probe(context.data_stage, f"{figures}; the longest batch is known by then")
    return needs_probe(train_stage, f"may not fit: {figures}")


_TOLD = {
    "train": "training",
    "answer": "evaluation",
    "quantize": "quantising the base",
    "probe": "measuring what 4 bits cost",
    "export": "exporting",
    "candidate": "building candidates",
    "measure": "measuring candidates",
}
"""Kinds of stages that hold the model, and what each does."""


def _mend_of(context: CheckContext, found: Memory, limit: int) -> tuple[str, str]:
    """The mend, and where, for the first stage that cannot fit."""
    over = (k for k, of in found.by_kind.items() if of.low > limit and not context.idle(k))
    kind = next(over)
    if kind == "train":
        return _mend(context, limit), _where(context, "train")
    if kind in {"answer", "measure"}:
        mend = "set a smaller eval.batch_size, or take a smaller model"
        return mend, _where(context, "eval.batch_size")
    building = found.building[kind]
    target = max(building, key=lambda name: building[name].low)
    mend = f"export on a larger device, take a smaller model, or leave out target.{target}"
    return mend, _where(context, f"target.{target}")


def _mend(context: CheckContext, limit: int) -> str:
    train = context.recipe.train
    if METHODS[train.method].writes == "model":
        return "train an adapter: train=lora; or take a smaller model or a larger device"
    if not train.gradient_checkpointing and _fits(context, limit, gradient_checkpointing=True):
        return "set train.gradient_checkpointing=true"
    if _fits(context, limit, per_device_train_batch_size=1):
        return (
            f"set train.per_device_train_batch_size below {train.per_device_train_batch_size} and"
            " raise train.gradient_accumulation_steps"
        )
    return "take a smaller model or a larger device: one row at a time would not fit either"


def _fits(context: CheckContext, limit: int, **changed: int) -> bool:
    """Whether it might fit with other settings of ``train``."""
    train = context.recipe.train.model_copy(update=changed)
    recipe = context.recipe.model_copy(update={"train": train})
    found = predict(replace(context, recipe=recipe))
    return found is not None and found.training.low <= limit


def _where(context: CheckContext, key: str) -> str:
    """The device's key where it is stated: it alone may be what is wrong."""
    if context.device.stated:
        return context.at("device.memory_gb")
    if key != "train":
        return context.at(key)
    full = METHODS[context.recipe.train.method].writes == "model"
    return context.at("train.method" if full else "train.per_device_train_batch_size")
