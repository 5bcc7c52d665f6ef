"""Code of the project that running a plan would execute: what to read before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmcompile.losses import LOSSES
from slmcompile.plans.definition import Plan
from slmcompile.state.changes import Change


def executed(changes: Sequence[Change]) -> tuple[str, ...]:
    """Paths of the files, in the order in which stages would execute them."""
    return tuple(dict.fromkeys(path for path, _ in _code(changes)))


def executed_lines(plan: Plan, changes: Sequence[Change]) -> list[str]:
    """A sentence a file and key."""
    return [
        f"The run will execute {path}, code of this project ({_at(plan, key)})."
        for path, key in _code(changes)
    ]


def _code(changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    """Each file with the recipe's key that names it."""
    for change in changes:
        if change.stage.kind != "train" or change.action != "run":
            continue
        config = change.stage.config
        members = {f"members.{name}.": own for name, own in config.get("members", {}).items()}
        for above, values in (members or {"": config}).items():
            key = LOSSES[values["loss"]["type"]].code if "loss" in values else ""
            if key:
                yield values["loss"][key], change.stage.recipe_key(f"{above}loss.{key}")


def _at(plan: Plan, key: str) -> str:
    where = plan.origins.get(key)
    return f"{where}: {key}" if where else key
