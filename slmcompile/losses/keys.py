"""Keys of ``train.loss`` that several losses have; a loss's own stand beside its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from slmcompile.console.printable import shortened
from slmcompile.losses import LOSSES
from slmcompile.registry.markers import NameIn
from slmcompile.registry.section import Section

LossName = Annotated[str, NameIn(LOSSES), Field(description="Which loss.")]
_Label = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_Weight = Annotated[float, Field(gt=0, le=10_000)]
_TOLD = 3


class LossKeys(Section):
    """What is minimised, as a mean over the trained tokens of an effective batch."""

    type: LossName


class WeightedKeys(LossKeys):
    """Of a loss whose rows can count differently."""

    class_weights: dict[_Label, _Weight] = Field(
        default_factory=dict,
        max_length=1000,
        description="How much each trained token of a row with a label counts: {label: weight}, 1"
        " for every other row. What counts is how they stand to each other: they are divided by"
        " their mean over the trained tokens of the train split, so that the loss and the learning"
        " rate keep their scale.",
    )


def weights_in_words(values: Mapping[str, Any]) -> str:
    """``class weights off 5, on 1``; of many labels their number; empty without weights."""
    weights: Mapping[str, float] = values.get("class_weights") or {}
    if len(weights) > _TOLD:
        return f"class weights of {len(weights)} labels"
    told = ", ".join(f"{shortened(label, 40)} {weights[label]:g}" for label in sorted(weights))
    return f"class weights {told}" if told else ""
