"""The rule over disk: room for everything a run writes, before it writes any of it.

Sizes follow from parameters; nothing is measured. DVC hard-links its cache to the outputs
(``.dvc/config``), so an artifact counts once.
"""

from __future__ import annotations

from dataclasses import dataclass

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.estimate.trainable import trainable, unmerged
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods.keys import Train
from slmcompile.plans.beside import stands_beside
from slmcompile.providers import PROVIDERS
from slmcompile.shapes.architecture import Architecture, Trainable

GB = 1e9


@dataclass(frozen=True)
class Disk:
    """Bytes by what they are for.

    Attributes:
        base: the base model's folder.
        quantized: bases of targets that adapters stand beside.
        quantizing: in full precision, what those are made from; gone before training.
        checkpoints: all that are kept at once, with the one that is being written.
        trained: adapter or model that training writes.
        copy: in full precision, what a merged export is made from; gone afterwards.
        exports: all exported folders.
    """

    base: float
    quantized: float
    quantizing: float
    checkpoints: float
    trained: float
    copy: float
    exports: float

    @property
    def needed(self) -> float:
        """Largest sum at any time: checkpoints are gone before the first export begins."""
        behind = self.trained + max(self.checkpoints, self.copy + self.exports)
        return self.base + self.quantized + max(self.quantizing, behind)


def disk_of(context: CheckContext, model: Architecture) -> Disk:
    """What the stages write that are left to run; what is there already takes no more room.

    Of adapters that are trained together all are counted.
    """
    recipe = context.recipe
    # The check stage, which knows no plan, runs behind the base stage and may behind the others'.
    unknown = context.plan is None
    base_is_there = unknown or context.idle("base")
    quantizes = not (unknown or context.idle("quantize"))
    trains, exports = not context.idle("train"), not context.idle("export", "candidate")
    trainings = [each.recipe.train for each in (context, *context.trained_with)]
    found = [trainable(train, model) for train in trainings]
    copy = 4.0 * model.parameters
    targets = quantized = copied = 0.0
    for name, target in recipe.target.items():
        # What is chosen is one of the candidates by a second name.
        weights = sum(PROVIDERS[t.execution_provider].bytes(t, model) for t in target.built)
        if stands_beside(recipe, name):
            quantized += weights
            targets += weights + 4.0 * sum(each.adapter for each in found)
        else:
            copied = copy
            targets += sum(weights + 4.0 * unmerged(train, model) for train in trainings)
            for own in target.trained_for.values():
                quantized += PROVIDERS[own.execution_provider].bytes(own, model)
                targets += 4.0 * sum(each.adapter for each in found)
    # One behind the other, so that checkpoints of one are there at a time.
    runs = 1 + sum(len(target.trained_for) for target in recipe.target.values())
    return Disk(
        base=0 if base_is_there else model.stored_bytes,
        quantized=quantized if quantizes else 0,
        quantizing=copy if quantizes and quantized else 0,
        checkpoints=sum(map(_checkpoints, trainings, found)) if trains else 0,
        trained=4.0 * runs * sum(each.parameters for each in found) if trains else 0,
        copy=copied if exports else 0,
        exports=targets if exports else 0,
    )


def _checkpoints(train: Train, found: Trainable) -> float:
    """Masters, two moments and the best masters so far, all fp32; one more while it is written."""
    best = 1 if train.load_best_model_at_end else 0
    return (train.save_total_limit + 1) * (3 + best) * 4.0 * found.parameters


@check(
    29,
    "fits-disk",
    "the disk fills up after training, when checkpoints, merge or exports are written",
    needs=("H",),
    code=Exit.MISSING,
)
def fits_disk(context: CheckContext) -> Verdict:
    """Free space against the least that a run writes."""
    if context.idle("base", "quantize", "train", "export", "candidate"):
        return proved("nothing is left to fetch, train or export")
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the model's size is known by then")
    sizes = disk_of(context, model)
    free = context.device.disk_bytes
    figures = (
        f"{_gb(sizes.needed)} needed at the fullest moment (base"
        f" {_gb(sizes.base + sizes.quantized)}, checkpoints"
        f" {_gb(sizes.checkpoints)}, trained {_gb(sizes.trained)},"
        f" full-precision copy {_gb(max(sizes.quantizing, sizes.copy))},"
        f" exports {_gb(sizes.exports)})"
    )
    if free is None:
        return needs_probe(context.check_stage, f"{figures}; free space is not known")
    if sizes.needed <= free:
        return proved(f"{figures}; {_gb(free)} free")
    return refuted(
        f"{figures}; {_gb(free)} free",
        _mend(context, sizes),
        context.at("train.save_total_limit" if _checkpoints_weigh(sizes) else "target"),
    )


def _checkpoints_weigh(sizes: Disk) -> bool:
    return sizes.checkpoints > sizes.copy + sizes.exports


def _mend(context: CheckContext, sizes: Disk) -> str:
    free = "free some space (`dvc gc --workspace`)"
    if _checkpoints_weigh(sizes):
        few = context.recipe.train.save_total_limit == 1
        return free if few else f"set train.save_total_limit=1, or {free}"
    for name, target in context.recipe.target.items():
        if sizes.exports and target.is_auto:
            return f"list fewer candidates, under target.{name}.candidates, or {free}"
    several = sizes.exports and len(context.recipe.target) > 1
    return f"name fewer targets, or {free}" if several else free


def _gb(amount: float) -> str:
    return f"{amount / GB:.2f} GB" if amount >= GB / 100 else f"{amount / 1e6:.1f} MB"
