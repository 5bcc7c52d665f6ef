"""Which split each row of several sources goes to: all sources in proportion, and no leak.

Rows that share a prompt, a conversation or a group stay together, whichever sources they are of.
Where a source gives such a row in a split, those that are still to be divided follow it there.
Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slmcompile.data.split import Item, Unit, place, units_of
from slmcompile.shapes.splits import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Placed:
    """A row, and the splits that it may go to: one, where its source gives it there.

    ``item.stratum`` begins with the source, so that each source is divided in proportion.
    """

    item: Item
    allowed: tuple[Split, ...]


def assign_all(rows: Sequence[Placed], shares: Mapping[Split, float], seed: int) -> list[Split]:
    """Chooses a split for every row.

    Args:
        rows: of all sources.
        shares: of validation and test, wanted of each source that does not bring them.
        seed: another seed gives another split.

    Returns:
        One split per row. Rows of one unit are in one split, unless their sources give them in
        several themselves.
    """
    chosen: list[Split] = ["train"] * len(rows)
    free: dict[tuple[Split, ...], list[Unit]] = {}
    for unit in units_of([row.item for row in rows], seed):
        given = {rows[n].allowed[0] for n in unit.rows if len(rows[n].allowed) == 1}
        common = _common(rows, unit)
        if given:
            follow = next(split for split in SPLITS if split in given)
            for n in unit.rows:
                chosen[n] = rows[n].allowed[0] if len(rows[n].allowed) == 1 else follow
        elif len(common) > 1:
            free.setdefault(common, []).append(unit)
    for splits, units in free.items():
        wanted: dict[Split, float] = {s: shares[s] for s in splits if s != "train"}
        ratios: dict[Split, float] = {"train": 1.0 - sum(wanted.values()), **wanted}
        if len(units) < len(ratios):
            continue  # who needs rows in every split says so
        for unit, split in zip(units, place(units, ratios, cover=True), strict=True):
            for n in unit.rows:
                chosen[n] = split
    return chosen


def _common(rows: Sequence[Placed], unit: Unit) -> tuple[Split, ...]:
    """Splits that every row of a unit may go to; train is one of all that are not given."""
    allowed = [set(rows[n].allowed) for n in unit.rows]
    return tuple(split for split in SPLITS if all(split in each for each in allowed))
