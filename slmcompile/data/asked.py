"""What a person asks of an exported model: values of its prompt's columns.

Out of the words of a command line, of lines, and of JSON rows. Knows no model.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from slmcompile.console.errors import BadDataError, UsageError
from slmcompile.console.printable import shortened, shows_itself
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data.template import parse

Values = dict[str, str]
"""Column of the prompt → text."""

_PAIR = re.compile(r"([^\W\d][\w.-]*)=")
_SHORT = 200
"""Characters of a prompt that a person still copies."""


def of_words(words: Sequence[str], columns: Sequence[str], command: str = "") -> Values:
    """The values in the words of a command line.

    ``column=value`` begins a value, which goes on to the next one. Where the prompt has a single
    column and the first word is no such pair, all words are its text. ``command`` stands before the
    words in a mend, so that it can be copied.

    Raises:
        UsageError: a pair whose column the prompt does not have, a column that is given twice or
            not at all (exit 64).
    """
    if len(columns) == 1 and _column(words[0], columns, command) is None:
        return {columns[0]: " ".join(words)}
    found: dict[str, list[str]] = {}
    at = ""
    for word in words:
        name = _column(word, columns, command)
        if name is not None:
            if name in found:
                raise UsageError(f"{name}: is given twice", "give each column once")
            at = name
            found[at] = [word[len(name) + 1 :]]
        elif at:
            found[at].append(word)
        else:
            raise UsageError(_columns(columns), form(columns, command))
    missing = [name for name in columns if name not in found]
    if missing:
        raise UsageError(
            f"{_columns(columns)}; not given: {', '.join(missing)}", form(columns, command)
        )
    return {name: " ".join(found[name]) for name in columns}


def _column(word: str, columns: Sequence[str], command: str) -> str | None:
    """The column that a word begins a value of; None where it is text."""
    known = [name for name in columns if word.startswith(f"{name}=")]
    if known:
        return max(known, key=len)
    pair = _PAIR.match(word)
    if pair is None:
        return None
    near = get_close_matches(pair[1], columns, n=1)
    meant = f"did you mean {near[0]}=…? " if near else ""
    quoted = shlex.quote(f"{columns[0]}={shortened(word, 40)}")
    text = f"for a text with = in it write {quoted}"
    text = text if len(columns) == 1 else form(columns, command)
    raise UsageError(f"{shortened(pair[1])}: {_columns(columns)}", f"{meant}{text}")


def _columns(columns: Sequence[str]) -> str:
    if len(columns) == 1:
        return f"the prompt has the column {columns[0]} alone"
    return f"the prompt has the columns {', '.join(columns)}"


def form(columns: Sequence[str], command: str = "") -> str:
    """How the values are written, to be copied."""
    words = [f'{shlex.quote(name)}="…"' for name in columns] if len(columns) > 1 else ['"…"']
    return " ".join([*([command] if command else []), *words])


def written(values: Mapping[str, str]) -> str:
    """The words for a shell that ``of_words`` reads as these values."""
    if len(values) == 1:
        ((name, text),) = values.items()
        pair = _PAIR.match(text) or text.startswith((f"{name}=", "-"))
        return shlex.quote(f"{name}={text}" if pair else text)
    return " ".join(shlex.quote(f"{name}={text}") for name, text in values.items())


def of_lines(
    lines: Iterable[str], columns: Sequence[str], where: str, *, rows: bool = False
) -> Iterator[Values]:
    """The values on each line, as many as there are lines: empty ones may stand at the end alone.

    A line is a JSON object that has all columns, or the text of a single column.

    Args:
        lines: as a file has them.
        columns: of the prompt.
        where: the file's name, for messages.
        rows: whether every line must be a JSON object.

    Raises:
        BadDataError: a line is neither or empty, or a column of it is no text (exit 65).
    """
    empty = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            empty = empty or number
            continue
        if empty:
            raise BadDataError(
                f"{where}:{empty}: the line is empty, and would have no answer",
                "take it out, or write its text",
            )
        at = f"{where}:{number}"
        row = _row(line)
        whole = row is not None and all(name in row for name in columns)
        if row is not None and (rows or whole):
            yield _of_row(SourceRow(row, at), columns)
        elif rows:
            raise BadDataError(f"{at}: not a JSON object", f"write {_example(columns)}")
        elif len(columns) > 1:
            raise BadDataError(f"{at}: {_columns(columns)}", f"write {_example(columns)}")
        elif row is not None:
            text = json.dumps({columns[0]: line.strip()}, ensure_ascii=False)
            raise BadDataError(
                f"{at}: the JSON object has no column {columns[0]!r}",
                f"write {_example(columns)}; where the object is the text, {shortened(text, 80)}",
            )
        else:
            yield {columns[0]: line.rstrip("\r\n")}


def _row(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _of_row(row: SourceRow, columns: Sequence[str]) -> Values:
    for name in columns:
        value = row.values.get(name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            raise BadDataError(
                f"{row.where}: column {name!r} is a list of messages", "give the user's text alone"
            )
    return {name: as_text(row, name, {}) for name in columns}


def _example(columns: Sequence[str]) -> str:
    return json.dumps(dict.fromkeys(columns, "…"), ensure_ascii=False)


def example(prompt: Mapping[str, Any], texts: Iterable[str]) -> tuple[int, Values] | None:
    """A prompt that a person can ask for again, and with which values.

    The first of few characters, else the shortest; None where no text is such a prompt: a
    conversation of several turns, a value that spells a control token or does not show itself.

    Args:
        prompt: content of ``prompt.json``.
        texts: prompts as they were sent to a model.
    """
    pattern = _pattern(prompt)
    if pattern is None:
        return None
    # Sorting is stable: all that are short enough stay in their order.
    for at, text in sorted(enumerate(texts), key=lambda each: max(_SHORT, len(each[1]))):
        values = _values_in(prompt, pattern, text)
        if values is not None:
            return at, values
    return None


def _pattern(prompt: Mapping[str, Any]) -> re.Pattern[str] | None:
    """Matches prompts, a group a column; None where only the model's chat template writes them."""
    if prompt["text"] is None:
        return None
    pattern, seen = "", set()
    for piece in parse(prompt["text"], "prompt.json: text"):
        pattern += re.escape(piece.literal)
        if piece.field is not None:
            group = f"c{prompt['columns'].index(piece.field)}"
            pattern += f"(?P={group})" if group in seen else f"(?P<{group}>.*?)"
            seen.add(group)
    return re.compile(pattern, re.DOTALL)


def _values_in(prompt: Mapping[str, Any], pattern: re.Pattern[str], text: str) -> Values | None:
    """What a person would have typed to send this text, as one piece; None where that cannot be.

    What moves a cursor is not printed, and what is escaped is not the text.
    """
    from slmcompile.data.prompt import prompt_pieces  # and with it the recipe's schema

    found = pattern.fullmatch(text)
    if found is None or not shows_itself(text.replace("\n", "")):
        return None
    values = {name: found[f"c{at}"] for at, name in enumerate(prompt["columns"])}
    if not all(value.strip() for value in values.values()):
        return None
    try:
        return values if prompt_pieces(prompt, values) == (text,) else None
    except UsageError:  # a control token of one character
        return None
