"""What the figures say, in sentences: also what the model is worse at. Plain text.

Whether one artifact is better than another is told by the rows that both answered (see
``metrics.paired``), never by two intervals side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.methods.early_stopping import LOSS, BestBy, stopped_sentence
from slmcompile.metrics import METRICS
from slmcompile.report.facts import (
    Artifact,
    ReportFacts,
)
from slmcompile.report.method import others_hold, stands_beside_others
from slmcompile.report.text import is_number, number
from slmcompile.scoring.compared import p_text, signed
from slmcompile.scoring.paired import Difference

SMALL = 0.01
"""A loss that chance does not explain and that is no larger than this is no finding: of a share
this much of it, of perplexity this part of it."""

# Below this, validation loss wanders; above it, the model is unlearning.
_RISE = 0.02
_FEWEST_POINTS = 4
_OURS = "the fine-tuned model"


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
    """The strongest baseline, or the base model, at a metric."""
    measured = [a for a in facts.of_kind("baseline", "base") if a.metric(metric) is not None]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    return max(measured, key=lambda a: sign * (a.metric(metric) or 0.0), default=None)


def cut_off_sentence(facts: ReportFacts, artifact: Artifact) -> str | None:
    """Says how many answers ended at their limit; None where none did."""
    share = artifact.metric("cut_off")
    if not share:
        return None
    limit = facts.recipe.get("eval", {}).get("max_new_tokens")
    of = f"{round(share * artifact.rows)} of {artifact.rows}" if artifact.rows else f"{share:.1%}"
    at = f"the limit of {limit} tokens" if limit else "the limit"
    return (
        f"{artifact.name}: {of} answers ended at {at} (eval.max_new_tokens) and not with a stop "
        "token. Either the limit is too low, and with it every figure of this artifact, or the "
        "model does not end its answers."
    )


def baseline_sentences(facts: ReportFacts) -> list[str]:
    """What the fine-tuned model does not surely do better than the strongest of the comparisons.

    One sentence for each of them and for each outcome: it is better, or nobody can tell.
    """
    tuned, told = facts.tuned, defaultdict[tuple[str, str], list[str]](list)
    if tuned is None:
        return []
    seen = set()
    for metric, entry in METRICS.items():
        if not entry.tells_of_learning:
            continue
        ours, best = tuned.metric(metric), best_baseline(facts, metric)
        theirs = best.metric(metric) if best else None
        if ours is None or best is None or theirs is None:
            continue
        found = facts.difference(best.name, tuned.name, metric)
        behind = theirs >= ours if entry.higher_is_better else theirs <= ours
        if not behind and (found is None or found.significant):
            continue
        # Where a label is the whole answer, accuracy is exact match once more.
        same = (best.name, ours, theirs)
        if same in seen:
            continue
        seen.add(same)
        said = f"{entry.words}: {number(theirs)} against {number(ours)}"
        evidence = f" ({_rows(found, best.name, _OURS)})" if found else ""
        verb = "beats" if theirs != ours else "equals"
        outcome = verb if found is None or found.significant else ""
        told[best.name, outcome].append(said + evidence)
    return [_against(name, outcome, parts) for (name, outcome), parts in told.items()]


def _against(name: str, outcome: str, parts: Sequence[str]) -> str:
    figures = "; ".join(parts)
    if outcome:
        return f"{name} {outcome} {_OURS} at {figures}."
    return f"{name} and {_OURS} cannot be told apart on this test set by {figures}."


def _rows(found: Difference, one: str, other: str) -> str:
    """The evidence of a comparison, ``one`` minus ``other``."""
    if found.only_one is None or found.only_other is None:
        return f"difference {signed(found.low)} to {signed(found.high)} at 95 %, {p_text(found.p)}"
    return (
        f"{found.only_one} {_row(found.only_one)} only {one} has right, {found.only_other} only "
        f"{other}, {p_text(found.p)}"
    )


def _row(count: int) -> str:
    return "row" if count == 1 else "rows"


def same_reference_sentence(facts: ReportFacts) -> str | None:
    """Says that one answer is right everywhere, so that no figure tells of the task; or None."""
    tuned = facts.tuned
    if tuned is None or tuned.references != 1 or not tuned.rows or tuned.rows < 2:
        return None
    return (
        f"All {tuned.rows:,} test rows measured ask for the same answer: whoever always gives it "
        "is right everywhere, and no figure here tells whether the task was learnt."
    )


def losses(facts: ReportFacts, export: Artifact) -> list[tuple[str, Difference]]:
    """Metrics at which an export is surely worse than the tuned model, the largest loss first."""
    tuned = facts.tuned
    if tuned is None:
        return []
    found = []
    for metric, entry in METRICS.items():
        ours, theirs = export.metric(metric), tuned.metric(metric)
        difference = facts.difference(export.name, tuned.name, metric)
        if entry.needs == "ending" or ours is None or theirs is None or difference is None:
            continue
        drop = theirs - ours if entry.higher_is_better else ours - theirs
        part = drop / max(ours, theirs, 1e-9)
        if difference.significant and (drop / entry.span if entry.span else part) > SMALL:
            found.append((part, metric, difference))
    found.sort(key=lambda each: -each[0])
    return [(metric, difference) for _, metric, difference in found]


def lost_the_task(facts: ReportFacts, export: Artifact) -> bool:
    """Whether a gate of an export failed, or it answers surely worse than the tuned model."""
    if any(gate.artifact == export.name and not gate.passed for gate in facts.gates):
        return True
    answers = {
        metric
        for metric, entry in METRICS.items()
        if entry.higher_is_better and export.metric(metric) is not None
    }
    return any(not answers or metric in answers for metric, _ in losses(facts, export))


def export_sentence(facts: ReportFacts, export: Artifact) -> str | None:
    """Says what an export has lost, the most first, and that no gate is about it; or None."""
    lost, tuned = losses(facts, export), facts.tuned
    if not lost or tuned is None:
        return None
    (metric, difference), *others = lost
    ours, theirs = export.metric(metric) or 0.0, tuned.metric(metric) or 0.0
    sentence = (
        f"{export.name} loses {number(abs(theirs - ours))} of {METRICS[metric].words} against "
        f"{_OURS} ({number(ours)} against {number(theirs)}; "
        f"{_rows(difference, export.name, _OURS)})"
        if METRICS[metric].higher_is_better
        else f"{export.name} has a {METRICS[metric].words} of {number(ours)} against "
        f"{number(theirs)} of {_OURS} ({_rows(difference, export.name, _OURS)})"
    )
    also = ", ".join(METRICS[name].words for name, _ in others)
    sentence += f"; it is worse at {also} too." if also else "."
    gated = any(gate.artifact == export.name for gate in facts.gates)
    bar = next((name for name, _ in lost if METRICS[name].tells_of_learning), None)
    if gated or bar is None:
        return sentence
    line = f"{{metric: {bar}, artifact: {export.name}, max_drop: 0.02}}"
    return f"{sentence} No gate is about it; `gates: [{line}]` sets it a bar."


def beside_sentence(facts: ReportFacts, export: Artifact) -> str | None:
    """Says that an export's adapter stands beside weights that nobody trained it over; or None."""
    if export.name in facts.frontiers:
        return None  # what stands beside a base there is trained over it
    target = facts.recipe.get("target", {}).get(export.name, {})
    return stands_beside_others(facts.recipe.get("train", {}), export.name, target)


def rounding_sentence(facts: ReportFacts) -> str | None:
    """Says what quantising cost the base that was trained over; None over the base itself."""
    if facts.rounding_error is None:
        return None
    over = facts.recipe.get("train", {}).get("over")
    precision = facts.recipe.get("target", {}).get(over, {}).get("precision", "fewer bits")
    return (
        f"Rounding the base to {precision} left its weights {facts.rounding_error:.1%} off"
        " (relative error of all together, by Frobenius norm); the adapter was trained over the"
        f" rounded ones, which {over} holds."
    )


def kept_step(training: Mapping[str, Any]) -> int | None:
    """The optimizer step whose weights were written."""
    step = training.get("saved_step", training.get("best_step"))
    return None if step is None else int(step)


def overfitting_sentence(training: Mapping[str, Any]) -> str | None:
    """Says that validation loss rose after its best point, or None."""
    points = _validation(training)
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


def early_stop_sentence(training: Mapping[str, Any]) -> str | None:
    """Says when and why training stopped before its last step, or None."""
    told = training.get("early_stopping") or {}
    if not told.get("stopped"):
        return None
    metric = training.get("metric_for_best_model") or LOSS
    best = training["best_eval_loss" if metric == LOSS else "best_metric"]
    by = BestBy(metric, told["patience"], told["threshold"])
    return stopped_sentence(
        by, training["steps"], told["planned_steps"], best, training["best_step"]
    )


def validation_sentence(training: Mapping[str, Any]) -> str | None:
    """What validation loss tells of overfitting; None where it was not measured."""
    measured = [loss for _, loss in _validation(training)]
    points = len(measured)
    if not points:
        return None
    rising = overfitting_sentence(training)
    if rising:
        return rising
    if points < _FEWEST_POINTS:
        many = f"{points} validation point{'s' * (points > 1)}"
        return f"Only {many}: too few to tell whether the model overfits."
    ends = "at its lowest" if measured[-1] <= min(measured) else f"within {_RISE:.0%} of its lowest"
    return f"Validation loss ends {ends}: no sign of overfitting."


def _validation(training: Mapping[str, Any]) -> list[tuple[int, float]]:
    return [
        (point["step"], float(point["eval_loss"]))
        for point in training.get("curve", ())
        if is_number(point.get("eval_loss"))
    ]


def all_findings(facts: ReportFacts) -> list[str]:
    """Every sentence, the ones a decision hangs on first."""
    made = facts.of_kind("tuned", "export")
    sentences = [
        *(cut_off_sentence(facts, artifact) for artifact in made),
        same_reference_sentence(facts),
        *baseline_sentences(facts),
        *(export_sentence(facts, export) for export in facts.of_kind("export")),
        rounding_sentence(facts),
        *(beside_sentence(facts, export) for export in facts.of_kind("export")),
        others_hold(facts.recipe.get("train", {}), [each.name for each in facts.of_kind("export")]),
        early_stop_sentence(facts.training),
        overfitting_sentence(facts.training),
    ]
    return [sentence for sentence in sentences if sentence]
