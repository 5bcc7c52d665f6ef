"""``answer``: one artifact answers the test prompts, as it ships.

What the base model and the baselines answer depends on the base and the rows alone, so recipes
that have both in common share these stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slmcompile.plans.artifacts import BASE, BASELINES, TUNED
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.quantize import trained_over
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage an artifact: the baselines, the base model, the tuned one, each export."""
    recipe = making.recipe
    asked = {
        "limit": recipe.eval.limit,
        "seed": recipe.data.seed,
        "labelled": recipe.data.labelled,
    }
    decoding = {
        "max_new_tokens": recipe.eval.max_new_tokens,
        "batch_size": recipe.eval.batch_size,
        "num_threads": recipe.eval.num_threads,
    }
    in_torch = {"precision": recipe.eval.precision}
    packages = versions("torch", "transformers", "peft")
    data, base = making.stage("data"), making.stage("base")
    if recipe.eval.baselines and recipe.data.asks:
        config = {"artifact": BASELINES, **asked}
        inputs = {"data": data}
        making.add_shared(
            "answer", config, _reads(config), versions("numpy"), inputs, artifact=BASELINES
        )
    if recipe.eval.base_model:
        config = {"artifact": BASE, **asked, **decoding, **in_torch}
        inputs = {"data": data, "base": base}
        making.add_shared("answer", config, _reads(config), packages, inputs, artifact=BASE)
    config = {"artifact": TUNED, **asked, **decoding, **in_torch}
    inputs = {"data": data, "base": base, **trained_over(making)}
    making.add(
        *("answer", config, _reads(config), packages, inputs),
        artifact=TUNED,
        files_of=making.trained(),
    )
    for export in making.of("export"):
        provider = PROVIDERS[recipe.target[export.artifact].execution_provider]
        config = {"artifact": export.artifact, **asked, **decoding}
        if making.member and not export.member:
            config["adapter"] = making.member
        making.add(
            "answer",
            config,
            _reads(config),
            versions(*provider.runs_on),
            {"data": data, "export": export},
            artifact=export.artifact,
        )


def _reads(config: Mapping[str, Any]) -> dict[str, str]:
    return {key: _READS[key] for key in config if key in _READS}


_READS = {
    "limit": "eval.limit",
    "seed": "data.seed",
    "labelled": "data.label",
    "max_new_tokens": "eval.max_new_tokens",
    "batch_size": "eval.batch_size",
    "num_threads": "eval.num_threads",
    "precision": "eval.precision",
}

ENTRIES = (
    Kind(
        name="answer",
        verb="answer",
        place=60,
        program="slmcompile.stages.answer:run",
        plan=plan,
        of_members=True,
        shared=True,
        outdated="of earlier answers",
    ),
)
