"""Results that are kept for the life of a process: as many as fit, those used last."""

from __future__ import annotations

import os

from slmcompile.files.memo import Remembered


def test_what_comes_out_is_a_copy() -> None:
    kept: Remembered[list[int]] = Remembered(most_bytes=1000)
    given = [1, 2]
    kept.put("a", given)
    given.append(3)
    found = kept.get("a")
    assert found == [1, 2]
    found.append(4)
    assert kept.get("a") == [1, 2]
    assert kept.get("b") is None


def test_those_used_last_are_kept_and_no_more_than_fit() -> None:
    kept: Remembered[bytes] = Remembered(most_bytes=5000)
    values = {number: os.urandom(900) for number in range(8)}  # which do not get any smaller
    for number, value in values.items():
        kept.put(number, value)
        kept.get(0)
    assert [number for number in values if kept.get(number) is not None] == [0, 4, 5, 6, 7]
    assert all(kept.get(number) in {None, value} for number, value in values.items())


def test_a_result_that_is_put_again_counts_once_and_one_too_large_is_not_kept() -> None:
    kept: Remembered[bytes] = Remembered(most_bytes=3000)
    for _ in range(10):
        kept.put("a", os.urandom(900))
        kept.put("b", os.urandom(900))
    assert kept.get("a") is not None
    assert kept.get("b") is not None
    kept.put("c", os.urandom(4000))
    assert kept.get("c") is None
    kept.put("d", b"d")
    assert kept.get("d") == b"d"
    kept.clear()
    assert kept.get("d") is None
