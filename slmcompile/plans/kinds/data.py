"""``data``: rows become tokenized splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.recipe.schema import FileData, HubData

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, shared by all recipes with this data and this base's tokenizer."""
    # It composes, and brings Hydra: not for whoever only runs a stage.
    from slmcompile.plans.data_files import keys_of

    data, base = making.recipe.data, making.stage("base")
    source = data.source
    packages = versions("transformers", "tokenizers", "pyarrow")
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    if isinstance(source, HubData):
        packages |= versions("datasets")
    if isinstance(source, FileData):
        names = keys_of(source)
        files = tuple(path for paths in source.paths.values() for path in paths)
    making.add_shared("data", typed(data), {"": "data"}, packages, {"base": base}, files, names)


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
