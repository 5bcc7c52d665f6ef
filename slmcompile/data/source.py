"""Where the recipe's rows come from: one pile to be split, or splits that exist already."""

from __future__ import annotations

from pathlib import Path

from slmcompile.data import hub
from slmcompile.data.formats import read_file
from slmcompile.data.rows import SourceRow
from slmcompile.errors import BadRecipeError
from slmcompile.hub_commit import at_commit
from slmcompile.recipe.schema import Data, FileData, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def read(config: Data, project: Path) -> dict[Split, list[SourceRow]]:
    """Reads every row of the source, by split.

    A source that names no splits comes back as ``train`` alone; whatever split is missing is later
    taken from it.

    Raises:
        BadRecipeError: the source names no file (exit 78).
        BadDataError, RefusedError, MissingError: see the readers.
    """
    source = config.source
    if isinstance(source, FileData):
        if (source.path is None) == (source.files is None):
            raise BadRecipeError(
                "data.source: exactly one of path and files is needed",
                "set path for one file, or files for one file per split",
            )
        files = {"train": source.path} if source.path is not None else source.files or {}
        return {
            split: read_file(project, files[split], source.format)
            for split in SPLITS
            if split in files
        }
    source = at_commit(source)
    return {
        split: hub.read_split(source, source.splits[split])
        for split in SPLITS
        if split in source.splits
    }
