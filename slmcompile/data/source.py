"""Where the recipe's rows come from: one pile to be split, or splits that exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import BadRecipeError
from slmcompile.data.formats import ReadFile, read_file
from slmcompile.data.rows import SourceRow
from slmcompile.data.spill import Spill
from slmcompile.registry.table import program
from slmcompile.shapes.splits import Split
from slmcompile.sources import DATA_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.of_data.file import FileData


@dataclass(frozen=True, slots=True)
class Rows:
    """Every row, by split.

    Attributes:
        of: of each split that the source brings; whatever split is missing is later taken from
            train.
        files: the files that they came from, in order; none of rows from elsewhere.
    """

    of: Mapping[Split, Sequence[SourceRow]]
    files: tuple[ReadFile, ...] = ()


def read(source: SourceKeys, project: Path, roots: Sequence[str] = ()) -> Rows:
    """Reads every row of the source.

    Args:
        source: the recipe's ``data.source``.
        project: the project's folder.
        roots: folders outside that a link of the project may lead into.

    Raises:
        BadRecipeError: the source names no file (exit 78).
        BadDataError, RefusedError, MissingError: see the readers.
    """
    found: Rows = program(DATA_SOURCES[source.type].program)(source, project, roots)
    return found


def read_files(source: FileData, project: Path, roots: Sequence[str]) -> Rows:
    """Rows of files of the project.

    Raises:
        BadRecipeError: path and files, or neither (exit 78).
        BadDataError, RefusedError: a file that cannot be read, or may not.
    """
    if source.names_both or not source.paths:
        raise BadRecipeError(
            "data.source: exactly one of path and files is needed",
            "set path for rows to be split, or files for those of each split",
        )
    files = {
        split: [read_file(project, path, source, roots, Spill.of) for path in paths]
        for split, paths in source.paths.items()
    }
    return Rows(
        {split: _joined([file.rows for file in each]) for split, each in files.items()},
        tuple(file for each in files.values() for file in each),
    )


def _joined(files: Sequence[Sequence[SourceRow]]) -> Sequence[SourceRow]:
    return files[0] if len(files) == 1 else Spill.of(row for rows in files for row in rows)
