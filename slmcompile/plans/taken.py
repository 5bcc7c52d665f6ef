"""An adapter that another recipe trains stands over the very weights that it was trained over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.console.errors import BadRecipeError
from slmcompile.plans.beside import over_of
from slmcompile.recipe.members import ADAPTERS, TAKEN_FROM
from slmcompile.sources.keys import HubKeys

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def _same(one: HubKeys, other: HubKeys) -> bool:
    return one.repo_id.casefold() == other.repo_id.casefold()


def refuse_other_weights(making: Making) -> None:
    """Of a member's view whose adapter another recipe trains, its base and what is made of it.

    Raises:
        BadRecipeError: it is trained over another base model, or quantised otherwise (exit 78).
    """
    from slmcompile.plans.kinds import KINDS
    from slmcompile.plans.making import Making as Plain

    theirs = making.composed.taken[making.member]
    other = Plain(making.project, theirs)
    for kind in ("base", "quantize"):
        KINDS[kind].plan(other)
    over = over_of(theirs)
    reason, mend = "", ""
    if other.stage("base").address != making.stage("base").address:
        reason = "it is trained over another base model, and so other weights and tokens"
        mend = f"take the base model of {theirs.name}, or train an adapter over this one"
        here, there = making.composed.whole.model.source, theirs.whole.model.source
        if isinstance(here, HubKeys) and isinstance(there, HubKeys) and _same(here, there):
            reason = f"it is trained over another revision of {here.repo_id}"
            mend = "run `slmcompile lock --upgrade`, or give both the same commit"
    elif over and other.stage("quantize", over).address != making.stage("quantize", over).address:
        reason = f"it is trained over other weights: target.{over} is quantised otherwise there"
        mend = f"give target.{over} the keys that it has in {theirs.name}"
    if reason:
        key = (ADAPTERS, making.member, TAKEN_FROM)
        where = (making.group or making).composed.origin(key)
        raise BadRecipeError(f"{where}: {'.'.join(key)}: cannot take {theirs.name}: {reason}", mend)
