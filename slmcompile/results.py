"""What a run measured, read from its output folders, and the table that a run ends with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.planning.definition import Plan
from slmcompile.project import Project


@dataclass(frozen=True)
class ArtifactResult:
    """One measured artifact.

    Attributes:
        name: ``torch``, ``base``, a baseline's name or a target's.
        metrics: as the evaluate stage wrote them.
        path: its folder relative to the project; None for baselines.
    """

    name: str
    metrics: Mapping[str, Any]
    path: str | None


def read_results(project: Project, plan: Plan) -> tuple[ArtifactResult, ...]:
    """Metrics of every artifact of a plan that has been evaluated."""
    found: list[ArtifactResult] = []
    for stage in plan.own.stages:
        path = project.root / stage.out / "metrics.json"
        if stage.kind != "evaluate" or not path.is_file():
            continue
        folder = stage.inputs.get("export") or stage.inputs.get("train") or stage.inputs.get("base")
        artifacts = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
        found += [ArtifactResult(name, metrics, folder) for name, metrics in artifacts.items()]
    return tuple(found)


# Column heading, metric, how it is written.
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("size", "size_bytes", "size"),
    ("exact match", "exact_match", "share"),
    ("accuracy", "accuracy", "share"),
    ("f1", "f1_macro", "share"),
    ("perplexity", "perplexity", "number"),
    ("tokens/s", "tokens_per_second", "count"),
    ("peak memory", "peak_memory_bytes", "size"),
)


def results_table(results: Sequence[ArtifactResult]) -> str:
    """Artifacts by row, measurements by column, for a terminal."""
    columns = [
        column for column in _COLUMNS if any(column[1] in result.metrics for result in results)
    ]
    rows = [["artifact", *(heading for heading, _, _ in columns), "where"]]
    for result in results:
        cells = [write(result.metrics.get(metric), how) for _, metric, how in columns]
        rows.append([result.name, *cells, result.path or ""])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip())
    lines.insert(1, "─" * max(len(line) for line in lines))
    return "\n".join(lines)


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


def try_it(project: Project, plan: Plan, results: Sequence[ArtifactResult]) -> str:
    """The line that talks to the result: the first gated export, or the first export."""
    targets = [result.name for result in results if result.name in plan.effective["target"]]
    gated = [gate["artifact"] for gate in plan.effective["gates"] if gate["artifact"] in targets]
    target = (gated or targets)[0]
    folders = {stage.name: project.root / stage.out for stage in plan.own.stages}
    example = _example(folders[f"export-{target}"], folders[f"evaluate-{target}"])
    return f"slmcompile generate {plan.recipe} --target {target} {shlex.quote(example)}"


def _example(export: Path, evaluation: Path) -> str:
    """What a person would type to get the first test prompt; a word where there is no telling."""
    prompt = json.loads((export / "prompt.json").read_text(encoding="utf-8"))
    with (evaluation / "predictions.jsonl").open(encoding="utf-8") as stream:
        first = json.loads(stream.readline())["prompt"]
    before, column, after = str(prompt["text"] or "").partition(f"{{{prompt['columns'][0]}}}")
    if len(prompt["columns"]) == 1 and column and first.startswith(before):
        return str(first.removeprefix(before).removesuffix(after))
    return "hello"
