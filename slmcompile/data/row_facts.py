"""What the rules want to know of every row, found in its token ids as they are written.

Looks at token ids and labels alone and not at how they were made, so that a mistake in the making
is found here. Judges nothing: the rules do (``slmcompile.checks``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from slmcompile.data.normalise import normalised
from slmcompile.data.render import program_of
from slmcompile.data.rows import Rendered, Rendering, Stop
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer
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
    trained = [[token for token in row.labels if token != IGNORED] for row, _ in rows]
    wrong = _masked_otherwise(rows, trained, tokenizer, rendering.stop)
    opening = {getattr(tokenizer, "bos_token_id", None)} - {None}
    ending = {tokenizer.eos_token_id, rendering.stop.id} - opening
    found: list[OfRow] = []
    for (row, text), ids, told in zip(rows, trained, wrong, strict=True):
        twice = {one for one, other in pairwise(row.input_ids) if one == other}
        flags = STOP * ((ids[-1:] == [rendering.stop.id]) == text.ends)
        flags |= BOS * bool(twice & opening) | EOS * bool(twice & ending)
        flags |= GIVEN * _given_away(text, part, rendering.columns)
        flags |= SPELLED * bool(text.prompt_cuts or text.completion_cuts)
        flags |= DOCUMENT * (text.document is not None)
        found.append(OfRow(len(ids), flags, told))
    return found


def _masked_otherwise(
    rows: Sequence[tuple[Row, Rendered]],
    trained: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    stop: Stop,
) -> list[str]:
    """Places of rows that train anything but their answers, each with its stop token; empty texts.

    What a piece of a document trains is decoded behind the token that it goes on from: some
    tokenizers write no space where a text begins.
    """
    before = [row.prompt_ids if text.piece else [] for row, text in rows]
    whole = [[*ids, *more] for ids, more in zip(before, trained, strict=True)]
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    first = tokenizer.batch_decode(before, **options) if any(before) else [""] * len(rows)
    found: list[str] = []
    decoded = tokenizer.batch_decode(whole, **options)
    for (row, text), both, start in zip(rows, decoded, first, strict=True):
        said = both[len(start) :]
        earlier = "".join(text.prompt[start:end] for start, end in text.trained)
        expected = earlier + text.completion + (stop.text if text.ends else "")
        moved = any(
            label not in (IGNORED, token)
            for token, label in zip(row.input_ids, row.labels, strict=True)
        )
        wrong = said != expected or moved
        told = f"{text.row.where}: {said[:_SHOWN]!r} is trained, not {expected[:_SHOWN]!r}"
        found.append(told if wrong else "")
    return found


def _given_away(text: Rendered, part: Part, columns: Sequence[str]) -> bool:
    """Whether the values in the prompt hold the whole answer, as words.

    The template's own words do not count: a prompt that lists every label gives none away.
    """
    if text.document is not None:
        return False
    answer = normalised(text.completion)
    given = program_of(part.template).given(text, part.template, part.columns, columns)
    return f" {answer} " in f" {normalised(given)} "
