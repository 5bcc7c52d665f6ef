"""Which export of a recipe somebody means, by the recipe's generated files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import MissingError, UsageError
from slmcompile.execution.committed import Committed, read_committed
from slmcompile.plans.definition import Stage, stage_name
from slmcompile.recipe.project import Project, nearest


@dataclass(frozen=True)
class Found:
    """An export whose folder is there; what is in it nobody has looked at.

    Attributes:
        committed: the recipe's; of one with adapters that of the one that is meant.
        adapter: which adapter's, of a recipe with several; else empty.
        target: its name.
        stage: what makes it.
        folder: where it lies.
        chosen: which adapter is to be chosen in the folder, of one with several; else empty.
    """

    committed: Committed
    adapter: str
    target: str
    stage: Stage
    folder: Path
    chosen: str


def find_export(project: Project, recipe: str, adapter: str | None, target: str | None) -> Found:
    """The export of these names; without a target the recipe's first one.

    Raises:
        UsageError: there is no such target or adapter, or none is named of several (exit 64).
        MissingError: it was never made here (exit 69).
    """
    committed = read_committed(project, recipe)
    member = _member(committed, adapter)
    committed = committed.of_member(member) if member else committed
    if not committed.targets:
        raise MissingError(f"{recipe}: it has no export", f"run `slmcompile run {recipe}`")
    name = target or committed.targets[0]
    if name not in committed.targets:
        raise UsageError(
            f"--target {name}: {recipe} has no such target",
            nearest("targets:", name, list(committed.targets)),
        )
    alone, common = (f"{recipe}/{stage_name('export', name, of)}" for of in (member, ""))
    stage = committed.stages.get(alone) or committed.stages[common]
    folder = project.root / stage.out
    if not folder.is_dir():
        raise MissingError(
            f"{recipe}: {name} was never exported here", f"run `slmcompile run {recipe}`"
        )
    chosen = member if stage.address != alone else ""
    return Found(committed, member, name, stage, folder, chosen)


def _member(committed: Committed, adapter: str | None) -> str:
    """The adapter that is meant; empty of a recipe that has none."""
    members = committed.members
    if adapter and adapter not in members:
        has = nearest("adapters:", adapter, list(members)) if members else "leave --adapter out"
        raise UsageError(f"--adapter {adapter}: {committed.recipe} has no such adapter", has)
    if members and not adapter:
        raise UsageError(
            f"{committed.recipe}: has {len(members)} adapters, and none is named",
            f"say which is meant: --adapter {members[0]}, one of {', '.join(members)}",
        )
    return adapter or ""
