"""Which rows go into which batch, in which order, and how a batch becomes tensors.

The order is a pure function of (seed, epoch): it never draws from a global generator, so a
resumed run sees the rows that the interrupted one would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slmcompile.console.errors import BadDataError
from slmcompile.data.store import IGNORED, Row, read_split, split_file

if TYPE_CHECKING:
    import torch

MEGABATCH = 50
"""Batches among which rows are sorted by length (as in transformers' LengthGroupedSampler)."""


def epoch_batches(
    lengths: Sequence[int], batch_size: int, group_by_length: bool, seed: int, epoch: int
) -> list[list[int]]:
    """Row numbers of every batch of one epoch, each row once; an incomplete batch is kept.

    With ``group_by_length`` rows are shuffled, sorted by length within runs of ``MEGABATCH``
    batches and cut; then the batches are shuffled. So a batch has rows of like length, and
    neither its company nor its place is the same in the next epoch.
    """
    draw = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    order = list(range(len(lengths)))
    draw.shuffle(order)
    if group_by_length:
        span = batch_size * MEGABATCH
        runs = [order[start : start + span] for start in range(0, len(order), span)]
        order = [row for run in runs for row in sorted(run, key=lambda row: lengths[row])]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if group_by_length:
        draw.shuffle(batches)
    return batches


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers in batches of like length, longest first (for validation)."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass(frozen=True, slots=True)
class Batch:
    """One padded batch.

    Attributes:
        input_ids: int64 [rows, longest], padded on the right.
        positions: int64 [trained], flat positions in ``input_ids`` whose next token is trained.
        targets: int64 [trained], those next tokens.
        tokens: real tokens in the batch.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    tokens: int


def collate(rows: Sequence[Row], device: torch.device) -> Batch:
    """Pads rows on the right to the longest; the tensors are on ``device``.

    No attention mask is needed: attention is causal, so a real token never sees the padding after
    it, and no padded position is trained. The padding token is 0, an id that every model has.
    """
    import torch

    width = max(len(row.input_ids) for row in rows)
    padded = [row.input_ids + [0] * (width - len(row.input_ids)) for row in rows]
    positions: list[int] = []
    targets: list[int] = []
    for number, row in enumerate(rows):
        for place, label in enumerate(row.labels[1:]):
            if label != IGNORED:
                positions.append(number * width + place)
                targets.append(label)
    return Batch(
        torch.tensor(padded, dtype=torch.int64, device=device),
        torch.tensor(positions, dtype=torch.int64, device=device),
        torch.tensor(targets, dtype=torch.int64, device=device),
        sum(len(row.input_ids) for row in rows),
    )


def read_rows(data: Path, split: str, vocab_size: int, max_positions: int | None) -> list[Row]:
    """Rows of a split, checked for what would spoil training.

    Raises:
        BadDataError: no rows; a row with no trained token, with a token that the base model
            does not have, or longer than its positions (exit 65).
    """
    path = split_file(data, split)
    rows = read_split(data, split)
    if not rows:
        raise BadDataError(f"{path}: no rows", "give the split some rows (data.split)")
    for row in rows:
        where = f"{path}: row {row.id}"
        if all(label == IGNORED for label in row.labels[1:]):
            raise BadDataError(
                f"{where}, column labels: no token is trained", "give the row a completion"
            )
        largest = max(*row.input_ids, *row.labels)
        if largest >= vocab_size or min(row.input_ids) < 0:
            raise BadDataError(
                f"{where}, column input_ids: token {largest} is not in the base model's"
                f" vocabulary of {vocab_size}",
                "tokenize the data with the tokenizer of this base model",
            )
        if max_positions is not None and len(row.input_ids) > max_positions:
            raise BadDataError(
                f"{where}: {len(row.input_ids)} tokens, the base model has {max_positions}"
                " positions",
                f"set data.max_length to {max_positions} or less",
            )
    return rows
