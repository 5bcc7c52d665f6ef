"""``data``: rows become tokenized splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.data_steps import DATA_STEPS
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.sources import DATA_SOURCES

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, shared by all recipes with this data and this base's tokenizer."""
    data, base = making.recipe.data, making.stage("base")
    source = DATA_SOURCES[data.source.type]
    named = source.files(data.source)
    steps = [step.type for step in data.steps]
    making.add_shared(
        "data",
        typed(data, making.values["data"]),
        {"": "data"},
        versions(
            *("transformers", "tokenizers", "pyarrow", *source.packages),
            *(package for step in steps for package in DATA_STEPS[step].packages),
        ),
        {"base": base},
        tuple(path for paths in named.values() for path in paths),
        tuple(f"source.{key}" for key in named),
        epochs=DATA_SOURCES.raised(source.name) | DATA_STEPS.raised(*steps),
    )


ENTRIES = (
    Kind(
        name="data",
        verb="prepare",
        place=20,
        program="slmcompile.stages.data:run",
        plan=plan,
        epoch=4,
        behind=frozenset({"base"}),
        fetches=True,
        shared=True,
        for_people=frozenset({"data_report.json"}),
        outdated="on earlier data",
    ),
)
