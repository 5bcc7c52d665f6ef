"""Rows in files of the project."""

from __future__ import annotations

from difflib import get_close_matches
from encodings.aliases import aliases
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from slmcompile.registry.scalars import ProjectPaths
from slmcompile.shapes.splits import SPLITS, Split
from slmcompile.sources.keys import SourceKeys, train_named
from slmcompile.sources.source import DataSource

Encoding = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,39}$")]


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def _known_encoding(name: str) -> str:
    if not _is_encoding(name):
        known = sorted({*aliases, *aliases.values()})
        near = get_close_matches(name.lower().replace("-", "_"), known, n=5, cutoff=0.5)
        better = next(filter(_is_encoding, near), None)
        raise PydanticCustomError(
            "unknown_encoding",
            "is no text encoding that Python knows",
            {"mend": f"did you mean {better!r}?" if better else "use utf-8, cp1252, …"},
        )
    return name


class FileData(SourceKeys):
    """Rows in files of the project: one pile to be split, or files for each split."""

    type: Literal["file"] = Field(description="Rows in files of the project.")
    path: ProjectPaths | None = Field(
        None,
        description="A file, a glob (`data/parts/*.jsonl`) or a list of them, read in that order,"
        " a glob's by name; `split` says how to divide the rows.",
    )
    files: dict[Split, ProjectPaths] | None = Field(
        None, description="Instead of path: the files of each split, each as path is written."
    )
    format: Literal["auto", "json", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="How the files are read; auto goes by each one's ending, before `.gz` or"
        " `.zst` if it is compressed.",
    )
    delimiter: Annotated[str, StringConstraints(pattern=r'^([^"\r\n]|tab)$')] | None = Field(
        None,
        description="What stands between the cells of a CSV file, one character or `tab`; null"
        " looks at the header and the first rows: a comma, or else a semicolon, tab or bar.",
    )
    encoding: Encoding = Field(
        "utf-8", description="How text files are encoded: a name that Python knows (`cp1252`)."
    )

    _with_train = field_validator("files")(train_named)
    _with_known_encoding = field_validator("encoding")(_known_encoding)

    @property
    def names_both(self) -> bool:
        """Whether it has a path and files; of neither, ``paths`` is empty."""
        return bool(self.path) and bool(self.files)

    @property
    def paths(self) -> dict[Split, tuple[str, ...]]:
        """Files and globs of each split, as they are written; of path alone, train's."""
        train: dict[Split, ProjectPaths] = {} if self.path is None else {"train": self.path}
        named = train or self.files or {}
        return {
            split: (given,) if isinstance(given, str) else given
            for split in SPLITS
            if (given := named.get(split))
        }


def _splits(source: FileData) -> frozenset[Split]:
    return frozenset(source.files or {"train"})


def _files(source: FileData) -> dict[str, tuple[str, ...]]:
    whole = source.path is not None
    return {"path" if whole else f"files.{split}": paths for split, paths in source.paths.items()}


ENTRIES = (
    DataSource(
        name="file",
        place=10,
        section=FileData,
        program="slmcompile.data.source:read_files",
        splits=_splits,
        files=_files,
    ),
)
