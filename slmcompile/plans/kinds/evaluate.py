"""``evaluate``: one artifact answers the test prompts and is measured, as it ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.definition import Stage
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage an artifact: the baselines, the base model, the tuned one, each export."""
    recipe = making.recipe
    measured = {
        "metrics": list(recipe.eval.metrics),
        "max_new_tokens": recipe.eval.max_new_tokens,
        "limit": recipe.eval.limit,
        "seed": recipe.data.seed,
        "batch_size": recipe.eval.batch_size,
        "num_threads": recipe.train.num_threads,
        "task": recipe.data.task,
        "label": recipe.data.label,
        "label_steps": list(recipe.data.label_steps),
        "labelled": recipe.data.labelled,
    }
    data, base, train = making.stage("data"), making.stage("base"), making.stage("train")

    def evaluate(artifact: str, packages: tuple[str, ...], inputs: dict[str, Stage]) -> None:
        making.add(
            "evaluate",
            {"artifact": artifact, "precision": recipe.train.precision, **measured},
            _READS,
            versions(*packages),
            {"data": data, **inputs},
            artifact=artifact,
            metrics=making.metrics(artifact),
        )

    torch = ("torch", "transformers", "peft")
    if recipe.eval.baselines:
        evaluate("baselines", ("numpy",), {})
    if recipe.eval.base_model:
        evaluate("base", torch, {"base": base})
    evaluate("torch", torch, {"base": base, "train": train})
    for export in making.of("export"):
        provider = PROVIDERS[recipe.target[export.artifact].execution_provider]
        evaluate(export.artifact, provider.runs_on, {"export": export})


_READS = {
    "": "eval",
    "task": "data.task",
    "label": "data.label",
    "labelled": "data.label",
    "label_steps": "data.normalize_labels",
    "seed": "data.seed",
    "num_threads": "train.num_threads",
    "precision": "train.precision",
}

ENTRIES = (
    Kind(
        name="evaluate",
        verb="evaluate",
        place=60,
        program="slmcompile.stages.evaluate:run",
        plan=plan,
        epoch=4,
    ),
)
