"""What a data file is for, guessed from its rows: task, template, split, lengths.

Pure: the same rows and the same words of a person give the same guess, which a recipe is written
from and a person reads. Lengths are guessed from characters, as there is no tokenizer yet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.column_forms import LONGEST_LABEL, MOST_LABELS, columns_of
from slmcompile.data.column_names import LABELS, SHORT_OF
from slmcompile.data.column_roles import Chosen, Roles, roles_of
from slmcompile.data.guessed_pairs import Pair, pairs_of, tokens_of
from slmcompile.data.label_writings import several_writings
from slmcompile.data.labels import parse_json
from slmcompile.data.normal_label import normal_text
from slmcompile.data.normalise import normalised
from slmcompile.data.rows import SourceRow
from slmcompile.recipe.schema import LabelStep, Task

_LONG = 400
"""Characters of a prompt, on average, from which a much shorter answer sums it up."""
_CONTROL = re.compile(r"<\|[\w-]{1,40}\|>")
_SPLITS = 3
_BATCH = 16
_STEPS = 150
"""Steps of training that a small data set gets by more epochs."""
_MOST_EPOCHS = 10
_MOST_TOKENS = 2048
_TESTED = 200


@dataclass(frozen=True, slots=True)
class Guess:
    """What the rows are for.

    Attributes:
        rows: how many there are.
        columns: all of the file.
        roles: which ask and which one answers.
        task: as of ``data.task``.
        labels: rows by answer of a classification, the most frequent first; else empty.
        stratified: whether the split may keep the shares of the answer's column.
        normalize: steps that make one label of its writings; empty where none is needed.
        max_length: tokens of a row, prompt and answer.
        max_new_tokens: tokens of an answer.
        longest: characters of the longest row.
        too_long: rows that are probably longer than ``max_length``.
        epochs: passes over the rows.
        limit: rows that are measured, or None for all.
        needs: what conversations hold beside texts (``tool_calls``), which the model's chat
            template must write.
        notes: sentences on what a person should look at.
    """

    rows: int
    columns: tuple[str, ...]
    roles: Roles
    task: Task
    labels: tuple[tuple[str, int], ...]
    stratified: bool
    normalize: tuple[LabelStep, ...]
    max_length: int
    max_new_tokens: int
    longest: int
    too_long: int
    epochs: int
    limit: int | None
    needs: tuple[str, ...]
    notes: tuple[str, ...]


def guess(rows: Sequence[SourceRow], chosen: Chosen, where: str) -> Guess:
    """What the rows are for.

    Args:
        rows: all of the file, at least one.
        chosen: what a person has said of the columns.
        where: how messages call the file.

    Raises:
        UsageError: more than one reading is likely (exit 64).
        BadDataError: a row cannot be read so, or every answer is the same (exit 65).
    """
    columns = columns_of(rows)
    roles = roles_of(columns, chosen, where)
    pairs = pairs_of(rows, roles)
    notes = list(_spelled(pairs))
    if roles.text:
        task: Task = "generation"
        normalize: tuple[LabelStep, ...] = ()
        labels: Counter[str] = Counter()
    else:
        task, normalize = _task(pairs, roles, where)
        labels = Counter(normal_text(each.answer.strip(), normalize) for each in pairs)
        labels = labels if task == "classification" else Counter()
    strata = _prompts_by_answer(pairs) if labels and roles.answer else {}
    stratified = bool(strata) and min(map(len, strata.values())) >= _SPLITS
    if labels:
        notes += _on_labels(pairs, labels, normalize)
    tokens = [tokens_of(each.prompt) + tokens_of(each.answer) + each.around for each in pairs]
    max_length = min(_MOST_TOKENS, _rounded(max(tokens), 64))
    return Guess(
        rows=len(rows),
        columns=tuple(each.name for each in columns),
        roles=roles,
        task=task,
        labels=tuple(labels.most_common()),
        stratified=stratified,
        normalize=normalize,
        max_length=max_length,
        max_new_tokens=min(
            _MOST_TOKENS // 2, _rounded(max(tokens_of(each.answer) for each in pairs) + 8, 8)
        ),
        longest=max(len(each.prompt) + len(each.answer) for each in pairs),
        too_long=0 if roles.text else sum(each > max_length for each in tokens),
        epochs=1 if roles.text else min(_MOST_EPOCHS, ceil(_STEPS * _BATCH / (0.8 * len(rows)))),
        limit=_TESTED if len(rows) > 10 * _TESTED else None,
        needs=tuple(sorted({name for each in pairs for name in each.needs})),
        notes=tuple(notes),
    )


def _task(pairs: Sequence[Pair], roles: Roles, where: str) -> tuple[Task, tuple[LabelStep, ...]]:
    """The task, and what makes one label of several writings where it is a classification."""
    answers = [each.answer.strip() for each in pairs]
    if all(_is_object(answer) for answer in answers):
        return "extraction", ()
    normalize = _normalize(pairs)
    different = len({normal_text(answer, normalize) for answer in answers})
    if different == 1 and len(pairs) > 1:
        raise BadDataError(
            f"{where}: every answer is {shortened(answers[0], 40)!r}: there is nothing to learn",
            "name another column by --answer, or add rows with other answers",
        )
    name = roles.answer.lower()
    each = 3 if name in LABELS else 5
    if (
        different <= min(MOST_LABELS, len(pairs) / each)
        and max(map(len, answers)) <= LONGEST_LABEL
        and not any(map(_is_list, answers))
        and not (len(set(answers)) > 20 and name not in LABELS and all(map(_is_number, answers)))
    ):
        return "classification", normalize
    prompt, answer = _mean(each.prompt for each in pairs), _mean(answers)
    much_shorter = prompt >= _LONG and answer <= prompt / 3 and answer > LONGEST_LABEL / 3
    if much_shorter or (name in SHORT_OF and answer < prompt):
        return "summarisation", ()
    return "generation", ()


def _is_object(answer: str) -> bool:
    found, value = parse_json(answer) if answer[:1] == "{" else (False, None)
    return found and isinstance(value, dict)


def _is_list(answer: str) -> bool:
    """Several labels at once are no class."""
    return answer[:1] == "[" and parse_json(answer)[0]


def _is_number(answer: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9][0-9.,]*", answer) is not None


def _mean(texts: Iterable[str]) -> float:
    sizes = [len(text) for text in texts]
    return sum(sizes) / len(sizes)


def _normalize(pairs: Sequence[Pair]) -> tuple[LabelStep, ...]:
    """Steps without which the tool refuses the labels, as they are one for sure."""
    if max(len(each.answer) for each in pairs) > LONGEST_LABEL:
        return ()
    found = several_writings([(each.answer, each.where) for each in pairs], None)
    steps = {step for one in found if one.sure for step in one.steps}
    order: tuple[LabelStep, ...] = ("unicode", "space", "number", "case")
    return tuple(step for step in order if step in steps)


def _on_labels(
    pairs: Sequence[Pair], labels: Counter[str], normalize: Sequence[LabelStep]
) -> Iterable[str]:
    if normalize:
        yield (
            "labels are written in several ways and are read as one each:"
            f" normalize_labels: [{', '.join(normalize)}]; [] takes each writing for a label"
        )
    rare = [label for label, count in labels.items() if count < _SPLITS]
    if rare:
        yield (
            f"{len(rare)} labels have fewer rows than there are splits, first"
            f" {shortened(rare[0], 40)!r}:"
            " add rows, or leave them out by data.steps"
        )
    prompts: dict[str, set[str]] = {}
    for each in pairs:
        answer = normal_text(each.answer.strip(), normalize)
        prompts.setdefault(normalised(each.prompt), set()).add(answer)
    torn = sum(len(answers) > 1 for answers in prompts.values())
    if torn:
        yield f"{torn} prompts have more than one label"


def _prompts_by_answer(pairs: Sequence[Pair]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in pairs:
        found.setdefault(each.answer, set()).add(normalised(each.prompt))
    return found


def _spelled(pairs: Sequence[Pair]) -> Iterable[str]:
    for each in pairs:
        if found := _CONTROL.search(each.prompt) or _CONTROL.search(each.answer):
            yield (
                f"{each.where}: spells {found[0]}; where that is a control token of the model the"
                " rows are refused: take it out, or set specialtokens: text"
            )
            return


def _rounded(count: int, to: int) -> int:
    return max(to, -(-count // to) * to)
