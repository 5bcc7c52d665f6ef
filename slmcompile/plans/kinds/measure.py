"""``measure``: torch and every candidate answer rows of the validation split, before the choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.budgets import auto_targets, candidate_name
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.quantize import trained_over
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Budget

if TYPE_CHECKING:
    from slmcompile.plans.definition import Stage
    from slmcompile.plans.making import Making

_READS = {
    "seed": "data.seed",
    "labelled": "data.label",
    "max_new_tokens": "eval.max_new_tokens",
    "batch_size": "eval.batch_size",
    "num_threads": "eval.num_threads",
    "precision": "eval.precision",
}


def plan(making: Making) -> None:
    """One stage a candidate, and one of torch for each number of rows that a budget asks for."""
    for name, target in auto_targets(making.recipe).items():
        budget = target.budget or Budget()
        asked = _asked(making, budget.limit)
        reads = {
            **{key: _READS[key] for key in asked if key in _READS},
            "limit": f"target.{name}.budget.limit",
            "timed": f"target.{name}.budget.min_tokens_per_s",
        }
        torch = torch_name(budget.limit)
        if not any(stage.artifact == torch for stage in making.of("measure")):
            making.add(
                "measure",
                {**asked, "artifact": TUNED, "timed": False, "precision": _precision(making)},
                {**reads, "precision": _READS["precision"]},
                versions("torch", "transformers", "peft"),
                {
                    "data": making.stage("data"),
                    "base": making.stage("base"),
                    **trained_over(making),
                },
                artifact=torch,
                files_of=making.trained(),
            )
        provider = PROVIDERS[target.execution_provider]
        for label in target.among:
            built = candidate_name(name, label)
            making.add(
                "measure",
                # Speed is of the machine: where no bar is on it, equal runs write equal bytes.
                {**asked, "artifact": label, "timed": budget.min_tokens_per_s is not None},
                reads,
                versions(*provider.runs_on),
                {"data": making.stage("data"), "export": making.stage("candidate", built)},
                artifact=built,
            )


def torch_name(limit: int | None) -> str:
    """What torch's measurement on so many rows is called; no target begins with that name."""
    return f"{TUNED}-{limit or 'all'}"


def torch_of(making: Making, limit: int | None) -> Stage:
    """The stage that it is."""
    return making.stage("measure", torch_name(limit))


def _asked(making: Making, limit: int | None) -> dict[str, Any]:
    recipe = making.recipe
    asked: Mapping[str, Any] = {
        "split": "validation",
        "limit": limit,
        "seed": recipe.data.seed,
        "labelled": recipe.data.labelled,
        "max_new_tokens": recipe.eval.max_new_tokens,
        "batch_size": recipe.eval.batch_size,
        "num_threads": recipe.eval.num_threads,
    }
    return dict(asked)


def _precision(making: Making) -> str:
    return making.recipe.eval.precision


ENTRIES = (
    Kind(
        name="measure",
        verb="measure",
        place=44,
        program="slmcompile.stages.answer:run",
        plan=plan,
        of_members=True,
        outdated="of earlier measurements",
    ),
)
