"""Which split each row of several sources goes to: all sources in proportion, and no leak.

Rows that share a prompt, a conversation or a group stay together, whichever sources they are of.
Where a source gives such a row in a split, those that are still to be divided follow it there.
Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slmcompile.data.row_keys import Keys
from slmcompile.data.split import place, units_of
from slmcompile.shapes.splits import SPLITS, Split

Allowed = tuple[Split, ...]
"""The splits that a row may go to: one, where its source gives it there."""


def assign_all(
    keys: Keys, allowed: Sequence[Allowed], shares: Mapping[Split, float], seed: int
) -> list[Split]:
    """Chooses a split for every row.

    Args:
        keys: of the rows of all sources; a stratum begins with the source, so that each source is
            divided in proportion.
        allowed: the splits that each row may go to.
        shares: of validation and test, wanted of each source that does not bring them.
        seed: another seed gives another split.

    Returns:
        One split per row. Rows of one unit are in one split, unless their sources give them in
        several themselves.
    """
    chosen: list[Split] = ["train"] * len(keys)
    free: dict[Allowed, list[int]] = {}
    units = units_of(keys, seed)
    each = units.each()
    for number, rows in enumerate(each):
        given = {allowed[n][0] for n in rows if len(allowed[n]) == 1}
        common = _common({allowed[n] for n in rows})
        if given:
            follow = next(split for split in SPLITS if split in given)
            for n in rows:
                chosen[n] = allowed[n][0] if len(allowed[n]) == 1 else follow
        elif len(common) > 1:
            free.setdefault(common, []).append(number)
    for splits, numbers in free.items():
        wanted: dict[Split, float] = {s: shares[s] for s in splits if s != "train"}
        ratios: dict[Split, float] = {"train": 1.0 - sum(wanted.values()), **wanted}
        if len(numbers) < len(ratios):
            continue  # who needs rows in every split says so
        placed = place(units.chosen(numbers), ratios, cover=True)
        for number, split in zip(numbers, placed, strict=True):
            for n in each[number]:
                chosen[n] = split
    return chosen


def _common(allowed: set[Allowed]) -> Allowed:
    """Splits that every row of a unit may go to; train is one of all that are not given."""
    return tuple(split for split in SPLITS if all(split in each for each in allowed))
