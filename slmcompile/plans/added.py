"""The text of a recipe that has another's adapters and one more, each as its own recipe trains it.

Nobody is trained for it again: what the other has of several is the same work in a recipe that
begins with it, and single ones are named by their recipes.
"""

from __future__ import annotations

from typing import Any

from slmcompile.plans.artifacts import TUNED
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.dump import dump_yaml
from slmcompile.recipe.members import ADAPTERS, TAKEN_FROM
from slmcompile.recipe.schema import Gate
from slmcompile.recipe.schema_files import editor_line

_IN_COMMON = ("model", "target", "track", "device")
"""Sections of a recipe of one adapter that hold for several."""


def follows(export: Composed, target: str) -> bool:
    """Whether the new recipe goes on from this one's file, and so needs its targets in a list.

    All of a recipe that trains nobody itself can be said again.
    """
    adapters = export.whole.adapters.values()
    some = target and len(export.whole.target) > 1
    return bool(adapters) and not (some and all(each.recipe for each in adapters))


def recipe_text(export: Composed, other: Composed, target: str = "") -> tuple[str, list[Gate]]:
    """The recipe's YAML, and gates of the two that are of a target that it does not have.

    Args:
        export: what the adapter joins.
        other: the recipe of one adapter.
        target: of its targets the only one to keep; all where empty.
    """
    whole = export.whole
    kept = {target} if target else {*whole.target}
    gates = [
        gate.model_copy(update={"adapter": gate.adapter or each.name})
        for each in (export, other)
        for gate in each.whole.gates
    ]
    left = [gate for gate in gates if gate.artifact not in {TUNED, *kept}]
    adapters = {other.name: {TAKEN_FROM: other.name}}
    if follows(export, target):
        only = [{"override /target": [target]}] if target and len(whole.target) > 1 else []
        values: dict[str, Any] = {"defaults": [export.name, *only, "_self_"]}
    else:
        theirs = whole.model_dump(mode="json", exclude_unset=True)
        values = {section: theirs[section] for section in _IN_COMMON if section in theirs}
        values["target"] = {name: theirs["target"][name] for name in whole.target if name in kept}
        there = {name: each.recipe or name for name, each in whole.adapters.items()}
        there = there or {export.name: export.name}
        adapters = {name: {TAKEN_FROM: named} for name, named in there.items()} | adapters
    values["description"] = f"What {export.name} does, and {other.name}."
    values[ADAPTERS] = adapters
    if gates:
        held = [gate for gate in gates if gate not in left]
        values["gates"] = [gate.model_dump(mode="json", exclude_none=True) for gate in held]
    return editor_line("recipes") + dump_yaml(values), left
