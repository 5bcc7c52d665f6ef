"""Over any sources: no row in two splits, and counts and shares as stated."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import BadDataError
from slmcompile.data.mixture import digest, replay_share, taken, wanted_rows
from slmcompile.data.row_keys import Item, keys_of
from slmcompile.data.split_sources import Allowed, assign_all
from slmcompile.recipe.data_parts import Part
from slmcompile.shapes.splits import Split
from slmcompile.sources.of_data.file import FileData
from slmcompile.templates.text import TextTemplate

SHARES: dict[Split, float] = {"validation": 0.1, "test": 0.2}
FREE: tuple[Split, ...] = ("train", "validation", "test")


def part(name: str, **more: object) -> Part:
    return Part(
        source=FileData(type="file", path=f"{name}.jsonl"),
        columns={},
        steps=(),
        template=TextTemplate(type="text", prompt="{a}", completion="{b}"),
        at=f"data.sources.{name}",
        name=name,
        **more,  # type: ignore[arg-type]
    )


def some_of(name: str, numbers: range, wanted: int, seed: int) -> list[int]:
    """Which of the rows of a source are taken, by id."""
    digests = [(digest(seed, name, f"{name} {n}", "x"), n) for n in numbers]
    return [numbers[at] for at in taken(digests, wanted)]


def assigned(
    placed: list[tuple[Item, Allowed]], seed: int, shares: dict[Split, float] = SHARES
) -> list[Split]:
    keys = keys_of([item for item, _ in placed], seed)
    return assign_all(keys, [allowed for _, allowed in placed], shares, seed)


_ALLOWED = st.sampled_from([FREE, ("train", "test"), ("train",), ("validation",), ("test",)])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), _ALLOWED), min_size=1, max_size=120),
    st.integers(0, 5),
)
def test_rows_with_one_prompt_are_in_one_split_unless_their_sources_say_so(
    drawn: list[tuple[int, int, tuple[Split, ...]]], seed: int
) -> None:
    placed = [
        (Item(f"Prompt, {prompt}!", stratum=f"{source}\0"), allowed)
        for source, prompt, allowed in drawn
    ]
    chosen = assigned(placed, seed)
    assert len(chosen) == len(placed)
    by_prompt: dict[str, list[int]] = {}
    for number, (item, _) in enumerate(placed):
        by_prompt.setdefault(item.prompt, []).append(number)
    for same in by_prompt.values():
        given = {placed[n][1][0] for n in same if len(placed[n][1]) == 1}
        assert {chosen[n] for n in same} <= given or (
            not given and len({chosen[n] for n in same}) == 1
        )
        for n in same:
            if len(placed[n][1]) == 1:
                assert chosen[n] == placed[n][1][0]
            elif not given:
                assert chosen[n] in placed[n][1]
    assert chosen == assigned(placed, seed)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(10, 60), min_size=1, max_size=4), st.integers(0, 5))
def test_every_source_is_divided_in_proportion_to_a_row(sizes: list[int], seed: int) -> None:
    placed = [
        (Item(f"{source} {n}", stratum=f"{source}\0"), FREE)
        for source, size in enumerate(sizes)
        for n in range(size)
    ]
    chosen = assigned(placed, seed)
    found = Counter((item.stratum, split) for (item, _), split in zip(placed, chosen, strict=True))
    for source, size in enumerate(sizes):
        for split, share in SHARES.items():
            assert abs(found[f"{source}\0", split] - share * size) <= 1


_WEIGHTED = st.lists(
    st.tuples(st.integers(1, 400), st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0]), st.booleans()),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=300)
@given(_WEIGHTED)
def test_weights_are_kept_to_a_row_and_nothing_is_repeated_unasked(
    drawn: list[tuple[int, float, bool]],
) -> None:
    parts = [
        part(str(n), weight=weight, repeat=repeat) for n, (_, weight, repeat) in enumerate(drawn)
    ]
    sizes = {str(n): size for n, (size, _, _) in enumerate(drawn)}
    try:
        found = wanted_rows(parts, sizes)
    except BadDataError as error:
        told = error.what
        found = {}
    if not found:
        assert ".weight: no training row of " in told or "times in an epoch" in told
        return
    # To a row: every source has the same number of rows for one of its weight.
    for one in parts:
        for other in parts:
            assert one.weight
            assert other.weight
            exact = Fraction(found[other.name]) / Fraction(other.weight) * Fraction(one.weight)
            assert abs(found[one.name] - exact) <= 1 + Fraction(one.weight) / Fraction(other.weight)
    whole = [each for each in parts if found[each.name] >= sizes[each.name]]
    assert whole, "some source gives all its rows"
    for each in parts:
        assert each.repeat or found[each.name] <= sizes[each.name]
        own = some_of(each.name, range(sizes[each.name]), found[each.name], 3)
        seen = Counter(own)
        assert len(own) == found[each.name]
        assert max(seen.values()) - min(seen.values(), default=0) <= 1
        assert own == sorted(own)


@pytest.mark.parametrize(
    ("weights", "size", "expected"), [((0.1, 0.3), 100, 300), ((0.9, 0.3), 3, 1)]
)
def test_weights_are_what_is_written(
    weights: tuple[float, float], size: int, expected: int
) -> None:
    parts = [part("scarce", weight=weights[0]), part("other", weight=weights[1])]
    assert wanted_rows(parts, {"scarce": size, "other": 1000})["other"] == expected


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 500), st.integers(1, 500), st.floats(0.01, 0.9), st.booleans()
)  # fmt: skip
def test_replay_is_its_share_of_all_rows_or_the_recipe_is_told_what_can_be(
    task: int, size: int, share: float, repeat: bool
) -> None:
    parts = [part("task"), part("general", replay=share, repeat=repeat)]
    sizes = {"task": task, "general": size}
    found, mend = {}, ""
    try:
        found = wanted_rows(parts, sizes)
    except BadDataError as error:
        mend = error.mend
    if mend.startswith("lower its replay"):
        assert repeat
        assert task * share / (1 - share) > 100 * size - 1
        return
    if mend:
        assert not repeat
        most = float(mend.split()[3])
        assert most < share
        if most > 0:
            assert wanted_rows([parts[0], part("general", replay=most)], sizes)["general"] <= size
        return
    assert found["task"] == task
    assert abs(found["general"] - share * (task + found["general"])) <= 1
    assert float(replay_share(parts)["general"]) == pytest.approx(share / (1 - share))


@pytest.mark.parametrize(
    "more", [{"weight": 1e6, "repeat": True}, {"replay": 0.999, "repeat": True}]
)
def test_rows_are_not_repeated_without_end(more: dict[str, object]) -> None:
    other = part("task", weight=1e-300) if "weight" in more else part("task")
    with pytest.raises(BadDataError, match="would stand more than 100 times in an epoch"):
        wanted_rows([other, part("few", **more)], {"task": 40, "few": 3})


def test_more_of_a_source_only_adds_rows_and_another_seed_takes_others() -> None:
    every = range(50)
    ten = set(some_of("a", every, 10, 0))
    assert ten < set(some_of("a", every, 20, 0))
    assert ten != set(some_of("a", every, 10, 1))
    assert ten == set(some_of("a", every[::-1], 10, 0))
    assert Counter(some_of("a", every, 110, 0)).most_common(1)[0][1] == 3
