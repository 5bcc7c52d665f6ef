"""What the rules want to know of every row, found in its token ids as they are written.

Looks at token ids and labels alone and not at how they were made, so that a mistake in the making
is found here. Judges nothing: the rules do (``slmcompile.checks``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from slmcompile.data.normalise import normalised
from slmcompile.data.render import program_of
from slmcompile.data.rows import Rendered, Rendering, Stop
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.template_program import TemplateProgram
from slmcompile.data.tokenizer import Tokenizer, texts_of
from slmcompile.recipe.data_parts import Part

STOP, BOS, EOS, GIVEN, SPELLED, DOCUMENT = (1 << n for n in range(6))
"""Bits of ``OfRow.flags``: the last trained token is the stop token, or there is none where the
text goes on; two tokens that open, or end, a text stand side by side; the values of the prompt hold
the whole answer; a value spells a control token; nothing is asked."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class OfRow:
    """What was found in a row.

    Attributes:
        trained: trained tokens.
        flags: bits, as above.
        wrong: where it is and what it trains, if that is anything but its answers.
    """

    trained: int
    flags: int
    wrong: str


def of_rows(
    part: Part, rendering: Rendering, tokenizer: Tokenizer, rows: Sequence[tuple[Row, Rendered]]
) -> list[OfRow]:
    """What is found in each row of a source, beside the text that it was made from."""
    flat = _Flat.of([row for row, _ in rows])
    trained = [[token for token in row.labels if token != IGNORED] for row, _ in rows]
    wrong = _masked_otherwise(rows, trained, flat.moved(), tokenizer, rendering.stop)
    opening = {getattr(tokenizer, "bos_token_id", None)} - {None}
    ending = {tokenizer.eos_token_id, rendering.stop.id} - opening
    program = program_of(part.template)
    twice = zip(flat.twice(opening), flat.twice(ending), strict=True)
    found: list[OfRow] = []
    for (_, text), ids, told, (bos, eos) in zip(rows, trained, wrong, twice, strict=True):
        flags = STOP * ((ids[-1:] == [rendering.stop.id]) == text.ends) | BOS * bos | EOS * eos
        flags |= GIVEN * _given_away(text, part, program, rendering.columns)
        flags |= SPELLED * bool(text.prompt_cuts or text.completion_cuts)
        flags |= DOCUMENT * (text.document is not None)
        found.append(OfRow(len(ids), flags, told))
    return found


@dataclass(frozen=True, slots=True)
class _Flat:
    """Ids and labels of many rows, one behind the other, and where each row begins."""

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Flat:
        sizes = np.array([len(row.input_ids) for row in rows], dtype=np.int64)
        ids = np.fromiter(chain.from_iterable(row.input_ids for row in rows), dtype=np.int64)
        labels = np.fromiter(chain.from_iterable(row.labels for row in rows), dtype=np.int64)
        return cls(ids, labels, np.cumsum(sizes) - sizes)

    def _any(self, found: npt.NDArray[np.bool_]) -> list[bool]:
        """In which rows it is so of some position; every row has one."""
        rows: list[bool] = np.logical_or.reduceat(found, self.starts).tolist()
        return rows

    def moved(self) -> list[bool]:
        """Rows in which the label of a position is another token than stands there."""
        return self._any((self.labels != IGNORED) & (self.labels != self.ids))

    def twice(self, tokens: Collection[int | None]) -> list[bool]:
        """Rows in which one of the tokens stands twice side by side."""
        wanted = np.array(sorted(token for token in tokens if token is not None), dtype=np.int64)
        found = np.zeros(len(self.ids), dtype=np.bool_)
        found[:-1] = (self.ids[1:] == self.ids[:-1]) & np.isin(self.ids[:-1], wanted)
        found[self.starts[1:] - 1] = False  # the last of a row, before the first of the next
        return self._any(found)


def _masked_otherwise(
    rows: Sequence[tuple[Row, Rendered]],
    trained: Sequence[Sequence[int]],
    moved: Sequence[bool],
    tokenizer: Tokenizer,
    stop: Stop,
) -> list[str]:
    """Places of rows that train anything but their answers, each with its stop token; empty texts.

    What a piece of a document trains is decoded behind the token that it goes on from: some
    tokenizers write no space where a text begins.
    """
    before = [row.prompt_ids if text.piece else [] for row, text in rows]
    whole = [[*ids, *more] for ids, more in zip(before, trained, strict=True)]
    first = texts_of(tokenizer, before) if any(before) else [""] * len(rows)
    decoded = zip(texts_of(tokenizer, whole), first, moved, strict=True)
    found: list[str] = []
    for (_, text), (both, start, is_moved) in zip(rows, decoded, strict=True):
        said = both[len(start) :]
        earlier = "".join(text.prompt[start:end] for start, end in text.trained)
        expected = earlier + text.completion + (stop.text if text.ends else "")
        told = f"{text.row.where}: {said[:_SHOWN]!r} is trained, not {expected[:_SHOWN]!r}"
        found.append(told if said != expected or is_moved else "")
    return found


def _given_away(
    text: Rendered, part: Part, program: TemplateProgram, columns: Sequence[str]
) -> bool:
    """Whether the values in the prompt hold the whole answer, as words.

    The template's own words do not count: a prompt that lists every label gives none away.
    """
    if text.document is not None:
        return False
    answer = normalised(text.completion)
    given = program.given(text, part.template, part.columns, columns)
    return f" {answer} " in f" {normalised(given)} "
