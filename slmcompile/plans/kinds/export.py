"""``export``: base and what was trained become a folder for one hardware target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.beside import stands_beside
from slmcompile.plans.budgets import CHOICE, OF_CANDIDATE, candidate_name
from slmcompile.plans.definition import stage_name
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.probe import PROBE, probed_for
from slmcompile.plans.kinds.quantize import BASE_ALONE, target_keys, trained_over
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.definition import Stage
    from slmcompile.plans.making import Making
    from slmcompile.providers.keys import Target

EPOCH = 3
"""Of a candidate too, which is built as an export is."""


def plan(making: Making) -> None:
    """One stage a target, by its name; of several adapters that stand beside one base also one."""
    members = making.members
    for name, target in sorted(making.composed.whole.target.items()):
        if any(stands_beside(view.recipe, name) for view in members.values()):
            _beside(making, name)
            continue
        if target.is_auto:
            _chosen(making, name, target)
            continue
        provider = PROVIDERS[target.execution_provider]
        for view in members.values():
            probe = probed_for(view, target)
            view.add(
                "export",
                {"target": target_keys(making, name)},
                {"target": f"target.{name}"},
                versions("torch", "transformers", "peft", *provider.packages),
                {
                    **{kind: view.stage(kind) for kind in ("base", "data")},
                    **({PROBE: probe} if probe else {}),
                },
                artifact=name,
                files_of=view.trained(),
                epochs=PROVIDERS.raised(target.execution_provider),
            )


def _chosen(making: Making, name: str, target: Target) -> None:
    """The candidate that is chosen, in the place where the target's export is looked for."""
    provider = PROVIDERS[target.execution_provider]
    for view in making.members.values():
        view.add(
            "export",
            {"target": target_keys(making, name)},
            {"target": f"target.{name}"},
            versions("torch", "transformers", "peft", *provider.packages),
            {
                CHOICE: view.stage("choose", name),
                **{
                    f"{OF_CANDIDATE}{label}": view.stage("candidate", candidate_name(name, label))
                    for label in target.among
                },
            },
            artifact=name,
        )


def _beside(making: Making, name: str) -> None:
    """One folder, in which every adapter stands beside the base that is there already."""
    target = making.composed.whole.target[name]
    provider = PROVIDERS[target.execution_provider]
    read: dict[str, tuple[str, Stage]] = {}
    for member, view in making.members.items():
        data = view.stage("data")
        for role, given in {"data": (data.out, data), **view.trained()}.items():
            read[stage_name(role, member=member)] = given
    members = [name for name in making.members if name]
    making.add(
        "export",
        {
            "target": target_keys(making, name),
            **({"members": {member: {} for member in members}} if members else {}),
        },
        {"target": f"target.{name}"},
        versions("torch", "transformers", "peft", *provider.packages),
        {
            "base": making.stage("base"),
            BASE_ALONE: making.stage("quantize", name),
            **trained_over(making),
        },
        artifact=name,
        files_of=read,
        epochs=PROVIDERS.raised(target.execution_provider),
    )


ENTRIES = (
    Kind(
        name="export",
        verb="export",
        place=50,
        program="slmcompile.stages.export:run",
        plan=plan,
        epoch=EPOCH,
        outdated="of an earlier export",
    ),
)
