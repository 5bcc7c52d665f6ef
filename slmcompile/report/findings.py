"""What the figures say, in sentences: also what the model is worse at. Plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmcompile.report.facts import HIGHER_IS_BETTER, METRIC_WORDS, Artifact, ReportFacts
from slmcompile.report.text import is_number, number

# Below this, validation loss wanders; above it, the model is unlearning.
_RISE = 0.02


def verdict(facts: ReportFacts) -> tuple[bool | None, str]:
    """Whether all gates passed (None without gates), and the sentence that says so."""
    total, failed = len(facts.gates), sum(not gate.passed for gate in facts.gates)
    if not total:
        return None, "No quality gates are set."
    if not failed:
        return (
            True,
            "The quality gate passed." if total == 1 else f"All {total} quality gates passed.",
        )
    if total == 1:
        return False, "The quality gate failed."
    return False, f"{failed} of {total} quality gates failed."


def best_baseline(facts: ReportFacts, metric: str) -> Artifact | None:
    """The strongest baseline at a metric where more is better."""
    measured = [a for a in facts.of_kind("baseline", "base") if a.metric(metric) is not None]
    return max(measured, key=lambda a: a.metric(metric) or 0.0, default=None)


def baseline_sentences(facts: ReportFacts) -> list[str]:
    """One sentence for each metric at which a baseline is no worse than the tuned model."""
    tuned = facts.tuned
    if tuned is None:
        return []
    sentences = []
    for metric in HIGHER_IS_BETTER:
        ours, best = tuned.metric(metric), best_baseline(facts, metric)
        theirs = best.metric(metric) if best else None
        if ours is None or best is None or theirs is None or theirs < ours:
            continue
        verb = "beats" if theirs > ours else "equals"
        sentence = (
            f"{best.name} {verb} the fine-tuned model at {METRIC_WORDS[metric]}: "
            f"{number(theirs)} against {number(ours)}"
        )
        sentences.append(f"{sentence}{_overlap(tuned, best, metric)}.")
    return sentences


def _overlap(one: Artifact, other: Artifact, metric: str) -> str:
    a, b = one.interval(metric), other.interval(metric)
    if a and b and a[0] <= b[1] and b[0] <= a[1]:
        return " (the 95 % intervals overlap, so this test set cannot tell them apart)"
    return ""


def export_sentences(facts: ReportFacts) -> list[str]:
    """One sentence for each export that is measurably worse than the tuned model."""
    tuned = facts.tuned
    if tuned is None:
        return []
    sentences = []
    for export in facts.of_kind("export"):
        for metric in HIGHER_IS_BETTER:
            ours, theirs = export.metric(metric), tuned.metric(metric)
            interval = tuned.interval(metric)
            if ours is not None and theirs is not None and interval and ours < interval[0]:
                sentences.append(
                    f"{export.name} loses {number(theirs - ours)} of {METRIC_WORDS[metric]} "
                    f"against the fine-tuned model ({number(ours)} against {number(theirs)})."
                )
                break
    return sentences


def kept_step(training: Mapping[str, Any]) -> int | None:
    """The optimizer step whose weights were written."""
    step = training.get("saved_step", training.get("best_step"))
    return None if step is None else int(step)


def overfitting_sentence(training: Mapping[str, Any]) -> str | None:
    """Says that validation loss rose after its best point, or None."""
    points = [
        (point["step"], float(point["eval_loss"]))
        for point in training.get("curve", ())
        if is_number(point.get("eval_loss"))
    ]
    if not points:
        return None
    best_step, best = min(points, key=lambda point: point[1])
    last_step, last = points[-1]
    if last <= best * (1 + _RISE):
        return None
    kept = kept_step(training) or best_step
    return (
        f"Validation loss rose from {number(best)} at step {best_step} to {number(last)} at step "
        f"{last_step}: a sign of overfitting. The weights of step {kept} were kept."
    )


def all_findings(facts: ReportFacts) -> list[str]:
    """Every sentence, the ones a decision hangs on first."""
    overfitting = overfitting_sentence(facts.training)
    return [
        *baseline_sentences(facts),
        *export_sentences(facts),
        *([overfitting] if overfitting else []),
    ]
