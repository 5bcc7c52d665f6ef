"""The text of a recipe that has another's adapters and one more, each as its own recipe trains it.

Nobody is trained for it again: what the other has of several is the same work in a recipe that
begins with it, and single ones are named by their recipes.
"""

from __future__ import annotations

from typing import Any

from slmcompile.plans.artifacts import TUNED
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.dump import dump_yaml
from slmcompile.recipe.members import ADAPTERS
from slmcompile.recipe.schema import Gate
from slmcompile.recipe.schema_files import editor_line
from slmcompile.recipe.taken import KEY

_IN_COMMON = ("model", "target", "track", "device")
"""Sections of a recipe of one adapter that hold for several."""


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
    if whole.adapters:
        only = [{"override /target": [target]}] if target and len(whole.target) > 1 else []
        values: dict[str, Any] = {"defaults": [export.name, *only, "_self_"]}
        adapters = [other.name]
    else:
        theirs = whole.model_dump(mode="json", exclude_unset=True)
        values = {section: theirs[section] for section in _IN_COMMON if section in theirs}
        values["target"] = {name: theirs["target"][name] for name in whole.target if name in kept}
        adapters = [export.name, other.name]
    values["description"] = f"What {export.name} does, and {other.name}."
    values[ADAPTERS] = {name: {KEY: name} for name in adapters}
    if gates:
        held = [gate for gate in gates if gate not in left]
        values["gates"] = [gate.model_dump(mode="json", exclude_none=True) for gate in held]
    return editor_line("recipes") + dump_yaml(values), left
