"""Why a stage does not stay as it is: from each root cause, through the stages, to it.

A plan's reasons say of each stage what changed right before it. Here they are followed upwards
until something that a person did, and each root cause carries what would take it back. Reads lock
files, kept specs and git history; runs and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from slmcompile.console.errors import SlmcompileError
from slmcompile.execution.last_overrides import last_overrides
from slmcompile.files.revision import find_version
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state import journal
from slmcompile.state.changes import Action, Change, changes, read_locks
from slmcompile.state.reasons import Reason, spec_reasons
from slmcompile.state.specs import replaced_spec, said_before

_LARGEST_HASHED = 64 * 1024 * 1024
_LATER = frozenset({"first_run", "output", "edited", "cache", "other_work"})
"""Causes that say what is not there; what somebody changed is named before them."""

Roots = dict[tuple[str, str], tuple[Reason, tuple[str, ...]]]


@dataclass(frozen=True)
class RootCause:
    """Something that changed, and where it leads.

    Attributes:
        reason: what changed, with old and new value.
        stages: from the first stage that it touches to the one asked for.
        reaches: every stage that does not stay as it is because of it, in plan order.
        undo: what it would take not to run for it.
    """

    reason: Reason
    stages: tuple[str, ...]
    reaches: tuple[str, ...]
    undo: str


@dataclass(frozen=True)
class LastRun:
    """What a stage last ran from, as DVC and the journal remember it.

    Attributes:
        spec: MD5 of its spec file.
        inputs: MD5 of every other file and folder that it read, by path.
        outs: MD5 of what it wrote, by path.
        packages: versions of the packages that it ran with, as far as its spec is still known.
        seconds: how long it took here; None if it ran elsewhere.
    """

    spec: str
    inputs: Mapping[str, str]
    outs: Mapping[str, str]
    packages: Mapping[str, str]
    seconds: float | None


@dataclass(frozen=True)
class Explanation:
    """Why one stage, or a whole recipe, would run.

    Attributes:
        plan: what was asked about.
        stage: the stage asked for; None for the whole recipe.
        action: what would happen to it; for a recipe the most that happens to any of its stages.
        causes: root causes, in the order in which the plan meets them; missing outputs last.
        last_run: what the stage last ran from, where it has run.
        last_overrides: those of the last run, which need not be the plan's.
    """

    plan: Plan
    stage: Stage | None
    action: Action
    causes: tuple[RootCause, ...]
    last_run: LastRun | None
    last_overrides: tuple[str, ...] = ()


def explain(project: Project, plan: Plan, stage: Stage | None = None) -> Explanation:
    """Root causes for one stage, or for every stage of a plan."""
    found = changes(project, plan, history=True)
    roots = _roots(project, plan, found)
    asked = [stage.address] if stage else [change.stage.address for change in found]
    causes: dict[tuple[str, str], RootCause] = {}
    for address in asked:
        for key, (reason, path) in roots[address].items():
            if key not in causes:
                reaches = tuple(other for other in roots if key in roots[other])
                undo = _undo(project, plan, reason, path[0])
                causes[key] = RootCause(reason, path, reaches, undo)
    actions = {change.stage.address: change.action for change in found}
    taken = {actions[address] for address in asked}
    action: Action = "run" if "run" in taken else "restore" if "restore" in taken else "unchanged"
    ordered = sorted(causes.values(), key=lambda cause: cause.reason.cause in _LATER)
    last = last_overrides(project, plan.recipe)
    return Explanation(plan, stage, action, tuple(ordered), _last_run(project, plan, stage), last)


def _roots(project: Project, plan: Plan, found: tuple[Change, ...]) -> dict[str, Roots]:
    """Of every stage that does not stay: root cause → (reason, shortest way to the stage)."""
    locks = read_locks(project, plan)
    actions = {change.stage.address: change.action for change in found}
    roots: dict[str, Roots] = {}
    # A shared stage with another key is another folder. If that one has run before, it is
    # unchanged by itself and yet the cause of all that follows.
    moved: set[str] = set()
    said = partial(said_before, project, plan, locks, history=True)
    for change in found:
        stage = change.stage
        own = [reason for reason in change.reasons if reason.cause != "input"]
        before = replaced_spec(project, plan, stage, locks, history=True)
        if before is not None:
            moved.add(stage.address)
            kept = [reason for reason in own if reason.cause != "first_run"]
            own = [*spec_reasons(plan, stage, before, said), *kept]
        # Where a reason names nothing ("has not run here") it is the stage's own.
        here: Roots = {
            (reason.cause, reason.subject or stage.address): (reason, (stage.address,))
            for reason in own
        }
        behind = {reason.subject: reason for reason in change.reasons if reason.cause == "input"}
        after = {address: address for address in stage.after.values()}
        for role, address in {**stage.input_stages, **after}.items():
            passes_on = actions[address] == "run" and address not in after
            if not (role in behind or passes_on or address in moved):
                continue
            above = roots[address]
            if role in behind and not above:
                # It ran by itself since: there is no telling from what, but its hash differs.
                built = replace(behind[role], subject=address)
                above = {("input", address): (built, (address,))}
            for key, (reason, path) in above.items():
                known = here.get(key)
                # Where a cause came in elsewhere, the way from there counts.
                listing = KINDS[stage.kind].whole_recipe
                told = known is not None and len(known[1]) == 1 and listing
                if known is None or told or len(path) + 1 < len(known[1]):
                    here[key] = (reason, (*path, stage.address))
        stays = change.action == "unchanged" and stage.address not in moved
        roots[stage.address] = {} if stays else here
    return {
        address: found_roots if actions[address] != "unchanged" else {}
        for address, found_roots in roots.items()
    }


_NO_WAY_BACK: Mapping[str, str] = {
    "epoch": "use the earlier version of slmcompile; this one writes other results",
    "first_run": "nothing to go back to: it has not run here",
    "command": "use the earlier version of slmcompile; the stage's outputs are laid out anew",
    "other_work": "its lock says what was never made, as after a merge by hand; it will run",
}


def _undo(project: Project, plan: Plan, reason: Reason, at: str) -> str:
    stage = "pipelines/{}/dvc.yaml:{}".format(*at.split("/"))
    match reason.cause:
        case "failed":
            return str(reason.new)
        case "key" if reason.subject:
            return _undo_key(plan, reason)
        case "key":
            return "its old spec is neither in .slmcompile/specs nor in git; it will run"
        case "package":
            wanted = f"{reason.subject}=={reason.old}"
            return f"install {wanted}" if reason.old else f"uninstall {reason.subject}"
        case "file":
            return _undo_file(project, reason)
        case "output":
            return f"`dvc pull {stage}`, if somebody pushed it"
        case "edited":
            return f"`slmcompile drift {plan.recipe}` says how to bring it back"
        case "cache":
            return f"`dvc commit -f {stage}` keeps what is here"
        case "input":
            return f"bring back the earlier output of {reason.subject} (`dvc checkout` it)"
        case _:
            return _NO_WAY_BACK[reason.cause]


def _undo_key(plan: Plan, reason: Reason) -> str:
    section, _, name = reason.subject.partition(".")
    if section == "target" and "." not in name and reason.old is None:
        return f"take {name} out of `target`"
    if reason.adapter and reason.old is None:
        return f"take {reason.adapter} out of `adapters`"
    if reason.adapter:
        return f"put adapter@{reason.subject} back (recipes/{plan.recipe}.yaml)"
    written = [text for text in plan.overrides if repr(text) in reason.where]
    value = json.dumps(reason.old, ensure_ascii=False)
    if written:
        return f"set {reason.subject} back to {value}: change the override {written[0]}"
    where = reason.where or f"recipes/{plan.recipe}.yaml; now a default"
    return f"set {reason.subject} back to {value} ({where})"


def _undo_file(project: Project, reason: Reason) -> str:
    if not reason.old:
        return f"nothing to go back to: {reason.subject} was not there before"
    try:
        found = find_version(
            project.root, reason.subject, reason.old, limit=20, largest=_LARGEST_HASHED
        )
    except SlmcompileError:
        found = None
    if found:
        return f"`git checkout {found[0].name} -- {reason.subject}` brings the old bytes back"
    return f"put the bytes with MD5 {reason.old} back (git's recent history does not have them)"


def _last_run(project: Project, plan: Plan, stage: Stage | None) -> LastRun | None:
    if stage is None:
        return None
    locked = read_locks(project, plan)[stage.pipeline].get(stage.name)
    if locked is None:
        return None
    from slmcompile.state.specs import old_spec

    md5 = locked.deps.get(stage.spec_path, "")
    spec = old_spec(project, stage, md5, history=True) or {}
    took = [entry for entry in journal.read(project) if entry.get("stage") == stage.address]
    return LastRun(
        spec=md5,
        inputs={path: md5 for path, md5 in locked.deps.items() if path != stage.spec_path},
        outs=locked.outs,
        packages=spec.get("packages", {}),
        seconds=took[-1]["seconds"] if took else None,
    )


def to_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation for programs; ``format_version`` 1.0."""
    last = explanation.last_run
    return {
        "format_version": "1.0",
        "recipe": explanation.plan.recipe,
        "overrides": list(explanation.plan.overrides),
        "last_overrides": list(explanation.last_overrides),
        "stage": explanation.stage.address if explanation.stage else None,
        "action": explanation.action,
        "causes": [
            {
                "cause": cause.reason.cause,
                "subject": cause.reason.subject,
                "old": cause.reason.old,
                "new": cause.reason.new,
                "where": cause.reason.where,
                "stages": list(cause.stages),
                "reaches": list(cause.reaches),
                "undo": cause.undo,
            }
            for cause in explanation.causes
        ],
        "last_run": None
        if last is None
        else {
            "spec_md5": last.spec,
            "inputs": dict(last.inputs),
            "outs": dict(last.outs),
            "packages": dict(last.packages),
            "seconds": last.seconds,
        },
    }
