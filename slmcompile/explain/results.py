"""What was measured, read from output folders, and the table that a run ends with."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.data.asked import example, written
from slmcompile.files.safe_read import read_output_json
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.artifacts import BASELINES, prompt_file
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.scoring.compared import answered_by, measured_by
from slmcompile.stages.choice import FRONTIER
from slmcompile.stages.scores import METRICS_FILE, read_predictions


@dataclass(frozen=True, repr=False)
class ArtifactResult:
    """One measured artifact.

    Attributes:
        name: ``torch``, ``base``, a baseline's name or a target's.
        metrics: as the ``score`` stage wrote them; of an export also ``agreement``, the share of
            rows that it answers as torch does.
        path: its folder relative to the project; None for baselines.
        stage: address of the stage that measured it.
        role: the input of that stage that holds its answers.
        member: which adapter's it is, of a recipe with several.
    """

    name: str
    metrics: Mapping[str, Any]
    path: str | None
    stage: str = ""
    role: str = ""
    member: str = ""

    def __repr__(self) -> str:
        measured = _columns([self])
        told = ", ".join(f"{head} {write(self.metrics[key], how)}" for head, key, how in measured)
        return f"<ArtifactResult {self.name}: {told or 'nothing measured'}>"


def read_results(
    project: Project, stages: Iterable[Stage], member: str = ""
) -> tuple[ArtifactResult, ...]:
    """Metrics of every artifact that the ``score`` stage among a recipe's stages has measured.

    Args:
        project: whose.
        stages: of the recipe.
        member: of which adapter, where they are one's view.
    """
    made = {stage.out: stage for stage in stages}
    found: list[ArtifactResult] = []
    for scored in (stage for stage in made.values() if stage.kind == "score"):
        for name in scored.config.get("members", [member]):
            view = scored.seen_by(name) if name else scored
            found += _of_one(project, made, view, name)
    return tuple(found)


def choice_sentences(
    project: Project, choices: Iterable[Stage], names: Collection[str]
) -> tuple[str, ...]:
    """Why each of these targets is what it is, of those whose precision was chosen.

    Args:
        project: whose.
        choices: the ``choose`` stages of a recipe, or of one adapter's view.
        names: targets that are told of.
    """
    found = []
    for stage in choices:
        frontier = read_output_json(project.root / stage.out, FRONTIER)
        if stage.artifact in names and isinstance(frontier, dict) and "reason" in frontier:
            found.append(f"{stage.artifact}: {frontier['reason']}.")
    return tuple(found)


def _of_one(
    project: Project, made: Mapping[str, Stage], scored: Stage, member: str
) -> list[ArtifactResult]:
    """Of one adapter, or of a plain recipe."""
    wrote = read_output_json(project.root / scored.out / member, METRICS_FILE)
    found = []
    for name, metrics in wrote["artifacts"].items() if wrote else ():
        role = f"answer-{name}" if f"answer-{name}" in scored.inputs else f"answer-{BASELINES}"
        answer = made.get(scored.inputs.get(role, ""))
        read = answer.inputs if answer else {}
        path = read.get("export") or read.get("train") or read.get("base")
        found.append(ArtifactResult(name, metrics, path, scored.address, role, member))
    order = list(scored.inputs)
    return sorted(found, key=lambda each: order.index(each.role) if each.role in order else -1)


_Column = tuple[str, str, str]
"""Heading, measurement, how it is written."""


def _columns(results: Sequence[ArtifactResult]) -> list[_Column]:
    """Those that some artifact fills; what warns stands first."""
    metrics = list(METRICS.values())
    every: list[_Column] = [
        *(_column(metric) for metric in metrics if metric.silent_at_zero),
        ("size", "size_bytes", "size"),
        *(_column(metric) for metric in metrics if not metric.silent_at_zero),
        ("as torch", "agreement", "share"),
        ("tokens/s", "tokens_per_second", "count"),
        ("peak memory", "peak_memory_bytes", "size"),
    ]
    return [each for each in every if any(_told(result.metrics, each[1]) for result in results)]


def _column(metric: Metric) -> _Column:
    return metric.name.replace("_", " "), metric.name, "share" if metric.bounded else "number"


def results_table(
    results: Sequence[ArtifactResult], outdated: Mapping[str, str] | None = None
) -> str:
    """Artifacts by row, measurements by column, for a terminal.

    ``outdated`` says of an artifact what it was measured on that is no longer there.
    """
    columns = _columns(results)
    several = any(result.member for result in results)
    rows = [["artifact", *(heading for heading, _, _ in columns), "where"]]
    for result in results:
        if not any(metric in result.metrics for _, metric, _ in columns):
            continue  # a baseline has no perplexity
        cells = [write(result.metrics.get(metric), how) for _, metric, how in columns]
        note = f"({told})" if (told := (outdated or {}).get(result.name)) else ""
        name = f"{result.member}: {result.name}" if several else result.name
        rows.append([name, *cells, f"{result.path or ''}  {note}".strip()])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip())
    lines.insert(1, "─" * max(len(line) for line in lines))
    speeds = {each.name: each.metrics.get("machine") for each in results if _is_timed(each)}
    if len(set(speeds.values())) > 1:
        lines.append(measured_by(speeds))
    exports = [each for each in results if "agreement" in each.metrics]
    lines += filter(
        None, [answered_by({e.name: e.metrics.get("ran", "verified") for e in exports})]
    )
    return "\n".join(lines)


def _is_timed(result: ArtifactResult) -> bool:
    return result.metrics.get("tokens_per_second") is not None


def _told(measured: Mapping[str, Any], name: str) -> bool:
    """Whether a measurement needs a column: that no answer was cut off does not."""
    value = measured.get(name)
    silent = name in METRICS and METRICS[name].silent_at_zero
    return bool(value) if silent else value is not None


def write(value: Any, how: str) -> str:
    """One measurement as text; a dash where there is none."""
    if value is None:
        return "–"
    match how:
        case "size":
            return f"{value / 1e6:.0f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"
        case "share":
            return f"{value:.3f}"
        case "count":
            return f"{value:.0f}"
        case _:
            return f"{value:.3g}"


def try_it(project: Project, plan: Plan, results: Sequence[ArtifactResult]) -> str | None:
    """The line that talks to the result: the first gated export, or the first export measured.

    Of several adapters it is the first one's.
    """
    member, plan = next(iter(plan.views.items()))
    measured = {result.name for result in results if result.member == member}
    targets = [name for name in plan.effective["target"] if name in measured]
    gated = [gate["artifact"] for gate in plan.effective["gates"] if gate["artifact"] in targets]
    if not targets:
        return None
    target = (gated or targets)[0]
    folders = {stage.role: project.root / stage.out for stage in plan.own.stages}
    export = plan.stage("export", target)
    rendered = prompt_file("" if export.member == member else member)
    prompt = json.loads((project.root / export.out / rendered).read_text(encoding="utf-8"))
    if prompt["text"] is None:
        return None  # `generate` has no chat template
    answers = read_predictions(folders["score"] / member).get(target, [])
    right_first = sorted(answers, key=lambda row: not row["correct"])
    found = example(prompt, [row["prompt"] for row in right_first])
    values = found[1] if found else dict.fromkeys(prompt["columns"], "hello")
    whose = f"--adapter {member} " if member else ""
    return f"slmcompile generate {plan.recipe} {whose}--target {target} {written(values)}"
