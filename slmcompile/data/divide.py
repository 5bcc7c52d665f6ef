"""Examples into splits, and of several sources into the mixture that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmcompile.console.errors import BadDataError
from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.mixture import replay_share, taken, wanted_rows
from slmcompile.data.part_rows import PartRows
from slmcompile.data.report_facts import Stratum
from slmcompile.data.split import assign, smallest_stratum
from slmcompile.data.split_sources import assign_all
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Divided:
    """The examples of each split, and of several sources what the mixture left of them.

    Attributes:
        splits: by number, as they are trained and measured.
        before: rows of each source by split before they were mixed; empty of one source.
    """

    splits: dict[Split, Numbers]
    before: Mapping[str, Mapping[Split, int]]


def divide(examples: Examples, numbers: Numbers, config: Data) -> Divided:
    """The examples of each split; those that a source does not give are taken from its train rows.

    Args:
        examples: all there are.
        numbers: those of them that are used.
        config: the recipe's ``data`` section.

    Raises:
        BadDataError: a split, or a source's part of one, has no rows; shares that cannot be had.
    """
    (rows, *others) = examples.parts
    if not others and not rows.part.name:
        return Divided(_of_one(examples, numbers, config, rows), {})
    return _of_several(examples, numbers, config)


def _given(examples: Examples, numbers: Numbers, split: Split) -> Numbers:
    found: Numbers = numbers[examples.columns["origin"][numbers] == SPLITS.index(split)]
    return found


def _of_one(
    examples: Examples, numbers: Numbers, config: Data, rows: PartRows
) -> dict[Split, Numbers]:
    splits: dict[Split, Numbers] = {split: _given(examples, numbers, split) for split in SPLITS}
    missing = rows.missing
    if missing:
        pool = splits["train"]
        chosen = np.array(
            assign(
                examples.keys(pool),
                _ratios(config, missing),
                config.seed,
                cover=config.split.strategy == "group",
            )
        )
        for split in ("train", *missing):
            splits[split] = pool[chosen == split]
    for split, found in splits.items():
        if not len(found):
            raise BadDataError(f"data.split: the {split} split has no rows left", "add rows")
    return splits


def _of_several(examples: Examples, numbers: Numbers, config: Data) -> Divided:
    free = [("train", *rows.missing) for rows in examples.parts]
    places = zip(
        examples.columns["part"][numbers].tolist(),
        examples.columns["origin"][numbers].tolist(),
        strict=True,
    )
    chosen = np.array(
        assign_all(
            examples.keys(numbers),
            [free[part] if origin == 0 else (SPLITS[origin],) for part, origin in places],
            {"validation": config.split.validation, "test": config.split.test},
            config.seed,
        )
    )
    found: dict[str, dict[Split, Numbers]] = {
        rows.part.name: {
            split: examples.of_part(numbers[chosen == split], rows) for split in SPLITS
        }
        for rows in examples.parts
    }
    for rows in examples.parts:
        for split in SPLITS if rows.part.counted else ("train",):
            if not len(found[rows.part.name][split]):
                raise BadDataError(
                    f"{rows.part.at}: the {split} split has no rows of {rows.part.name} left",
                    "add rows, or give the source files for each split",
                )
    before = {name: {split: len(rows) for split, rows in of.items()} for name, of in found.items()}
    return Divided(_mixed(found, examples), before)


def _mixed(
    found: Mapping[str, Mapping[Split, Numbers]], examples: Examples
) -> dict[Split, Numbers]:
    """Training rows by weight and replay; of what is measured all, but of replay its share."""
    every = [rows.part for rows in examples.parts]
    wanted = wanted_rows(every, {name: len(of["train"]) for name, of in found.items()})
    train = [_taken(examples, found[name]["train"], rows) for name, rows in wanted.items()]
    shares = replay_share(every)
    task = sum(len(found[part.name]["test"]) for part in every if part.counted)
    tested: list[Numbers] = []
    for part in every:
        rows = found[part.name]["test"]
        if part.name in shares and len(rows):
            most = min(len(rows), max(1, round(task * shares[part.name])))
            rows = _taken(examples, rows, most)
        tested.append(rows)
    measured = [found[part.name]["validation"] for part in every if part.counted]
    return {
        "train": np.concatenate(train),
        "validation": np.concatenate(measured),
        "test": np.concatenate(tested),
    }


def _taken(examples: Examples, numbers: Numbers, wanted: int) -> Numbers:
    if wanted == len(numbers):
        return numbers
    orders = examples.columns["taken"][numbers].astype(">u8")
    digests = [order.tobytes() for order in orders]
    ids = examples.ids[numbers].tolist()
    return numbers[taken(list(zip(digests, ids, strict=True)), wanted)]


def smallest(examples: Examples, numbers: Numbers, config: Data) -> Stratum | None:
    """The stratum that a stratified split can spread least; None where nothing is stratified."""
    if config.split.strategy != "stratified":
        return None
    found: list[Stratum] = []
    for rows in examples.parts:
        made = [split for split in SPLITS if split not in rows.read.rows]
        if made and rows.part.counted:
            pool = examples.of_part(_given(examples, numbers, "train"), rows)
            name, prompts = smallest_stratum(examples.keys(pool))
            name = name.removeprefix(f"{rows.part.name}\0") if rows.part.name else name
            found.append(Stratum(name, prompts, 1 + len(made)))
    return min(found, key=lambda each: each.prompts, default=None)


def _ratios(config: Data, missing: Sequence[Split]) -> Mapping[Split, float]:
    shares: dict[Split, float] = {"validation": config.split.validation, "test": config.split.test}
    wanted = {split: share for split, share in shares.items() if split in missing}
    return {"train": 1.0 - sum(wanted.values()), **wanted}
