"""``ci train``: runs what was approved, in a tree of its own, and keeps what comes of it.

Everything is derived anew from git objects by the target's tool before anything of the store is
touched. What other runs of the pull request or the target have finished is taken by fingerprint;
what is finished here, checkpoints too, goes to the pull request's folder of the store at once, so
that a job that is killed has lost some seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from slmcompile.ci import result
from slmcompile.ci.authorise import require_still
from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.derived import approved
from slmcompile.ci.job import Job
from slmcompile.ci.result import RecipeResult, Record
from slmcompile.ci.reuse import Sender, bring, sending
from slmcompile.ci.run import call
from slmcompile.ci.target import Target, held, target_of
from slmcompile.ci.tree import Tree, tree, wanted
from slmcompile.console.errors import UsageError
from slmcompile.files.revision import Revision


@dataclass(frozen=True)
class Trained:
    """What a training has left.

    Attributes:
        record: how it ended.
        sha256: of the record in the store.
    """

    record: Record
    sha256: str


def train(job: Job) -> Trained:
    """Runs the recipes that a comment approves of.

    Raises:
        SlmcompileError: it is no approval (any more), or nothing can be run (4, 64, 69, 77).
    """
    found = approved(job.ask, job.host, job.project, job.target)
    names = wanted(found.proposal)
    if not names:
        raise UsageError(f"#{job.ask.number}: changes no recipe", "there is nothing to train")
    head = Revision(job.project.root, f"#{job.ask.number}", found.proposal.head)
    # Before the head's: the plug-ins of each are in the tables while its tree is made.
    of = target_of(job.project, job.target, names, job.folder / "target", job.say)
    with tree(job.project, head, job.target, names, job.folder / "run") as made:
        with _kept(job, made):
            ended = tuple(_one(job, of, made, name) for name in names)
        require_still(job.ask, job.host, found.heads)
        record = Record(found.proposal.digest, head.commit, job.target.commit, ended)
        return Trained(record, result.write(job.own(made.project), record))


@contextmanager
def _kept(job: Job, made: Tree) -> Iterator[None]:
    """Brings what is finished, and sends on what will be."""
    own, sent = job.own(made.project), set[str]()
    for plan in made.plans.values():
        found = bring(made.project, plan, (own, job.main(made.project)), job.say)
        sent |= {found.fingerprints[each] for each in found.stores}
        job.say(f"{plan.recipe}: {len(found.stores)} stages are finished already")
    Checkpoints(made.project, own).bring(job.say)
    sender = Sender(made.project, [*made.plans.values()], own, sorted(sent))
    with sending(sender, job.say, job.every):
        yield


def _one(job: Job, of: Target, made: Tree, name: str) -> RecipeResult:
    ended = call(made.project, ("run", name), name, job.environ)
    return ended if ended.code else held(of, made.project, made.plans[name], job.environ, job.say)
