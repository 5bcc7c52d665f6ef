"""A version's files on a machine that has never trained: whole and proved, or not there at all.

From the tag to the commit, to its statement, to the objects that the statement names in a DVC
remote, to the SHA-256 of every file. The remote is believed nothing. What is there already and
holds is left as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slmcompile.console.errors import CorruptError, SlmcompileError, UsageError
from slmcompile.files.artifact import appearing, write_bytes, write_text
from slmcompile.files.revision import Revision, read_blob
from slmcompile.files.safe_read import read_or_none
from slmcompile.files.second_name import link_or_copy
from slmcompile.provenance.committed import STATEMENT, statement_bytes
from slmcompile.recipe.project import Project, nearest
from slmcompile.state.locks import work_lock
from slmcompile.state.state import object_path
from slmcompile.versions.history import History, Version, read_history
from slmcompile.versions.objects import pull
from slmcompile.versions.publish import shared_history
from slmcompile.versions.statements import read_statement, require_good
from slmcompile.versions.tags import number, require_recipe

if TYPE_CHECKING:
    from slmcompile.provenance.envelope import Sealed

FOLDER = "fetched"
_LARGEST = 8 << 20


@dataclass(frozen=True)
class Fetched:
    """What was asked for, and where it is.

    Attributes:
        version: the version.
        folder: where its folders lie.
        names: of its folders that were asked for.
        new: those of them that were not there before.
        keyid: the trusted key that has signed its statement; None where none is trusted here.
    """

    version: Version
    folder: Path
    names: tuple[str, ...]
    new: tuple[str, ...]
    keyid: str | None


def fetch(
    project: Project,
    wanted: str,
    *,
    target: str | None = None,
    to: Path | None = None,
    source: str = "main",
    remote: str | None = "origin",
    say: Callable[[str], None],
) -> Fetched:
    """Fetches what a version has trained and exported.

    Args:
        project: a clone of the repository.
        wanted: ``R@production`` or ``R@v1.2.0``.
        target: one target, whose export alone is fetched.
        to: the folder; ``fetched/R-v1.2.0`` in the project by default.
        source: name of the DVC remote, as the version's own commit sets it up.
        remote: git's name of the remote that is asked for tags; None goes by those that are here.
        say: told what takes time.

    Raises:
        CorruptError: a tag was moved, the statement or a file is damaged (exit 74).
        MissingError: no such version, or a remote lacks an object (exit 69).
        RefusedError: the version was taken back, or its gates did not pass (exit 77).
        UsageError: the name or the folder will not do (exit 64).
    """
    recipe, _, which = wanted.partition("@")
    require_recipe(recipe)
    if not which:
        raise UsageError(f"{wanted}: which version?", f"{recipe}@production, or {recipe}@v1.2.0")
    history = (
        shared_history(project, recipe, remote) if remote else read_history(project.root, recipe)
    )
    version = _version(history, which)
    require_good(project, version, history)
    sealed = read_statement(project, version)
    names = _names(sealed, target)
    folder = to or project.root / FOLDER / f"{recipe}-{version.number}"
    with work_lock(project, version.statement, say):
        _require_ours(project, version, folder)
        lacking = [name for name in names if not _holds(sealed, name, folder)]
        if lacking:
            say(f"fetching {version.shown} from DVC remote {source}: {', '.join(lacking)}")
            if to is None:
                _hide(folder.parent)
            _bring(project, version, sealed, lacking, folder, source)
    return Fetched(version, folder, tuple(names), tuple(lacking), sealed.keyid)


def _version(history: History, which: str) -> Version:
    wanted = number(which)
    return history.version(wanted) if wanted else history.holder(which)


def _names(sealed: Sealed, target: str | None) -> list[str]:
    """Folders that a statement has files of, or a target's alone."""
    names = sorted({name.partition("/")[0] for name in sealed.statement.subjects})
    if target is None:
        return names
    targets = [name.removeprefix("export-") for name in names if name.startswith("export-")]
    if target not in targets:
        raise UsageError(
            f"{sealed.statement.recipe}: there is no target {target!r} in this version",
            nearest("targets are", target, targets),
        )
    return [f"export-{target}"]


def _require_ours(project: Project, version: Version, folder: Path) -> None:
    """Checks that nothing in the folder is anything but this version."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    data = statement_bytes(project.root, version.recipe, version.commit)
    if read_or_none(folder, STATEMENT, _LARGEST) != data:
        raise UsageError(
            f"{project.shown(folder)}: holds something else than {version.shown}",
            "remove it, or name another folder with --to",
        )


def _holds(sealed: Sealed, name: str, folder: Path) -> bool:
    """Whether a folder is there with every byte of it."""
    from slmcompile.provenance.check import check_folder

    if not (folder / name).is_dir():
        return False
    try:
        check_folder(sealed, name, folder / name)
    except SlmcompileError:
        return False
    return True


def _hide(folder: Path) -> None:
    """Keeps weights out of git, as the folder is no project's to know of."""
    if not (folder / ".gitignore").exists():
        write_text(folder / ".gitignore", "*\n")


def _bring(
    project: Project,
    version: Version,
    sealed: Sealed,
    names: Sequence[str],
    folder: Path,
    source: str,
) -> None:
    """Brings folders: all of them, or none."""
    objects = {name: _object(sealed, version, name) for name in names}
    cache = project.scratch / "fetched" / version.statement[:16]
    try:
        listed = pull(
            project.root,
            source,
            list(objects.values()),
            cache,
            config=_config(project, version),
        )
        with ExitStack() as all_of_them:
            if (folder / STATEMENT).exists():
                new = {name: all_of_them.enter_context(appearing(folder / name)) for name in names}
            else:
                whole = all_of_them.enter_context(appearing(folder))
                data = statement_bytes(project.root, version.recipe, version.commit)
                write_bytes(whole / STATEMENT, data)
                new = {name: whole / name for name in names}
            for name, place in new.items():
                _assemble(sealed, name, place, listed[objects[name]], cache)
    except CorruptError:
        shutil.rmtree(cache, ignore_errors=True)  # or the damage would be found there again
        raise
    shutil.rmtree(cache, ignore_errors=True)


def _assemble(sealed: Sealed, name: str, place: Path, files: dict[str, str], cache: Path) -> None:
    from slmcompile.provenance.check import check_folder

    place.mkdir(exist_ok=True)
    for path, md5 in files.items():
        link_or_copy(cache / object_path(md5), place / path)
        (place / path).chmod(0o644)
    check_folder(sealed, name, place, f"{sealed.statement.recipe}: {name} of the remote")


def _object(sealed: Sealed, version: Version, name: str) -> str:
    try:
        found = sealed.statement.stage(name).object
    except KeyError:
        found = ""
    if not found:
        raise CorruptError(f"{version.shown}: its statement names no object of {name}", "")
    return found


def _config(project: Project, version: Version) -> bytes:
    """DVC's settings as they were committed with the version."""
    entry = Revision(project.root, version.commit[:10], version.commit).file(".dvc/config")
    return read_blob(project.root, entry.blob) if entry is not None else b""
