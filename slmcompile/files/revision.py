"""Files of a git revision, read without a checkout and without running anything.

Only plumbing that reads is called (``rev-parse``, ``ls-tree``, ``cat-file blob``, ``rev-list``,
``merge-base``, ``diff-tree``; of the work tree ``check-ignore`` and ``ls-files``), without anything
that it could start. A tree of a few kilobytes can hold files without end, so only named paths and
differences are listed, and git is stopped once its answer is larger than any that is of use. Knows
nothing of recipes.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from slmcompile.console.errors import CorruptError, MissingError, RefusedError, UsageError
from slmcompile.files.git import MAX_ANSWER, git

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REGULAR = frozenset({"100644", "100755"})
_TREE = "040000"
_MAX_TEXT = MAX_ANSWER
"""Bytes of a file that is read as text."""


@dataclass(frozen=True)
class Entry:
    """A regular file of a revision: its blob and its size in bytes, −1 if git lacks the blob."""

    blob: str
    size: int


@dataclass(frozen=True)
class Revision:
    """One commit, seen from a folder of its repository.

    Attributes:
        root: the folder that paths are relative to; it may lie deep in the repository.
        name: what the user called it (``HEAD~1``).
        commit: the full hash.
    """

    root: Path
    name: str
    commit: str

    @property
    def shown(self) -> str:
        """The name, and the short hash where the name does not say it."""
        short = self.commit[:10]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"

    def entries(self, *paths: str) -> dict[str, Entry]:
        """Regular files at or below ``paths`` by path; links and submodules are passed over.

        Raises:
            RefusedError: there are more than can be listed (exit 77).
        """
        return {path: entry for path, mode, entry in self._listed(*paths) if mode in _REGULAR}

    def file(self, path: str) -> Entry | None:
        """One regular file; None if it is not there.

        Raises:
            RefusedError: there is something else of that name, a link for one (exit 77).
        """
        for found, mode, entry in self._listed(path):
            if found == path and mode in _REGULAR:
                return entry
            raise RefusedError(
                f"{path}@{self.name}: is not a regular file", "commit a file of that name"
            )
        return None

    def _listed(self, *paths: str) -> Iterator[tuple[str, str, Entry]]:
        if not paths:
            return  # to git they would be all paths
        # Folders are listed too (-t), for empty ones without end to be an answer without end.
        words = ("ls-tree", "-r", "-t", "-l", "-z", self.commit, "--", *paths)
        try:
            listed = git(self.root, *words)
        except RefusedError as error:
            raise RefusedError(
                f"{', '.join(paths)}@{self.name}: more files than can be listed", error.mend
            ) from error
        for line in filter(None, listed.split(b"\0")):
            facts, _, raw = line.partition(b"\t")
            mode, _, blob, size = facts.decode("ascii").split()
            if mode == _TREE:
                continue
            path = os.fsdecode(raw)
            if path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
                raise RefusedError(
                    f"{self.name}: a path in it leaves the project", "do not trust this revision"
                )
            yield path, mode, Entry(blob, int(size) if size.isdigit() else -1)

    def text(self, path: str) -> str | None:
        """One small file's text; None if it is not there, too large or not UTF-8."""
        entry = _below(self, "/".join(path.split("/")[:2])).get(path)
        if entry is None or not 0 <= entry.size <= _MAX_TEXT:
            return None
        try:
            return read_blob(self.root, entry.blob).decode("utf-8")
        except UnicodeDecodeError:
            return None

    def md5(self, path: str) -> str | None:
        """A file's MD5 as DVC computes it; None if it is not there."""
        entry = self.entries(path).get(path)
        if entry is None or entry.size < 0:
            return None
        with tempfile.TemporaryFile() as content:
            git(self.root, "cat-file", "blob", entry.blob, to=content)
            content.seek(0)
            digest = hashlib.md5(usedforsecurity=False)
            while chunk := content.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def write(self, files: Mapping[Path, Entry]) -> None:
        """Writes files with their bytes as git stores them, whatever their size."""
        with tempfile.TemporaryFile() as names, tempfile.TemporaryFile() as contents:
            names.write("".join(f"{entry.blob}\n" for entry in files.values()).encode("ascii"))
            names.seek(0)
            git(self.root, "cat-file", "--batch", given=names, to=contents)
            contents.seek(0)
            for path, entry in files.items():
                header = contents.readline().split()
                if header[1:] != [b"blob", str(entry.size).encode("ascii")]:
                    raise CorruptError(
                        f"{self.name}: {path.name}: its blob is missing", "fetch the whole history"
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as stream:
                    _copy(contents, stream, entry.size)
                contents.read(1)  # the newline behind each object


@lru_cache(maxsize=8)
def _below(revision: Revision, folder: str) -> Mapping[str, Entry]:
    """Files of one folder; a commit never changes, so one listing serves all reads."""
    return revision.entries(folder)


def _copy(source: IO[bytes], to: IO[bytes], size: int) -> None:
    while size:
        chunk = source.read(min(size, 1 << 20))
        if not chunk:
            raise CorruptError("git cat-file ended early", "run `git fsck`")
        to.write(chunk)
        size -= len(chunk)


def resolve(root: Path, name: str) -> Revision:
    """The commit that ``name`` stands for.

    Raises:
        UsageError: no such revision, or a name that git would take for an option (exit 64).
        MissingError: not under git, or no git here (exit 69).
    """
    if not name or name.startswith("-") or any(ord(letter) < 32 for letter in name):
        raise UsageError(f"{name!r} is not a git revision", "name a branch, a tag or a commit")
    if not in_git(root):
        raise MissingError(f"{root}: not under git", "run `git init` and commit")
    try:
        answer = git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except CorruptError as error:
        if "dubious ownership" in error.what:
            raise MissingError(error.what, "git config --global --add safe.directory …") from error
        raise UsageError(
            f"git knows no revision {name!r}", "name a branch, a tag or a commit; perhaps fetch it"
        ) from error
    commit = answer.decode("ascii", "replace").strip()
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"git knows no revision {name!r}", "name a branch, a tag or a commit")
    return Revision(root, name, commit)


def merge_base(one: Revision, other: Revision) -> Revision:
    """The newest commit that both have in common.

    Raises:
        MissingError: there is none here, as in a clone without history (exit 69).
    """
    try:
        answer = git(one.root, "merge-base", one.commit, other.commit)
    except CorruptError as error:
        raise MissingError(
            f"{one.shown} and {other.shown} have no commit in common here",
            "fetch the whole history of both",
        ) from error
    commit = answer.decode("ascii", "replace").split()[0]
    return Revision(one.root, commit[:10], commit)


def changed_paths(old: Revision, new: Revision) -> tuple[str, ...]:
    """Paths of whatever differs between two commits, from the top of the repository.

    Raises:
        RefusedError: there are more than can be listed (exit 77).
    """
    words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", old.commit, new.commit)
    listed = git(old.root, *words)
    return tuple(os.fsdecode(path) for path in listed.split(b"\0") if path)


def prefix(root: Path) -> str:
    """Where a folder lies in its repository: empty at the top, else ``folder/``."""
    return os.fsdecode(git(root, "rev-parse", "--show-prefix")).removesuffix("\n")


def in_git(root: Path) -> bool:
    """Whether ``root`` lies in a git work tree."""
    return any((parent / ".git").exists() for parent in (root, *root.parents))


def ignored(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Those of ``paths`` that git's patterns ignore: ``file:line: pattern`` of the one that does.

    Also where git tracks them, for DVC goes by the patterns alone.
    """
    with tempfile.TemporaryFile() as names:
        names.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
        names.seek(0)
        words = ("check-ignore", "--verbose", "-z", "--no-index", "--stdin")
        fields = os.fsdecode(git(root, *words, given=names, also=1)).split("\0")
    found = zip(*(fields[at::4] for at in range(4)), strict=False)
    top = next(parent for parent in (root, *root.parents) if (parent / ".git").exists())

    def shown(source: str) -> str:
        return source if source.startswith("/") else os.path.relpath(top / source, root)

    # A pattern that takes paths out again is named too.
    return {
        path: f"{shown(source)}:{line}: {pattern}"
        for source, line, pattern, path in found
        if not pattern.startswith("!")
    }


def tracked(root: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """Those of ``folders`` in which git tracks a file."""
    listed = os.fsdecode(git(root, "ls-files", "-z", "--", *folders)).split("\0")
    return tuple(
        folder
        for folder in folders
        if any(path == folder or path.startswith(f"{folder}/") for path in listed)
    )


def read_blob(root: Path, blob: str) -> bytes:
    """A blob's bytes."""
    return git(root, "cat-file", "blob", blob)


def history(root: Path, path: str, limit: int) -> Iterator[Revision]:
    """Revisions that touched ``path``, the newest first; none where there is no git."""
    if not in_git(root):
        return
    try:
        listed = git(root, "rev-list", f"--max-count={limit}", "HEAD", "--", path)
    except (CorruptError, MissingError):
        return  # no commit yet, or no git: there is no history to tell of
    for commit in listed.decode("ascii").split():
        yield Revision(root, commit[:10], commit)


def find_version(
    root: Path, path: str, md5: str, *, limit: int = 50, largest: int = _MAX_TEXT
) -> tuple[Revision, bytes] | None:
    """The newest committed version of ``path`` with this MD5, among its last ``limit`` changes."""
    seen: set[str] = set()
    for revision in history(root, path, limit):
        entry = revision.entries(path).get(path)
        if entry is None or entry.blob in seen or not 0 <= entry.size <= largest:
            continue
        seen.add(entry.blob)
        content = read_blob(root, entry.blob)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
            return revision, content
    return None
