"""``ci promote``: what was trained for a pull request becomes a version, without training again.

Of every recipe whose statement came to the target with a commit: the work that the commit plans
must be the work that is stated, to the fingerprint; it is found by that, as a training finds it,
in the pull request's folder or in what was promoted before, and must be what is stated to the
byte; and the bars are judged once more. Then its objects are put where the target's lie, of which
none is written over, and the commit is tagged.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slmcompile.ci.commit import EMAIL, NAME
from slmcompile.ci.promoted import Merged, Promoted
from slmcompile.ci.reuse import Found, Say, bring, read_record, write_record
from slmcompile.ci.store import MAIN, PULL_REQUESTS, Store
from slmcompile.ci.target import missed_bars
from slmcompile.ci.tree import known, tree
from slmcompile.console.errors import CorruptError, MissingError, SlmcompileError, StaleError
from slmcompile.files.revision import Revision
from slmcompile.plans.definition import Plan
from slmcompile.plans.kinds import KINDS
from slmcompile.provenance.committed import stated_recipes, statement_bytes, statement_path
from slmcompile.provenance.envelope import open_sealed
from slmcompile.provenance.make import measured
from slmcompile.provenance.statement import Statement
from slmcompile.recipe.project import Project
from slmcompile.state import finished
from slmcompile.versions.history import History, Version
from slmcompile.versions.publish import promote as give_stage
from slmcompile.versions.publish import register, shared_history
from slmcompile.versions.tag_objects import Tagger

ORIGIN = "origin"
_WHO = Tagger(NAME, EMAIL)  # a runner's git names nobody


def promote(
    project: Project, target: Revision, trusted: Sequence[bytes], stage: str, say: Say
) -> Merged:
    """Promotes every recipe whose statement, at a commit of the target, is no version yet.

    Each for itself: one that is wrong keeps no other from it, and is told beside them. What a
    killed job has left undone is done by the next one.

    Args:
        project: of the repository.
        target: the commit.
        trusted: public keys, one of which must have signed; none where nothing is signed.
        stage: what a version is given, ``production``, where one that came before it has it.
        say: told what goes on.

    Returns:
        What became a version, and what did not: what was merged is not what was trained (exit 4),
        a statement or an object is not what it should be (74), an object is nowhere (69), somebody
        else made the version meanwhile (5).
    """
    done: list[Promoted] = []
    wrong: list[SlmcompileError] = []
    for name in stated_recipes(target):
        try:
            made = _one(project, target, name, trusted, stage, say)
        except SlmcompileError as error:
            say(f"{name}: {error.what}")
            wrong.append(error)
        else:
            done += [made] if made else []
    if not done and not wrong:
        say("no statement is new: nothing to promote")
    return Merged(tuple(done), tuple(wrong))


def _one(
    project: Project, target: Revision, name: str, trusted: Sequence[bytes], stage: str, say: Say
) -> Promoted | None:
    """A recipe that became a version; None of one whose newest version this is already."""
    data = statement_bytes(project.root, name, target.commit)
    history = shared_history(project, name, ORIGIN)
    newest = history.versions[-1] if history.versions else None
    if newest is not None and newest.statement == hashlib.sha256(data).hexdigest():
        if not _is_owed(history, newest, stage):
            return None
        statement = _opened(data, name, trusted)
    else:
        statement = _opened(data, name, trusted)
        _have_promoted(project, target, statement, say)
        newest = register(project, name, target.commit, remote=ORIGIN, who=_WHO)
    # The first one is for an owner to give it to; so is the next, once he has taken it away.
    given = stage if stage and history.had(stage) else ""
    if given:
        give_stage(project, name, str(newest.number), given, remote=ORIGIN, who=_WHO)
    elif stage:
        say(f"{name}: `slmcompile promote {name} --to {stage}` is for an owner to say")
    return Promoted(name, newest.shown, given, statement.pull_request)


def _have_promoted(project: Project, target: Revision, statement: Statement, say: Say) -> None:
    """Verifies the work of a statement, and has it where the target's lies."""
    with _planned(project, target, statement.recipe) as (made, planned):
        plan = _require_same(statement.recipe, planned, statement)
        found = bring(made, plan, _stores(made, statement), say)
        _require_stated(plan, found, statement, say)
        _require_good(made, plan, found, statement, say)
        _copy(made, plan, found, say)


def _is_owed(history: History, newest: Version, stage: str) -> bool:
    """Whether a job that made a version was killed before it gave the stage to it.

    Nobody has said anything about the stage since the version is there.
    """
    said = [each.when for each in history.assignments if each.stage == stage]
    ours = newest.who == f"{NAME} <{EMAIL}>" and not newest.revoked
    return ours and bool(history.had(stage)) and all(when < newest.when for when in said)


def _opened(data: bytes, recipe: str, trusted: Sequence[bytes]) -> Statement:
    shown = statement_path(recipe)
    statement = open_sealed(data, shown, trusted).statement
    if statement.recipe != recipe:
        raise CorruptError(f"{shown}: is of {statement.recipe}", "train anew")
    if not all(each.passed for each in statement.gates):
        raise CorruptError(f"{shown}: a bar was missed", "train anew")
    return statement


@contextmanager
def _planned(
    project: Project, target: Revision, name: str
) -> Iterator[tuple[Project, Plan | None]]:
    with (
        tempfile.TemporaryDirectory(prefix="slmcompile-") as folder,
        tree(project, target, target, known(target, (name,)), Path(folder) / "run") as made,
    ):
        yield made.project, made.plans.get(name)


def _require_same(name: str, plan: Plan | None, statement: Statement) -> Plan:
    """That the work which a commit plans is the work that is stated.

    Raises:
        StaleError: it is not (exit 4).
    """
    again = "plan and train anew: have the pull request follow the target and comment again"
    if plan is None:
        raise StaleError(f"{name}: is stated, and is no recipe any more", "remove its pipelines")
    stated = {each.stage: each.fingerprint for each in statement.stages}
    planned = plan.fingerprints()
    for address in dict.fromkeys((*planned, *stated)):
        if planned.get(address) != stated.get(address):
            raise StaleError(f"{address}: what was merged is not what was trained", again)
    return plan


def _stores(made: Project, statement: Statement) -> tuple[Store, ...]:
    """Where the work of a statement is looked for; what the pull request made comes first."""
    main, number = Store(made, MAIN), statement.pull_request
    return (Store(made, PULL_REQUESTS, str(number)), main) if number else (main,)


def _require_stated(plan: Plan, found: Found, statement: Statement, say: Say) -> None:
    """That what was found of a plan's work is what is stated, to the byte.

    Raises:
        MissingError: some of it is nowhere (exit 69).
        CorruptError: it is another (exit 74).
    """
    for stage in plan.stages():
        if KINDS[stage.kind].constant:
            continue
        stated, store = statement.stage(stage.address), found.stores.get(stage.address)
        record = read_record(store, found.fingerprints[stage.address], say) if store else None
        if store is None or record is None:
            raise MissingError(
                f"{stage.address}: is neither promoted nor with the pull request, or damaged there",
                "train anew",
            )
        if (record["manifest"], record["object"]) != (stated.manifest, stated.object):
            raise CorruptError(
                f"{store.shown}: {stage.address} is not what is stated",
                "look who wrote it; then train anew",
            )


def _require_good(made: Project, plan: Plan, found: Found, statement: Statement, say: Say) -> None:
    """That the recipe's bars are met, and its figures those that are stated.

    Raises:
        CorruptError: they are not (exit 74).
    """
    scored = plan.stage("score")
    with finished.found(made, scored.kind, found.fingerprints[scored.address], say) as done:
        missed = [*missed_bars(plan, done.folder)] if done else ["nothing is measured"]
        same = done is not None and measured(plan, done.folder) == statement.metrics
    if missed:
        raise CorruptError(f"{plan.recipe}: was stated to meet its bars: {missed[0]}", "train anew")
    if not same:
        raise CorruptError(f"{plan.recipe}: other figures were measured than stated", "train anew")


def _copy(made: Project, plan: Plan, found: Found, say: Say) -> None:
    """Puts the objects of a plan's work, and what is known of it, where the target's lie.

    Raises:
        CorruptError: other bytes lie there under the name of one (exit 74).
        MissingError: the remote does not take it (exit 69).
    """
    main = Store(made, MAIN)
    for stage in plan.stages():
        store = found.stores.get(stage.address)
        if store is None:
            continue
        fingerprint = found.fingerprints[stage.address]
        record = read_record(store, fingerprint, say)
        if record is None:
            raise CorruptError(f"{store.shown}: {stage.address}: no record of it", "train anew")
        if store.shown != main.shown:
            if other := main.others([record["object"]]):
                raise CorruptError(
                    f"{main.shown}: {stage.address}: other bytes lie there as {other[0]}",
                    "look who wrote them; nothing is written over",
                )
            main.push([record["object"]])
            write_record(main, fingerprint, record, record["manifest"])
        say(f"{stage.address}: {'is there' if store.shown == main.shown else 'promoted'}")
