"""How an adapter and a target's base come together, by a recipe's keys.

An adapter ships merged into the base's weights or, in floating point, beside those of a base that
was quantised before. Over which of the recipe's quantised bases it was trained says ``train.over``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmcompile.recipe.compose import Composed
    from slmcompile.recipe.schema import Recipe


def over_of(composed: Composed) -> str:
    """The target over whose base is trained, by adapters in common; empty for the base itself."""
    return next(iter(composed.members.values())).recipe.train.over or ""


def stands_beside(recipe: Recipe, target: str) -> bool:
    """Whether an adapter of this plain recipe stands beside a target's base.

    Over a quantised base nothing is merged, whatever the target says: that is refused.
    """
    return beside_by(recipe.train.over, recipe.target[target].adapters)


def beside_by(over: str | None, adapters: str | None) -> bool:
    """The same by the two keys, ``train.over`` and a target's ``adapters``."""
    return bool(over) or adapters == "beside"


def bases_of(composed: Composed) -> list[str]:
    """Targets that have a base of their own without adapters, that of ``train.over`` first."""
    over = over_of(composed)
    view = next(iter(composed.members.values())).recipe
    beside = [name for name in sorted(view.target) if stands_beside(view, name)]
    return sorted(beside, key=lambda name: name != over)
