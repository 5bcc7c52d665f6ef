"""Which rows go into which batch, in which order, and how a batch becomes tensors.

The order is a pure function of (seed, epoch): it never draws from a global generator, so a
resumed run sees the rows that the interrupted one would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slmcompile.console.errors import BadDataError
from slmcompile.data.store import IGNORED, Row, StoredRows, open_split, split_file

if TYPE_CHECKING:
    import torch

_CHECKED = 4096

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
class MicroBatch:
    """Rows of one learner for one forward pass.

    Attributes:
        member: whose rows; empty in a plain recipe.
        rows: at least one.
        step: optimizer steps that the learner has made; dropout draws by it.
    """

    member: str
    rows: Sequence[Row]
    step: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """What one learner has in a batch.

    Attributes:
        member: whose rows they are.
        step: see ``MicroBatch``.
        row_ids: its rows.
        lengths: tokens of each of them.
        tokens: where they stand among the batch's tokens.
        trained: where its trained positions stand among the batch's.
        padded: int64 [rows · longest], which of its tokens stands at each place of the padded form;
            at a place of padding some token of the same row.
        real: int64 [tokens], the place in the padded form of each of its tokens.
    """

    member: str
    step: int
    row_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    tokens: slice
    trained: slice
    padded: torch.Tensor
    real: torch.Tensor

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(self.lengths)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one or several learners, one behind the other without padding.

    Attributes:
        input_ids: int64 [1, tokens].
        position_ids: int64 [1, tokens], from 0 in each row.
        positions: int64 [trained], places in ``input_ids`` whose next token is trained.
        targets: int64 [trained], those next tokens.
        parts: of each learner, in the order of its tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    parts: tuple[Part, ...]


def collate(micro_batches: Sequence[MicroBatch], device: torch.device) -> Batch:
    """Lays rows out flat; the tensors are on ``device``.

    No row sees another: positions begin anew in each, and attention is computed row by row
    (``flat_attention``).
    """
    import torch

    ids: list[int] = []
    places: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    parts: list[Part] = []
    for each in micro_batches:
        begin, trained = len(ids), len(positions)
        for row in each.rows:
            for place, label in enumerate(row.labels[1:], start=len(ids)):
                if label != IGNORED:
                    positions.append(place)
                    targets.append(label)
            ids += row.input_ids
            places += range(len(row.input_ids))
        lengths = tuple(len(row.input_ids) for row in each.rows)
        padded, real = _padding(lengths)
        parts.append(
            Part(
                each.member,
                each.step,
                tuple(row.id for row in each.rows),
                lengths,
                slice(begin, len(ids)),
                slice(trained, len(positions)),
                torch.tensor(padded, dtype=torch.int64, device=device),
                torch.tensor(real, dtype=torch.int64, device=device),
            )
        )
    return Batch(
        torch.tensor([ids], dtype=torch.int64, device=device),
        torch.tensor([places], dtype=torch.int64, device=device),
        torch.tensor(positions, dtype=torch.int64, device=device),
        torch.tensor(targets, dtype=torch.int64, device=device),
        tuple(parts),
    )


def _padding(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """``padded`` and ``real`` of a part whose rows have these lengths."""
    width, start = max(lengths), 0
    padded: list[int] = []
    real: list[int] = []
    for number, length in enumerate(lengths):
        own = range(start, start + length)
        # Behind its last token, so that causal attention of the real ones never sees it.
        padded += [*own, *[start] * (width - length)]
        real += range(number * width, number * width + length)
        start += length
    return padded, real


def read_rows(data: Path, split: str, vocab_size: int, max_positions: int | None) -> StoredRows:
    """Rows of a split, checked for what would spoil training.

    Raises:
        BadDataError: no rows; a row with no trained token, with a token that the base model
            does not have, or longer than its positions (exit 65).
    """
    path = split_file(data, split)
    rows = open_split(data, split)
    if not len(rows):
        raise BadDataError(f"{path}: no rows", "give the split some rows (data.split)")
    for batch in rows.batches:
        for start in range(0, len(batch), _CHECKED):
            _check(batch.slice(start, _CHECKED), path, vocab_size, max_positions)
    return rows


def _check(batch: Any, path: Path, vocab_size: int, max_positions: int | None) -> None:
    """Checks some rows, column by column."""
    ids, labels = batch.column("input_ids"), batch.column("labels")
    lengths = ids.value_lengths().to_numpy(zero_copy_only=False)
    tokens, wanted = (each.flatten().to_numpy(zero_copy_only=False) for each in (ids, labels))
    apart = (lengths != labels.value_lengths().to_numpy(zero_copy_only=False)) | (lengths == 0)
    if apart.any():
        raise BadDataError(
            f"{path}: row {batch.column('id')[int(np.argmax(apart))].as_py()}: columns input_ids"
            " and labels are empty, or not of one length",
            "run the recipe again; the stage will be rebuilt",
        )
    starts = np.cumsum(lengths) - lengths
    trained = wanted != IGNORED
    trained[starts] = False  # nothing stands before a row's first token
    largest = np.maximum(np.maximum.reduceat(tokens, starts), np.maximum.reduceat(wanted, starts))
    unknown = (largest >= vocab_size) | (np.minimum.reduceat(tokens, starts) < 0)
    wrong = ~np.logical_or.reduceat(trained, starts) | unknown
    if max_positions is not None:
        wrong |= lengths > max_positions
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    where = f"{path}: row {batch.column('id')[row].as_py()}"
    own = slice(int(starts[row]), int(starts[row] + lengths[row]))
    if not trained[own].any():
        raise BadDataError(
            f"{where}, column labels: no token is trained", "give the row a completion"
        )
    if unknown[row]:
        raise BadDataError(
            f"{where}, column input_ids: token {largest[row]} is not in the base model's"
            f" vocabulary of {vocab_size}",
            "tokenize the data with the tokenizer of this base model",
        )
    raise BadDataError(
        f"{where}: {lengths[row]} tokens, the base model has {max_positions} positions",
        f"set data.max_length to {max_positions} or less",
    )
