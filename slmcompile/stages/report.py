"""``report``: everything that was measured becomes pages for people and cards for the models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slmcompile.files.artifact import sha256_file, write_json, write_text
from slmcompile.plans.artifacts import adapter_file
from slmcompile.plans.kinds.quantize import OVER
from slmcompile.recipe.schema import Gate
from slmcompile.report.build import build
from slmcompile.report.facts import ReportFacts, artifact_of, facts_from
from slmcompile.report.overview import Told, overview
from slmcompile.scoring.classification import LabelScores
from slmcompile.scoring.compared import interval_text
from slmcompile.scoring.gates import judge
from slmcompile.stages.choice import read_frontier
from slmcompile.stages.context import Context, Result
from slmcompile.stages.scores import (
    read_comparisons,
    read_labels,
    read_metrics,
    read_predictions,
)
from slmcompile.stages.track import stage_tracker

_OF_A_PREDICTION = ("id", "prompt", "reference", "prediction", "correct")
_NOT_IN_SUMMARY = frozenset({"predictions", "labels", "data_report", "prompt"})
_WRONG_FIRST = 200
"""Predictions an artifact shown in a tracker's table, wrong ones first."""


def run(context: Context) -> Result:
    """Writes report.html, report.md, a card a target, and the JSON that the overview reads."""
    value = _facts(context)
    for path, text in build(facts_from(value)).items():
        write_text(context.out / path, text)
    summary = {name: value[name] for name in value if name not in _NOT_IN_SUMMARY}
    write_json(context.out / "summary.json", {"format_version": "1.0", **summary})
    _track(context, facts_from(value))
    return Result()


def join(context: Context) -> None:
    """Beside the pages of several adapters one over all of them, and what the overview reads."""
    summaries = {
        member: _read(context.out / member / "summary.json") for member in context.config["members"]
    }
    first = next(iter(summaries.values()))
    told = Told(first["name"], "adapter", "adapters", first["description"])
    pages = [
        summary | {"name": member, "report": f"{member}/report.html"}
        for member, summary in summaries.items()
    ]
    html, markdown = overview(pages, told)
    write_text(context.out / "report.html", html)
    write_text(context.out / "report.md", markdown)
    write_json(context.out / "summary.json", {"format_version": "1.0", "members": summaries})


def _facts(context: Context) -> dict[str, Any]:
    recipe: Mapping[str, Any] = context.config["recipe"]
    scored = context.inputs["score"]
    metrics, answers = read_metrics(scored), read_predictions(scored)
    found = read_comparisons(scored)
    verdicts = judge([Gate(**gate) for gate in recipe["gates"]], metrics, found)
    return {
        "name": context.config["name"],
        "member": context.member,
        "description": recipe["description"],
        "overrides": context.config["overrides"],
        "recipe": recipe,
        "gates": [
            {
                "metric": verdict.metric,
                "artifact": verdict.artifact,
                "bar": verdict.bar,
                "value": verdict.value,
                "passed": verdict.passed,
                "difference": interval_text(verdict.difference) if verdict.difference else "",
            }
            for verdict in verdicts
        ],
        "model_name": recipe["model"]["name"],
        "model_license": recipe["model"]["license"],
        "data_name": recipe["data"]["name"],
        "data_license": recipe["data"]["license"],
        "data_report": _read(context.inputs["data"] / "data_report.json"),
        "prompt": _read(context.inputs["data"] / "prompt.json"),
        "training": _read(context.inputs["training"]),
        **{key: context.config[key] for key in ("trained_by",) if key in context.config},
        **_lineage(context),
        "rounding_error": _rounding_error(context),
        **_frontiers(context),
        "artifacts": _artifacts(context, metrics),
        "comparisons": [asdict(each) for each in found],
        "labels": {
            name: [asdict(each) for each in listed] for name, listed in read_labels(scored).items()
        },
        "predictions": {
            name: [{key: row[key] for key in _OF_A_PREDICTION} for row in rows]
            for name, rows in answers.items()
            if name in {"base", "torch", *recipe["target"]}
        },
        "hashes": {
            role.removeprefix("export-"): sha256_file(path / "manifest.json")
            for role, path in context.inputs.items()
            if role in {"data", "train"} or role.startswith("export-")
        },
        "packages": context.config["packages"],
    }


def _artifacts(context: Context, measured: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tuned model, its exports, the base model, the baselines; in this order."""
    found = []
    for name, metrics in measured.items():
        export = context.inputs.get(f"export-{name}")
        of_export = (
            {
                **_of_export(context.manifests[f"export-{name}"], context.member),
                "path": export.relative_to(context.project).as_posix(),
            }
            if export
            else {}
        )
        targets = context.config["recipe"]["target"]
        found.append(asdict(artifact_of(name, metrics, targets, **of_export)))
    order = ["tuned", "export", "base", "baseline"]
    return sorted(found, key=lambda artifact: order.index(artifact["kind"]))


def _of_export(manifest: Mapping[str, Any], member: str) -> dict[str, Any]:
    """What its manifest says of it; of several adapters in one folder of one."""
    info, own = manifest["info"], adapter_file(member)
    if "members" not in info:
        return {"parity": info["parity"]}
    return {
        "parity": info["members"][member]["parity"],
        "adapter": own,
        "adapter_bytes": manifest["files"][own]["size"],
        "adapters": len(info["members"]),
    }


def _frontiers(context: Context) -> dict[str, Any]:
    """What every target was chosen on whose precision was chosen."""
    found = {
        role.removeprefix("choose-"): read_frontier(path)
        for role, path in context.inputs.items()
        if role.startswith("choose-")
    }
    return {"frontiers": found} if found else {}


def _lineage(context: Context) -> dict[str, str]:
    """Fingerprints of the training that this one went on from, and of the base it was over."""
    info: Mapping[str, Any] = context.manifests["train"].get("info", {})
    return {key: str(info.get(key, "")) for key in ("continued_from", "trained_over")}


def _rounding_error(context: Context) -> float | None:
    """What the weights that were trained over had lost before; None of the base model's own."""
    lost: float | None = context.manifests.get(OVER, {}).get("info", {}).get("relative_error")
    return lost


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _track(context: Context, facts: ReportFacts) -> None:
    """The evaluation tables and artifact hashes, in a run beside the training run."""
    recipe = context.stage.split("/")[0]
    tracker = stage_tracker(context, "report", facts.recipe)
    try:
        names = [name for name in facts.artifacts[0].metrics if not name.endswith("_ci")]
        rows = [[a.name, *(a.metrics.get(name) for name in names)] for a in facts.artifacts]
        tracker.table("artifacts", ["artifact", *names], rows)
        if facts.labels:
            told = [
                [name, *asdict(each).values()]
                for name, of_artifact in facts.labels.items()
                for each in of_artifact
            ]
            tracker.table("labels", ["artifact", *LabelScores.__dataclass_fields__], told)
        of_sources = [
            [artifact.name, source, *(own.get(name) for name in ("rows", *names))]
            for artifact in facts.artifacts
            for source, own in artifact.sources.items()
        ]
        if of_sources:
            tracker.table("sources", ["artifact", "source", "rows", *names], of_sources)
        for name, predictions in facts.predictions.items():
            first = sorted(predictions, key=lambda row: row.correct)[:_WRONG_FIRST]
            columns = [*_OF_A_PREDICTION]
            tracker.table(
                f"predictions/{name}", columns, [[*asdict(row).values()] for row in first]
            )
        for name, value in facts.hashes.items():
            tracker.summary({f"sha256/{name}": value})
        for role, path in context.inputs.items():
            if role == "train" or role.startswith("export-"):
                tracker.artifact(f"{recipe}-{role}", role.partition("-")[0], path / "manifest.json")
    finally:
        tracker.finish()
