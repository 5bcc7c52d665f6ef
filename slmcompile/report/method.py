"""The training method in words, for report and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.methods.method import Method
from slmcompile.plans.beside import beside_by


def fine_tuned(train: Mapping[str, Any]) -> str:
    """``fine-tuned with LoRA (rank 16)``; a method that is not known is not named.

    A loss is named where it is not cross entropy alone: `` by focal loss (gamma 2)``.
    """
    loss = minimised(train)
    return _by_method(train) + (f" by {loss}" if loss else "")


def _by_method(train: Mapping[str, Any]) -> str:
    method = _method(train)
    if method is None:
        return "fine-tuned"
    earlier = train.get("continue_from")
    begun = f", going on from {earlier}," if earlier else ""
    if method.writes == "model":
        return f"fine-tuned in full ({method.title}){begun}"
    known = ", ".join(method.details(train))
    of = f" ({known})" if known else ""
    return f"fine-tuned with {method.title}{of}{trained_over(train)}{begun}"


def trained_by(recipe: str) -> str:
    """A sentence about the recipe whose adapter it is; empty where it is one's own."""
    return f"The adapter is that of recipe {recipe}, as that trains it." if recipe else ""


def minimised(train: Mapping[str, Any]) -> str:
    """The loss in a few words; empty of the default, which no recipe's values hold."""
    values = train.get("loss")
    known = isinstance(values, Mapping) and values.get("type") in LOSSES
    return LOSSES[values["type"]].words(values) if values and known else ""


def licence(name: str) -> str:
    """A licence behind the name of what is under it."""
    return "licence unknown" if name.lower() == "unknown" else name


def overridden(overrides: Sequence[str]) -> str:
    """A sentence about what the run had beside the recipe's file; empty where it had nothing."""
    return f"With the overrides {' '.join(overrides)} of this run." if overrides else ""


def made_one(train: Mapping[str, Any], name: str, target: Mapping[str, Any]) -> str:
    """What became of the adapter before the export to a target; full training has none."""
    method = _method(train)
    if method is None:
        return "merged and "
    over, held = train.get("over"), ""
    if over and over != name:
        held = f"the weights of that base in {target.get('precision', 'another precision')}"
    if "inputs" in method.forms and beside_by(over, target.get("adapters")):
        return f"its adapter kept in fp32 beside {held or 'the base'}, "
    return f"over {held}, {method.made_one}" if held else method.made_one


def stands_beside_others(
    train: Mapping[str, Any], name: str, target: Mapping[str, Any]
) -> str | None:
    """That an adapter stands beside other weights than its method trained it over; or None."""
    method = _method(train)
    held = method.base_held_in(train) if method else ""
    if not held or not beside_by(train.get("over"), target.get("adapters")):
        return None
    return (
        f"{name}: the adapter was trained over the base in {held}, which is there in training"
        f" alone, and stands beside the base in {target.get('precision', 'another precision')}:"
        " weights that it was not trained over."
    )


def trained_over(train: Mapping[str, Any]) -> str:
    """Over which quantised base it was trained; empty where over the base itself."""
    return f" over the base of {train['over']}" if train.get("over") else ""


def others_hold(train: Mapping[str, Any], targets: Sequence[str]) -> str | None:
    """That other targets are made of the weights that were trained over too; None without them."""
    over = train.get("over")
    others = sorted({*targets} - {over})
    if not over or not others:
        return None
    are = "is" if len(others) == 1 else "are"
    return (
        f"{' and '.join(others)} {are} made of the weights of {over}'s base, which were trained"
        " over, and not of the base at full precision."
    )


def _method(train: Mapping[str, Any]) -> Method | None:
    return METHODS.get(str(train.get("method")))
