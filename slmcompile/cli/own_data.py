"""A person's own data files: where they lie, where a project keeps them, and what is in them.

Files in the project stay where they are; others are copied into ``data/``. Nothing is written
before all have been read.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError, SlmcompileError, UsageError
from slmcompile.console.printable import shortened
from slmcompile.data.column_forms import columns_of
from slmcompile.data.column_roles import Chosen, require_header
from slmcompile.data.formats import ReadFile, read_file
from slmcompile.data.guess import Guess, guess
from slmcompile.data.rows import SourceRow
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.plans.data_files import is_glob
from slmcompile.shapes.splits import Split
from slmcompile.sources.of_data.file import FileData

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_SAYS_LITTLE = {"", "data", "dataset", "rows", *_SPLIT_NAMES}
_IN_OPTIONS = (
    ("set data.source.encoding=", "give --encoding "),
    ("leave data.source.encoding out", "leave --encoding out"),
    ("say what it is: data.source.encoding", "say what it is: --encoding"),
    ("or set data.source.format", "so that its ending says it"),
    ("data.source", "--data"),
)
"""Words of hints for recipes, and what they are here."""
_HEADERS = 200
"""Rows that a header is compared with."""


@dataclass(frozen=True)
class Options:
    """What a person says of the data, and leaves to be guessed.

    Attributes:
        data: paths of files, as they were typed.
        chosen: what of the columns.
        encoding: as of ``data.source.encoding``; None where it is UTF-8.
        delimiter: as of ``data.source.delimiter``; None where it is to be found.
    """

    data: tuple[str, ...] = ()
    chosen: Chosen = field(default_factory=Chosen)
    encoding: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True)
class OwnFile:
    """One file of the data.

    Attributes:
        path: in the project.
        there: where it lies now.
        copied: whether it lies outside the project, and is to be copied.
        read: its rows.
        size: its bytes.
    """

    path: str
    there: Path
    copied: bool
    read: ReadFile
    size: int


@dataclass(frozen=True)
class OwnData:
    """The files of one data set, and what they are for.

    Attributes:
        files: at least one.
        splits: the split of each by its name (``train.csv``); empty where they are one pile.
        guess: what the rows are for.
        options: what was said of them.
    """

    files: tuple[OwnFile, ...]
    splits: tuple[Split, ...]
    guess: Guess
    options: Options

    @property
    def source(self) -> dict[str, Any]:
        """As ``data.source`` has it."""
        paths = [each.path for each in self.files]
        found: dict[str, Any] = {"type": "file"}
        if self.splits:
            of: dict[str, list[str]] = {}
            for split, path in zip(self.splits, paths, strict=True):
                of.setdefault(split, []).append(path)
            found["files"] = {split: _one(each) for split, each in of.items()}
        else:
            found["path"] = _one(paths)
        said = {"encoding": self.options.encoding, "delimiter": self.options.delimiter}
        return found | {key: value for key, value in said.items() if value is not None}

    def name(self, otherwise: str) -> str:
        """What to call it, by its first file or their folder, if that says anything."""
        first = self.files[0]
        words = first.there.parent.name if self.splits else Path(first.path).name.partition(".")[0]
        found = identifier(words)
        return otherwise if found in _SAYS_LITTLE else found


def _one(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths


def identifier(text: str) -> str:
    """``text`` as a recipe or a group may be called; empty where nothing of it can."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:64]


def own_data(root: Path, options: Options) -> OwnData:
    """Reads the files and guesses what they are for; writes nothing.

    Args:
        root: the project's folder, which need not be there yet.
        options: which files, and what is said of them.

    Raises:
        UsageError: what a column is for is not clear, or another file is in the place of one that
            would be copied (exit 64).
        BadDataError, RefusedError: a file cannot be read, or is none (exit 65, 77).
    """
    given = FileData(
        type="file",
        path=options.data,
        encoding=options.encoding or "utf-8",
        delimiter=options.delimiter,
    )
    try:
        files = tuple(_own_file(root, name, given) for name in dict.fromkeys(options.data))
    except BadDataError as error:
        raise _in_options(error) from error
    paths = [each.path for each in files]
    if len(set(paths)) < len(paths):
        raise UsageError(
            f"--data: two files would both be {next(p for p in paths if paths.count(p) > 1)}",
            "rename one of them, or copy them into the project",
        )
    columns = [{name for row in each.read.rows for name in row.values} for each in files]
    for each, names in zip(files, columns, strict=True):
        if names != columns[0]:
            other = sorted(names ^ columns[0])
            raise BadDataError(
                f"{each.path}: has other columns than {files[0].path}"
                f" ({shortened(', '.join(map(str, other)))})",
                "give files of one kind, or make a recipe of each: slmcompile new NAME --data FILE",
            )
        if each.read.format == "csv":
            _require_header(each)
    rows = [row for each in files for row in each.read.rows]
    try:
        guessed = guess(rows, options.chosen, options.data[0])
    except BadDataError as error:
        raise _as_named(error, files, options.data) from error
    return OwnData(files, _splits(files), guessed, options)


def _own_file(root: Path, name: str, source: FileData) -> OwnFile:
    there = Path(os.path.abspath(name))  # noqa: PTH100 - links are for the reader to judge
    if not there.is_relative_to(root):
        there = there.resolve()
    inside = there.is_relative_to(root)
    if inside:
        path = there.relative_to(root).as_posix()
        read = read_file(root, path, source)
    else:
        path = f"data/{re.sub(r'[^A-Za-z0-9._-]+', '-', there.name).lstrip('.-') or 'rows'}"
        read = _as_kept(there, path, source)
        target = root / path
        if os.path.lexists(target) and not (
            target.is_file() and filecmp.cmp(there, target, shallow=False)
        ):
            raise UsageError(
                f"{path}: exists and is another file than {name}",
                f"rename one of them, or name the one in the project: --data {path}",
            )
    if is_glob(path):
        raise UsageError(f"{path}: the name would be read as a pattern", "rename the file")
    return OwnFile(path, there, not inside, read, there.stat().st_size)


def _as_kept(there: Path, path: str, source: FileData) -> ReadFile:
    """A file outside the project, with the name that it will have in it."""
    read = read_file(there.parent, there.name, source)
    rows = [
        SourceRow(row.values, path + row.where.removeprefix(there.name), row.columnar)
        for row in read.rows
    ]
    return ReadFile(path, rows, read.format, read.delimiter, read.encoding, read.compression)


def _in_options(error: BadDataError) -> SlmcompileError:
    """An error of reading whose hint names options of this command, and no keys of a recipe."""
    hint = error.mend
    for said, instead in _IN_OPTIONS:
        hint = hint.replace(said, instead)
    return BadDataError(error.what, hint, also=error.also)


def _as_named(error: BadDataError, files: Sequence[OwnFile], names: Sequence[str]) -> BadDataError:
    """An error in a row whose file is called as it was given: its copy was not made."""
    for file, name in zip(files, dict.fromkeys(names), strict=True):
        if file.copied and error.what.startswith(f"{file.path}:"):
            what = name + error.what.removeprefix(file.path)
            return BadDataError(what, error.mend, also=error.also)
    return error


def _require_header(file: OwnFile) -> None:
    names = columns_of(file.read.rows)
    first = [[row.values[each.name] for row in islice(file.read.rows, _HEADERS)] for each in names]
    require_header(names, first, file.path)


def _splits(files: Sequence[OwnFile]) -> tuple[Split, ...]:
    """The split of each file where all are called so and one is train's; else none."""
    names = [_SPLIT_NAMES.get(Path(each.path).name.partition(".")[0].lower()) for each in files]
    known = tuple(name for name in names if name is not None)
    if len(files) == 1 or not known:
        return ()
    if len(known) < len(files) or "train" not in known:
        raise UsageError(
            f"{files[0].path} and {len(files) - 1} more: some have a split's name, some have not",
            "call them train, validation and test, or all otherwise: then they are one pile",
        )
    return known


def bring(root: Path, data: OwnData) -> list[OwnFile]:
    """Copies what lies outside the project into it; returns what was copied."""
    brought = []
    for each in data.files:
        target = root / each.path
        if each.copied and not target.exists():
            with saying_what_is_missing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.{os.getpid()}.part")
                try:
                    shutil.copyfile(each.there, part)
                    part.replace(target)
                finally:
                    part.unlink(missing_ok=True)
            brought.append(each)
    return brought


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"
