"""What differs between two plans: keys, stages, and metrics where both have run.

Pure over two ``Side`` values; where a side comes from (the working tree, a git revision, a saved
plan) is not known here. Stages are matched by their name within a recipe (``train``,
``evaluate-cpu-int8``), so that shared stages and two recipes compare as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slmcompile.plans.definition import OF_MEMBER, Plan, Stage
from slmcompile.state.reasons import Reason, file_reason, identity_reasons
from slmcompile.state.specs import differences

Metrics = Mapping[str, Mapping[str, Any]]
Status = Literal["added", "removed", "changed", "same"]


@dataclass(frozen=True)
class StageState:
    """One stage of one side: what it is, what it is made from, and the hash of all that.

    ``inputs`` are the stages that it reads, by their names within the recipe.
    """

    stage: Stage
    inputs: tuple[str, ...]
    identity: Mapping[str, Any]
    files: Mapping[str, str]
    fingerprint: str


@dataclass(frozen=True)
class Side:
    """One of the two things compared.

    Attributes:
        name: as the user called it.
        plan: None where a revision has no such recipe yet.
        stages: by name within the recipe.
        metrics: by artifact; only what was measured for exactly this plan.
        notes: what a reader should know of it, one line each.
    """

    name: str
    plan: Plan | None
    stages: Mapping[str, StageState] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyDifference:
    """A key of the effective recipe; None where a side does not have it."""

    key: str
    old: Any
    new: Any
    old_where: str
    new_where: str


@dataclass(frozen=True)
class StageDifference:
    """A stage on either side.

    Attributes:
        name: within the recipe.
        kind: as in the plan.
        status: ``same`` where both fingerprints are equal.
        reasons: what differs in the stage itself.
        inputs: names of the input stages that differ.
        old: fingerprint, None if added.
        new: fingerprint, None if removed.
    """

    name: str
    kind: str
    status: Status
    reasons: tuple[Reason, ...]
    inputs: tuple[str, ...]
    old: str | None
    new: str | None


@dataclass(frozen=True)
class MetricDifference:
    """One metric of one artifact that both sides measured."""

    artifact: str
    metric: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides, and both sides' names."""

    old: Side
    new: Side
    keys: tuple[KeyDifference, ...]
    stages: tuple[StageDifference, ...]
    metrics: tuple[MetricDifference, ...]

    @property
    def any(self) -> bool:
        """Whether a key or a stage differs (metrics alone may: hardware has its own noise)."""
        return bool(self.keys) or any(stage.status != "same" for stage in self.stages)


def side_of(
    name: str, plan: Plan | None, metrics: Metrics | None = None, notes: tuple[str, ...] = ()
) -> Side:
    """A side made from a plan of this version of slmcompile."""
    if plan is None:
        return Side(name, None, notes=notes)
    identities = {stage.address: stage.identity() for stage in plan.stages()}
    return Side(name, plan, states(plan, identities, plan.fingerprints()), metrics or {}, notes)


def states(
    plan: Plan, identities: Mapping[str, Mapping[str, Any]], fingerprints: Mapping[str, str]
) -> dict[str, StageState]:
    """The stages of a plan by their names within the recipe.

    Of several adapters each may have other data, and all of these stages are called ``data``: a
    shared stage bears the name of each adapter that it is of, as the recipe's own do.
    """
    called = {stage.address: _names(plan, stage) for stage in plan.stages()}
    return {
        name: StageState(
            stage,
            _read(stage, name, called),
            identities[stage.address],
            {path: plan.files[path] for path in stage.files},
            fingerprints[stage.address],
        )
        for stage in plan.stages()
        for name in called[stage.address]
    }


def _names(plan: Plan, stage: Stage) -> tuple[str, ...]:
    of_rows = stage.kind == "data" or "data" in stage.inputs
    if stage.pipeline == plan.own.name or not of_rows:
        return (stage.name,)
    of = (name for name, own in plan.members.items() if stage.address in own.values())
    return tuple(f"{stage.name}{OF_MEMBER}{name}" for name in of) or (stage.name,)


def _read(stage: Stage, name: str, called: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a stage reads; of what several adapters share, under the name of its own adapter."""
    _, of, member = name.rpartition(OF_MEMBER)
    found: list[str] = []
    for made in stage.input_stages.values():
        own = [each for each in called[made] if of and each.endswith(f"{OF_MEMBER}{member}")]
        found += own or called[made]
    return tuple(dict.fromkeys(found))


def compare(old: Side, new: Side) -> Difference:
    """Everything that differs, keys by name, stages in the new plan's order."""
    return Difference(old, new, _keys(old, new), _stages(old, new), _metrics(old, new))


def _keys(old: Side, new: Side) -> tuple[KeyDifference, ...]:
    if old.plan is None or new.plan is None:
        return ()
    return tuple(
        KeyDifference(key, *pair, old.plan.origins.get(key, ""), new.plan.origins.get(key, ""))
        for key, pair in differences(old.plan.effective, new.plan.effective).items()
    )


def _stages(old: Side, new: Side) -> tuple[StageDifference, ...]:
    found: list[StageDifference] = []
    differ: set[str] = set()
    for name, now in new.stages.items():
        was = old.stages.get(name)
        kind = now.stage.kind
        if was is None:
            differ.add(name)
            found.append(StageDifference(name, kind, "added", (), (), None, now.fingerprint))
            continue
        same = was.fingerprint == now.fingerprint
        inputs = tuple(name for name in now.inputs if name in differ)
        gone = tuple(name for name in was.inputs if name not in now.inputs)
        if not same:
            differ.add(name)
        found.append(
            StageDifference(
                name,
                kind,
                "same" if same else "changed",
                () if same else _reasons(was, now, new.plan),
                () if same else (*inputs, *gone),
                was.fingerprint,
                now.fingerprint,
            )
        )
    found += [
        StageDifference(name, was.stage.kind, "removed", (), (), was.fingerprint, None)
        for name, was in old.stages.items()
        if name not in new.stages
    ]
    return tuple(found)


def _reasons(was: StageState, now: StageState, plan: Plan | None) -> tuple[Reason, ...]:
    if plan is None:
        return ()
    reasons = identity_reasons(plan, now.stage, was.identity, now.identity)
    if sorted(was.files.values()) == sorted(now.files.values()):
        return tuple(reasons)  # a file that only moved is the same to its stage
    return (
        *reasons,
        *(
            file_reason(plan, now.stage, path, was.files.get(path), now.files.get(path))
            for path in sorted(was.files.keys() | now.files.keys())
            if was.files.get(path) != now.files.get(path)
        ),
    )


def _metrics(old: Side, new: Side) -> tuple[MetricDifference, ...]:
    return tuple(
        MetricDifference(artifact, metric, before[metric], value)
        for artifact, measured in new.metrics.items()
        if (before := old.metrics.get(artifact)) is not None
        for metric, value in measured.items()
        if isinstance(value, int | float)
        and isinstance(before.get(metric), int | float)
        and before[metric] != value
    )


def to_json(difference: Difference) -> dict[str, Any]:
    """A difference for programs; ``format_version`` 1.0."""
    return {
        "format_version": "1.0",
        "differ": difference.any,
        "old": _side_json(difference.old),
        "new": _side_json(difference.new),
        "keys": [vars(key) for key in difference.keys],
        "stages": [
            {
                "stage": stage.name,
                "kind": stage.kind,
                "status": stage.status,
                "reasons": [vars(reason) for reason in stage.reasons],
                "inputs": list(stage.inputs),
                "old": stage.old,
                "new": stage.new,
            }
            for stage in difference.stages
        ],
        "metrics": [vars(metric) for metric in difference.metrics],
    }


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "recipe": side.plan.recipe if side.plan else None,
        "measured": sorted(side.metrics),
        "notes": list(side.notes),
    }
