"""``report``: everything that was measured becomes pages for people and cards for the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmcompile.methods.keys import Train
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.quantize import trained_over
from slmcompile.plans.sections import cosmetic_names
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


_SILENT = frozenset({"track", "device", "deploy"})
"""Sections that can change no result."""


def plan(making: Making) -> None:
    """One stage, which reads the whole recipe and tells of every other."""
    recipe, train = making.recipe, making.stage("train")
    shown = {key: below for key, below in making.values.items() if key not in _SILENT}
    # A fact about the weights, which are the same with it or without.
    shown["model"] = {k: v for k, v in shown["model"].items() if k != "parameters"}
    exports = making.of("export")
    used = versions("torch", "transformers", "peft")
    for export in exports:
        provider = PROVIDERS[recipe.target[export.artifact].execution_provider]
        used |= versions(*provider.runs_on)
    used |= {**train.packages, **making.stage("base").packages, **making.stage("data").packages}
    read = {
        s.role: s
        for s in (making.stage("data"), *exports, *making.of("choose"), making.stage("score"))
    }
    making.add(
        "report",
        {
            "recipe": without_cosmetic_training(shown),
            "name": making.composed.name,
            "overrides": telling(making.composed.overrides),
            "packages": dict(sorted(used.items())),
            **_trained_by(making),
        },
        {"recipe": ""},
        {},
        {**read, **trained_over(making)},
        # The record holds times, so it lies beside the weights' folder and not in it.
        files_of={**making.trained(), "training": making.training()},
    )


def _trained_by(making: Making) -> dict[str, str]:
    """The recipe whose adapter it is, where that is another."""
    taken = making.composed.taken.get(making.member)
    return {"trained_by": taken.name} if taken else {}


def telling(overrides: tuple[str, ...]) -> list[str]:
    """Overrides that are worth a new report: not those of what can change no result."""
    silent = {f"train.{name}" for name in cosmetic_names(Train)} | {"model.parameters"}
    keys = {text: text.lstrip("+~").partition("=")[0] for text in overrides}
    return [
        text
        for text, key in keys.items()
        if key not in silent and key.partition(".")[0] not in _SILENT
    ]


def without_cosmetic_training(shown: dict[str, Any]) -> dict[str, Any]:
    """A change of log cadence is not worth a new report."""
    cosmetic = cosmetic_names(Train)
    return shown | {"train": {k: v for k, v in shown["train"].items() if k not in cosmetic}}


ENTRIES = (
    Kind(
        name="report",
        verb="write",
        place=70,
        program="slmcompile.stages.report:run",
        plan=plan,
        joins="slmcompile.stages.report:join",
        epoch=12,
        computes=False,
        instant=True,
        whole_recipe=True,
    ),
)
