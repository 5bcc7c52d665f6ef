"""Every row once an epoch, in an order that only seed and epoch decide."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from slmcompile.data.store import IGNORED, Row
from slmcompile.training.batches import MicroBatch, collate, epoch_batches, sorted_batches

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300)
sizes = st.integers(1, 40)


@given(lengths, sizes, st.booleans(), st.integers(0, 9), st.integers(0, 3))
def test_every_row_is_in_exactly_one_batch(
    lengths: list[int], size: int, grouped: bool, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, size, grouped, seed, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert sum(len(batch) < size for batch in batches) <= 1
    assert batches == epoch_batches(lengths, size, grouped, seed, epoch)


def test_a_batch_is_where_it_is_asked_for() -> None:
    rows = [Row(0, "", "", "", [1], [1, 2, 3], [IGNORED, 2, 3])]
    batch = collate([MicroBatch("", rows)], torch.device("meta"))
    assert {
        batch.position_ids.device.type,
        batch.parts[0].padded.device.type,
        batch.parts[0].real.device.type,
        batch.input_ids.device.type,
        batch.positions.device.type,
        batch.targets.device.type,
    } == {"meta"}


def test_seed_and_epoch_change_the_order() -> None:
    many = [10 + number % 30 for number in range(200)]
    orders = {str(epoch_batches(many, 8, True, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_grouping_by_length_saves_most_of_the_padding() -> None:
    many = [10 + (number * 37) % 90 for number in range(800)]

    def padding(grouped: bool) -> int:
        batches = epoch_batches(many, 16, grouped, 0, 0)
        return sum(max(many[r] for r in b) * len(b) - sum(many[r] for r in b) for b in batches)

    assert padding(True) < 0.1 * padding(False)


def test_grouped_batches_come_in_no_order_of_length() -> None:
    many = [10 + (number * 37) % 90 for number in range(800)]
    longest = [max(many[row] for row in batch) for batch in epoch_batches(many, 16, True, 0, 0)]
    rises = sum(one < other for one, other in pairwise(longest))
    assert 0.3 < rises / len(longest) < 0.7


@given(lengths, sizes)
def test_validation_batches_cover_every_row(lengths: list[int], size: int) -> None:
    batches = sorted_batches(lengths, size)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[row] for row in flat] == sorted(lengths, reverse=True)


def test_positions_are_those_before_a_trained_token() -> None:
    rows = [
        Row(0, "", "", "", [5, 6], [5, 6, 7, 8], [IGNORED, IGNORED, 7, 8]),
        Row(1, "", "", "", [9], [9, 3], [IGNORED, 3]),
    ]
    alone = [Row(7, "", "", "", [4], [4, 1, 2], [IGNORED, 1, 2])]
    batch = collate([MicroBatch("a", rows, 3), MicroBatch("b", alone)], torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 3, 4, 1, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch.positions.tolist() == [1, 2, 4, 6, 7]
    assert batch.targets.tolist() == [7, 8, 3, 1, 2]
    first, second = batch.parts
    assert (first.member, first.step, first.row_ids, first.lengths) == ("a", 3, (0, 1), (4, 2))
    assert (first.tokens, first.trained) == (slice(0, 6), slice(0, 3))
    assert (second.tokens, second.trained) == (slice(6, 9), slice(3, 5))
    assert first.padded.tolist() == [0, 1, 2, 3, 4, 5, 4, 4]
    assert first.real.tolist() == [0, 1, 2, 3, 4, 5]
    assert second.padded.tolist() == second.real.tolist() == [0, 1, 2]
