"""``ci push``: states, signs, commits and says what an approved training has made.

No code of the project is executed here: all that there is to be done must be finished, and is
taken by fingerprint and SHA-256 into a tree that is made anew. Bars are judged again, so nothing
of the training's word is believed but what it says was wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from slmcompile.ci import outcome, result
from slmcompile.ci.authorise import require_still
from slmcompile.ci.commit import FOLDER, result_commit
from slmcompile.ci.derived import Approved, approved
from slmcompile.ci.git_remote import push as push_git
from slmcompile.ci.job import Job
from slmcompile.ci.outcome import Outcome
from slmcompile.ci.posting import say as say_there
from slmcompile.ci.result import Record
from slmcompile.ci.reuse import bring
from slmcompile.ci.run import call
from slmcompile.ci.target import Target, held, target_of
from slmcompile.ci.tree import Tree, tree, wanted
from slmcompile.console.errors import GateFailedError, LockedError, MissingError, SlmcompileError
from slmcompile.explain.at_revision import tree_at
from slmcompile.files.artifact import write_bytes
from slmcompile.files.revision import Revision
from slmcompile.plans.kinds import KINDS
from slmcompile.provenance.committed import statement_path
from slmcompile.provenance.envelope import open_sealed, seal
from slmcompile.provenance.make import Asked as ApprovedAs
from slmcompile.provenance.make import attest
from slmcompile.provenance.statement import Statement

_SHORT = 16


def push(job: Job, sha256: str, key: bytes | None) -> int:
    """Commits what was trained to the pull request, and says in its thread what came out.

    Args:
        job: what to work with.
        sha256: of the record that the training wrote.
        key: what statements are signed with; None for nothing.

    Returns:
        The training's exit code.

    Raises:
        SlmcompileError: the approval does not hold any more, a bar is missed by what lies in the
            store, or something is missing or damaged there.
    """
    found = approved(job.ask, job.host, job.project, job.target)
    head = Revision(job.project.root, f"#{job.ask.number}", found.proposal.head)
    record = result.read(job.own(job.project), found.proposal.digest, sha256)
    if record.code:
        _say(job, outcome.failed(record), found.heads)
        return record.code
    names = wanted(found.proposal)
    of = target_of(job.project, job.target, names, job.folder / "target", job.say)
    with tree(job.project, head, job.target, names, job.folder / "run") as made:
        _finish(job, of, made, record)
        statements = [_stated(job, found, made, name, key) for name in names]
        commit = _committed(head, made, statements)
    heads = found.heads | {commit}
    require_still(job.ask, job.host, heads)
    where = _pushed(job, found, commit)
    shown = Outcome(
        record,
        tuple(statements),
        dict(_stated_before(job.target, names)),
        commit,
        where,
        frozenset(each.recipe for each in found.proposal.recipes if each.rows or each.measured),
    )
    _say(job, outcome.passed(shown), heads)
    return 0


def refuse(job: Job, what: str, page: str) -> None:
    """Says in the thread why nothing was trained, in one line that proves nothing."""
    say_there(job.host, job.ask.number, outcome.unfinished(what, page))


def fail(job: Job, error: SlmcompileError, page: str) -> None:
    """Says in the thread why what was trained is not pushed, as far as the host takes it."""
    with suppress(SlmcompileError):
        say_there(job.host, job.ask.number, outcome.unpushed(error, page))


def _finish(job: Job, of: Target, made: Tree, record: Record) -> None:
    """Takes what is finished, has DVC note it, and holds all bars."""
    for name, plan in made.plans.items():
        stores = (job.own(made.project), job.main(made.project))
        found = bring(made.project, plan, stores, job.say)
        for stage in plan.stages():
            if not KINDS[stage.kind].constant and stage.address not in found.stores:
                raise MissingError(
                    f"{stage.address}: its work is not in the store, or damaged there",
                    f"train {record.digest[:12]} anew",
                )
        ended = call(made.project, ("run", name), name, job.environ)
        ended = ended if ended.code else held(of, made.project, plan, job.environ, job.say)
        if ended.code:
            raise SlmcompileError(ended.what, ended.mend, code=GateFailedError.code)


def _stated(job: Job, found: Approved, made: Tree, name: str, key: bytes | None) -> Statement:
    asked = ApprovedAs(
        digest=found.proposal.digest,
        head=found.proposal.head,
        base=found.proposal.base,
        pull_request=job.ask.number,
        approver=job.ask.login,
    )
    statement = attest(made.project, made.plans[name], asked)
    write_bytes(made.project.root / statement_path(name), seal(statement, key))
    return statement


def _committed(head: Revision, made: Tree, statements: list[Statement]) -> str:
    run = {each.name for plan in made.plans.values() for each in plan.pipelines}
    names = ", ".join(each.recipe for each in statements)
    return result_commit(
        head,
        made.project,
        sorted(run),
        sorted(_others(made, head) - run),
        f"Train {names}\n\nApproved as {statements[0].digest}.\n",
    )


def _others(made: Tree, head: Revision) -> set[str]:
    """Pipelines of the head's that recipes have which were not run; all where one has no plan."""
    with tree_at(made.project, head, lends=False) as there:
        try:
            plans = [there.plan(name).plan for name in there.recipes if name not in made.plans]
        except SlmcompileError:
            return {path.split("/")[1] for path in head.entries(FOLDER) if path.count("/") > 1}
    return {each.name for plan in plans if plan for each in plan.pipelines}


def _pushed(job: Job, found: Approved, commit: str) -> str:
    """Puts the commit where the contributor finds it; returns the ref."""
    if found.request.from_fork:
        # Outside of refs/heads/ it starts nothing with this repository's rights.
        ref, expected = f"refs/slmcompile/pr/{job.ask.number}/{commit[:_SHORT]}", None
    else:
        ref, expected = f"refs/heads/{found.request.branch}", found.request.head
    if commit != found.request.head:
        try:
            push_git(job.project.root, commit, ref, expected)
        except LockedError:
            # It is there from before: if somebody else has put another there, this is refused.
            push_git(job.project.root, commit, ref, commit)
    return ref


def _stated_before(target: Revision, names: tuple[str, ...]) -> Iterator[tuple[str, Statement]]:
    """What is stated of the target's recipes, as far as there is something."""
    for name in names:
        text = target.text(statement_path(name))
        if text is not None:
            with suppress(SlmcompileError):
                yield name, open_sealed(text.encode(), name).statement


def _say(job: Job, body: str, heads: frozenset[str]) -> None:
    say_there(job.host, job.ask.number, body, heads)
