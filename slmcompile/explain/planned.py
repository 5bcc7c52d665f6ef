"""A compiled recipe, what running it would do and cost now, and what every check found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from slmcompile.checks.judge import judge_all, refusal
from slmcompile.checks.registry import Finding
from slmcompile.estimate.time import Cost, cost_of
from slmcompile.execution.last_overrides import last_overrides
from slmcompile.explain.choices import Choice, choices_of
from slmcompile.explain.executed import executed
from slmcompile.explain.recommended import Fit, recommended, recommended_lines
from slmcompile.facts.gather import contexts_of
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state.changes import Change, changes


@dataclass(frozen=True, repr=False)
class PlannedRun:
    """A compiled recipe, what running it would do and cost now, and what every check found.

    Attributes:
        plan: the compiled recipe.
        changes: one entry per stage.
        findings: one entry per check.
        cost: of what will run.
        undone: what was asked of ``--deep`` and could not be done.
        last_overrides: those of the last run, which need not be this plan's.
        recommended: targets for the device that the recipe says it ships to.
        recommended_lines: the same for people.
        choices: targets whose precision is going to be chosen.
    """

    plan: Plan
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    cost: Cost
    undone: str = ""
    last_overrides: tuple[str, ...] = ()
    recommended: tuple[Fit, ...] = ()
    recommended_lines: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    def __repr__(self) -> str:
        refuted = sum(finding.blocks for finding in self.findings)
        checks = f", refuted by {refuted} checks" if refuted else ""
        return f"<PlannedRun of {self.plan.recipe}: {counted(self.changes)}{checks}>"


def counted(changes: Sequence[Change]) -> str:
    """``2 run, 9 unchanged``."""
    counts = Counter(change.action for change in changes)
    return ", ".join(f"{count} {action}" for action, count in counts.items()) or "no stages"


def plan_compiled(
    project: Project, compiled: Plan, policy_from: str | None, *, deep: bool = False
) -> PlannedRun:
    """What a compiled recipe would do now, and what every check finds; writes nothing."""
    happening = changes(project, compiled)
    contexts = contexts_of(project, compiled, happening, policy_from)
    findings = judge_all(contexts)
    if deep:
        from slmcompile.facts.deep import REFUTED_ALREADY, deepened

        # What a check has refused must not be opened by a child process either.
        refused = refusal(findings) is not None
        contexts = {
            name: replace(context, deep=REFUTED_ALREADY) if refused else deepened(context)
            for name, context in contexts.items()
        }
        findings = judge_all(contexts)
    cost = cost_of(tuple(contexts.values()), happening)
    undone = dict.fromkeys(context.deep for context in contexts.values() if context.deep)
    last = last_overrides(project, compiled.recipe)
    first = next(iter(contexts.values()))
    return PlannedRun(
        *(compiled, happening, findings, cost, "; ".join(undone), last),
        recommended(first),
        tuple(recommended_lines(first)),
        choices_of(contexts),
    )


def to_json(planned: PlannedRun) -> dict[str, Any]:
    """A planned run for programs; ``format_version`` 2.0."""
    fingerprints = planned.plan.fingerprints()
    return {
        "format_version": "2.0",
        "recipe": planned.plan.recipe,
        "overrides": list(planned.plan.overrides),
        "last_overrides": list(planned.last_overrides),
        "plan_id": planned.plan.plan_id,
        "cost": planned.cost.to_json(),
        "stages": [
            {
                "stage": change.stage.address,
                "kind": change.stage.kind,
                "action": change.action,
                "taken_from": change.taken_from or None,
                **({"kept": list(change.kept)} if change.kept else {}),
                "fingerprint": fingerprints[change.stage.address],
                "inputs": dict(change.stage.input_stages),
                "reasons": [
                    {
                        "cause": reason.cause,
                        "subject": reason.subject,
                        "old": reason.old,
                        "new": reason.new,
                        "where": reason.where,
                    }
                    for reason in change.reasons
                ],
            }
            for change in planned.changes
        ],
        "executes": list(executed(planned.changes)),
        "undone": planned.undone,
        "recommended": [asdict(each) for each in planned.recommended],
        **({"choices": [each.to_json() for each in planned.choices]} if planned.choices else {}),
        "checks": [
            {
                "number": finding.check.number,
                "name": finding.check.name,
                "outcome": finding.verdict.outcome,
                "warning": finding.check.warning,
                "evidence": finding.verdict.evidence,
                "hint": finding.verdict.mend,
                "where": finding.verdict.where,
                "stage": finding.verdict.stage,
                "exit_code": int(finding.code) if finding.blocks else 0,
            }
            for finding in planned.findings
        ],
    }
