"""How many training rows of each source are taken, and which: shares by weight and for replay.

Weights say shares of the training rows: with the weights 3 and 1, three rows of A stand for one of
B. The mixture is the largest in which every source has its share and no row stands twice. So the
source that is scarcest for its weight gives all its rows, the others a seeded sample (of 1,000 rows
in each: 1,000 of A, 333 of B). That is what ``datasets.interleave_datasets`` draws by chance with
``stopping_strategy="first_exhausted"`` (LLaMA-Factory: ``interleave_under``). A source with
``repeat`` sets no such limit: its rows are gone through again as often as its share asks for. If
all may be repeated, no row of any is left out (``all_exhausted``, ``interleave_over``).
Knows nothing of texts or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction

from slmcompile.console.errors import BadDataError
from slmcompile.recipe.data_parts import Part

MOST_PASSES = 100
"""Times that a row may stand in an epoch; more is a slip of the weights, and would fill memory."""


def wanted_rows(parts: Sequence[Part], sizes: Mapping[str, int]) -> dict[str, int]:
    """Training rows of each source.

    Args:
        parts: the sources, weighted all or none but for those of replay.
        sizes: training rows that each has, by name; at least one.

    Raises:
        BadDataError: a source would have none, replay has fewer rows than its share, or rows would
            be repeated more than ``MOST_PASSES`` times (exit 65).
    """
    task = [part for part in parts if part.counted]
    found = _by_weight(task, sizes)
    rows = sum(found.values())
    for part in parts:
        if part.replay is not None:
            found[part.name] = _replayed(part, parts, rows, sizes[part.name])
    for part in parts:
        if found[part.name] > MOST_PASSES * sizes[part.name]:
            key = "weight" if part.replay is None else "replay"
            raise BadDataError(
                f"{part.at}.{key}: every row of {part.name} would stand more than {MOST_PASSES}"
                f" times in an epoch, as it has {sizes[part.name]} to train on",
                f"lower its {key}, or add rows",
            )
    return {part.name: found[part.name] for part in parts}


def _by_weight(parts: Sequence[Part], sizes: Mapping[str, int]) -> dict[str, int]:
    weights = {part.name: _written(part.weight) for part in parts if part.weight is not None}
    if not weights:
        return {part.name: sizes[part.name] for part in parts}
    scale = {name: sizes[name] / weight for name, weight in weights.items()}
    once = [scale[part.name] for part in parts if not part.repeat]
    rows = min(once) if once else max(scale.values())
    found = {name: int(weight * rows) for name, weight in weights.items()}
    for part in parts:
        if not found[part.name]:
            raise BadDataError(
                f"{part.at}.weight: no training row of {part.name} is left beside the weights"
                " of the others",
                "raise its weight, or lower those of larger ones",
            )
    return found


def _replayed(part: Part, parts: Sequence[Part], task: int, size: int) -> int:
    """Rows of a source whose share of all training rows is given."""
    share = _written(part.replay or 0)
    others = sum(_written(each.replay or 0) for each in parts if each is not part)
    wanted = max(1, round(task * share / (1 - share - others)))
    if wanted > size and not part.repeat:
        most = (1 - others) * size / (task + size)
        raise BadDataError(
            f"{part.at}.replay: a share of {part.replay:g} beside {task} rows of the task is"
            f" {wanted} rows; {part.name} has {size} to train on",
            f"set it to {int(most * 1000) / 1000:g} at most, add rows, or set repeat: true",
        )
    return wanted


def _written(value: float) -> Fraction:
    """A number as a person wrote it: 0.3 is three tenths, and its nearest float is a little less.

    Of that a row would be missing.
    """
    return Fraction(repr(value))


def replay_share(parts: Sequence[Part]) -> Mapping[str, Fraction]:
    """Of each replay source its rows for one row of the task."""
    shares = {part.name: _written(part.replay) for part in parts if part.replay is not None}
    return {name: share / (1 - sum(shares.values())) for name, share in shares.items()}


def taken(digests: Sequence[tuple[bytes, int]], wanted: int) -> list[int]:
    """So many rows by number, in their order: a seeded sample, or every row as often as another.

    Rows are put into one order of which every beginning is a sample, so that more rows only add
    some, and rows of other sources change nothing. Of a row that is taken several times the copies
    follow one another.

    Args:
        digests: of each row ``digest`` and the row's id.
        wanted: how many.
    """
    whole, rest = divmod(wanted, len(digests))
    order = sorted(range(len(digests)), key=digests.__getitem__)
    more = set(order[:rest])
    return [n for n in range(len(digests)) for _ in range(whole + (n in more))]


def digest(seed: int, source: str, prompt: str, completion: str) -> bytes:
    """A row's place in that order."""
    text = f"{seed}\0{source}\0{prompt}\0{completion}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
