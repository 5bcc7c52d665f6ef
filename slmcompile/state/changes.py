"""What a plan would do now: which stages run, which are restored, which stay, and why.

Computed from spec texts, lock files and the cache; nothing is executed and nothing is written.
(``dvc repro --dry`` does not propagate changes, so it cannot answer this.)
"""

from __future__ import annotations

import hashlib
import marshal
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from slmcompile.console.errors import CorruptError
from slmcompile.files.artifact import MANIFEST, MAX_MANIFEST, read_manifest, verify
from slmcompile.files.safe_read import read_or_none
from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.definition import Plan, Stage, of_member
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state import finished
from slmcompile.state.failure import failed_on
from slmcompile.state.reasons import Cause, Reason, file_reason, spec_reasons
from slmcompile.state.scratch import (
    FINISHED,
    alone,
    member_fingerprint,
    scratch_folder,
    work_fingerprint,
)
from slmcompile.state.specs import old_spec, replaced_spec, said_before
from slmcompile.state.state import (
    Cache,
    Here,
    Locked,
    here,
    md5_file,
    md5_text,
    read_lock,
)

Action = Literal["run", "restore", "unchanged"]
Locks = Mapping[str, Mapping[str, Locked]]
"""What DVC remembers of each pipeline: stages by name."""


_spec_md5s: OrderedDict[bytes, str] = OrderedDict()
_KEPT = 65536


@dataclass(frozen=True)
class Change:
    """What will happen to one stage.

    Attributes:
        stage: which.
        action: what.
        reasons: why it does not stay as it is.
        taken_from: of one that is restored, the folder in which the same work lies finished;
            empty where DVC's cache has it.
        kept: of one that trains several adapters, those that it takes as they are.
    """

    stage: Stage
    action: Action
    reasons: tuple[Reason, ...] = ()
    taken_from: str = ""
    kept: tuple[str, ...] = ()


def changes(project: Project, plan: Plan, *, history: bool = False) -> tuple[Change, ...]:
    """One entry per stage, in plan order; ``history`` also asks git what a stage ran from."""
    cache = Cache(project)
    locks = read_locks(project, plan)
    # Hash of every path a stage writes, once everything before it is done; None: not known.
    known: dict[str, str | None] = {}
    manifests = _Manifests(project, cache)
    found: list[Change] = []
    for stage in plan.stages():
        locked = locks[stage.pipeline].get(stage.name)
        why = partial(_reasons, project, plan, stage, locks, history)
        change, outs = _one(project, stage, locked, known, cache, why)
        if change.action != "run" and manifests.of_other_work(plan, change, outs):
            # A lock can come with a stranger's branch, or from a merge of two.
            reasons = (*change.reasons, Reason("other_work", stage.out, outs[stage.out]))
            change, outs = Change(stage, "run", reasons), {}
        if change.action == "run" and (done := manifests.finished(plan, stage)):
            change = replace(change, action="restore", taken_from=done)
        for path in stage.outs:
            known[path] = outs.get(path)
        if change.action == "run" and stage.kind == "train" and "members" in stage.config:
            kept = manifests.kept(plan, stage)
            change = replace(change, kept=tuple(kept))
            for member, md5 in _parts(project, stage, locked, cache, kept):
                known[f"{stage.out}/{ADAPTERS}/{member}"] = md5
        manifests.note(change, outs)
        found.append(change)
    return tuple(found)


def _parts(
    project: Project, stage: Stage, locked: Locked | None, cache: Cache, kept: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Hashes of kept adapters that lie in the output as they will again, by name."""
    for member, fingerprint in kept.items():
        path = f"{ADAPTERS}/{member}"
        with suppress(CorruptError):
            there = read_manifest(project.root / stage.out / path).get("fingerprint")
            md5 = locked.outs.get(stage.out) if locked and there == fingerprint else None
            if md5 and (part := cache.part(md5, path)):
                yield member, part


class _Manifests:
    """The manifests that stages will find in their inputs, read where somebody asks."""

    def __init__(self, project: Project, cache: Cache) -> None:
        self._project, self._cache = project, cache
        self._how: dict[str, Callable[[], dict[str, Any] | None]] = {}
        self._stay: set[str] = set()

    def note(self, change: Change, outs: Mapping[str, str]) -> None:
        """Remembers where the manifest of a stage's output is going to come from."""
        out, md5 = change.stage.out, outs.get(change.stage.out)
        if change.action == "unchanged":
            self._stay.add(out)
            self._how[out] = partial(self._here, out)
            for path in (*change.stage.metrics, *change.stage.plots):
                self._how[path] = partial(self._text, path)
        elif change.action == "restore" and md5 is not None:
            self._how[out] = partial(finished.cached_manifest, self._cache, md5)

    def of_other_work(self, plan: Plan, change: Change, outs: Mapping[str, str]) -> bool:
        """Whether what DVC would leave or bring back is another result than the one planned.

        What has no manifest that can be read is no result, and whoever reads it says so.
        """
        stage, md5 = change.stage, outs.get(change.stage.out)
        if change.action == "unchanged":
            manifest = self._here(stage.out)
        else:
            manifest = finished.cached_manifest(self._cache, md5) if md5 else None
        if manifest is None or KINDS[stage.kind].constant:
            return False
        fingerprint = self._fingerprint(plan, stage)
        return bool(fingerprint) and manifest.get("fingerprint") != fingerprint

    def finished(self, plan: Plan, stage: Stage) -> str:
        """Where the work of a stage lies finished; empty where it does not, or cannot be known."""
        fingerprint = self._fingerprint(plan, stage)
        if not fingerprint:
            return ""
        done = finished.forecast(self._project, stage.kind, fingerprint)
        if done is None:
            return ""
        folder, manifest = done
        self._how[stage.out] = lambda: manifest
        return folder

    def _fingerprint(self, plan: Plan, stage: Stage) -> str:
        """Of the work of a stage; empty where a manifest of what it reads is not known."""
        found = {}
        for role, path in stage.inputs.items():
            manifest = self._how.get(path, partial(self._part, path))()
            if manifest is None:
                return ""
            found[role] = manifest
        return work_fingerprint(stage.spec(), found, plan.files)

    def kept(self, plan: Plan, stage: Stage) -> dict[str, str]:
        """Fingerprints of the adapters of a train stage that have been trained before, by name."""
        found = {}
        for member in stage.config["members"]:
            inputs = of_member(stage.inputs, member)
            given = {role: self._how.get(path) for role, path in inputs.items()}
            known = {role: each for role, how in given.items() if how and (each := how())}
            if known.keys() != inputs.keys():
                continue
            fingerprint = member_fingerprint(stage.spec(), member, known, plan.files)
            folder = scratch_folder(self._project, fingerprint) / FINISHED
            with suppress(CorruptError):
                if verify(folder, read=False).get("fingerprint") == fingerprint:
                    found[member] = fingerprint
        return found

    def _part(self, path: str) -> dict[str, Any] | None:
        """Of a part of an output that stays, which has a manifest of its own."""
        stays = any(path.startswith(f"{out}/") for out in self._stay)
        return self._here(path) if stays else None

    def _text(self, path: str) -> dict[str, Any] | None:
        data = read_or_none(self._project.root, path, MAX_MANIFEST)
        return None if data is None else alone(path.rpartition("/")[2], data)

    def _here(self, out: str) -> dict[str, Any] | None:
        try:
            return read_manifest(self._project.root / out)
        except CorruptError:
            return None


def _spec_md5(stage: Stage) -> str:
    """MD5 of the spec file that the stage will have; equal specs are written out once a process."""
    # Marshal is the quickest way through plain values; version 2 writes no references.
    key = hashlib.sha256(marshal.dumps(stage.spec(), 2)).digest()
    known = _spec_md5s.get(key)
    if known is None:
        known = md5_text(stage.spec_text())
        _spec_md5s[key] = known
        if len(_spec_md5s) > _KEPT:
            _spec_md5s.popitem(last=False)
    return known


def read_locks(project: Project, plan: Plan) -> Locks:
    """The lock files of every pipeline of a plan."""
    return {pipeline.name: read_lock(project, pipeline.name) for pipeline in plan.pipelines}


def _one(
    project: Project,
    stage: Stage,
    locked: Locked | None,
    known: Mapping[str, str | None],
    cache: Cache,
    why: Callable[[Mapping[str, str | None]], tuple[Reason, ...]],
) -> tuple[Change, Mapping[str, str]]:
    deps: dict[str, str | None] = {stage.spec_path: _spec_md5(stage)}
    for path in stage.files:
        deps[path] = md5_file(project.root / path)
    for path in (*stage.inputs.values(), *stage.after):
        deps[path] = _known(path, known, cache)
    reasons = why(deps)
    if locked and all(reason.cause == "input" for reason in reasons):
        gone = _outs_reasons(project, cache, stage, locked)
        if not reasons and not gone:
            return Change(stage, "unchanged"), locked.outs
        if not reasons and cache.has_all(locked):
            return Change(stage, "restore", gone), locked.outs
        reasons = gone or reasons
    if all(deps.values()):
        certain = {path: md5 for path, md5 in deps.items() if md5}
        remembered = cache.remembered_run(stage.command, certain, stage.outs)
        if remembered is not None:
            return Change(stage, "restore", reasons), remembered
    reasons = _with_failure(project, stage, deps, cache, reasons)
    passes = KINDS[stage.kind].constant and locked is not None
    return Change(stage, "run", reasons), locked.outs if locked and passes else {}


def _known(path: str, known: Mapping[str, str | None], cache: Cache) -> str | None:
    """Hash of an output, or of a part of one, once everything before it is done."""
    if path in known:
        return known[path]
    whole = next(out for out in known if path.startswith(f"{out}/"))
    md5 = known[whole]
    return cache.part(md5, path[len(whole) + 1 :]) if md5 else None


def _with_failure(
    project: Project,
    stage: Stage,
    deps: Mapping[str, str | None],
    cache: Cache,
    reasons: tuple[Reason, ...],
) -> tuple[Reason, ...]:
    """Reasons of a stage that will run; where it failed on the very same before, that alone.

    What DVC's lock remembers is an earlier run, one that succeeded on something else.
    """

    def now(path: str) -> str | None:
        md5 = deps.get(path)
        return (cache.folder(md5) or {}).get(MANIFEST) if md5 and md5.endswith(".dir") else md5

    error = failed_on(project, stage.address, now)
    if error is None:
        return reasons
    return (Reason("failed", error.what, new=error.mend),)


def _outs_reasons(
    project: Project, cache: Cache, stage: Stage, locked: Locked
) -> tuple[Reason, ...]:
    """What DVC will not find as it left it; an output must also be in its cache."""
    causes: dict[Here, Cause] = {"missing": "output", "changed": "edited"}
    reasons = []
    for path in stage.outs:
        found = here(project, cache, locked, path)
        if found != "intact":
            reasons.append(Reason(causes[found], path))
        elif path == stage.out and not cache.has(locked.outs[path], locked.sizes.get(path)):
            reasons.append(Reason("cache", path))
    return tuple(reasons)


def _reasons(
    project: Project,
    plan: Plan,
    stage: Stage,
    locks: Locks,
    history: bool,
    deps: Mapping[str, str | None],
) -> tuple[Reason, ...]:
    locked = locks[stage.pipeline].get(stage.name)
    said = partial(said_before, project, plan, locks, history=history)
    if locked is None:
        replaced = replaced_spec(project, plan, stage, locks, history=history)
        return tuple(spec_reasons(plan, stage, replaced, said) if replaced else ()) or (
            Reason("first_run"),
        )
    reasons: list[Reason] = []
    relocated = False
    ran_from = locked.deps.get(stage.spec_path, "")
    if ran_from != deps[stage.spec_path]:
        old = old_spec(project, stage, ran_from, history=history)
        if old is None:
            reasons.append(Reason("key"))
        else:
            reasons += spec_reasons(plan, stage, old, said)
            relocated = not reasons
    # What it writes goes by the artifacts that there are, and then a key says why.
    outs = set(locked.outs) != set(stage.outs) and not reasons
    if locked.command != stage.command or outs:
        reasons.insert(0, Reason("command"))
    for path in stage.files:
        if locked.deps.get(path) != deps[path]:
            reasons.append(file_reason(plan, stage, path, locked.deps.get(path), deps[path]))
    for role, path in (*stage.inputs.items(), *((by, path) for path, by in stage.after.items())):
        if deps[path] is None or locked.deps.get(path) != deps[path]:
            reasons.append(Reason("input", role, locked.deps.get(path), deps[path]))
    # Another spec that says the same, of folders that lie elsewhere.
    return tuple(reasons or ([Reason("input", "folder")] if relocated else []))
