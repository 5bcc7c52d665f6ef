"""A planned run as text for a person."""

from __future__ import annotations

from collections.abc import Sequence

from slmcompile.checks.judge import by_weight, sentence
from slmcompile.checks.registry import Finding
from slmcompile.console.printable import printable
from slmcompile.estimate.time import cost_line
from slmcompile.execution.last_overrides import without_last
from slmcompile.explain.choices import choice_lines
from slmcompile.explain.executed import executed_lines
from slmcompile.explain.planned import PlannedRun
from slmcompile.explain.shipped import shipped_lines
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.state.changes import Change

_SIGNS = {"run": "~", "restore": "↺", "unchanged": "="}
_SHOWN_REASONS = 3


def plan_text(planned: PlannedRun) -> str:
    """What is refuted, what is undecided, a line a stage, the summaries."""
    text = [
        *findings_lines(planned.findings),
        *stage_lines(planned.plan, planned.changes),
        *executed_lines(planned.plan, planned.changes),
        *shipped_lines(planned.plan),
        *planned.recommended_lines,
        *choice_lines(planned.choices),
        summary(planned.changes),
        findings_summary(planned.findings),
        cost_line(planned.cost),
        *without_last(planned.last_overrides, planned.plan.overrides),
        *([f"Not looked at: {planned.undone}."] if planned.undone else []),
    ]
    # Values are a stranger's: no line may hold an escape sequence or be two.
    return "\n".join(printable(line) for line in text)


def stage_lines(plan: Plan, changes: Sequence[Change]) -> list[str]:
    """What will happen to each stage, and why; a line each."""
    width = max((len(change.stage.address) for change in changes), default=0)
    return [
        f"  {_SIGNS[change.action]} {change.stage.address.ljust(width)}"
        f"  {_what(change)}{_whose(plan, change.stage)}".rstrip()
        for change in changes
    ]


def _whose(plan: Plan, stage: Stage) -> str:
    """Of a stage whose address does not say so: the adapters that need it, if not all do."""
    names = [name for name, own in plan.members.items() if stage.address in own.values()]
    some = not stage.member and 0 < len(names) < len(plan.members)
    return f"; for {', '.join(names)}" if some else ""


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """Refuted checks first, then those that need a probe; a line each and one for the mend."""
    lines: list[str] = []
    for finding in by_weight(findings):
        if finding.verdict.outcome == "refuted":
            sign = "!" if finding.check.warning else "✗"
            lines.append(f"  {sign} {finding.check.name}: {sentence(finding)}")
            lines.append(f"      mend: {finding.verdict.mend}")
    by_stage: dict[str, list[str]] = {}
    for finding in findings:
        if finding.verdict.outcome == "needs_probe":
            by_stage.setdefault(finding.verdict.stage, []).append(finding.check.name)
    lines += [f"  ? {stage} will decide: {', '.join(names)}" for stage, names in by_stage.items()]
    return lines


def findings_summary(findings: Sequence[Finding]) -> str:
    """One line: ``Checks: 24 proved, 7 need a probe.``."""
    parts = []
    for outcome, words in (
        ("refuted", "refuted"),
        ("warning", "warned"),
        ("needs_probe", "need a probe"),
        ("proved", "proved"),
    ):
        count = sum(_outcome(finding) == outcome for finding in findings)
        if count or outcome == "proved":
            parts.append(f"{count} {words}")
    return f"Checks: {', '.join(parts)}."


def _outcome(finding: Finding) -> str:
    refuted = finding.verdict.outcome == "refuted"
    return "warning" if refuted and finding.check.warning else finding.verdict.outcome


def _what(change: Change) -> str:
    doing = {
        "run": f"will {KINDS[change.stage.kind].verb}",
        "restore": f"take from {change.taken_from}" if change.taken_from else "restore from cache",
        "unchanged": "unchanged",
    }[change.action]
    if change.action == "unchanged":
        return doing
    reasons = [reason.sentence() for reason in change.reasons[:_SHOWN_REASONS]]
    if len(change.reasons) > _SHOWN_REASONS:
        reasons.append(f"{len(change.reasons) - _SHOWN_REASONS} more")
    uncertain = change.action == "run" and {reason.cause for reason in change.reasons} == {"input"}
    note = " (may be cut off early)" if uncertain else ""
    if change.kept:
        left = [name for name in change.stage.config["members"] if name not in change.kept]
        note = f"; trains {', '.join(left) or 'nobody'}, takes {', '.join(change.kept)} as before"
    return f"{doing.ljust(18)}  {', '.join(reasons)}{note}"


def summary(changes: Sequence[Change]) -> str:
    """One line: ``Plan: 1 to train, 2 to evaluate, 1 to restore, 6 unchanged``."""
    parts: list[str] = []
    for kind, entry in KINDS.items():
        verb = entry.verb
        count = sum(change.action == "run" and change.stage.kind == kind for change in changes)
        if count:
            named = f"{kind}s" if count > 1 and kind != "data" else kind
            parts.append(f"{count} {named} to {verb}" if verb != kind else f"{count} to {verb}")
    for action, word in (("restore", "to restore"), ("unchanged", "unchanged")):
        count = sum(change.action == action for change in changes)
        if count:
            parts.append(f"{count} {word}")
    return f"Plan: {', '.join(parts) or 'nothing'}."
