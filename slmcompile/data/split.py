"""Which row goes to train, validation and test: pure, seeded, and without leaks.

Rows that share a normalised prompt (and, for group splits, a group) form one unit and stay
together. Units are ordered by a hash of seed and key, so that the same rows give the same split in
whatever order they come, and a changed seed gives another. Knows nothing of tokens or files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from slmcompile.console.errors import BadDataError
from slmcompile.data.normalise import normalised
from slmcompile.shapes.splits import Split


@dataclass(frozen=True, slots=True)
class Item:
    """What the split needs to know of a row.

    Attributes:
        prompt: rendered prompt text; equal normalised prompts stay together.
        stratum: kept in proportion over the splits, or empty.
        group: rows of one group stay together, or None.
        together: rows of one conversation stay together, or None.
    """

    prompt: str
    stratum: str = ""
    group: str | None = None
    together: str | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that stay together, by number.

    Attributes:
        rows: they.
        stratum: kept in proportion over the splits; that of most rows.
        order: its place among the others of the stratum, another with another seed.
    """

    rows: tuple[int, ...]
    stratum: str
    order: str


def assign(
    items: Sequence[Item], ratios: Mapping[Split, float], seed: int, *, cover: bool = False
) -> list[Split]:
    """Chooses a split for every row.

    Args:
        items: the rows.
        ratios: share of the rows wanted in each split; they sum to 1.
        seed: another seed gives another split.
        cover: every stratum with at least as many units as there are splits gets a unit in each
            (group splits, where proportion alone would leave labels out).

    Returns:
        One split per row.

    Raises:
        BadDataError: there are too few units for every split to get one.
    """
    units = units_of(items, seed)
    if len(units) < len(ratios):
        raise BadDataError(
            f"data.split: {len(units)} different prompts or groups cannot fill {len(ratios)}"
            " splits",
            "add rows, or group by a column with more values",
        )
    result: list[Split] = [next(iter(ratios))] * len(items)
    for unit, split in zip(units, place(units, ratios, cover=cover), strict=True):
        for row in unit.rows:
            result[row] = split
    return result


def place(units: Sequence[Unit], ratios: Mapping[Split, float], *, cover: bool) -> list[Split]:
    """A split for every unit, of which there are as many as splits; arguments as of ``assign``."""
    chosen: dict[int, Split] = {}
    rest = _cover(units, ratios, chosen) if cover else list(range(len(units)))
    _spread(rest, units, ratios, chosen)
    _fill_empty(units, ratios, chosen)
    return [chosen[number] for number in range(len(units))]


def smallest_stratum(items: Sequence[Item]) -> tuple[str, int]:
    """The stratum with the fewest units, and how many those are."""
    counts = Counter(unit.stratum for unit in units_of(items, 0))
    return min(counts.items(), key=lambda each: (each[1], each[0]))


def _digest(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\x00{key}".encode()).hexdigest()


def units_of(items: Sequence[Item], seed: int) -> list[Unit]:
    """Rows joined by normalised prompt and by group, ordered by stratum and hash."""
    parent = list(range(len(items)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    keys: list[str] = []
    prompts: list[str] = []
    read = cache(normalised)  # all rows of a long document have the whole of it for a prompt
    for row, item in enumerate(items):
        prompt = read(item.prompt)
        prompts.append(prompt)
        keys.append(prompt if item.group is None else item.group)
        for name, value in (
            ("prompt", prompt),
            ("group", item.group),
            ("together", item.together),
        ):
            if value is not None:
                parent[root(row)] = root(first.setdefault((name, value), row))
    members: dict[int, list[int]] = {}
    for row in range(len(items)):
        members.setdefault(root(row), []).append(row)
    units = [
        Unit(
            tuple(rows),
            _dominant(items[row].stratum for row in rows),
            _digest(seed, min(keys[row] for row in rows)),
        )
        for rows in members.values()
    ]

    def place(unit: Unit) -> tuple[str, str, str]:
        # A group may be called as another unit's prompt is; no two units have a prompt in common.
        return _digest(seed, unit.stratum), unit.order, min(prompts[row] for row in unit.rows)

    return sorted(units, key=place)


def _dominant(strata: Iterable[str]) -> str:
    counts = Counter(strata)
    return min(counts, key=lambda stratum: (-counts[stratum], stratum))


def _cover(
    units: Sequence[Unit], ratios: Mapping[Split, float], chosen: dict[int, Split]
) -> list[int]:
    """Spreads strata with enough units one by one; returns the units of the others.

    Each split, the smallest first, takes the unit whose size is nearest to what it wants of the
    stratum; what is left goes where most rows are missing.
    """
    by_stratum: dict[str, list[int]] = {}
    for number, unit in enumerate(units):
        by_stratum.setdefault(unit.stratum, []).append(number)
    rare: list[int] = []
    for numbers in by_stratum.values():
        if len(numbers) < len(ratios):
            rare += numbers
            continue
        sizes = {number: len(units[number].rows) for number in numbers}
        missing = {split: share * sum(sizes.values()) for split, share in ratios.items()}
        for split in sorted(ratios, key=lambda split: ratios[split])[:-1]:
            best = min(sizes, key=lambda number: abs(missing[split] - sizes[number]))
            chosen[best] = split
            missing[split] -= sizes.pop(best)
        for number, size in sizes.items():
            split = max(missing, key=lambda split: missing[split])
            chosen[number] = split
            missing[split] -= size
    return rare


def _spread(
    numbers: Sequence[int],
    units: Sequence[Unit],
    ratios: Mapping[Split, float],
    chosen: dict[int, Split],
) -> None:
    """Gives each unit to the split that is furthest behind its share of the rows so far.

    Units of one stratum follow each other, so every stratum is spread in proportion as well, to
    within a unit (systematic sampling; Cochran 1977, chapter 8).
    """
    have = dict.fromkeys(ratios, 0)
    for number, split in chosen.items():
        have[split] += len(units[number].rows)
    seen = sum(have.values())
    for number in numbers:
        size = len(units[number].rows)
        seen += size
        split = max(ratios, key=lambda split: ratios[split] * seen - have[split])
        chosen[number] = split
        have[split] += size


def _fill_empty(
    units: Sequence[Unit], ratios: Mapping[Split, float], chosen: dict[int, Split]
) -> None:
    """Moves the smallest unit of the split with most units into a split that got none."""
    for split in ratios:
        counts = Counter(chosen.values())
        if counts[split]:
            continue
        richest = max(ratios, key=lambda other: counts[other])
        candidates = [number for number, where in chosen.items() if where == richest]
        chosen[min(candidates, key=lambda n: (len(units[n].rows), units[n].order))] = split
