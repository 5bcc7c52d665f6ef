"""Answers beside their references: what every metric sees and ``predictions.jsonl`` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.data.labels import label_of
from slmcompile.data.normal_label import normal_answer
from slmcompile.data.store import Row
from slmcompile.metrics.metric import Metric, Needs
from slmcompile.recipe.schema import LabelStep
from slmcompile.registry.table import program
from slmcompile.scoring.exact_match import is_correct


@dataclass(frozen=True)
class Asked:
    """What of the data says how answers are read.

    Attributes:
        task: the recipe's ``data.task``.
        label: the recipe's ``data.label``.
        steps: what is done to every label.
    """

    task: str
    label: str | None
    steps: Sequence[LabelStep]


@dataclass(frozen=True)
class Beside:
    """What a metric may be computed with beside rows and answers.

    Attributes:
        files: project files, by the key of ``eval`` that names them.
        folders: output folders of stages, by kind.
    """

    files: Mapping[str, Path]
    folders: Mapping[str, Path]


Column = Callable[[Mapping[str, Any], Row], Mapping[str, Any]]
"""What a record is told beside its own keys, of itself and its test row."""

Opened = Callable[[Beside], Column]
"""What a metric's ``column`` names: reads once what every record's is made with."""


def beside(
    wanted: Sequence[Metric], project: Path, config: Mapping[str, Any], inputs: Mapping[str, Path]
) -> Beside:
    """What the wanted metrics read, of a stage.

    Args:
        wanted: they.
        project: root of the project.
        config: the stage's, which names the files.
        inputs: its input folders by role.
    """
    return Beside(
        files={metric.file: project / config[metric.file] for metric in wanted if metric.file},
        folders={kind: inputs[kind] for metric in wanted for kind in metric.stages},
    )


def columns_of(wanted: Sequence[Metric], read: Beside) -> list[tuple[Needs, Column]]:
    """What metrics need of every row beside its answer, with what they need of the answer."""
    found: list[tuple[Needs, Column]] = []
    for metric in wanted:
        if metric.column:
            opened: Opened = program(metric.column)
            found.append((metric.needs, opened(read)))
    return found


def records(
    answers: Iterable[Mapping[str, Any]],
    rows: Mapping[int, Row],
    asked: Asked,
    columns: Sequence[Column] = (),
) -> list[dict[str, Any]]:
    """One artifact's answers, each beside its reference.

    ``compared`` is the answer with its label normalised; an answer that is a label alone has no
    other text. Of a model's answers what it recorded of itself is kept (``cut_off``,
    ``log_likelihood``, ``tokens``). Of a row that nobody asks anything there is nothing else. Of
    several sources ``source`` names the row's.

    Args:
        answers: lines of ``answers.jsonl``.
        rows: the test rows by id.
        asked: how answers are read.
        columns: what metrics need beside.
    """
    found = []
    for answer in answers:
        row = rows[answer["id"]]
        record = _record(answer, row, asked)
        found.append(
            {**record, **{k: v for column in columns for k, v in column(record, row).items()}}
        )
    return found


def _record(answer: Mapping[str, Any], row: Row, asked: Asked) -> dict[str, Any]:
    kept = {key: answer[key] for key in ("cut_off", "log_likelihood", "tokens") if key in answer}
    kept |= {"source": row.source} if row.source else {}
    alone = answer.get("label")
    if alone is None and "text" not in answer:
        return {
            "id": row.id,
            "prompt": row.prompt,
            "reference": row.completion,
            "label": row.label,
            **kept,
        }
    if alone is None:
        text = answer["text"]
        compared = normal_answer(text, asked.label, asked.steps)
        correct = is_correct(asked.task, compared, row.completion)
        label = label_of(compared, asked.label)
    else:
        text = compared = label = alone
        correct = alone == row.label
    return {
        "id": row.id,
        "prompt": row.prompt,
        "reference": row.completion,
        "prediction": text,
        "compared": compared,
        "correct": correct,
        "label": row.label,
        "predicted_label": label,
        **kept,
    }


def known_of(answers: Sequence[Mapping[str, Any]]) -> tuple[Needs, ...]:
    """What may be computed of an artifact's answers."""
    held = frozenset(key for answer in answers for key in answer)
    known: tuple[Needs, ...] = ()
    if "text" in held:
        known += ("text", "label")
    elif "label" in held:
        known += ("label",)
    if "cut_off" in held:
        known += ("ending",)
    if "log_likelihood" in held:
        known += ("likelihood",)
    return known
