"""Makes the statement of a finished run out of what lies in the project.

Everything that is stated of an output has been read from its bytes. Who approved what is taken
from the caller. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile import __version__
from slmcompile.console.errors import (
    CorruptError,
    GateFailedError,
    MissingError,
    SlmcompileError,
    StaleError,
)
from slmcompile.metrics import METRICS
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Plan
from slmcompile.provenance.folder import dvc_object, hash_of
from slmcompile.provenance.outputs import SUBJECTS, Output, outputs, require_whole
from slmcompile.provenance.statement import (
    GateResult,
    StageResult,
    Statement,
    checked,
    folder_name,
)
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.gates import Verdict, judge
from slmcompile.stages.scores import read_comparisons, read_metrics
from slmcompile.state.changes import Change, changes
from slmcompile.state.state import read_lock

_OF_THE_RECIPE = frozenset({"key", "package", "epoch", "file", "command"})
"""Causes of a change that lie in the recipe, its files and its environment."""


@dataclass(frozen=True)
class Asked:
    """What a run was approved as; nothing of one that was started by hand.

    Attributes:
        digest: of the proposal.
        head: the commit that was trained.
        base: the commit that it was compared with.
        pull_request: its number.
        approver: the name of who said yes.
    """

    digest: str | None = None
    head: str | None = None
    base: str | None = None
    pull_request: int | None = None
    approver: str = ""


NOBODY = Asked()


def attest(
    project: Project, plan: Plan, asked: Asked = NOBODY, *, alone: bool = False
) -> Statement:
    """The statement of a run whose outputs lie in the project.

    Args:
        project: where they lie.
        plan: of the whole recipe.
        asked: what it was approved as.
        alone: whether no file may have a second name; see ``require_exactly``.

    Raises:
        StaleError: the recipe, its files or packages have changed since it ran (exit 4).
        GateFailedError: a bar was missed (exit 3).
        MissingError: it never ran here, or an output is not there (exit 69).
        CorruptError: an output is not as its stage left it (exit 74).
        RefusedError: an output holds a link, or lies behind one (exit 77).
    """
    happening = changes(project, plan)
    _require_of_now(plan, happening)
    stages: list[StageResult] = []
    subjects: dict[str, str] = {}
    fingerprints = plan.fingerprints()
    for output in outputs(project, plan):
        require_whole(project, output, alone=alone)
        address = output.stage.address
        stages.append(_stage(project, output, fingerprints[address]))
        if output.listed and output.stage.kind in SUBJECTS:
            folder = folder_name(plan.recipe, address)
            subjects |= {f"{folder}/{name}": sha for name, sha in output.listed.files.items()}
    gates = passed(project, plan)
    _require_finished(plan, happening)
    statement = Statement(
        recipe=plan.recipe,
        effective=digest(plan.effective),
        digest=asked.digest,
        head=asked.head,
        base=asked.base,
        pull_request=asked.pull_request,
        approver=asked.approver,
        tool=__version__,
        packages={name: known for each in plan.stages() for name, known in each.packages.items()},
        materials=_materials(project, plan),
        stages=tuple(stages),
        subjects=subjects,
        gates=gates,
        metrics=measured(plan, project.root / plan.stage("score").out),
    )
    try:
        return checked(statement)
    except (ValueError, SlmcompileError) as error:
        raise CorruptError(
            f"{plan.recipe}: cannot be stated: {_first_line(error)}",
            "names and texts have to be plain, and of a length that people can read",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _require_of_now(plan: Plan, happening: Sequence[Change]) -> None:
    """That all of it has run, and what of it is a person's has not changed since."""
    reasons = [(each.stage, reason) for each in happening for reason in each.reasons]
    for stage, reason in reasons:
        if reason.cause in _OF_THE_RECIPE:
            raise StaleError(
                f"{plan.recipe}: changed since {stage.address} ran: {reason.sentence()}",
                f"run `slmcompile run {plan.recipe}`, or take the change back",
            )
    for stage, reason in reasons:
        if reason.cause == "first_run":
            raise MissingError(
                f"{stage.address} never ran here", f"run `slmcompile run {plan.recipe}`"
            )


def _require_finished(plan: Plan, happening: Sequence[Change]) -> None:
    """That no stage is left to run, now that what lies here is known to be whole."""
    for each in happening:
        if each.action == "run":
            why = "; ".join(reason.sentence() for reason in each.reasons[:3])
            raise CorruptError(
                f"{each.stage.address} is not finished: {why}",
                f"run `slmcompile run {plan.recipe}`; `slmcompile why {each.stage.address}`"
                " says more",
            )


def _stage(project: Project, output: Output, fingerprint: str) -> StageResult:
    stage, listed = output.stage, output.listed
    locked = read_lock(project, stage.pipeline).get(stage.name)
    known = locked.outs.get(stage.out, "") if locked else ""
    if listed is None:
        return StageResult(stage.address, stage.kind, fingerprint, "", known, 0)
    found = dvc_object(project.root / stage.out, stage.out, listed.whole)
    if known not in {"", found}:
        raise CorruptError(
            f"{stage.out}: is not what pipelines/{stage.pipeline}/dvc.lock names",
            "run `dvc checkout --force`, or the recipe again",
        )
    return StageResult(stage.address, stage.kind, fingerprint, listed.sha256, found, listed.size)


def passed(project: Project, plan: Plan) -> tuple[GateResult, ...]:
    """Every bar of a recipe, judged on what was measured, whatever its gate's lock says.

    Raises:
        GateFailedError: one was missed (exit 3).
    """
    verdicts = [
        (f"{member}: " if member else "", verdict)
        for member, view in plan.views.items()
        for verdict in _judged(project, view, member)
    ]
    failed = [f"{of}{verdict.text}" for of, verdict in verdicts if not verdict.passed]
    if failed:
        raise GateFailedError(
            f"{len(failed)} of {len(verdicts)} gates failed: {'; '.join(failed)}",
            "look at the report, then train better or lower the bar",
        )
    return tuple(GateResult(f"{of}{verdict.text}", verdict.passed) for of, verdict in verdicts)


def _judged(project: Project, view: Plan, member: str) -> list[Verdict]:
    scored = _scored(project, view, member)
    gates = [Gate(**gate) for gate in view.stage("gate").config["gates"]]
    return judge(gates, read_metrics(scored), read_comparisons(scored)) if gates else []


def _scored(project: Project, view: Plan, member: str) -> Path:
    return project.root / view.stage("score").out / member


def measured(plan: Plan, scored: Path) -> dict[str, dict[str, Any]]:
    """What was measured of answers, and nothing of the machine that gave them.

    Args:
        plan: of the whole recipe.
        scored: the folder that its ``score`` made.
    """
    return {
        f"{member}/{name}".removeprefix("/"): {
            metric: values[metric] for metric in METRICS if values.get(metric) is not None
        }
        for member in plan.views
        for name, values in read_metrics(scored / member).items()
    }


def _materials(project: Project, plan: Plan) -> dict[str, str]:
    """The files that the recipe is composed of, and those that its stages read."""
    composed = {path: hash_of(project.root, plan.recipe, path) for path in plan.own.sources}
    return {**composed, **plan.files}
