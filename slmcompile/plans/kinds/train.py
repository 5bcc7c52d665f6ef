"""``train``: base weights and tokenized rows become an adapter, or a model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.methods import METHODS
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage."""
    train, check = making.recipe.train, making.stage("check")
    making.add(
        "train",
        typed(train, making.values["train"]),
        {"": "train"},
        versions(*METHODS[train.method].packages, *OPTIMIZERS[train.optim].packages),
        {"base": making.stage("base"), "data": making.stage("data")},
        metrics=(making.metrics("train"),),
        plots=making.plots("train"),
        epochs=METHODS.raised(train.method) | OPTIMIZERS.raised(train.optim),
        # Its order alone: an edit that reruns the checks and passes them must not retrain.
        after={check.out: check.address},
    )


ENTRIES = (
    Kind(
        name="train",
        verb="train",
        place=40,
        program="slmcompile.stages.train:run",
        plan=plan,
        epoch=3,
        outdated="of an earlier model",
    ),
)
