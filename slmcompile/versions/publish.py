"""Versions and stages are given: by a tag of their own each, on the remote first and then here.

Nothing is trained and no tag is ever changed. The remote decides who was first: a tag is put there
only where nothing of its name is.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from slmcompile.console.errors import UsageError
from slmcompile.provenance.committed import statement_bytes
from slmcompile.recipe.project import Project
from slmcompile.versions.history import History, Version, read_history
from slmcompile.versions.remote_tags import Remote
from slmcompile.versions.statements import require_good
from slmcompile.versions.tag_objects import Tagger, make_tag, tagger
from slmcompile.versions.tags import (
    Bump,
    Number,
    TagName,
    parse,
    require_number,
    require_recipe,
    require_stage,
)


@dataclass(frozen=True)
class Given:
    """A stage that a version has now.

    Attributes:
        version: the version.
        stage: the stage.
        tag: the tag that gave it; empty where it had it already.
        before: the version that had the stage before; None for the first.
    """

    version: Version
    stage: str
    tag: str
    before: Number | None


def shared_history(project: Project, recipe: str, remote: str) -> History:
    """The history of a recipe as the remote has it; its tags are taken over.

    Raises:
        CorruptError: a tag was moved (exit 74).
        MissingError: the remote does not answer (exit 69).
    """
    require_recipe(recipe)
    there = Remote(project.root, remote).catch_up(recipe)
    return read_history(project.root, recipe, there)


def register(
    project: Project,
    recipe: str,
    commit: str,
    *,
    remote: str = "origin",
    bump: Bump = "minor",
    who: Tagger | None = None,
) -> Version:
    """Makes the statement of a commit the next version of its recipe.

    Whether the statement is sound and its objects are where they should be is for the caller to
    have seen to. A commit that is a version already stays that one.

    Args:
        project: whose.
        recipe: its name.
        commit: full hash; it should be on the remote already.
        remote: git's name of the remote.
        bump: what of the newest version's number grows.
        who: the tagger; by default whom git's settings name.

    Raises:
        LockedError: another version of this number was made meanwhile (exit 5).
    """
    history = shared_history(project, recipe, remote)
    for version in history.versions:
        if version.commit == commit:
            return version
    statement = hashlib.sha256(statement_bytes(project.root, recipe, commit)).hexdigest()
    number = history.free_number(bump)
    name = TagName(recipe, "register", str(number))
    _publish(project, history, name, commit, statement, remote, who, f"{recipe} {number}")
    return read_history(project.root, recipe).version(number)


def promote(
    project: Project,
    recipe: str,
    wanted: str | None,
    stage: str,
    *,
    remote: str = "origin",
    who: Tagger | None = None,
) -> Given:
    """Gives a stage to a version, by default to the newest that was not taken back.

    Raises:
        RefusedError: the version was taken back, or its gates did not pass (exit 77).
        LockedError: somebody else has given this stage meanwhile (exit 5).
        UsageError: there is no version yet, or no such name (exit 64).
    """
    require_stage(stage)
    history = shared_history(project, recipe, remote)
    if wanted is not None:
        version = history.version(require_number(wanted))
    else:
        kept = [each for each in history.versions if not each.revoked]
        if not kept:
            raise UsageError(
                f"{recipe}: there is no version to promote", f"see `slmcompile versions {recipe}`"
            )
        version = kept[-1]
    return _give(project, history, version, stage, remote, who, "promoted")


def roll_back(
    project: Project,
    recipe: str,
    wanted: str | None,
    stage: str,
    *,
    remote: str = "origin",
    who: Tagger | None = None,
) -> Given:
    """Gives a stage back to the version that had it before, or to one that had it earlier.

    Raises:
        RefusedError: that version was taken back, or its gates did not pass (exit 77).
        LockedError: somebody else has given this stage meanwhile (exit 5).
        UsageError: no version had it before (exit 64).
        MissingError: no version has it (exit 69).
    """
    require_stage(stage)
    history = shared_history(project, recipe, remote)
    now = history.holder(stage)
    *earlier, _ = history.had(stage)
    if wanted is not None:
        version = history.version(require_number(wanted))
        if not any(each.number == version.number for each in history.assigned(stage)):
            raise UsageError(
                f"{version.shown} was never {stage}",
                f"`slmcompile promote {recipe} {version.number} --to {stage}` makes it so",
            )
    elif not earlier:
        raise UsageError(
            f"{recipe}: no version was {stage} before {now.number}",
            "name one that was: --to VERSION",
        )
    else:
        version = history.version(earlier[-1])
    return _give(project, history, version, stage, remote, who, "rolled back")


def _give(
    project: Project,
    history: History,
    version: Version,
    stage: str,
    remote: str,
    who: Tagger | None,
    how: str,
) -> Given:
    require_good(project, version, history)
    had = history.had(stage)
    before = had[-1] if had else None
    if before == version.number:
        return Given(version, stage, "", before)
    counters = [name.counter or 0 for name in map(parse, history.names) if name is not None]
    name = TagName(version.recipe, "assign", stage=stage, counter=max(counters, default=0) + 1)
    after = f", after {before}" if before else ""
    why = f"{version.recipe} {version.number} {how} to {stage}{after}"
    _publish(project, history, name, version.commit, version.statement, remote, who, why)
    return Given(version, stage, str(name), before)


def _publish(
    project: Project,
    history: History,
    name: TagName,
    commit: str,
    statement: str,
    remote: str,
    who: Tagger | None,
    why: str,
) -> None:
    # GTO goes by the dates of tags: a clock that is behind must not put this one before others.
    when = max(int(time.time()), history.newest + 1)
    made = make_tag(
        project.root,
        name,
        commit,
        statement,
        who=who or tagger(project.root),
        when=when,
        why=why,
    )
    Remote(project.root, remote).add(name, made)
