"""Which rows go through a model together.

Prompts that are generated from share a batch only if they have the same length: left padding
would enter attention and positions, and runtimes treat it differently. Scored rows are padded on
the right, where a causal model cannot see it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from slmcompile.inference.protocol import Generated

SCORE_BYTES = 192 << 20
"""Memory that one batch of float32 logits may take."""

MOST_ROWS = 32
"""Rows of a batch; onnxruntime-genai 0.18 refuses more."""


def equal_length(prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices of prompts of one length, at most ``batch_size`` and ``MOST_ROWS``."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        groups[len(prompt)].append(index)
    for length in sorted(groups):
        group = groups[length]
        # Even shares of a group are quicker than a full batch and a remainder of one.
        shares = -(-len(group) // min(batch_size, MOST_ROWS))
        for share in range(shares):
            yield group[share::shares]


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


def until_stop(ids: Sequence[int], stops: Collection[int], most: int) -> Generated:
    """``ids`` up to, and without, the first stop token, and at most so many."""
    for position, token in enumerate(ids):
        if token in stops:
            return Generated([int(each) for each in ids[:position]], cut_off=False)
    return Generated([int(each) for each in ids[:most]], cut_off=True)
