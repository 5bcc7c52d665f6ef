"""``ci promote``: what was trained for a pull request becomes a version, without training again.

Of every recipe whose statement came to the target with a commit: the work that the commit plans
must be the work that is stated, to the fingerprint; its objects are taken from the pull request's
folder or from what was promoted before, compared by SHA-256 with the statement, and put where the
target's lie. Nothing that lies there is written over. Then the commit is tagged.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from slmcompile.ci.commit import EMAIL, FOLDER, NAME, STATEMENT
from slmcompile.ci.promoted import Promoted
from slmcompile.ci.reuse import Say, read_record, write_record
from slmcompile.ci.store import MAIN, Store
from slmcompile.ci.tree import tree
from slmcompile.console.errors import (
    CorruptError,
    MissingError,
    StaleError,
)
from slmcompile.files.artifact import MANIFEST, read_manifest, sha256_file, verify
from slmcompile.files.revision import Revision
from slmcompile.files.second_name import link_or_copy
from slmcompile.plans.definition import Plan
from slmcompile.provenance.envelope import open_sealed
from slmcompile.provenance.statement import StageResult, Statement
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache
from slmcompile.versions.publish import promote as give_stage
from slmcompile.versions.publish import register, shared_history
from slmcompile.versions.tag_objects import Tagger

ORIGIN = "origin"


def promote(
    project: Project, target: Revision, trusted: Sequence[bytes], stage: str, say: Say
) -> tuple[Promoted, ...]:
    """Promotes every recipe whose statement, at a commit of the target, is no version yet.

    Args:
        project: of the repository.
        target: the commit.
        trusted: public keys, one of which must have signed; none where nothing is signed.
        stage: what a version is given, ``production``; a recipe's first version is not.
        say: told what goes on.

    Raises:
        StaleError: what was merged is not what was trained (exit 4).
        CorruptError: a statement or an object is not what it should be (exit 74).
        MissingError: an object is nowhere (exit 69).
        LockedError: somebody else made the version meanwhile (exit 5).
    """
    stated = {
        name: _opened(data, name, trusted)
        for name, data in _statements(target).items()
        if not _is_newest(project, name, data)
    }
    if not stated:
        say("no statement is new: nothing to promote")
        return ()
    with _planned(project, target, tuple(stated)) as (made, plans):
        for name, statement in stated.items():
            _require_same(name, plans.get(name), statement)
        for statement in stated.values():
            _copy(made, statement, say)
    return tuple(_tagged(project, target, each, stage, say) for each in stated.values())


def _is_newest(project: Project, recipe: str, data: bytes) -> bool:
    """Whether a statement is that of a recipe's newest version, whatever became of it since."""
    newest = shared_history(project, recipe, ORIGIN).versions[-1:]
    return bool(newest) and newest[0].statement == hashlib.sha256(data).hexdigest()


def _statements(at: Revision) -> dict[str, bytes]:
    """Files of statements by recipe."""
    found = {}
    for path in at.entries(FOLDER):
        parts = path.split("/")
        if len(parts) == 3 and parts[2] == STATEMENT:
            text = at.text(path)
            if text is None:
                raise CorruptError(f"{path}@{at.shown}: cannot be read", "train anew")
            found[parts[1]] = text.encode("utf-8")
    return found


def _opened(data: bytes, recipe: str, trusted: Sequence[bytes]) -> Statement:
    shown = f"{FOLDER}/{recipe}/{STATEMENT}"
    statement = open_sealed(data, shown, trusted).statement
    if statement.recipe != recipe:
        raise CorruptError(f"{shown}: is of {statement.recipe}", "train anew")
    if not all(each.passed for each in statement.gates):
        raise CorruptError(f"{shown}: a bar was missed", "train anew")
    return statement


@contextmanager
def _planned(
    project: Project, target: Revision, names: tuple[str, ...]
) -> Iterator[tuple[Project, Mapping[str, Plan]]]:
    there = target.entries("recipes")
    known = tuple(name for name in names if f"recipes/{name}.yaml" in there)
    with (
        tempfile.TemporaryDirectory(prefix="slmcompile-") as folder,
        tree(project, target, target, known, Path(folder) / "run") as made,
    ):
        yield made.project, made.plans


def _require_same(name: str, plan: Plan | None, statement: Statement) -> None:
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


def _copy(made: Project, statement: Statement, say: Say) -> None:
    """Puts the objects of a statement, and what is known of its work, where the target's lie."""
    main = Store(made, MAIN)
    own = Store(made, "pr", str(statement.pull_request)) if statement.pull_request else None
    for each in statement.stages:
        if not each.object or not each.manifest:
            continue
        # What is there already is compared, too: it is never written over.
        store = next(
            (store for store in (main, own) if store and not store.pull([each.object])), None
        )
        if store is None:
            raise MissingError(
                f"{each.stage}: its objects are neither promoted nor with the pull request",
                "train anew",
            )
        fingerprint = _verified(made, each, store)
        record = read_record(store, fingerprint, say)
        if record is None or record["manifest"] != each.manifest:
            raise CorruptError(f"{store.shown}: {each.stage}: no record of it", "train anew")
        if store is not main:
            main.push([each.object])
            write_record(main, fingerprint, record, each.manifest)
        say(f"{each.stage}: {'is there' if store is main else 'promoted'}")


def _verified(made: Project, each: StageResult, store: Store) -> str:
    """Fingerprint of the work that an object is of, which is what is stated to the byte."""
    cache = Cache(made)
    with tempfile.TemporaryDirectory(prefix="slmcompile-", dir=made.root) as folder:
        for name, md5 in (cache.folder(each.object) or {}).items():
            to = Path(folder) / name
            to.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(str(cache.blob(md5)), to)
        try:
            verify(Path(folder))
            same = sha256_file(Path(folder) / MANIFEST) == each.manifest
            fingerprint = read_manifest(Path(folder)).get("fingerprint")
        except (CorruptError, OSError):
            same, fingerprint = False, None
        if not same or not isinstance(fingerprint, str):
            raise CorruptError(
                f"{store.shown}: {each.object} of {each.stage} is not what is stated",
                "look who wrote it; then train anew",
            )
        return fingerprint


def _tagged(
    project: Project, target: Revision, statement: Statement, stage: str, say: Say
) -> Promoted:
    who = Tagger(NAME, EMAIL)  # a runner's git names nobody
    first = not shared_history(project, statement.recipe, ORIGIN).versions
    version = register(project, statement.recipe, target.commit, remote=ORIGIN, who=who)
    if stage and not first:
        give_stage(project, statement.recipe, str(version.number), stage, remote=ORIGIN, who=who)
    elif stage:
        say(
            f"{statement.recipe}: its first version; `slmcompile promote {statement.recipe}"
            f" --to {stage}` is for an owner to say"
        )
    return Promoted(statement.recipe, version.shown, "" if first else stage, statement.pull_request)
