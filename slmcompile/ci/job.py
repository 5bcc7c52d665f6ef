"""What a job of an approved training works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slmcompile.ci.authorise import Asked
from slmcompile.ci.host import Host
from slmcompile.ci.reuse import Say
from slmcompile.ci.store import MAIN, PULL_REQUESTS, Store
from slmcompile.files.revision import Revision
from slmcompile.recipe.project import Project

EVERY = 10.0


@dataclass(frozen=True)
class Job:
    """What a job of an approved training works with.

    Attributes:
        project: of the repository.
        host: who is asked about the approval, and told.
        ask: the comment.
        target: the target's tip.
        folder: one of this job alone, empty or not there yet.
        environ: the job's environment.
        say: told what goes on.
        every: seconds after which what a run has finished meanwhile is put into the store.
    """

    project: Project
    host: Host
    ask: Asked
    target: Revision
    folder: Path
    environ: Mapping[str, str]
    say: Say
    every: float = EVERY

    def own(self, project: Project) -> Store:
        """The pull request's folder of the store, for a tree."""
        return Store(project, PULL_REQUESTS, str(self.ask.number))

    def main(self, project: Project) -> Store:
        """The target's, which is read and not written."""
        return Store(project, MAIN)
