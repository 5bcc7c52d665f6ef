"""The first rows of the recipe's data files, so that a wrong column name costs no run.

Reads at most ``LIMIT`` bytes a file, with the parsers of the ``data`` stage. Parquet takes a heavy
import and hub data a network: both are left to that stage.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import get_args

from slmcompile.checks.context import CheckContext
from slmcompile.data.files import contained
from slmcompile.data.formats import format_of, parse_csv, parse_json, parse_jsonl
from slmcompile.data.rows import SourceRow
from slmcompile.errors import BadDataError
from slmcompile.recipe.schema import Data, FileData, Split

LIMIT = 64 << 10
"""Bytes read of a file."""

_PARSERS: dict[str, Callable[[str, str], Iterator[SourceRow]]] = {
    "json": parse_json,
    "jsonl": parse_jsonl,
    "csv": parse_csv,
}
_LINE_ENDS = {"jsonl": (b"\n",), "csv": (b"\n", b"\r")}
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
    """The recipe's rows; equal where bytes and configuration are."""

    root: Path
    hashes: tuple[tuple[str, str], ...]
    config: str
    data: Data = field(compare=False)

    @classmethod
    def of(cls, context: CheckContext) -> Source:
        """The rows of the recipe that is judged."""
        data, files = context.recipe.data, context.plan.files if context.plan else {}
        return cls(context.project.root, tuple(sorted(files.items())), data.model_dump_json(), data)


@lru_cache(maxsize=64)
def first_rows_of(source: Source) -> FirstRows:
    """As ``first_rows``; many recipes read the same rows, which are read once."""
    return first_rows(source.data, source.root)


def first_rows(config: Data, project: Path) -> FirstRows:
    """The first rows of every file of the source.

    Raises:
        BadDataError: what was read is broken (exit 65).
        RefusedError: a path leads out of the project (exit 77).
    """
    source = config.source
    if not isinstance(source, FileData):
        return FirstRows((), 0, whole=False)
    files = {"train": source.path} if source.path is not None else source.files or {}
    found = {
        split: _of_file(project, files[split], source.format)
        for split in get_args(Split)
        if split in files
    }
    return FirstRows(
        tuple(row for rows, _ in found.values() for row in rows),
        len(found["train"][0]) if "train" in found else 0,
        all(whole for _, whole in found.values()),
    )


def _of_file(project: Path, path: str, file_format: str) -> tuple[tuple[SourceRow, ...], bool]:
    """Its first rows, and whether they are all."""
    file = contained(project, path)
    file_format = format_of(file, path, file_format)
    if file_format not in _PARSERS:
        return (), False
    with file.open("rb") as stream:
        raw = stream.read(LIMIT + 1)
    whole = len(raw) <= LIMIT
    text = _decoded(raw if whole else _unbroken_lines(raw, file_format), path, whole=whole)
    if not text.strip():
        return (), False
    # An array or a quoted cell that goes on behind the part looks broken where the part ends.
    strict = whole or file_format == "jsonl"
    return tuple(_unbroken(_PARSERS[file_format](text, path), strict=strict)), whole


def _unbroken_lines(raw: bytes, file_format: str) -> bytes:
    """A part without its last line, which is broken off; nothing where that is the first."""
    if file_format not in _LINE_ENDS:
        return raw
    return raw[: 1 + max(raw.rfind(end) for end in _LINE_ENDS[file_format])]


def _unbroken(rows: Iterator[SourceRow], *, strict: bool) -> Iterator[SourceRow]:
    try:
        yield from rows
    except BadDataError:
        if strict:
            raise


def _decoded(raw: bytes, path: str, *, whole: bool) -> str:
    """Its text; the last character of a part may be broken off."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=whole)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{path}:{line}: not UTF-8", "save the file as UTF-8") from error
