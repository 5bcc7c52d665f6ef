"""``base``: the model's source becomes a folder of weights, configuration and tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.sources import MODEL_SOURCES

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, shared by all recipes with this base."""
    # Beside the project's files lies the policy, which whoever only runs a stage does without.
    from slmcompile.plans.project_files import files_below, inside

    source = making.composed.whole.model.source
    entry = MODEL_SOURCES[source.type]
    files: tuple[str, ...] = ()
    key = entry.file or entry.folder
    if key:
        where = f"{making.composed.origin(('model', 'source', key))}: model.source.{key}"
        path = inside(making.project, getattr(source, key), where, folder=bool(entry.folder))
        files = files_below(making.project, path, where) if entry.folder else (path,)
    making.add_shared(
        "base",
        {"source": typed(source, making.values["model"]["source"])},
        {"source": "model.source"},
        versions("transformers", "tokenizers", "torch", "safetensors", *entry.packages),
        {},
        files,
        (f"source.{key}",) if key else (),
        epochs=MODEL_SOURCES.raised(source.type),
    )


ENTRIES = (
    Kind(
        name="base",
        verb="fetch",
        place=10,
        program="slmcompile.stages.base:run",
        plan=plan,
        behind=frozenset(),
        fetches=True,
        shared=True,
        outdated="of an earlier model",
    ),
)
