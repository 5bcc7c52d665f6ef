"""``base``: the model's source becomes a folder of weights, configuration and tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.recipe.schema import FolderModel, PackageModel, RandomModel

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, shared by all recipes with this base."""
    # Beside the project's files lies the policy, which whoever only runs a stage does without.
    from slmcompile.plans.project_files import files_below, inside

    source, origin = making.recipe.model.source, making.composed.origin
    packages = versions("transformers", "tokenizers", "torch", "safetensors")
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    if isinstance(source, PackageModel):
        packages |= versions("gguf")
    if isinstance(source, RandomModel):
        where = f"{origin(('model', 'source', 'tokenizer_text'))}: model.source.tokenizer_text"
        files = (inside(making.project, source.tokenizer_text, where),)
        names = ("source.tokenizer_text",)
    if isinstance(source, FolderModel):
        where = f"{origin(('model', 'source', 'path'))}: model.source.path"
        folder = inside(making.project, source.path, where, folder=True)
        files = files_below(making.project, folder, where)
        names = ("source.path",)
    config, reads = {"source": typed(source)}, {"source": "model.source"}
    making.add_shared("base", config, reads, packages, {}, files, names)


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
