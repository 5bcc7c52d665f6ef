"""``candidate``: one of those among which a target's export is chosen, built as an export is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.budgets import auto_targets, candidate_name, keys_of
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.export import EPOCH
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.probe import PROBE, probed_for
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage a candidate, of every adapter: each is merged into an export of its own.

    One that has a training of its own holds that beside its own base.
    """
    for name, target in auto_targets(making.composed.whole).items():
        provider = PROVIDERS[target.execution_provider]
        for view in making.members.values():
            for label, candidate in target.among.items():
                probe, built = probed_for(view, candidate), candidate_name(name, label)
                own = label in target.trained_for
                alone = view.stage("quantize", built) if own else None
                view.add(
                    "candidate",
                    {
                        "target": keys_of(candidate),
                        # One that the recipe does not name is left out where it cannot be built.
                        **({} if target.candidates or own else {"may_be_left_out": True}),
                    },
                    {"target": f"target.{name}.candidates.{label}"},
                    versions("torch", "transformers", "peft", *provider.packages),
                    {
                        **{kind: view.stage(kind) for kind in ("base", "data")},
                        **({PROBE: probe} if probe else {}),
                        **({BASE_ALONE: alone, OVER: alone} if alone else {}),
                    },
                    artifact=built,
                    files_of=view.trained(built if own else ""),
                    epochs=PROVIDERS.raised(target.execution_provider),
                )


ENTRIES = (
    Kind(
        name="candidate",
        verb="build",
        place=42,
        program="slmcompile.stages.candidate:run",
        plan=plan,
        epoch=EPOCH,
        outdated="of an earlier candidate",
    ),
)
