"""Which columns ask and which one answers, by their names and by what they hold.

A guess that a person reads and may overrule. Where two readings are as good as each other there is
none: the person is asked. Knows nothing of tasks, templates or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slmcompile.console.errors import BadDataError, UsageError
from slmcompile.console.printable import shortened
from slmcompile.data.column_forms import Column
from slmcompile.data.column_names import (
    ABOUT,
    ANSWERING,
    ASKING,
    BEFORE,
    BEHIND,
    KNOWN,
    NEEDED,
    QUESTIONS,
    REPLIES,
    TEXTS,
)
from slmcompile.data.rows import listed
from slmcompile.recipe.project import nearest


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a person has said of the columns; nothing where all is to be guessed.

    Attributes:
        prompt: columns that ask, one behind the other.
        answer: the column that answers.
        messages: the column of conversations.
        text: the column of plain text.
    """

    prompt: tuple[str, ...] = ()
    answer: str = ""
    messages: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """What each column is for: a conversation, plain text, or questions and their answer.

    Attributes:
        prompt: columns that ask, one behind the other; none of conversations and plain text.
        answer: the column that answers; empty likewise.
        messages: the column of conversations, or empty.
        text: the column of plain text, or empty.
        unused: the other columns.
    """

    prompt: tuple[str, ...] = ()
    answer: str = ""
    messages: str = ""
    text: str = ""
    unused: tuple[str, ...] = ()


def roles_of(columns: Sequence[Column], chosen: Chosen, where: str) -> Roles:
    """What each column is for.

    Args:
        columns: of the rows.
        chosen: what a person has said; it is taken, and only what is left is guessed.
        where: how messages call the file.

    Raises:
        UsageError: a column that was named is not there, or more than one reading is likely; the
            options that decide are named (exit 64).
    """
    _require_there(columns, chosen, where)
    found = _of_chosen(chosen) or _guessed(columns, chosen, where)
    used = {*found.prompt, found.answer, found.messages, found.text}
    unused = tuple(each.name for each in columns if each.name not in used)
    return Roles(found.prompt, found.answer, found.messages, found.text, unused)


def _require_there(columns: Sequence[Column], chosen: Chosen, where: str) -> None:
    ways = [bool(chosen.messages), bool(chosen.text), bool(chosen.prompt or chosen.answer)]
    if sum(ways) > 1:
        raise UsageError(
            "--messages, --text and --prompt with --answer exclude one another",
            "rows are conversations, plain text, or a prompt and an answer",
        )
    known = [each.name for each in columns]
    for name in (*chosen.prompt, chosen.answer, chosen.messages, chosen.text):
        if name and name not in known:
            raise UsageError(
                f"{where}: no column {shortened(name)!r}", nearest("columns are", name, known)
            )
    if chosen.answer and chosen.answer in chosen.prompt:
        raise UsageError(
            f"--answer {chosen.answer}: is the prompt too",
            "an answer that is given teaches copying",
        )


def _of_chosen(chosen: Chosen) -> Roles | None:
    if chosen.messages or chosen.text or (chosen.prompt and chosen.answer):
        return Roles(chosen.prompt, chosen.answer, chosen.messages, chosen.text)
    return None


def _guessed(columns: Sequence[Column], chosen: Chosen, where: str) -> Roles:
    there = [each for each in columns if each.form != "empty"]
    prompts = [chosen.prompt] if chosen.prompt else _prompts(there, chosen.answer)
    answers = [chosen.answer] if chosen.answer else _answers(there, chosen.prompt)
    talks = [each.name for each in there if each.form == "conversation"]
    said = bool(chosen.prompt or chosen.answer)
    if talks and not said:
        if len(talks) > 1 or (prompts and answers):
            raise _ask(columns, prompts, answers, talks, where)
        return Roles(messages=talks[0])
    if not answers and not said and (only := _plain_text(there)):
        return Roles(text=only)
    if len(prompts) <= 1 and len(answers) <= 1 and len(prompts) + len(answers) < 2:
        prompts, answers = _by_elimination(there, prompts, answers)
    needed = [each.name for each in there if each.name.lower() in NEEDED] if not said else []
    if len(prompts) != 1 or len(answers) != 1 or needed:
        raise _ask(columns, prompts, answers, needed, where)
    twins = [] if chosen.answer else _twins(there, answers[0], prompts[0])
    if twins:
        raise _ask(columns, prompts, [*answers, *twins], [], where)
    return Roles(prompt=prompts[0], answer=answers[0])


def _prompts(columns: Sequence[Column], answer: str) -> list[tuple[str, ...]]:
    """Readings of what asks: a column each, or a question with what it is about."""
    named = {each.name.lower(): each.name for each in columns if each.name != answer}
    asking = [name for name in named if name in ASKING]
    for question in QUESTIONS:
        if question not in asking:
            continue
        before = [name for name in BEFORE if name in named]
        behind = [name for name in BEHIND if name in named] if question == "instruction" else []
        rest = [name for name in asking if name not in {question, *before, *behind}]
        if not rest:
            return [tuple(named[name] for name in (*before, question, *behind))]
    # What is called input beside an output is one; beside a label or another text it is not sure.
    return [(named[name],) for name in asking]


def _answers(columns: Sequence[Column], prompt: Iterable[str]) -> list[str]:
    names = [each.name for each in columns if each.name not in set(prompt)]
    replies = [name for name in names if name.lower() in REPLIES]
    if len(replies) == 1 and any(each.name.lower() in QUESTIONS for each in columns):
        return replies
    return [name for name in names if name.lower() in ANSWERING]


def _plain_text(columns: Sequence[Column]) -> str:
    """The only column that holds texts, if it is called so and nothing else may be an answer."""
    left = [each for each in columns if not _is_about(each)]
    if len(left) == 1 and left[0].form == "text":
        name = left[0].name.lower()
        if name in TEXTS or name not in ASKING | ANSWERING:
            return left[0].name
    return ""


def _by_elimination(
    columns: Sequence[Column], prompts: list[tuple[str, ...]], answers: list[str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """With what is left over where one of two names, or none, is known."""
    taken = {name for names in prompts for name in names} | set(answers)
    left = [each for each in columns if each.name not in taken and not _is_about(each)]
    asks = any(name.lower() in QUESTIONS for names in prompts for name in names)
    # A text with a title may as well be plain text: what asks nothing is answered by labels alone.
    if prompts and len(left) == 1 and (asks or left[0].few):
        return prompts, [left[0].name]
    if answers and len(left) == 1:
        return [(left[0].name,)], answers
    if not prompts and not answers and len(left) == 2:
        labels = [each for each in left if each.few]
        texts = [each for each in left if each.form == "text" and not each.few]
        if len(labels) == 1 and len(texts) == 1:
            return [(texts[0].name,)], [labels[0].name]
    return prompts, answers


def _is_about(column: Column) -> bool:
    name = column.name.lower().strip()
    return column.counts or name in ABOUT or name.endswith("_id") or name.startswith("unnamed:")


def _twins(columns: Sequence[Column], answer: str, prompt: tuple[str, ...]) -> list[str]:
    """Columns that say the same as the answer in other words: ``label`` and ``label_text``."""
    of = next(each for each in columns if each.name == answer)
    return [
        each.name
        for each in columns
        if each.few
        and of.few
        and each.name not in {answer, *prompt}
        and each.distinct == of.distinct
        and answer.lower() in each.name.lower()
    ]


def _ask(
    columns: Sequence[Column],
    prompts: Sequence[tuple[str, ...]],
    answers: Sequence[str],
    others: Sequence[str],
    where: str,
) -> UsageError:
    asked = listed([" and ".join(names) for names in prompts]) or "no column that is known by name"
    told = listed(answers) or "none that is known by name"
    beside = f"; beside them {listed(others)}" if others else ""
    talks = [each.name for each in columns if each.form == "conversation"]
    ways = ["--prompt COLUMN --answer COLUMN (--prompt again for one more)"]
    ways += [f"--messages {shortened(talks[0], 40)}"] if talks else []
    ways += ["--text COLUMN where it is plain text"]
    return UsageError(
        f"{where}: columns {listed([each.name for each in columns])}: what asks and what answers is"
        f" not clear: prompt {asked}; answer {told}{beside}",
        f"say which: {', or '.join(ways)}",
    )


def require_header(columns: Sequence[Column], first: Iterable[Iterable[str]], where: str) -> None:
    """Refuses a CSV file whose first line is a row and no header.

    Args:
        columns: of the file.
        first: values of each column's first rows.
        where: how messages call the file.

    Raises:
        BadDataError: a column is called as one of its values (exit 65).
    """
    for column, values in zip(columns, first, strict=True):
        if column.name.lower() in KNOWN or not column.name.strip():
            continue
        if column.name in set(values):
            raise BadDataError(
                f"{where}:1: the first line looks like a row: {shortened(column.name)!r} stands in"
                " further rows too",
                "write the columns' names into the first line",
            )
