"""Control tokens that values spell: found, and kept from being read as tokens.

A tokenizer reads the text of its control tokens (turn borders, BOS, EOS, padding) wherever it
stands: a row or a user that writes ``<|im_start|>system`` would open a turn. The rule that keeps
values text needs nothing of a runtime but its ordinary ``encode``: wherever a control token begins
in a value, the text is cut after its first character; where a value goes on with one that the
template's own text began, it is cut where the value begins. The pieces are encoded apart and their
ids joined. What a template itself spells stays a token. Knows neither rows nor chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from slmcompile.data.template import Part

RULE = (
    "Wherever one of control_tokens begins in a value, cut the prompt after its first character;"
    " encode the pieces apart, without special tokens, and join their ids."
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A control token that a value spells, or helps to spell.

    Attributes:
        at: where the text is cut.
        token: the token's text.
        column: the value's column.
        divisible: whether a cut makes text of it; a token of one character has no halves.
    """

    at: int
    token: str
    column: str
    divisible: bool


@dataclass(frozen=True)
class ControlTokens:
    """Text → id of every control token."""

    ids: Mapping[str, int]

    @cached_property
    def _pattern(self) -> str:
        # The longest first, as tokenizers match; what can never match where there are none.
        return "|".join(map(re.escape, sorted(self.ids, key=len, reverse=True))) or r"(?!)"

    @cached_property
    def _apart(self) -> re.Pattern[str]:
        return re.compile(self._pattern)

    @cached_property
    def _overlapping(self) -> re.Pattern[str]:
        return re.compile(f"(?=({self._pattern}))")

    def count(self, pieces: Iterable[str]) -> int:
        """Control tokens that a tokenizer reads in pieces of text."""
        return sum(len(self._apart.findall(piece)) for piece in pieces)

    def spellings(self, parts: Sequence[Part]) -> list[Spelling]:
        """Control tokens in the joined text of parts that are not wholly in one literal."""
        text = "".join(part.text for part in parts)
        if not self._apart.search(text):
            return []
        found: list[Spelling] = []
        for match in self._overlapping.finditer(text):
            first, last = match.span(1)
            number, end = _part_at(parts, first)
            column = parts[number].column
            if column is not None:
                divisible = text[first] not in self.ids
                found.append(Spelling(first + 1, match[1], column, divisible))
            elif last > end:
                following = next(part.column for part in parts[number:] if part.column is not None)
                found.append(Spelling(end, match[1], following, divisible=True))
        return found


def _part_at(parts: Sequence[Part], position: int) -> tuple[int, int]:
    """The part that a character lies in, and where that part ends."""
    end = 0
    for number, part in enumerate(parts):
        end += len(part.text)
        if position < end:
            return number, end
    raise IndexError(position)


def split_at(text: str, cuts: Sequence[int]) -> tuple[str, ...]:
    """The pieces between cuts, without empty ones."""
    if not cuts:
        return (text,) if text else ()
    borders = [0, *sorted(set(cuts)), len(text)]
    pieces = (text[a:b] for a, b in pairwise(borders))
    return tuple(piece for piece in pieces if piece)


def marked(text: str, cuts: Iterable[int], mark: str) -> str:
    """The text with a mark at each cut, so that it can go through a template."""
    for cut in sorted(set(cuts), reverse=True):
        text = text[:cut] + mark + text[cut:]
    return text


def unmarked(text: str, mark: str) -> tuple[str, tuple[int, ...]]:
    """The text without its marks, and where they were."""
    pieces = text.split(mark) if mark else [text]
    cuts: list[int] = []
    length = 0
    for piece in pieces[:-1]:
        length += len(piece)
        cuts.append(length)
    return "".join(pieces), tuple(cuts)


def free_mark(values: Iterable[Any]) -> str:
    """A private-use character that no text in (nested) values holds."""
    used: set[str] = set()
    for text in strings(values):
        used.update(text)
    return next(chr(code) for code in range(0x10FFFD, 0xE000, -1) if chr(code) not in used)


def strings(value: Any) -> Iterable[str]:
    """Every text in nested lists and objects, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from strings(key)
            yield from strings(each)
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        for each in value:
            yield from strings(each)


def control_tokens(
    added: Mapping[int, tuple[str, bool]], named: Iterable[str], chat_template: str
) -> ControlTokens:
    """The control tokens among a tokenizer's added tokens.

    Those are all that are special, those with a role (BOS, EOS, padding …), and others that the
    chat template writes itself (``<think>`` and ``<tool_call>`` of Qwen are not special). Any other
    added token is a word like others: it decodes to what was written.

    Args:
        added: id → text, and whether the tokenizer calls it special.
        named: texts of the tokens with a role.
        chat_template: its source, empty where there is none.
    """
    roles = set(named)
    return ControlTokens(
        {
            text: token
            for token, (text, special) in sorted(added.items())
            if text and (special or text in roles or (_is_markup(text) and text in chat_template))
        }
    )


def _is_markup(text: str) -> bool:
    """No word and no run of spaces, which many tokenizers add and every template holds."""
    return len(text) > 2 and not (text[0].isalnum() or text[-1].isalnum() or text != text.strip())
