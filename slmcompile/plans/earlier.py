"""The training that another goes on from, as a stage of the plan.

It is the other recipe's train stage over again, in a pipeline of its own as base and data are:
``train-earlier-1a2b3c4d``. Its spec is that stage's, so it is the same work under another name, and
whichever of the two runs first, the other takes what it finds finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from slmcompile.console.errors import BadRecipeError
from slmcompile.hub.commit import settled
from slmcompile.losses import LOSSES
from slmcompile.methods.continuing import cannot_continue
from slmcompile.plans.definition import Stage, with_all_they_read
from slmcompile.recipe.continued import KEY

if TYPE_CHECKING:
    from slmcompile.plans.kinds.train import Asked
    from slmcompile.plans.making import Making
    from slmcompile.recipe.compose import Composed

ROLE = "earlier"
"""What it is called among the inputs of the stage that goes on from it."""


def with_earlier(composed: Composed | None) -> Iterator[Composed]:
    """A recipe, the one that it goes on from, and so on; and those whose adapters it takes."""
    while composed is not None:
        yield composed
        for each in composed.taken.values():
            yield from with_earlier(each)
        composed = composed.earlier


def origins_of(composed: Composed) -> dict[str, str]:
    """Where each key came from; those of the recipe that it goes on from below ``KEY``."""
    found = {".".join(keys): where for keys, where in composed.origins.items()}
    if composed.earlier is not None:
        above = origins_of(composed.earlier)
        found = {f"{KEY}.{key}": where for key, where in above.items()} | found
    return found


def earlier(making: Making) -> dict[str, Stage]:
    """The stage, as an input; none where training begins from the base alone.

    Raises:
        BadRecipeError: it has another base or trains something else (exit 78).
    """
    from slmcompile.plans.kinds import KINDS
    from slmcompile.plans.kinds.train import asked
    from slmcompile.plans.making import Making as Plain

    before = making.composed.earlier
    if before is None:
        return {}
    # It has no stage of this recipe's own, and what they share is there already.
    other = Plain(making.project, before)
    for kind in ("base", "data", "quantize"):
        KINDS[kind].plan(other)
    name, train = before.name, making.recipe.train
    reason = cannot_continue(train, other.recipe.train)
    if other.stage("base").address != making.stage("base").address:
        reason = "it has another base model, and so other weights"
    elif not all(settled(part.source) for part in other.recipe.data.parts):
        # The rules that judge this recipe look at its own data.
        reason = f"its data is of no commit; run `slmcompile lock {name}`"
    elif LOSSES[other.recipe.train.loss.type].code:
        # And so does the policy, which names the code that this recipe executes.
        reason = "its loss is code of the project, which only its own runs execute"
    if reason:
        where = making.composed.origin(("train", "continue_from"))
        raise BadRecipeError(
            f"{where}: {KEY}: cannot go on from {name}: {reason}",
            f"train alike, or take {KEY} out",
        )
    stage = again(other, asked(other))
    there = {each.address for each in making.stages}
    read = with_all_they_read([stage.address], other.stages)
    for each in other.stages:
        # Bases of its other targets are nothing to its training.
        if each.address in read - there:
            # Not keys of this recipe: what changes there is told below the key that names it.
            reads = {own: f"{KEY}.{key}" for own, key in each.reads.items()}
            making.stages.append(replace(each, reads=reads))
    return {ROLE: stage}


def again(making: Making, of: Asked) -> Stage:
    """A recipe's training as a stage that others share, of which its own is the same work."""
    return making.add_shared(
        "train",
        of.config,
        of.reads,
        of.packages,
        of.inputs,
        of.files,
        of.names,
        artifact=ROLE,
        epochs=of.epochs,
        measured=True,
    )
