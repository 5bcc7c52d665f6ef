"""The commit of a result: a child of the approved head that differs below ``pipelines/`` alone.

Made from git objects and an index of its own; no work tree, hook or filter takes part. Its files
are those that the run's tree holds, and nothing of the head's own ``pipelines/`` that a recipe of
it would not have generated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from slmcompile.console.errors import RefusedError
from slmcompile.files.git import git
from slmcompile.files.revision import Revision, changed_paths, prefix
from slmcompile.recipe.project import Project

FOLDER = "pipelines"

_LARGEST = 8 << 20
NAME, EMAIL = "slmcompile", "slmcompile@users.noreply.github.com"
"""Who commits and tags in a job."""


def result_commit(
    head: Revision, made: Project, pipelines: Sequence[str], kept: Sequence[str], message: str
) -> str:
    """Makes the commit; returns its hash, or the head's where nothing differs.

    Args:
        head: the approved commit.
        made: the tree of the run.
        pipelines: those that were run, whose folders become what the tree holds.
        kept: others that recipes of the head have, which stay as they are.
        message: of the commit.

    Raises:
        RefusedError: a file of the result is larger than any should be (exit 77).
    """
    above = prefix(head.root)
    with tempfile.TemporaryDirectory(prefix="slmcompile-") as folder:
        environ = {"GIT_INDEX_FILE": str(Path(folder) / "index"), **_who(head)}
        _git(head.root, "read-tree", head.commit, environ=environ)
        stay = {f"{FOLDER}/{name}/" for name in kept}
        gone = [path for path in head.entries(FOLDER) if not path.startswith(tuple(stay))]
        lines = [f"0 {'0' * 40}\t{above}{path}" for path in gone]
        lines += [
            f"100644 {_git(head.root, 'hash-object', '-w', '--stdin', given=data)}\t{above}{path}"
            for path, data in _files(made, pipelines)
        ]
        given = "".join(f"{line}\0" for line in lines).encode()
        _git(head.root, "update-index", "-z", "--index-info", given=given, environ=environ)
        tree = _git(head.root, "write-tree", environ=environ)
        if tree == _git(head.root, "rev-parse", f"{head.commit}^{{tree}}"):
            return head.commit
        words = ("commit-tree", tree, "-p", head.commit, "-m", message)
        commit = _git(head.root, *words, environ=environ)
    require_result(head, Revision(head.root, commit[:10], commit))
    return commit


def result_of(commit: Revision) -> Revision | None:
    """The commit below one that differs from it in ``pipelines/`` alone; None of any other."""
    parents = _git(commit.root, "show", "--no-patch", "--format=%P", commit.commit).split()
    if len(parents) != 1:
        return None
    before = Revision(commit.root, parents[0][:10], parents[0])
    try:
        require_result(before, commit)
    except RefusedError:
        return None
    return before


def _who(head: Revision) -> dict[str, str]:
    """Author and committer; the head's time, so that equal results are one commit."""
    when = _git(head.root, "show", "--no-patch", "--format=%ct", head.commit)
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", NAME), ("EMAIL", EMAIL), ("DATE", f"{when} +0000"))
    }


def require_result(head: Revision, commit: Revision) -> None:
    """That a commit differs from the approved head below ``pipelines/`` alone.

    Raises:
        RefusedError: it carries more (exit 77).
    """
    inside = f"{prefix(head.root)}{FOLDER}/"
    for path in changed_paths(head, commit):
        if not path.startswith(inside):
            raise RefusedError(f"{path}: a result changes {FOLDER}/ alone", "train anew")


def _git(
    root: Path, *words: str, given: bytes = b"", environ: Mapping[str, str] | None = None
) -> str:
    with tempfile.TemporaryFile() as stream:
        stream.write(given)
        stream.seek(0)
        return git(root, *words, given=stream, environ=environ).decode("ascii").strip()


def _files(made: Project, pipelines: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in pipelines:
        for path in sorted((made.pipelines / name).rglob("*")):
            shown = path.relative_to(made.root).as_posix()
            if path.is_symlink() or not path.is_file() or path.name.startswith("."):
                continue
            if path.stat().st_size > _LARGEST:
                raise RefusedError(f"{shown}: larger than {_LARGEST} bytes", "plot less")
            yield shown, path.read_bytes()
