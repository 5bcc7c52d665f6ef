"""The first rows of the recipe's data files, so that a wrong column name costs no run.

Reads at most ``LIMIT`` bytes a file and ``FILES`` files, with the parsers of the ``data``
stage. Parquet and Zstandard take a heavy import and hub data a network: that stage reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from slmcompile.console.errors import BadDataError
from slmcompile.data.compression import compression_of, opened
from slmcompile.data.encoding import decoded
from slmcompile.data.files import contained
from slmcompile.data.formats import format_of, not_empty, parse
from slmcompile.data.rows import SourceRow
from slmcompile.data.steps import stepped
from slmcompile.data_steps import DATA_STEPS
from slmcompile.facts.context import CheckContext
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import Split
from slmcompile.sources.of_data.file import FileData

LIMIT = 64 << 10
"""Bytes read of a file."""

FILES = 16
"""Files read, of all splits together; one of each at least."""

STEPPED = 50_000
"""Rows times steps that are done in a plan; what more leave is the data stage's to find out."""

_LINE_ENDS = {"jsonl": ("\n",), "csv": ("\n", "\r")}
"""Where a part of a file may end; an array is often one line, so it may end anywhere."""


@dataclass(frozen=True)
class FirstRows:
    """Rows from the beginning of the files.

    Attributes:
        rows: as the formats hold them, each with its ``file:line``; those of train first.
        train: how many of them are of train, from which splits without a file are taken.
        whole: whether these are all rows of all files.
    """

    rows: tuple[SourceRow, ...]
    train: int
    whole: bool


@dataclass(frozen=True)
class Source:
    """The rows of one of the recipe's sources; equal where bytes and configuration are."""

    root: Path
    hashes: tuple[tuple[str, str], ...]
    config: str
    roots: tuple[str, ...]
    at: str
    part: Part = field(compare=False)
    data: Data = field(compare=False)

    @classmethod
    def all_of(cls, context: CheckContext) -> list[Source]:
        """The rows of the recipe that is judged."""
        data, files = context.recipe.data, context.plan.files if context.plan else {}
        hashes, roots = tuple(sorted(files.items())), context.policy.linked_roots
        config = data.model_dump_json()
        return [
            cls(context.project.root, hashes, config, roots, part.at, part, data)
            for part in data.parts
        ]


@lru_cache(maxsize=64)
def first_rows_of(source: Source) -> FirstRows:
    """As ``first_rows``; many recipes read the same rows, which are read once."""
    return first_rows(source.part, source.root, source.roots)


def first_rows(part: Part, project: Path, roots: Sequence[str] = ()) -> FirstRows:
    """The first rows of every file of the source.

    Raises:
        BadDataError: what was read is broken (exit 65).
        RefusedError: a path leads out of the project (exit 77).
    """
    source = part.source
    row_by_row = all(DATA_STEPS[step.type].row_by_row for step in part.steps)
    if not isinstance(source, FileData) or not row_by_row:
        return FirstRows((), 0, whole=False)
    found: dict[Split, list[SourceRow]] = {}
    every = True
    most = max(1, FILES // max(1, len(source.paths)))
    for split, paths in source.paths.items():
        read = [_of_file(project, path, source, roots) for path in paths[:most]]
        found[split] = [row for rows, _ in read for row in rows]
        every = every and len(paths) <= most and all(whole for _, whole in read)
    if sum(map(len, found.values())) * len(part.steps) > STEPPED:
        return FirstRows((), 0, whole=False)
    found, _ = stepped(found, part.steps, part.columns, whole=every)
    return FirstRows(
        tuple(row for rows in found.values() for row in rows), len(found.get("train", ())), every
    )


def _of_file(
    project: Path, path: str, source: FileData, roots: Sequence[str]
) -> tuple[tuple[SourceRow, ...], bool]:
    """Its first rows, and whether they are all."""
    file = contained(project, path, roots)
    file_format = format_of(path, source.format)
    if file_format == "parquet" or compression_of(path) == "Zstandard":
        return (), False
    with opened(file, path) as stream:
        raw = stream.read(LIMIT + 1)
    whole = len(raw) <= LIMIT
    text = decoded(raw, path, source.encoding, whole=whole)
    if whole:
        not_empty(text, path)
    elif not (text := _unbroken_lines(text, file_format)).strip():
        return (), False
    # An array or a quoted cell that goes on behind the part looks broken where the part ends.
    strict = whole or file_format == "jsonl"
    return tuple(_unbroken(parse(text, path, source), strict=strict)), whole


def _unbroken_lines(text: str, file_format: str) -> str:
    """A part without its last line, which is broken off; nothing where that is the first."""
    if file_format not in _LINE_ENDS:
        return text
    return text[: 1 + max(text.rfind(end) for end in _LINE_ENDS[file_format])]


def _unbroken(rows: Iterator[SourceRow], *, strict: bool) -> Iterator[SourceRow]:
    try:
        yield from rows
    except BadDataError:
        if strict:
            raise
