"""``show R``: what was measured, on what, with which overrides, and whether the gates passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slmcompile.errors import MissingError, SlmcompileError
from slmcompile.metrics.gates import Verdict, judge
from slmcompile.pipeline.committed import changed_since, made_before, outdated, read_committed
from slmcompile.project import Project
from slmcompile.recipe.schema import Gate
from slmcompile.results import ArtifactResult, read_results, results_table

_FIRST = ("baselines", "base", "torch")


@dataclass(frozen=True)
class Shown:
    """What lies here of a recipe.

    Attributes:
        recipe: its name.
        overrides: those of the last run.
        results: what was measured.
        outdated: of an artifact, the stages that have made something else since.
        words: the same, in words.
        verdicts: every bar of every gate whose figures are there.
        unmeasured: gates whose figures are not there, in words.
        changed: what of the recipe has changed since; empty if nothing has.
    """

    recipe: str
    overrides: tuple[str, ...]
    results: tuple[ArtifactResult, ...]
    outdated: Mapping[str, tuple[str, ...]]
    words: Mapping[str, str]
    verdicts: tuple[Verdict, ...]
    unmeasured: tuple[str, ...]
    changed: str


def look(project: Project, recipe: str) -> Shown:
    """Puts together what ``show`` says.

    Raises:
        MissingError: the recipe never ran here, or nothing was measured yet (exit 69).
    """
    committed = read_committed(project, recipe)
    order = [f"evaluate-{name}" for name in (*_FIRST, *committed.targets)]
    evaluations = sorted(committed.of_kind("evaluate"), key=lambda each: order.index(each.name))
    results = read_results(project, evaluations)
    if not results:
        raise MissingError(f"{recipe}: nothing was measured yet", f"run `slmcompile run {recipe}`")
    behind = outdated(project, committed)
    old = {result.name: behind[result.stage] for result in results if behind[result.stage]}
    words = {name: made_before(committed, addresses) for name, addresses in old.items()}
    verdicts, unmeasured = _judged(committed.gates, results)
    try:
        changed = changed_since(project, committed)
    except SlmcompileError as error:  # no reason to hide what was measured
        changed = f"the recipe cannot be compiled now: {error.what}"
    return Shown(recipe, committed.overrides, results, old, words, verdicts, unmeasured, changed)


def _judged(
    gates: Sequence[Mapping[str, Any]], results: Sequence[ArtifactResult]
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
        if all(gate.metric in measured.get(name, {}) for name in needed):
            verdicts += judge([gate], measured)
        else:
            unmeasured.append(f"{gate.metric} of {gate.artifact} is not measured")
    return tuple(verdicts), tuple(unmeasured)


def text(shown: Shown) -> str:
    """For a person: overrides, the table, the gates, and what is no longer as it was."""
    lines = [f"with {' '.join(shown.overrides)} of the last run\n"] if shown.overrides else []
    lines.append(results_table(shown.results, shown.words))
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


def _sign(verdict: Verdict) -> str:
    return "✓" if verdict.passed else "✗"


def _note(verdict: Verdict, shown: Shown) -> str:
    words = shown.words.get(verdict.artifact)
    return f" ({words})" if words else ""


def to_json(shown: Shown) -> dict[str, Any]:
    """For programs; ``format_version`` 1.1."""
    return {
        "format_version": "1.1",
        "recipe": shown.recipe,
        "overrides": list(shown.overrides),
        "artifacts": {
            result.name: {
                "path": result.path,
                "outdated": list(shown.outdated.get(result.name, ())),
                **result.metrics,
            }
            for result in shown.results
        },
        "gates": [asdict(verdict) for verdict in shown.verdicts],
        "unmeasured": list(shown.unmeasured),
        "changed": shown.changed or None,
    }
