"""What must hold for every split, whatever the rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import BadDataError
from slmcompile.data.normalise import normalised
from slmcompile.data.row_keys import Item, keys_of
from slmcompile.data.split import assign
from slmcompile.shapes.splits import Split

RATIOS: dict[Split, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}

items = st.builds(
    Item,
    prompt=st.sampled_from("abcdefghij").map(lambda letter: f"say {letter}")
    | st.text(min_size=1, max_size=8),
    stratum=st.sampled_from(["on", "off", "set"]),
    group=st.none() | st.integers(0, 12).map(str),
)
many = st.lists(items, min_size=1, max_size=80)


def try_assign(rows: list[Item], seed: int = 0, *, cover: bool = False) -> list[Split] | None:
    try:
        return assign(keys_of(rows, seed), RATIOS, seed, cover=cover)
    except BadDataError:
        return None


@settings(deadline=None)
@given(rows=many, seed=st.integers(0, 5), cover=st.booleans())
def test_every_row_gets_a_split_no_split_is_empty_and_nothing_leaks(
    rows: list[Item], seed: int, cover: bool
) -> None:
    splits = try_assign(rows, seed, cover=cover)
    if splits is None:
        keys = {(normalised(row.prompt), row.group) for row in rows}
        assert len({prompt for prompt, _ in keys}) < 3 or any(row.group for row in rows)
        return
    assert len(splits) == len(rows)
    assert set(splits) == set(RATIOS)
    where: dict[tuple[str, str], Split] = {}
    for row, split in zip(rows, splits, strict=True):
        assert where.setdefault(("prompt", normalised(row.prompt)), split) == split
        if row.group is not None:
            assert where.setdefault(("group", row.group), split) == split


@settings(deadline=None)
@given(rows=many, seed=st.integers(0, 5), cover=st.booleans(), order=st.randoms())
def test_the_order_of_the_rows_changes_nothing(
    rows: list[Item], seed: int, cover: bool, order: random.Random
) -> None:
    splits = try_assign(rows, seed, cover=cover)
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    again = try_assign([rows[n] for n in shuffled], seed, cover=cover)
    if splits is None or again is None:
        assert splits is again
        return
    assert again == [splits[n] for n in shuffled]


def test_a_group_that_is_called_as_a_prompt_is_stands_in_no_rows_order() -> None:
    rows = [Item("b"), Item("0"), Item("a", group="0"), Item("c"), Item("d")]
    splits = assign(keys_of(rows, 0), RATIOS, 0)
    assert assign(keys_of(rows[::-1], 0), RATIOS, 0) == splits[::-1]


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(30, 400), seed=st.integers(0, 100))
def test_a_random_split_meets_its_ratios_to_the_row(rows: int, seed: int) -> None:
    splits = Counter(assign(keys_of([Item(f"row {n}") for n in range(rows)], seed), RATIOS, seed))
    for split, share in RATIOS.items():
        assert abs(splits[split] - share * rows) <= 1


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(5, 60), min_size=2, max_size=6),
    seed=st.integers(0, 100),
)
def test_a_stratified_split_keeps_every_stratum_in_proportion(counts: list[int], seed: int) -> None:
    rows = [
        Item(f"{label} {n}", stratum=str(label))
        for label, count in enumerate(counts)
        for n in range(count)
    ]
    splits = assign(keys_of(rows, seed), RATIOS, seed)
    found = Counter((row.stratum, split) for row, split in zip(rows, splits, strict=True))
    for label, count in enumerate(counts):
        for split, share in RATIOS.items():
            assert abs(found[str(label), split] - share * count) < 2


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=20), min_size=1, max_size=6),
    seed=st.integers(0, 100),
)
def test_a_label_with_three_groups_is_in_every_split(sizes: list[list[int]], seed: int) -> None:
    rows = [
        Item(f"{label} {group} {n}", stratum=str(label), group=f"{label}/{group}")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for n in range(size)
    ]
    splits = assign(keys_of(rows, seed), RATIOS, seed, cover=True)
    for label in range(len(sizes)):
        mine = {s for row, s in zip(rows, splits, strict=True) if row.stratum == str(label)}
        assert mine == set(RATIOS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_group_splits_come_near_their_ratios(seed: int) -> None:
    chance = random.Random(seed)
    rows = [
        Item(f"{label} {group} {n}", stratum=str(label), group=f"{label}/{group}")
        for label in range(15)
        for group in range(chance.randint(8, 20))
        for n in range(chance.randint(2, 12))
    ]
    splits = Counter(assign(keys_of(rows, seed), RATIOS, seed, cover=True))
    for split, share in RATIOS.items():
        assert abs(splits[split] / len(rows) - share) < 0.05


def test_another_seed_gives_another_split() -> None:
    rows = [Item(f"row {n}") for n in range(100)]
    assert assign(keys_of(rows, 0), RATIOS, 0) != assign(keys_of(rows, 1), RATIOS, 1)


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(BadDataError, match="2 different prompts or groups cannot fill 3 splits"):
        assign(keys_of([Item("a"), Item("A!"), Item("b")], 0), RATIOS, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Turn on the light.", "turn ON  the\tlight"),
        ("don't", "dont"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),
    ],
)
def test_prompts_that_read_the_same_are_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_symbols_carry_meaning() -> None:
    assert normalised("1 + 1") != normalised("1 = 1")
    assert normalised("?!") == "?!"
