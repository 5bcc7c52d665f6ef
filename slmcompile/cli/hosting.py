"""What ``init --github`` and ``--gitlab`` add: workflows, the lock of the tool, and what is to set.

All is looked for before anything is written. Knows nothing of what the files say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slmcompile.ci import workflow_files
from slmcompile.ci.own_lock import own_lock
from slmcompile.console.errors import UsageError
from slmcompile.files.artifact import write_text
from slmcompile.files.git import ask
from slmcompile.files.revision import in_git, prefix
from slmcompile.files.safe_read import read_regular

_LARGEST = 1 << 20
"""Bytes of a file that is compared."""
_NAMES = {"github": "GitHub", "gitlab": "GitLab"}


@dataclass(frozen=True)
class Hosting:
    """Files that are still to be written.

    Attributes:
        host: ``GitHub`` or ``GitLab``.
        texts: by project-relative path.
        to_set: what an owner sets on the host.
        flow: what goes on in a pull request then.
    """

    host: str
    texts: dict[str, str]
    to_set: tuple[str, ...]
    flow: str

    def write(self, root: Path) -> list[str]:
        """Writes them; returns their paths."""
        for path, text in self.texts.items():
            write_text(root / path, text)
        return [*self.texts]

    def lines(self) -> list[str]:
        """What to set, numbered."""
        return [f"{number}. {step}" for number, step in enumerate(self.to_set, 1)]

    def readme(self) -> str:
        """A section of a project's README."""
        steps = "\n".join(self.lines())
        return (
            f"\n## Pull requests\n\n{self.flow}\n\nWhat an owner sets on {self.host}, once:\n\n"
            f"{steps}\n"
        )


def hosting(root: Path, host: str) -> Hosting:
    """What a project lacks to be retrained from pull requests.

    Args:
        root: the project, which may not be there yet.
        host: ``github`` or ``gitlab``.

    Raises:
        UsageError: a file of that name is there and is another, or the project lies below the top
            of its repository, where a host looks for no workflows (exit 64).
        RefusedError: something on the way to a file is a link (exit 77).
        MissingError: what the jobs need is not installed, so its version is unknown (exit 69).
    """
    if in_git(root) and (not root.is_dir() or prefix(root)):
        raise UsageError(
            f"--{host}: {root} is not the top of its repository, where jobs are looked for",
            "run it in the repository's top folder",
        )
    branch = _default_branch(root)
    github = host == "github"
    texts = workflow_files.github(branch) if github else workflow_files.gitlab()
    if read_regular(root, workflow_files.LOCK, workflow_files.LOCK, _LARGEST) is None:
        texts[workflow_files.LOCK] = own_lock(workflow_files.EXTRAS if github else ())
    to_set = (
        workflow_files.to_set_on_github(branch) if github else workflow_files.to_set_on_gitlab()
    )
    lacking = {path: text for path, text in texts.items() if _lacks(root, path, text)}
    flow = workflow_files.FLOW_ON_GITHUB if github else workflow_files.FLOW_ON_GITLAB
    return Hosting(_NAMES[host], lacking, to_set, flow)


def _lacks(root: Path, path: str, text: str) -> bool:
    there = read_regular(root, path, path, _LARGEST)
    if there is None:
        return True
    if there.replace(b"\r\n", b"\n") != text.encode():
        raise UsageError(
            f"{path}: exists, and is not overwritten", "move it away, run again and compare"
        )
    return False


def _default_branch(root: Path) -> str:
    """As the remote has it; else the one that is checked out, as in a new repository."""
    if not (root.is_dir() and in_git(root)):
        return "main"  # as ``init`` calls it
    for reference in ("refs/remotes/origin/HEAD", "HEAD"):
        found = ask(root, "symbolic-ref", "--quiet", "--short", reference)
        if found.code == 0:
            return found.text.strip().removeprefix("origin/")
    return "main"
