"""Rows that are made when they are asked for are those that were written, checked by column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slmcompile.console.errors import BadDataError
from slmcompile.data import store
from slmcompile.data.store import IGNORED, Row, lengths_of, open_split, read_split, write_split
from slmcompile.training.batches import read_rows


def row(number: int) -> Row:
    prompt = [1 + n % 5 for n in range(number % 4 + 1)]
    answer = [7 + n for n in range(number % 3 + 1)]
    return Row(
        id=3 * number,
        prompt=f"say {number}",
        completion=f"{number}",
        label=str(number % 2),
        prompt_ids=prompt,
        input_ids=[*prompt, *answer],
        labels=[*[IGNORED] * len(prompt), *answer],
        prompt_cuts=[1] if number % 5 == 0 else [],
    )


ROWS = [row(number) for number in range(57)]
MIXED = [
    replace(each, source="ab"[n % 2], counted=n % 3 > 0, document=n % 7 == 0)
    for n, each in enumerate(ROWS)
]


@pytest.fixture(params=[10, 1 << 16], ids=["groups", "one"])
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "GROUP", request.param)
    write_split(tmp_path, "train", ROWS)
    write_split(tmp_path, "test", MIXED)
    return tmp_path


@pytest.mark.parametrize(("split", "rows"), [("train", ROWS), ("test", MIXED)])
def test_each_row_comes_back_in_whatever_way_it_is_asked_for(
    folder: Path, split: str, rows: list[Row]
) -> None:
    found = open_split(folder, split)
    assert list(found) == rows == read_split(folder, split)
    assert [found[n] for n in range(len(found))] == rows
    assert found[-1] == rows[-1]
    assert found[8:23:3] == rows[8:23:3]
    assert lengths_of(found) == lengths_of(rows) == [len(each.input_ids) for each in rows]
    assert list(found.counted()) == [each for each in rows if each.counted]
    assert list(found.asked()) == [each for each in rows if each.asked]
    assert dict(found.by_id()) == {each.id: each for each in rows}
    with pytest.raises(IndexError):
        found[len(rows)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [IGNORED] * 4}, "row 33, column labels: no token is trained"),
        ({"labels": [1, IGNORED, IGNORED, IGNORED]}, "column labels: no token is trained"),
        ({"input_ids": [1, 2, 3, 99]}, "row 33, column input_ids: token 99 is not in"),
        ({"labels": [IGNORED, IGNORED, IGNORED, 50]}, "row 33, column input_ids: token 50 is not"),
        ({"input_ids": [1, -2, 3, 4]}, "row 33, column input_ids: token"),
        ({"input_ids": [1] * 9, "labels": [1] * 9}, "row 33: 9 tokens, the base model has 8"),
        ({"input_ids": [1] * 9}, "row 33: columns input_ids and labels are empty, or not of one"),
        ({"input_ids": [], "labels": []}, "row 33: columns input_ids and labels are empty"),
    ],
)
def test_the_first_row_that_would_spoil_training_is_named(
    tmp_path: Path, change: dict[str, list[int]], told: str
) -> None:
    good = replace(ROWS[11], input_ids=[1, 2, 3, 4], labels=[IGNORED, IGNORED, 3, 4])
    write_split(tmp_path, "train", [*ROWS[:11], good, *ROWS[12:]])
    assert len(read_rows(tmp_path, "train", 20, 8)) == len(ROWS)
    bad = replace(good, **change)
    write_split(tmp_path, "train", [*ROWS[:11], bad, *ROWS[12:30], replace(bad, id=1)])
    with pytest.raises(BadDataError) as error:
        read_rows(tmp_path, "train", 20, 8)
    assert told in error.value.what
