"""Text to token ids and labels, and the proof that each row trains its answer and nothing else.

Prompt and completion are encoded apart and joined. Encoding them as one text would let the
tokenizer merge across the border, and then the prompt's ids in training would not be those that
inference sends, where nothing follows the prompt yet. A text with cuts is encoded piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slmcompile.console.errors import BadDataError
from slmcompile.data.control_tokens import ControlTokens, split_at
from slmcompile.data.rows import Rendered, Stop
from slmcompile.data.store import IGNORED
from slmcompile.data.tokenizer import Tokenizer, ids_of, texts_of

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
    rows: Sequence[Rendered],
    tokenizer: Tokenizer,
    stop: Stop,
    prefix: Sequence[int],
    controls: ControlTokens,
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
        controls: the tokenizer's control tokens.

    Raises:
        BadDataError: the decoded trained tokens are not the answer and the stop token, a cut text
            does not decode to itself, or there are control tokens that no template wrote.
    """
    with_offsets = any(row.trained for row in rows)
    prompts = _pieces_ids([(row.prompt, row.prompt_cuts) for row in rows], tokenizer, with_offsets)
    completions = _pieces_ids([(row.completion, row.completion_cuts) for row in rows], tokenizer)
    encoded = []
    known = frozenset(controls.ids.values()) - {getattr(tokenizer, "unk_token_id", None)}
    for row, (ids, offsets), (answer, _) in zip(rows, prompts, completions, strict=True):
        _require_text(row, ids, answer, tokenizer, controls, known)
        marks = _earlier(row, ids, offsets) if with_offsets else _none(ids)
        if prefix and ids[: len(prefix)] != list(prefix):
            ids, marks = [*prefix, *ids], [*_none(prefix), *marks]  # noqa: PLW2901
        encoded.append(Encoded(ids, [*ids, *answer, stop.id], [*marks, *answer, stop.id]))
    _prove(rows, encoded, tokenizer, stop)
    return encoded


def _pieces_ids(
    texts: Sequence[tuple[str, Sequence[int]]], tokenizer: Tokenizer, with_offsets: bool = False
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Ids of cut texts and, if asked for, the characters that each id stands for."""
    pieces = [split_at(text, cuts) for text, cuts in texts]
    every = [piece for each in pieces for piece in each]
    offsets: Iterator[list[tuple[int, int]]] = iter(())
    if with_offsets and every:
        found = tokenizer(every, add_special_tokens=False, return_offsets_mapping=True)
        ids: Iterator[list[int]] = iter(found["input_ids"])
        offsets = iter(found["offset_mapping"])
    else:
        ids = iter(ids_of(tokenizer, every))
    joined: list[tuple[list[int], list[tuple[int, int]]]] = []
    for each in pieces:
        start, tokens, spans = 0, list[int](), list[tuple[int, int]]()
        for piece in each:
            tokens += next(ids)
            if with_offsets:
                spans += [(start + first, start + last) for first, last in next(offsets)]
            start += len(piece)
        joined.append((tokens, spans))
    return joined


def _require_text(
    row: Rendered,
    prompt: list[int],
    answer: list[int],
    tokenizer: Tokenizer,
    controls: ControlTokens,
    known: frozenset[int | None],
) -> None:
    """That the control tokens in a row are those that its templates spell, and cuts do no harm.

    ``known`` are the ids of control tokens that unknown text does not become too.
    """
    read = sum(map(known.__contains__, prompt)) + sum(map(known.__contains__, answer))
    if read and read > controls.count(
        (*split_at(row.prompt, row.prompt_cuts), *split_at(row.completion, row.completion_cuts))
    ):
        raise BadDataError(
            f"{row.row.where}: the tokenizer reads a control token that is not spelled as such",
            "remove from the row what spells one in another form (case, Unicode)",
        )
    for text, cuts, ids in (
        (row.prompt, row.prompt_cuts, prompt),
        (row.completion, row.completion_cuts, answer),
    ):
        if cuts and tokenizer.decode(ids, **_DECODE) != text:
            raise BadDataError(
                f"{row.row.where}: this tokenizer cannot write a control token's text as text",
                "remove the control token from the row",
            )


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
    decoded = texts_of(tokenizer, trained)
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
