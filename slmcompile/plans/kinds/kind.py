"""What is to be known of a kind of stage before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


@dataclass(frozen=True)
class Kind:
    """One kind of stage.

    Attributes:
        name: as in spec files.
        verb: what a plan says that such a stage will do.
        place: behind which other kinds its stages are built and listed.
        program: ``package.module:name`` of ``(Context) -> Result``, imported by ``exec`` alone.
        plan: adds the recipe's stages of this kind to those that are made already.
        epoch: raised by hand when its code changes what it writes for an equal spec.
        behind: kinds that must be among those before it.
        of_members: whether each adapter of a recipe has its own.
        joins: of a kind with one stage for all adapters of a recipe, what its program does for each
            is done one after the other; ``package.module:name`` of what is written beside them,
            ``(Context, [member, …]) -> None``, or empty for nothing. None of other kinds.
        fetches: whether it may use the network.
        constant: whether it writes the same bytes whenever it passes, so that nothing behind it
            reruns.
        shared: whether its stages lie in pipelines of their own, which recipes share.
        computes: whether its numbers come out of packages.
        instant: whether it takes a second or two, whatever the recipe.
        whole_recipe: whether it reads the whole recipe; what changed in it is told of another
            stage first.
        for_people: files that it writes and no stage behind it computes with, but for those that
            read the whole recipe.
        plotted: what of its DVC plots file is drawn: the field of x, and those of y.
        outdated: what to call a result that was made from an earlier output of it.
    """

    name: str
    verb: str
    place: int
    program: str
    plan: Callable[[Making], None]
    epoch: int = 1
    behind: frozenset[str] = frozenset({"base", "data"})
    of_members: bool = False
    joins: str | None = None
    fetches: bool = False
    constant: bool = False
    shared: bool = False
    computes: bool = True
    instant: bool = False
    whole_recipe: bool = False
    for_people: frozenset[str] = frozenset()
    plotted: tuple[str, tuple[str, ...]] = ("step", ("loss", "eval_loss"))
    outdated: str = ""
