"""Test rows and what each artifact answered, grouped for reading: the wrong ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmcompile.report.facts import Prediction, ReportFacts
from slmcompile.report.prompts import Framing, framing

MOST_WRONG = 20
MOST_RIGHT = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and the artifacts that gave it."""

    artifacts: Sequence[str]
    text: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One test row: what was asked (less the template around it), expected and answered."""

    id: int
    ask: str
    reference: str
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Cases:
    """What is shown of the test split.

    Attributes:
        wrong: rows that a fine-tuned or exported model got wrong, at most ``MOST_WRONG``.
        wrong_total: how many there are.
        right: some rows that all of them got right, with the base model's answer beside it.
        total: rows of the test split that were evaluated.
    """

    wrong: Sequence[Case]
    wrong_total: int
    right: Sequence[Case]
    total: int


def cases(facts: ReportFacts) -> Cases:
    """Chooses rows: first those the fine-tuned model has wrong, then those only an export has."""
    ours = [a.name for a in facts.of_kind("tuned", "export") if a.name in facts.predictions]
    before = [a.name for a in facts.of_kind("base") if a.name in facts.predictions]
    table = {name: {row.id: row for row in facts.predictions[name]} for name in ours + before}
    ids = list(table[ours[0]]) if ours else []
    frame = framing(facts.prompt)

    def rows(id_: int, names: Sequence[str]) -> list[tuple[str, Prediction]]:
        return [(name, table[name][id_]) for name in names if id_ in table[name]]

    wrong = [id_ for id_ in ids if not all(row.correct for _, row in rows(id_, ours))]
    wrong.sort(key=lambda id_: table[ours[0]][id_].correct)  # stable: False before True
    right = _spread([id_ for id_ in ids if id_ not in set(wrong)], MOST_RIGHT)
    return Cases(
        wrong=[_case(rows(id_, ours), frame) for id_ in wrong[:MOST_WRONG]],
        wrong_total=len(wrong),
        right=[_case(rows(id_, ours + before), frame) for id_ in right],
        total=len(ids),
    )


def _spread(ids: Sequence[int], most: int) -> list[int]:
    """Evenly spaced members, so that a sorted test split is not shown from one end."""
    if len(ids) <= most:
        return list(ids)
    return [ids[at * len(ids) // most] for at in range(most)]


def _case(rows: Sequence[tuple[str, Prediction]], frame: Framing) -> Case:
    first = rows[0][1]
    names: dict[tuple[str, bool], list[str]] = {}
    for name, row in rows:
        names.setdefault((row.prediction, row.correct), []).append(name)
    answers = [Answer(who, text, correct) for (text, correct), who in names.items()]
    return Case(first.id, frame.inner(first.prompt).strip(), first.reference, answers)
