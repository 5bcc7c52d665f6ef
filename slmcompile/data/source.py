"""Where the recipe's rows come from: one pile to be split, or splits that exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import BadRecipeError
from slmcompile.data import hub
from slmcompile.data.formats import ReadFile, read_file
from slmcompile.data.rows import SourceRow
from slmcompile.hub.commit import at_commit
from slmcompile.recipe.schema import Data, FileData
from slmcompile.recipe.splits import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Source:
    """Every row, by split.

    Attributes:
        rows: of each split that the source names; whatever split is missing is later taken from
            train.
        files: the files that they came from, in order; none of hub data.
    """

    rows: dict[Split, list[SourceRow]]
    files: tuple[ReadFile, ...] = ()


def read(config: Data, project: Path, roots: Sequence[str] = ()) -> Source:
    """Reads every row of the source.

    Args:
        config: the recipe's ``data`` section.
        project: the project's folder.
        roots: folders outside that a link of the project may lead into.

    Raises:
        BadRecipeError: the source names no file (exit 78).
        BadDataError, RefusedError, MissingError: see the readers.
    """
    source = config.source
    if isinstance(source, FileData):
        if (source.path is None) == (source.files is None):
            raise BadRecipeError(
                "data.source: exactly one of path and files is needed",
                "set path for rows to be split, or files for those of each split",
            )
        read = {
            split: [read_file(project, path, source, roots) for path in paths]
            for split, paths in source.paths.items()
        }
        return Source(
            {split: [row for file in files for row in file.rows] for split, files in read.items()},
            tuple(file for files in read.values() for file in files),
        )
    source = at_commit(source)
    return Source(
        {
            split: hub.read_split(source, source.splits[split])
            for split in SPLITS
            if split in source.splits
        }
    )
