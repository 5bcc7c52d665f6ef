"""``show R``: what was measured, on what, with which overrides, and whether the gates passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slmcompile.console.errors import MissingError, SlmcompileError
from slmcompile.execution.committed import (
    Committed,
    changed_since,
    made_as_asked,
    made_before,
    outdated,
    read_committed,
)
from slmcompile.explain.results import (
    ArtifactResult,
    choice_sentences,
    read_results,
    results_table,
)
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Gate
from slmcompile.report.facts import GateVerdict, ReportFacts, artifact_of, measured_on
from slmcompile.report.findings import all_findings
from slmcompile.scoring.compared import Comparison
from slmcompile.scoring.gates import Verdict, judge, measured_of
from slmcompile.stages.scores import read_comparisons

_FIRST = ("baselines", "base", "torch")


@dataclass(frozen=True)
class Shown:
    """What lies here of a recipe.

    Attributes:
        recipe: its name.
        overrides: those of the last run.
        finished: whether all that is shown was made with them.
        results: what was measured.
        outdated: of an artifact, the stages that have made something else since.
        words: the same, in words.
        verdicts: every bar of every gate whose figures are there.
        comparisons: artifacts of one and the same model against one another, row by row.
        findings: what the figures say, as in the report.
        unmeasured: gates whose figures are not there, in words.
        changed: what of the recipe has changed since; empty if nothing has.
    """

    recipe: str
    overrides: tuple[str, ...]
    finished: bool
    results: tuple[ArtifactResult, ...]
    outdated: Mapping[str, tuple[str, ...]]
    words: Mapping[str, str]
    verdicts: tuple[Verdict, ...]
    comparisons: tuple[Comparison, ...]
    findings: tuple[str, ...]
    unmeasured: tuple[str, ...]
    changed: str


def look(project: Project, recipe: str) -> dict[str, Shown]:
    """Puts together what ``show`` says, by adapter; of a plain recipe unnamed.

    Raises:
        MissingError: the recipe never ran here, or nothing was measured yet (exit 69).
    """
    committed = read_committed(project, recipe)
    if not committed.members:
        return {"": _look(project, committed, "")}
    return {
        member: _look(project, committed.of_member(member), member) for member in committed.members
    }


def _look(project: Project, committed: Committed, member: str) -> Shown:
    recipe = committed.recipe
    order = [f"answer-{name}" for name in (*_FIRST, *committed.targets)]
    results = tuple(
        sorted(
            (
                each
                for each in read_results(project, committed.stages.values(), member)
                if each.role in order
            ),
            key=lambda each: order.index(each.role) if each.role in order else len(order),
        )
    )
    if not results:
        raise MissingError(f"{recipe}: nothing was measured yet", f"run `slmcompile run {recipe}`")
    behind = outdated(project, committed)
    old = {
        result.name: addresses
        for result in results
        if (addresses := behind[result.stage].get(result.role, ()))
    }
    words = {name: made_before(committed, addresses) for name, addresses in old.items()}
    sound = {result.name: result.metrics for result in results if result.name not in old}
    scored = committed.stages[results[0].stage]
    found = tuple(
        each
        for each in read_comparisons(project.root / scored.out / member)
        if each.one in sound and each.other in sound
    )
    verdicts, unmeasured = _judged(committed.gates, results, found)
    said = _findings(_decoding(committed), committed.targets, sound, verdicts, found)
    said += choice_sentences(project, committed.of_kind("choose"), sound)
    try:
        changed = changed_since(project, committed)
    except SlmcompileError as error:  # no reason to hide what was measured
        changed = f"the recipe cannot be compiled now: {error.what}"
    return Shown(
        recipe,
        committed.overrides,
        made_as_asked(project, committed, {result.stage for result in results}),
        results,
        old,
        words,
        verdicts,
        found,
        said,
        unmeasured,
        changed,
    )


def _decoding(committed: Committed) -> Mapping[str, Any]:
    """How the tuned model was asked."""
    return next((each.config for each in committed.of_kind("answer")), {})


def _findings(
    config: Mapping[str, Any],
    targets: Sequence[str],
    measured: Mapping[str, Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    found: Sequence[Comparison],
) -> tuple[str, ...]:
    facts = ReportFacts(
        name="",
        recipe={"eval": config},
        gates=[GateVerdict(v.metric, v.artifact, v.bar, v.value, v.passed) for v in verdicts],
        artifacts=[artifact_of(name, metrics, targets) for name, metrics in measured.items()],
        comparisons=found,
    )
    return tuple(all_findings(facts))


def _judged(
    gates: Sequence[Mapping[str, Any]],
    results: Sequence[ArtifactResult],
    found: Sequence[Comparison],
) -> tuple[tuple[Verdict, ...], tuple[str, ...]]:
    measured = {result.name: result.metrics for result in results}
    verdicts: list[Verdict] = []
    unmeasured: list[str] = []
    for each in gates:
        try:
            gate = Gate.model_validate(each)
        except ValueError:
            unmeasured.append("it cannot be read; `slmcompile sync` writes it anew")
            continue
        needed = {gate.artifact, *(["torch"] if gate.max_drop is not None else [])}
        if all(gate.metric in measured_of(gate, measured, name) for name in needed):
            verdicts += judge([gate], measured, found)
        else:
            unmeasured.append(f"{gate.metric} of {gate.artifact} is not measured")
    return tuple(verdicts), tuple(unmeasured)


def text(found: Mapping[str, Shown]) -> str:
    """For a person, of each adapter: what was measured, and what is no longer as it was."""
    parts = [
        f"{member}\n{'═' * len(member)}\n{_text(shown)}" if member else _text(shown)
        for member, shown in found.items()
    ]
    return "\n\n".join(parts)


def _text(shown: Shown) -> str:
    """Overrides, the table, the gates, and what is no longer as it was."""
    lines: list[str] = []
    if over := " ".join(shown.overrides):
        made = f"with {over} of the last run"
        not_made = f"the last run was with {over}, and not all of this was made with it"
        lines = [f"{made if shown.finished else not_made}\n"]
    lines += [*_measured_on(shown), results_table(shown.results, shown.words)]
    lines += ["", *(f"  ! {sentence}" for sentence in shown.findings)] if shown.findings else []
    gates = [f"  {_sign(each)} gate: {each.text}{_note(each, shown)}" for each in shown.verdicts]
    gates += [f"  ? gate: {each}" for each in shown.unmeasured]
    lines += ["", *gates] if gates else []
    notes = [
        *(["rows in brackets are not of what lies here now"] if shown.words else []),
        *([shown.changed] if shown.changed else []),
    ]
    if notes:
        lines += ["", *notes, f"`slmcompile why {shown.recipe}` says what a run would do"]
    return "\n".join(lines)


def _measured_on(shown: Shown) -> list[str]:
    """What rows and labels were measured; a line an artifact where they differ in it."""
    told = {
        each.name: measured_on(artifact_of(each.name, each.metrics, ())) for each in shown.results
    }
    if len(set(told.values())) == 1:
        told = {"": next(iter(told.values()))}
    lines = [f"{name}: measured on {on}".removeprefix(": ") for name, on in told.items() if on]
    return [*lines, ""] if lines else []


def _sign(verdict: Verdict) -> str:
    return "✓" if verdict.passed else "✗"


def _note(verdict: Verdict, shown: Shown) -> str:
    words = shown.words.get(verdict.artifact)
    return f" ({words})" if words else ""


def to_json(found: Mapping[str, Shown]) -> dict[str, Any]:
    """For programs; ``format_version`` 1.2: of a recipe with adapters each one's by its name."""
    if "" in found:
        return {"format_version": "1.2", **_to_json(found[""])}
    return {
        "format_version": "1.2",
        "adapters": {member: _to_json(shown) for member, shown in found.items()},
    }


def _to_json(shown: Shown) -> dict[str, Any]:
    return {
        "recipe": shown.recipe,
        "overrides": list(shown.overrides),
        "finished": shown.finished,
        "artifacts": {
            result.name: {
                "path": result.path,
                "outdated": list(shown.outdated.get(result.name, ())),
                **result.metrics,
            }
            for result in shown.results
        },
        "comparisons": [asdict(each) for each in shown.comparisons],
        "findings": list(shown.findings),
        "gates": [asdict(verdict) for verdict in shown.verdicts],
        "unmeasured": list(shown.unmeasured),
        "changed": shown.changed or None,
    }
