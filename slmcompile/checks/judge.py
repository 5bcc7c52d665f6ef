"""Judges a recipe by every rule, and says which findings stop a run."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from slmcompile.checks.registry import Check, Finding, Verdict, all_checks
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.facts.context import CheckContext
from slmcompile.files.memo import Remembered
from slmcompile.plans.definition import Plan

_remembered: Remembered[dict[int, Verdict]] = Remembered(most_bytes=16 << 20)


def judge(context: CheckContext, checks: Iterable[Check] | None = None) -> tuple[Finding, ...]:
    """One finding per rule, by number."""
    chosen = all_checks() if checks is None else checks
    known = _of_plan(context)
    return tuple(
        Finding(check, known.get(check.number) or _one(check, context)) for check in chosen
    )


def judge_all(
    contexts: Mapping[str, CheckContext], checks: Iterable[Check] | None = None
) -> tuple[Finding, ...]:
    """One finding per rule over all adapters of a recipe: the gravest, and whose it is.

    Args:
        contexts: by adapter; one without a name of a plain recipe.
        checks: all, where none are given.
    """
    found = {name: judge(context, checks) for name, context in contexts.items()}
    return tuple(
        _gravest(dict(zip(found, of_members, strict=True)))
        for of_members in zip(*found.values(), strict=True)
    )


def _gravest(found: Mapping[str, Finding]) -> Finding:
    """Of what one rule found in each of several adapters."""
    verdicts = {name: finding.verdict for name, finding in found.items()}
    first = next(iter(found.values()))
    if all(verdict == first.verdict for verdict in verdicts.values()):
        return first
    worst = min(verdicts.values(), key=lambda verdict: _GRAVE.index(verdict.outcome))
    told = [
        f"{name}: {verdict.evidence}"
        for name, verdict in verdicts.items()
        if verdict.outcome == worst.outcome
    ]
    return Finding(first.check, replace(worst, evidence="; ".join(told)))


_GRAVE = ("refuted", "needs_probe", "proved")


def _of_plan(context: CheckContext) -> dict[int, Verdict]:
    """Verdicts that the compiled plan alone decides, remembered by all that the plan holds."""
    if context.plan is None:
        return {}
    key = _content(context.plan)
    verdicts = _remembered.get(key)
    if verdicts is None:
        verdicts = {check.number: _one(check, context) for check in all_checks() if check.of_plan}
        _remembered.put(key, verdicts)
    return verdicts


def _content(plan: Plan) -> bytes:
    """A digest of everything in a plan; marshal is the quickest way through plain values."""
    pipelines = [
        (
            each.name,
            each.sources,
            each.runtime,
            [tuple(vars(stage).values()) for stage in each.stages],
        )
        for each in plan.pipelines
    ]
    whole: Any = (plan.recipe, plan.overrides, plan.origins, plan.effective, plan.files, pipelines)
    # Version 2 writes no references, so that equal values give equal bytes.
    return hashlib.sha256(marshal.dumps(whole, 2)).digest()


def _one(check: Check, context: CheckContext) -> Verdict:
    verdict = check.judge(context)
    if verdict.outcome == "needs_probe" and not verdict.stage:
        raise ValueError(f"check {check.number} needs a probe and names no stage")
    return verdict


def probes() -> tuple[Check, ...]:
    """The rules that may need a probe: those that read more than the recipe."""
    return tuple(check for check in all_checks() if set(check.needs) != {"C"})


def refusal(findings: Iterable[Finding], *, shown: bool = False) -> SlmcompileError | None:
    """The error that a run ends with, for the first finding that stops it.

    ``shown`` says that its reader has just read the findings, and need not do so again.
    """
    blocking = [finding for finding in by_weight(findings) if finding.blocks]
    if not blocking:
        return None
    first = blocking[0]
    if shown:
        where = f"{first.verdict.where}: " if first.verdict.where else ""
        others = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        what = f"{where}refuted by {first.check.name}{others}, as said above"
        return SlmcompileError(what, code=Exit(first.code))
    return SlmcompileError(sentence(first), first.verdict.mend, code=Exit(first.code))


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """What is refused by policy first, then all else that stops a run, then the rest."""
    return sorted(findings, key=lambda each: (not each.blocks, each.code != Exit.REFUSED))


def sentence(finding: Finding) -> str:
    """One line: where, and what was seen."""
    where = f"{finding.verdict.where}: " if finding.verdict.where else ""
    return f"{where}{finding.verdict.evidence}"
