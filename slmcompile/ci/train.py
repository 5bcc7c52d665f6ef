"""``ci train``: runs what was approved, in a tree of its own, and keeps what comes of it.

Everything is derived anew from git objects by the target's tool before anything of the store is
touched. What other runs of the pull request or the target have finished is taken by fingerprint;
what is finished here, checkpoints too, goes to the pull request's folder of the store at once, so
that a job that is killed has lost some seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slmcompile.ci import result
from slmcompile.ci.authorise import Asked, require_still
from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.derived import approved
from slmcompile.ci.host import Host
from slmcompile.ci.result import Record, RecipeResult
from slmcompile.ci.reuse import Say, Sender, bring, sending
from slmcompile.ci.run import call
from slmcompile.ci.store import MAIN, PULL_REQUESTS, Store
from slmcompile.ci.target import Target, held, target_of
from slmcompile.ci.tree import Tree, tree, wanted
from slmcompile.console.errors import UsageError
from slmcompile.files.revision import Revision
from slmcompile.recipe.project import Project


@dataclass(frozen=True)
class Trained:
    """What a training has left.

    Attributes:
        record: how it ended.
        sha256: of the record in the store.
    """

    record: Record
    sha256: str


def train(
    project: Project,
    host: Host,
    ask: Asked,
    target: Revision,
    folder: Path,
    environ: Mapping[str, str],
    say: Say,
) -> Trained:
    """Runs the recipes that a comment approves of.

    Args:
        project: of the repository.
        host: who is asked about the approval.
        ask: the comment.
        target: the target's tip.
        folder: an empty one, of this run alone.
        environ: the job's environment.
        say: told what goes on.

    Raises:
        SlmcompileError: it is no approval (any more), or nothing can be run (4, 64, 69, 77).
    """
    found = approved(ask, host, project, target)
    names = wanted(found.proposal)
    if not names:
        raise UsageError(f"#{ask.number}: changes no recipe", "there is nothing to train")
    head = Revision(project.root, f"#{ask.number}", found.request.head)
    # Before the head's: the plug-ins of each are in the tables while its tree is made.
    of = target_of(project, target, names, folder / "target", say)
    with tree(project, head, target, names, folder / "run") as made:
        own, main = stores(made.project, ask.number)
        with _kept(made, own, main, say):
            ended = tuple(_one(of, made, name, environ, say) for name in names)
        require_still(ask, host, frozenset({head.commit}))
        record = Record(found.proposal.digest, head.commit, target.commit, ended)
        return Trained(record, result.write(own, record))


def stores(project: Project, number: int) -> tuple[Store, Store]:
    """The pull request's, which is written, and the target's, which is not."""
    return Store(project, PULL_REQUESTS, str(number)), Store(project, MAIN)


@contextmanager
def _kept(made: Tree, own: Store, main: Store, say: Say) -> Iterator[None]:
    """Brings what is finished, and sends on what will be."""
    sent: set[str] = set()
    for plan in made.plans.values():
        found = bring(made.project, plan, (own, main), say)
        sent |= {found.fingerprints[each] for each in found.stores}
        say(f"{plan.recipe}: {len(found.stores)} stages are finished already")
    Checkpoints(made.project, own).bring(say)
    with sending(Sender(made.project, [*made.plans.values()], own, sorted(sent)), say):
        yield


def _one(
    of: Target, made: Tree, name: str, environ: Mapping[str, str], say: Say
) -> RecipeResult:
    ended = call(made.project, ("run", name), name, environ)
    return ended if ended.code else held(of, made.project, made.plans[name], environ, say)
