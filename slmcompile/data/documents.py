"""A long text in pieces that fit a row, each trained token in one of them.

A piece begins with the last token of the one before, which is context and not trained there: so
every token of a document is trained once, and none without a token before it. The first follows
what stands before a text of the model (BOS, or the token that ends a text). These are the rolling
windows with one token of context by which the EleutherAI evaluation harness measures perplexity.
Knows nothing of splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from slmcompile.console.errors import BadDataError
from slmcompile.data.encode import Encoded
from slmcompile.data.rows import Rendered
from slmcompile.data.store import IGNORED
from slmcompile.data.tokenizer import Tokenizer

MOST_PIECES = 1_000_000
"""Pieces of a document; an id is the row's number times that, plus the piece's."""

_CHARACTER = 8
"""Tokens that a character is at most, of tokenizers that fall back to bytes; twice of them."""


def pieces_of(
    text: Rendered, ids: Encoded, tokenizer: Tokenizer, max_length: int
) -> Iterator[tuple[Rendered, Encoded]]:
    """The document itself where it fits, or its pieces, in order.

    All but the last are as long as they may be, to a character; the last is what is left, with the
    stop token behind it.

    Args:
        text: the document.
        ids: of the whole of it.
        tokenizer: the one that they are of.
        max_length: tokens of a row.

    Raises:
        BadDataError: it is more than ``MOST_PIECES``, or its tokens cannot be cut between two
            characters.
    """
    if len(ids.input_ids) <= max_length:
        yield text, ids
        return
    tokens = ids.input_ids[len(ids.prompt_ids) : -1]
    start = at = number = 0
    context = ids.prompt_ids
    while start < len(tokens):
        if number >= MOST_PIECES:
            raise BadDataError(
                f"{text.row.where}: more than {MOST_PIECES} pieces of {max_length} tokens",
                "divide the text, or raise data.max_length",
            )
        room = max_length - len(context)
        # The stop token has to fit behind the last piece, and does not stand alone.
        last = len(tokens) - start < room
        end = len(tokens) if last else min(start + room, len(tokens) - 1)
        if not last:
            end = _between(text, at, tokens, start, end, context if number else (), tokenizer)
        piece = _decoded(tokens[start:end], context if number else (), tokenizer)
        if last and piece != text.completion[at:]:
            raise _no_cut(text)
        stop = ids.input_ids[-1:] if last else []
        own = [*tokens[start:end], *stop]
        yield (
            replace(
                text,
                completion=piece,
                completion_cuts=tuple(
                    cut - at for cut in text.completion_cuts if at < cut < at + len(piece)
                ),
                piece=number,
                ends=last,
            ),
            Encoded(list(context), [*context, *own], [*[IGNORED] * len(context), *own]),
        )
        at += len(piece)
        context, start, number = tokens[end - 1 : end], end, number + 1


def _between(
    text: Rendered,
    at: int,
    tokens: Sequence[int],
    start: int,
    end: int,
    context: Sequence[int],
    tokenizer: Tokenizer,
) -> int:
    """The last place up to ``end`` that is between two characters and behind ``start``."""
    for place in range(end, max(start, end - _CHARACTER), -1):
        piece = _decoded(tokens[start:place], context, tokenizer)
        if piece and text.completion.startswith(piece, at):
            return place
    raise _no_cut(text)


def _no_cut(text: Rendered) -> BadDataError:
    return BadDataError(
        f"{text.row.where}: its tokens cannot be cut between two characters",
        "raise data.max_length, or take out what the tokenizer does not know",
    )


def _decoded(tokens: Sequence[int], context: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of tokens behind others: some tokenizers write no space where a text begins."""
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    before = len(tokenizer.decode(context, **options)) if context else 0
    return tokenizer.decode([*context, *tokens], **options)[before:]
