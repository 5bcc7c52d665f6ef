"""``eval.limit`` takes a sample: seeded, a share of every label, whatever the order of the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from slmcompile.data.sample import longest_of_first, of_row, sample
from slmcompile.data.store import Row

SORTED = ["a"] * 60 + ["b"] * 30 + ["c"] * 9 + ["d"]


def row(number: int, label: str, answer: int = 1) -> Row:
    ids = [1] * (2 + answer)
    return Row(number, f"prompt {number}", f"{label} answer", label, [1], ids, [-100, *ids[1:]])


def test_a_limit_takes_a_share_of_every_label_whatever_the_order_of_the_file() -> None:
    rows = [row(number, label) for number, label in enumerate(SORTED)]
    chosen = sample(rows, 20, 0, labelled=True)
    counts = {label: sum(each.label == label for each in chosen) for label in "abcd"}
    assert sum(counts.values()) == 20
    assert counts["d"] == 1
    assert counts["c"] in {1, 2}
    assert counts["b"] in {5, 6}
    assert counts["a"] in {11, 12}
    assert [each.id for each in chosen] == sorted(each.id for each in chosen)
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    again = sample(shuffled, 20, 0, labelled=True)
    assert {each.id for each in again} == {each.id for each in chosen}
    other = sample(rows, 20, 1, labelled=True)
    assert {each.id for each in other} != {each.id for each in chosen}


def test_of_several_sources_each_has_its_labels_and_replay_is_no_part_of_the_limit() -> None:
    rows = [replace(row(number, label), source="one") for number, label in enumerate(SORTED)]
    rows += [replace(row(100 + n, "a"), source="two") for n in range(30)]
    rows += [replace(row(200 + n, "a"), source="old", counted=False) for n in range(40)]
    chosen = sample(rows, 13, 0, labelled=True)
    counts = Counter(each.source for each in chosen)
    assert counts["one"] + counts["two"] == 13
    assert counts["two"] in {2, 3, 4}
    assert {each.label for each in chosen if each.source == "one"} == set("abcd")
    assert counts["old"] == 13
    assert {each.id for each in chosen} < {each.id for each in sample(rows, 14, 0, labelled=True)}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 50, 99])
def test_a_sample_has_as_many_rows_as_it_may_and_every_label_it_can(limit: int) -> None:
    rows = [row(number, label) for number, label in enumerate(SORTED)]
    chosen = sample(rows, limit, 7, labelled=True)
    assert len(chosen) == limit
    assert len({each.label for each in chosen}) == min(limit, 4)
    assert {each.id for each in chosen} < {
        each.id for each in sample(rows, limit + 1, 7, labelled=True)
    }


@pytest.mark.parametrize(("limit", "frequent"), [(40, 1), (51, 1), (60, 10), (80, 30)])
def test_rare_labels_have_a_row_each_at_the_cost_of_frequent_ones(
    limit: int, frequent: int
) -> None:
    """As the recipe's key says: 100 rows of one label and 50 labels of one row."""
    labels = ["a"] * 100 + [f"rare {n}" for n in range(50)]
    chosen = sample([row(n, each) for n, each in enumerate(labels)], limit, 0, labelled=True)
    assert sum(each.label == "a" for each in chosen) == frequent
    assert len({each.label for each in chosen}) == min(limit, 51)


def test_no_limit_takes_all_and_rows_without_labels_are_one_stratum() -> None:
    rows = [row(number, label) for number, label in enumerate(SORTED)]
    assert sample(rows, None, 7, labelled=True) == rows == sample(rows, 100, 7, labelled=True)
    free = sample([row(number, str(number)) for number in range(100)], 10, 0, labelled=False)
    assert max(each.id for each in free) > 10


def test_the_longest_answer_of_every_sample_is_that_of_the_rows_it_takes() -> None:
    rows = [row(n, label, answer=1 + n * 7 % 23) for n, label in enumerate(SORTED)]
    steps = longest_of_first(of_row(each, 3, labelled=True) for each in rows)
    assert steps[0][0] == 1
    for limit in range(1, len(rows) + 1):
        taken = sample(rows, limit, 3, labelled=True)
        longest = max(len(each.input_ids) - len(each.prompt_ids) - 1 for each in taken)
        assert longest == max(tokens for needed, tokens in steps if needed <= limit)
