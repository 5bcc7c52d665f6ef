"""``probe``: what 4 bits cost a trained model, group of weights by group, for targets of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmcompile.plans.beside import stands_beside
from slmcompile.plans.budgets import candidate_name, keys_of
from slmcompile.plans.canonical import digest
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.definition import Stage
    from slmcompile.plans.making import Making
    from slmcompile.providers.keys import Target

PROBE = "probe"
"""What is measured of a trained model is called among the inputs of whoever is built by it."""

_CHOSEN_BY_IT = frozenset({"bits_per_weight"})
"""Keys of a target that say what becomes of what is measured: others measure the same."""


def plan(making: Making) -> None:
    """One stage an adapter, for all of its targets that measure the same.

    It is called after the first of those.
    """
    for name, target in sorted(making.composed.whole.target.items()):
        built = {
            (candidate_name(name, label), f"target.{name}.candidates.{label}"): each
            for label, each in target.among.items()
        }
        for (artifact, where), each in (built or {(name, f"target.{name}"): target}).items():
            if not PROVIDERS[each.execution_provider].probed(each):
                continue
            for view in making.members.values():
                if not stands_beside(view.recipe, name) and probed_for(view, each) is None:
                    _measured(view, each, artifact, where)


def _measured(making: Making, target: Target, artifact: str, where: str) -> None:
    data = making.recipe.data
    making.add(
        "probe",
        {"target": _measured_keys(target), "seed": data.seed, "labelled": data.labelled},
        {"target": where, "seed": "data.seed", "labelled": "data.label"},
        versions("torch", "transformers", "peft", "onnxruntime"),
        {kind: making.stage(kind) for kind in ("base", "data")},
        artifact=artifact,
        files_of=making.trained(),
        epochs=PROVIDERS.raised(target.execution_provider),
    )


def probed_for(making: Making, target: Target) -> Stage | None:
    """The stage that measures what a target is built by, if it is made already."""
    wanted = digest([_measured_keys(target)])
    found = (stage for stage in making.of("probe") if stage.member == making.member)
    return next((each for each in found if digest([each.config["target"]]) == wanted), None)


def _measured_keys(target: Target) -> dict[str, Any]:
    return {key: value for key, value in keys_of(target).items() if key not in _CHOSEN_BY_IT}


ENTRIES = (
    Kind(
        name="probe",
        verb="measure",
        place=41,
        program="slmcompile.stages.probe:run",
        plan=plan,
        outdated="by an earlier measurement",
    ),
)
