"""Text to token ids and labels, and the proof that each row trains its answer and nothing else.

Prompt and completion are encoded apart and joined. Encoding them as one text would let the
tokenizer merge across the border, and then the prompt's ids in training would not be those that
inference sends, where nothing follows the prompt yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.data.rows import Rendered, Stop
from slmcompile.data.store import IGNORED
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.errors import BadDataError

_DECODE = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids; ``labels`` is ``IGNORED`` where nothing is trained."""

    prompt_ids: list[int]
    input_ids: list[int]
    labels: list[int]


def prefix_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids that the tokenizer itself puts before a text at inference (a BOS token, or none).

    What it would put after a text (some add EOS) is left out: a prompt has not ended.
    """
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    full: list[int] = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full)):
        if full[start : start + len(bare)] == bare:
            return full[:start]
    return []


def encode(
    rows: Sequence[Rendered], tokenizer: Tokenizer, stop: Stop, prefix: Sequence[int]
) -> list[Encoded]:
    """Encodes every row: prompt, completion, stop token.

    The completion and the stop token are trained, also where the stop token is the padding token
    too: labels are made from positions, never by comparing ids. The prefix is not doubled where
    the prompt spells it out.

    Args:
        rows: prompt and completion texts.
        tokenizer: the base model's.
        stop: appended to every completion, always trained.
        prefix: ids before every prompt, of ``prefix_ids`` (none where a chat template writes them).

    Raises:
        BadDataError: the decoded trained tokens are not the answer and the stop token.
    """
    options: dict[str, Any] = {"add_special_tokens": False}
    if any(row.trained for row in rows):
        options["return_offsets_mapping"] = True
    prompts = tokenizer([row.prompt for row in rows], **options)
    completions = tokenizer([row.completion for row in rows], add_special_tokens=False)
    offsets = prompts["offset_mapping"] if "return_offsets_mapping" in options else None
    encoded = []
    for number, row in enumerate(rows):
        ids: list[int] = prompts["input_ids"][number]
        marks = _earlier(row, ids, offsets[number]) if offsets is not None else _none(ids)
        if prefix and ids[: len(prefix)] != list(prefix):
            ids, marks = [*prefix, *ids], [*_none(prefix), *marks]
        answer = [*completions["input_ids"][number], stop.id]
        encoded.append(Encoded(ids, ids + answer, marks + answer))
    _prove(rows, encoded, tokenizer, stop)
    return encoded


def _none(ids: Sequence[int]) -> list[int]:
    return [IGNORED] * len(ids)


def _earlier(row: Rendered, ids: list[int], offsets: list[tuple[int, int]]) -> list[int]:
    """Labels within the prompt: the tokens that lie wholly in an earlier answer."""
    labels = _none(ids)
    for start, end in row.trained:
        for place, (first, last) in enumerate(offsets):
            if start <= first and last <= end and first < last:
                labels[place] = ids[place]
    return labels


def _prove(
    rows: Sequence[Rendered], encoded: Sequence[Encoded], tokenizer: Tokenizer, stop: Stop
) -> None:
    trained = [[token for token in each.labels if token != IGNORED] for each in encoded]
    answers = [each.input_ids[len(each.prompt_ids) : -1] for each in encoded]
    decoded = tokenizer.batch_decode(trained, **_DECODE)
    for row, ids, answer, text in zip(rows, trained, answers, decoded, strict=True):
        where = row.row.where
        if stop.id in answer:
            raise BadDataError(
                f"{where}: the completion spells the stop token {stop.text}",
                "remove it; it is added to every row",
            )
        if not ids or ids[-1] != stop.id or not answer:
            raise BadDataError(f"{where}: no token is trained", "fill the completion in")
        earlier = "".join(row.prompt[start:end] for start, end in row.trained)
        expected = earlier + row.completion + stop.text
        if text != expected:
            place = next(
                (n for n, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b),
                min(len(text), len(expected)),
            )
            raise BadDataError(
                f"{where}: the tokenizer gives {text[place : place + 20]!r} back for "
                f"{expected[place : place + 20]!r}",
                "write the text as the tokenizer does (Unicode NFC, single spaces)",
            )
