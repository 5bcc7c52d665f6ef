"""The one entrance: a pinned model source in, a base-model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.base.layout import complete
from slmcompile.console.progress import Progress
from slmcompile.registry.table import program
from slmcompile.sources import MODEL_SOURCES
from slmcompile.sources.keys import SourceKeys


def fetch(source: SourceKeys, project: Path, out: Path, progress: Progress) -> dict[str, Any]:
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
    fetched = program(MODEL_SOURCES[source.type].program)
    return complete(out, fetched(source, project, out, progress))
