"""Which rows go through a model together: a pure function of their lengths and of settings.

Prompts that are generated from are padded as their runtime needs it, torch on the left with mask
and positions, onnxruntime-genai on the right. Scored rows are padded on the right, where a causal
model cannot see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from slmcompile.inference.protocol import Generated

SCORE_BYTES = 192 << 20
"""Memory that one batch of float32 logits may take."""

PREFILL_BYTES = 1 << 30
"""Memory that the float32 logits of a batch's prompts may take, at every position of them."""

MOST_ROWS = 32
"""Rows of a batch; onnxruntime-genai 0.18 refuses more."""


def decoded_together(
    lengths: Sequence[int], batch_size: int, room: int, vocab_size: int
) -> Iterator[list[int]]:
    """Indices of prompts by length, cut so that a batch is little padding and fits the memory.

    No prompt is more than twice as long as the shortest of its batch. Those that leave less than
    ``room`` of the context stand with their equals alone, as a batch ends for all of it at once.

    Args:
        lengths: tokens of each prompt.
        batch_size: most prompts of a batch; ``MOST_ROWS`` bounds it too.
        room: longest prompt that has room for a whole answer.
        vocab_size: what the logits of a position take is four bytes of each.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    most = min(batch_size, MOST_ROWS)
    # Even shares are quicker than full batches and a remainder of one.
    share = -(-len(order) // max(1, -(-len(order) // most)))
    budget = PREFILL_BYTES // (4 * vocab_size)
    batch: list[int] = []
    for index in order:
        length = lengths[index]
        shortest = lengths[batch[0]] if batch else length
        full = len(batch) == share or (len(batch) + 1) * length > budget
        apart = length > 2 * shortest or (length > room and length != shortest)
        if batch and (full or apart):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def similar_length(lengths: Sequence[int], vocab_size: int) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a batch's padded logits fit ``SCORE_BYTES``."""
    budget = max(1, SCORE_BYTES // (4 * vocab_size))
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        full = len(batch) == MOST_ROWS or (len(batch) + 1) * lengths[index] > budget
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded_right(sequences: Sequence[Sequence[int]], filler: int) -> list[list[int]]:
    """Sequences of one length; what is added comes last."""
    length = max(len(each) for each in sequences)
    return [[*each, *[filler] * (length - len(each))] for each in sequences]


def padded_left(sequences: Sequence[Sequence[int]], filler: int) -> list[list[int]]:
    """Sequences of one length; what is added comes first."""
    length = max(len(each) for each in sequences)
    return [[*[filler] * (length - len(each)), *each] for each in sequences]


def until_stop(ids: Sequence[int], stops: Collection[int], most: int) -> Generated:
    """``ids`` up to, and without, the first stop token, and at most so many."""
    for position, token in enumerate(ids):
        if token in stops:
            return Generated([int(each) for each in ids[:position]], cut_off=False)
    return Generated([int(each) for each in ids[:most]], cut_off=True)
