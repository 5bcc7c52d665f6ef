"""``data``: rows become tokenized splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.data_steps import DATA_STEPS
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.sources import DATA_SOURCES
from slmcompile.templates import TEMPLATES

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, shared by all recipes with this data and this base's tokenizer."""
    data, base = making.recipe.data, making.stage("base")
    named = {
        f"{part.key('data.source')}.{key}".removeprefix("data."): paths
        for part in data.parts
        for key, paths in DATA_SOURCES[part.source.type].files(part.source).items()
    }
    sources = [DATA_SOURCES[part.source.type] for part in data.parts]
    steps = [DATA_STEPS[step.type] for part in data.parts for step in part.steps]
    templates = [part.template.type for part in data.parts]
    making.add_shared(
        "data",
        typed(data, making.values["data"]),
        {"": "data"},
        versions(
            *("transformers", "tokenizers", "pyarrow"),
            *(package for source in sources for package in source.packages),
            *(package for step in steps for package in step.packages),
        ),
        {"base": base},
        tuple(path for paths in named.values() for path in paths),
        tuple(named),
        epochs=DATA_SOURCES.raised(*(source.name for source in sources))
        | DATA_STEPS.raised(*(step.name for step in steps))
        | TEMPLATES.raised(*templates),
    )


ENTRIES = (
    Kind(
        name="data",
        verb="prepare",
        place=20,
        program="slmcompile.stages.data:run",
        plan=plan,
        of_members=True,
        epoch=5,
        behind=frozenset({"base"}),
        fetches=True,
        shared=True,
        for_people=frozenset({"data_report.json"}),
        outdated="on earlier data",
    ),
)
