"""Which row goes to train, validation and test: pure, seeded, and without leaks.

Rows that share a normalised prompt (and, for group splits, a group) form one unit and stay
together. Units are ordered by a hash of seed and key, so that the same rows give the same split in
whatever order they come, and a changed seed gives another. Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slmcompile.console.errors import BadDataError
from slmcompile.data.row_keys import Digests, Keys, alike, digests, order_of
from slmcompile.shapes.splits import Split

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """Rows that stay together, in the order of their stratum's hash and of their own.

    Attributes:
        rows: numbers of the rows, unit by unit.
        sizes: rows of each unit.
        strata: code of each unit's stratum: that of most of its rows.
        names: the strata by code.
        orders: each unit's place among the others of its stratum, another with another seed.
    """

    rows: Numbers
    sizes: Numbers
    strata: Numbers
    names: Sequence[str]
    orders: Digests

    def __len__(self) -> int:
        return len(self.sizes)

    def each(self) -> list[list[int]]:
        """The rows of every unit."""
        ends = np.cumsum(self.sizes)[:-1]
        return [part.tolist() for part in np.split(self.rows, ends)]

    def chosen(self, numbers: Sequence[int]) -> Units:
        """Some of the units, without their rows."""
        which = np.asarray(numbers, dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        return Units(none, self.sizes[which], self.strata[which], self.names, self.orders[which])


def assign(
    keys: Keys, ratios: Mapping[Split, float], seed: int, *, cover: bool = False
) -> list[Split]:
    """Chooses a split for every row.

    Args:
        keys: what the rows are called, of ``row_keys``.
        ratios: share of the rows wanted in each split; they sum to 1.
        seed: another seed gives another split.
        cover: every stratum with at least as many units as there are splits gets a unit in each
            (group splits, where proportion alone would leave labels out).

    Returns:
        One split per row.

    Raises:
        BadDataError: there are too few units for every split to get one.
    """
    units = units_of(keys, seed)
    if len(units) < len(ratios):
        raise BadDataError(
            f"data.split: {len(units)} different prompts or groups cannot fill {len(ratios)}"
            " splits",
            "add rows, or group by a column with more values",
        )
    result: list[Split] = [next(iter(ratios))] * len(keys)
    rows = iter(units.rows.tolist())
    for size, split in zip(units.sizes.tolist(), place(units, ratios, cover=cover), strict=True):
        for _ in range(size):
            result[next(rows)] = split
    return result


def place(units: Units, ratios: Mapping[Split, float], *, cover: bool) -> list[Split]:
    """A split for every unit, of which there are as many as splits; arguments as of ``assign``."""
    sizes, strata = units.sizes.tolist(), units.strata.tolist()
    chosen: list[Split | None] = [None] * len(units)
    rest = _cover(sizes, strata, ratios, chosen) if cover else range(len(units))
    _spread(rest, sizes, ratios, chosen)
    _fill_empty(units, sizes, ratios, chosen)
    return [split for split in chosen if split is not None]


def smallest_stratum(keys: Keys) -> tuple[str, int]:
    """The stratum with the fewest units, and how many those are."""
    grouped = _Grouped.of(keys)
    counts = Counter(keys.names[code] for code in _dominant(keys, grouped).tolist())
    return min(counts.items(), key=lambda each: (each[1], each[0]))


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Units as they come: numbers of rows unit by unit, where each begins, and its rows."""

    rows: Numbers
    starts: Numbers
    sizes: Numbers

    @classmethod
    def of(cls, keys: Keys) -> _Grouped:
        unit = _joined(keys)
        sizes = np.bincount(unit)
        return cls(np.argsort(unit, kind="stable"), np.cumsum(sizes) - sizes, sizes)

    def own(self, unit: int) -> list[int]:
        """The rows of a unit."""
        start = int(self.starts[unit])
        found: list[int] = self.rows[start : start + int(self.sizes[unit])].tolist()
        return found

    def mixed(self, values: npt.NDArray[Any]) -> list[int]:
        """Units whose rows do not all have the same value."""
        if not len(self.rows):
            return []
        ordered = values[self.rows]
        differs = ordered != np.repeat(ordered[self.starts], self.sizes, axis=0)
        if differs.ndim > 1:
            differs = differs.any(axis=1)
        found: list[int] = np.flatnonzero(np.logical_or.reduceat(differs, self.starts)).tolist()
        return found


def units_of(keys: Keys, seed: int) -> Units:
    """Rows joined by normalised prompt, by group and by conversation, ordered by stratum and hash.

    ``seed`` is that of ``keys``.
    """
    grouped = _Grouped.of(keys)
    rows, starts, sizes = grouped.rows, grouped.starts, grouped.sizes
    strata, orders = _dominant(keys, grouped), _orders(keys, grouped, seed)
    hashes = [order_of(seed, name) for name in keys.names]
    ranks = np.zeros(len(hashes), dtype=np.int64)
    ranks[sorted(range(len(hashes)), key=hashes.__getitem__)] = np.arange(len(hashes))
    order = np.lexsort((*orders.T[::-1], ranks[strata]))
    _apart(keys, grouped, order, np.column_stack([ranks[strata].astype(np.uint64), orders]))
    sizes, starts = sizes[order], starts[order]
    moved = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    return Units(
        rows[moved + np.arange(len(rows))], sizes, strata[order], keys.names, orders[order]
    )


def _apart(keys: Keys, grouped: _Grouped, order: Numbers, places: npt.NDArray[Any]) -> None:
    """Puts units of one place into the order of their prompts, of which no two have one in common.

    A group may be called as another unit's prompt is.
    """
    same = np.flatnonzero((places[order[1:]] == places[order[:-1]]).all(axis=1))
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else ():
        first, end = int(run[0]), int(run[-1]) + 2
        order[first:end] = sorted(
            order[first:end].tolist(), key=lambda unit: min(map(keys.prompt, grouped.own(unit)))
        )


def _joined(keys: Keys) -> Numbers:
    """The unit of each row, numbered as they come."""
    found = alike(keys.prompts)
    joins = [codes for codes in (keys.groups, keys.together) if (codes >= 0).any()]
    if joins:
        parent = list(range(int(found.max()) + 1))
        for codes in joins:
            _join(parent, found, codes)
        found = np.array([_root(parent, code) for code in range(len(parent))])[found]
    _, first, number = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]


def _join(parent: list[int], prompts: Numbers, codes: Numbers) -> None:
    """Joins the prompts of rows that have a code in common."""
    some = np.flatnonzero(codes >= 0)
    pairs = np.unique(np.stack([codes[some], prompts[some]], axis=1), axis=0)
    first: dict[int, int] = {}
    for code, prompt in pairs.tolist():
        parent[_root(parent, prompt)] = _root(parent, first.setdefault(code, prompt))


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _dominant(keys: Keys, grouped: _Grouped) -> Numbers:
    found = keys.strata[grouped.rows[grouped.starts]]
    for unit in grouped.mixed(keys.strata):
        counts = Counter(keys.strata[grouped.own(unit)].tolist())
        found[unit] = min(counts, key=lambda code: (-counts[code], keys.names[code]))
    return found


def _orders(keys: Keys, grouped: _Grouped, seed: int) -> Digests:
    """The hash of each unit's key, which is the first in the alphabet of those of its rows."""
    found = keys.orders[grouped.rows[grouped.starts]]
    for unit in grouped.mixed(keys.orders):
        key = min(map(keys.key, grouped.own(unit)))
        found[unit] = digests([order_of(seed, key)], 32)[0]
    return found


def _cover(
    sizes: Sequence[int],
    strata: Sequence[int],
    ratios: Mapping[Split, float],
    chosen: list[Split | None],
) -> list[int]:
    """Spreads strata with enough units one by one; returns the units of the others.

    Each split, the smallest first, takes the unit whose size is nearest to what it wants of the
    stratum; what is left goes where most rows are missing.
    """
    by_stratum: dict[int, list[int]] = {}
    for number, stratum in enumerate(strata):
        by_stratum.setdefault(stratum, []).append(number)
    rare: list[int] = []
    for numbers in by_stratum.values():
        if len(numbers) < len(ratios):
            rare += numbers
            continue
        left = {number: sizes[number] for number in numbers}
        missing = {split: share * sum(left.values()) for split, share in ratios.items()}
        for split in sorted(ratios, key=lambda split: ratios[split])[:-1]:
            best = min(left, key=lambda number: abs(missing[split] - left[number]))
            chosen[best] = split
            missing[split] -= left.pop(best)
        for number, size in left.items():
            split = max(missing, key=lambda split: missing[split])
            chosen[number] = split
            missing[split] -= size
    return rare


def _spread(
    numbers: Sequence[int],
    sizes: Sequence[int],
    ratios: Mapping[Split, float],
    chosen: list[Split | None],
) -> None:
    """Gives each unit to the split that is furthest behind its share of the rows so far.

    Units of one stratum follow each other, so every stratum is spread in proportion as well, to
    within a unit (systematic sampling; Cochran 1977, chapter 8).
    """
    have = dict.fromkeys(ratios, 0)
    for number, taken in enumerate(chosen):
        if taken is not None:
            have[taken] += sizes[number]
    seen = sum(have.values())
    for number in numbers:
        size = sizes[number]
        seen += size
        split = max(ratios, key=lambda split: ratios[split] * seen - have[split])
        chosen[number] = split
        have[split] += size


def _fill_empty(
    units: Units,
    sizes: Sequence[int],
    ratios: Mapping[Split, float],
    chosen: list[Split | None],
) -> None:
    """Moves the smallest unit of the split with most units into a split that got none."""
    for split in ratios:
        counts = Counter(chosen)
        if counts[split]:
            continue
        richest = max(ratios, key=lambda other: counts[other])
        candidates = [number for number, where in enumerate(chosen) if where == richest]
        smallest = min(
            candidates, key=lambda number: (sizes[number], units.orders[number].tolist())
        )
        chosen[smallest] = split
