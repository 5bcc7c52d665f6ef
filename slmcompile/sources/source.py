"""What is to be known of a source before anything is fetched or read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.shapes.splits import Split
from slmcompile.sources.keys import SourceKeys


@dataclass(frozen=True)
class Pinned:
    """What is outside the project and known by its hash.

    Attributes:
        name: as in a lock: ``package:NAME==VERSION``.
        key: the source's key that holds the hash.
        sha256: the hash.
    """

    name: str
    key: str
    sha256: str


@dataclass(frozen=True)
class Described:
    """A base model before it is there, stored as 32-bit floats.

    Attributes:
        config: what its ``config.json`` will say of its sizes.
        shapes: shape by name of every tensor, tied weights once.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ModelSource:
    """One kind of place that base models come from.

    Attributes:
        name: as in ``model.source.type``.
        place: behind which others it is listed.
        section: its keys of ``model.source``, and no others.
        program: ``package.module:name`` of ``(source, project, out, progress) -> where``: writes
            the model's files into the empty folder ``out`` and says where they are from. Raises
            RefusedError, MissingError, CorruptError or BadRecipeError.
        packages: installed packages that what it writes depends on, beside torch's.
        file: its key that names a project file which the model is made from; empty if none does.
        folder: its key that names a project folder which holds the model; empty if none does. A
            source has the one or the other.
        pinned: what it takes from elsewhere by hash; None for what project or hub hold.
        described: the model as the source itself tells it; None where its files must be seen.
        made_here: whether all that it writes is made by its program, and nothing fetched or copied:
            the one case in which nobody else's files are looked through for code.
        epoch: raised by hand when its program writes something else for equal keys.
    """

    name: str
    place: int
    section: type[SourceKeys]
    program: str
    packages: tuple[str, ...] = ()
    file: str = ""
    folder: str = ""
    pinned: Callable[[Any], Pinned | None] = lambda _: None
    described: Callable[[Any], Described | None] = lambda _: None
    made_here: bool = False
    epoch: int = 1

    def __post_init__(self) -> None:
        if self.file and self.folder:
            raise ValueError(f"model source {self.name}: a file or a folder, not both")


@dataclass(frozen=True)
class DataSource:
    """One kind of place that rows come from.

    Attributes:
        name: as in ``data.source.type``.
        place: behind which others it is listed.
        section: its keys of ``data.source``, and no others.
        program: ``package.module:name`` of ``(source, project, roots) -> Rows``, those of
            ``slmcompile.data.source``. Raises BadDataError, RefusedError or MissingError.
        splits: the splits that it brings; those missing are taken from train's rows.
        files: paths and globs of the project that it reads, by the key that names them: one of the
            source's, or one of a mapping in it (``files.train``). A key whose globs match several
            files is given a list of them.
        fetches: whether it uses the network, so that a plan cannot look at its rows.
        packages: installed packages that what it reads depends on.
        epoch: raised by hand when its program reads something else out of equal bytes.
    """

    name: str
    place: int
    section: type[SourceKeys]
    program: str
    splits: Callable[[Any], frozenset[Split]] = lambda _: frozenset({"train"})
    files: Callable[[Any], Mapping[str, tuple[str, ...]]] = lambda _: {}
    fetches: bool = False
    packages: tuple[str, ...] = ()
    epoch: int = 1
