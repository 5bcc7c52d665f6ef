"""A row as its source holds it, and how a template reads a column of it.

Knows nothing of files, templates or tokens.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from operator import attrgetter
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened

_MOST_LISTED = 20
_MOST_COMPARED = 200
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row before rendering.

    Attributes:
        values: column name → value as the format holds it.
        where: place for error messages (``data/x.jsonl:17``).
        columnar: whether the format writes null for a key that a nested object does not have.
    """

    values: Mapping[str, Any]
    where: str
    columnar: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its values: what a dataclass does of itself is several times slower."""
        return SourceRow, (self.values, self.where, self.columnar)


def twice(names: Iterable[str]) -> str:
    """The first name that occurs more than once, as messages show it; empty where none does."""
    found = next((name for name, count in Counter(names).items() if count > 1), None)
    return "" if found is None else repr(shortened(found))


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, the first of many."""
    more = f" and {len(columns) - _MOST_LISTED} more" if len(columns) > _MOST_LISTED else ""
    names = (shortened(name, 40) for name in columns[:_MOST_LISTED])
    return ", ".join(repr(name) if "," in name else name for name in names) + more


def column(row: SourceRow, name: str, renamed: Mapping[str, str]) -> Any:
    """The value of a column.

    Args:
        row: where to look.
        name: the column's name in the template or the recipe.
        renamed: ``data.columns``: name in the template → name in the file.

    Raises:
        BadDataError: the column is missing or null.
    """
    source = renamed.get(name, name)
    if source not in row.values:
        known = [str(key) for key in row.values]
        near = get_close_matches(source[:_LONGEST], known[:_MOST_COMPARED], n=1)
        hint = f"did you mean {shortened(near[0])!r}? " if near else ""
        raise BadDataError(
            f"{row.where}: no column {shortened(source)!r}",
            f"{hint}columns here: {listed(known) or 'none'}; data.columns renames",
        )
    value = row.values[source]
    if value is None:
        raise BadDataError(
            f"{row.where}: column {source!r} is null", "fill the value in or remove the row"
        )
    return value


def as_text(row: SourceRow, name: str, renamed: Mapping[str, str]) -> str:
    """A column's value as a template writes it.

    Text stays as it is, numbers are written by ``repr``, booleans and nested values as JSON with
    ``", "`` and ``": "`` between items and keys in the order of the source.

    Raises:
        BadDataError: the column is missing, null, not a number, or of a type that has no text.
    """
    value = column(row, name, renamed)
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise BadDataError(
            f"{row.where}: column {name!r} is {value!r}", "fill the value in or remove the row"
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    if isinstance(value, (bool, dict, list)):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadDataError(
                f"{row.where}: column {name!r} is not JSON: {error}",
                "use text, numbers, lists and objects only",
            ) from error
    raise BadDataError(
        f"{row.where}: column {name!r} has type {type(value).__name__}",
        "store it as text, a number, a list or an object",
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example as text.

    Attributes:
        row: where it comes from.
        prompt: exactly the text that inference will send.
        completion: the answer, without the stop token.
        trained: earlier answers inside the prompt that are trained too, as character ranges
            [start, end) that include their stop token (conversations of several turns).
        prompt_cuts: where the prompt is cut so that what values spell stays text
            (``slmcompile.data.control_tokens``); empty in most rows.
        completion_cuts: the same of the completion.
        source: index of its row in the source; a conversation may give several examples.
        together: what it shares with the other examples of its conversation, from which no split
            parts it; None where it is the only one.
        asked: messages of the prompt as the chat template got them; empty for plain text.
        tools: schemas of tools that the prompt offers, if there are any.
        document: the whole text that it is, or is a piece of, where it asks nothing; None where
            there is a prompt and an answer.
        piece: which piece of it, from 0.
        ends: whether the stop token follows; not behind a piece of a document that goes on.
    """

    row: SourceRow
    prompt: str
    completion: str
    trained: tuple[tuple[int, int], ...] = ()
    prompt_cuts: tuple[int, ...] = ()
    completion_cuts: tuple[int, ...] = ()
    source: int = 0
    together: str | None = None
    asked: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] | None = None
    document: str | None = None
    piece: int = 0
    ends: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        """As a row."""
        return Rendered, _all_of(self)

    @property
    def identity(self) -> str:
        """By what it is another row than others: rows with one in common stay in one split."""
        return self.prompt if self.document is None else self.document


_all_of = attrgetter(*(each.name for each in fields(Rendered)))


@dataclass(frozen=True, slots=True)
class Stop:
    """The token that ends an answer."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """What became of the conversations of a source, as the data report tells it.

    Attributes:
        untrained: assistant turns that are not trained, as the rows say (weight 0, train false).
        cut: conversations that are cut behind their last trained turn.
        one_a_turn: conversations that became one example for each assistant turn.
        examples: how many examples those are.
        thinking: whether the chat template's thinking is on, as answers hold reasoning.
        opening: what the template puts in front of every answer and not into the prompt.
        dated: whether the chat template asks for today's date, which is a fixed one.
        ignored: messages by name of a field that says nothing to a model and was left out.
    """

    untrained: int = 0
    cut: int = 0
    one_a_turn: int = 0
    examples: int = 0
    thinking: bool = False
    opening: str = ""
    dated: bool = False
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendering:
    """All rows as text, and what serving needs to write prompts the same way.

    Attributes:
        rows: one per source row, or several of a conversation, in order; of a whole source none,
            as they lie elsewhere.
        stop: the token that ends an answer.
        prompt_text: the whole prompt as a format string over the columns, chat template already
            applied; None where the chat template does more than put the values in.
        columns: the columns that a prompt needs.
        roles: rows by pattern of roles (``user assistant``); empty for plain text.
        conversations: what became of conversations.
    """

    rows: list[Rendered]
    stop: Stop
    prompt_text: str | None
    columns: tuple[str, ...]
    roles: Mapping[str, int] = field(default_factory=dict)
    conversations: ConversationFacts = ConversationFacts()
