"""``score``: what every artifact answered becomes metrics, intervals and comparisons.

Reads answers and rows, loads no model: another metric, another bar or another way to read labels
is scored in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slmcompile.data.store import Row, open_split
from slmcompile.files.artifact import write_json, write_text
from slmcompile.plans.artifacts import BASE, BASELINES, TUNED
from slmcompile.plans.plugins import require_planned
from slmcompile.recipe.project import Project
from slmcompile.scoring.by_source import scores_by_source
from slmcompile.scoring.classification import label_scores
from slmcompile.scoring.compared import agreement, comparisons
from slmcompile.scoring.records import Asked, beside, columns_of, known_of, records
from slmcompile.scoring.score import score, wanted_metrics
from slmcompile.stages.answer import ANSWERS, MEASURED
from slmcompile.stages.context import Context, Result
from slmcompile.stages.scores import COMPARISONS, LABELS, METRICS_FILE, PREDICTIONS

ROLE = "answer-"

OF_THE_MACHINE = frozenset(
    {"tokens_per_second", "peak_memory_bytes", "size_bytes", "machine", "ran"}
)
"""Measurements of a runtime; they stay in the output folder."""


def run(context: Context) -> Result:
    """Scores all artifacts, and each export against the tuned model and that against the rest."""
    config = context.config
    every = open_split(context.inputs["data"], "test")
    rows, test = every.by_id(), every.counted()
    asked = Asked(config["task"], config["label"], config["label_steps"])
    wanted = wanted_metrics(config["metrics"], config["task"])
    require_planned(Project(context.project), config.get("plugins", {}))
    read = beside(wanted, context.project, config, context.inputs)
    columns = columns_of(wanted, read)
    roles = {
        role.removeprefix(ROLE): path
        for role, path in context.inputs.items()
        if role.startswith(ROLE)
    }
    artifacts: dict[str, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    uncounted: dict[str, list[dict[str, Any]]] = {}
    files: dict[str, dict[str, Any]] = {}
    for role, folder in roles.items():
        measured = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
        measured.pop("format_version")
        scores: dict[str, dict[str, Any]] = {}
        for name, answers in _answers(folder).items():
            known = known_of(answers)
            needed = [column for needs, column in columns if needs in known]
            recorded = records(answers, rows, asked, needed)
            found[name] = [record for record in recorded if rows[record["id"]].counted]
            uncounted[name] = [record for record in recorded if not rows[record["id"]].counted]
            scores[name] = dict(score(found[name], wanted, known))
            answered = [rows[record["id"]] for record in found[name]]
            over = _over(answered, test, labelled=config["labelled"])
            if of_sources := scores_by_source(recorded, rows, wanted, known):
                scores[name] |= {"sources": of_sources}
            artifacts[name] = {**over, **scores[name], **measured}
        counts = {key: over[key] for key in over if key not in {"turns", "references"}}
        comparable = {name: _comparable(values) for name, values in scores.items()}
        files[role] = {
            "format_version": "2.0",
            **counts,
            **(comparable if role == BASELINES else comparable[role]),
        }
    exports = [name for name in roles if name not in {BASE, BASELINES, TUNED}]
    for name in exports:
        same = agreement(found[name], found[TUNED])
        artifacts[name] |= {} if same is None else {"agreement": same}
    write_json(context.out / METRICS_FILE, {"format_version": "1.2", "artifacts": artifacts})
    if config["labelled"]:
        told = {
            name: [record for record in of_artifact if "predicted_label" in record]
            for name, of_artifact in found.items()
        }
        labels = {name: list(map(asdict, label_scores(told[name]))) for name in told}
        write_json(context.out / LABELS, {"format_version": "1.0", "artifacts": labels})
    write_json(
        context.out / COMPARISONS,
        {
            "format_version": "1.0",
            "comparisons": [asdict(each) for each in comparisons(artifacts, found, exports)],
        },
    )
    lines = [
        json.dumps({"artifact": name, **record}, ensure_ascii=False) + "\n"
        for name, of_artifact in found.items()
        for record in (*of_artifact, *uncounted[name])
    ]
    write_text(context.out / PREDICTIONS, "".join(lines))
    return Result(metrics=files)


def _answers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines of an ``answer`` stage by artifact."""
    found: dict[str, list[dict[str, Any]]] = {}
    with (folder / ANSWERS).open(encoding="utf-8") as stream:
        for line in stream:
            answer = json.loads(line)
            found.setdefault(answer["artifact"], []).append(answer)
    return found


def _over(rows: Sequence[Row], test: Sequence[Row], *, labelled: bool) -> dict[str, int]:
    """What was measured, of what there is."""
    over = {"rows": len(rows), "test_rows": len(test)}
    if labelled:
        over |= {
            "labels": len({row.label for row in rows}),
            "test_labels": len({row.label for row in test}),
        }
    return {
        **over,
        "turns": sum(row.trained_turns for row in rows),
        "references": len({row.completion for row in rows}),
    }


def _comparable(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What compares between revisions: no interval, and nothing of the machine or the moment."""
    return {
        name: {source: _comparable(own) for source, own in value.items()}
        if name == "sources"
        else value
        for name, value in metrics.items()
        if not name.endswith("_ci") and name not in OF_THE_MACHINE
    }
