"""Examples into splits, and of several sources into the mixture that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slmcompile.console.errors import BadDataError
from slmcompile.data.mixture import replay_share, taken, wanted_rows
from slmcompile.data.normal_label import normal_text
from slmcompile.data.part_rows import PartRows
from slmcompile.data.report_facts import Stratum
from slmcompile.data.rows import Rendered, as_text
from slmcompile.data.split import Item, assign, smallest_stratum
from slmcompile.data.split_sources import Placed, assign_all
from slmcompile.data.store import Row
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Example:
    """A row to be, its text, the split that its source gives it in, and that source's rows."""

    row: Row
    text: Rendered
    split: Split
    rows: PartRows


@dataclass(frozen=True, slots=True)
class Divided:
    """The rows of each split, and of several sources what the mixture left of them.

    Attributes:
        splits: as they are trained and measured.
        before: rows of each source by split before they were mixed; empty of one source.
    """

    splits: dict[Split, list[Row]]
    before: Mapping[str, Mapping[Split, int]]


def divide(examples: Sequence[Example], config: Data, parts: Sequence[PartRows]) -> Divided:
    """The rows of each split; splits that a source does not give are taken from its train rows.

    Raises:
        BadDataError: a split, or a source's part of one, has no rows; shares that cannot be had.
    """
    if len(parts) == 1 and not parts[0].part.name:
        return Divided(_of_one(examples, config, parts[0]), {})
    return _of_several(examples, config, parts)


def _of_one(examples: Sequence[Example], config: Data, rows: PartRows) -> dict[Split, list[Row]]:
    splits: dict[Split, list[Row]] = {
        split: [each.row for each in examples if each.split == split] for split in SPLITS
    }
    missing = rows.missing
    if missing:
        pool = [each for each in examples if each.split == "train"]
        chosen = assign(
            [_item(each, config) for each in pool],
            _ratios(config, missing),
            config.seed,
            cover=config.split.strategy == "group",
        )
        for split in ("train", *missing):
            splits[split] = [
                each.row for each, place in zip(pool, chosen, strict=True) if place == split
            ]
    for split, found in splits.items():
        if not found:
            raise BadDataError(f"data.split: the {split} split has no rows left", "add rows")
    return splits


def _of_several(examples: Sequence[Example], config: Data, parts: Sequence[PartRows]) -> Divided:
    chosen = assign_all(
        [_placed(each, config) for each in examples],
        {"validation": config.split.validation, "test": config.split.test},
        config.seed,
    )
    found: dict[str, dict[Split, list[Row]]] = {
        rows.part.name: {split: [] for split in SPLITS} for rows in parts
    }
    for each, split in zip(examples, chosen, strict=True):
        found[each.rows.part.name][split].append(each.row)
    for rows in parts:
        for split in SPLITS if rows.part.counted else ("train",):
            if not found[rows.part.name][split]:
                raise BadDataError(
                    f"{rows.part.at}: the {split} split has no rows of {rows.part.name} left",
                    "add rows, or give the source files for each split",
                )
    before = {name: {split: len(rows) for split, rows in of.items()} for name, of in found.items()}
    return Divided(_mixed(found, config, parts), before)


def _mixed(
    found: Mapping[str, Mapping[Split, list[Row]]], config: Data, parts: Sequence[PartRows]
) -> dict[Split, list[Row]]:
    """Training rows by weight and replay; of what is measured all, but of replay its share."""
    every = [rows.part for rows in parts]
    wanted = wanted_rows(every, {name: len(of["train"]) for name, of in found.items()})
    train = [taken(found[name]["train"], rows, config.seed) for name, rows in wanted.items()]
    shares = replay_share(every)
    task = sum(len(found[part.name]["test"]) for part in every if part.counted)
    tested: list[list[Row]] = []
    for part in every:
        rows = found[part.name]["test"]
        if part.name in shares:
            most = min(len(rows), max(1, round(task * shares[part.name])))
            rows = taken(rows, most, config.seed) if rows else []
        tested.append(rows)
    return {
        "train": [row for rows in train for row in rows],
        "validation": [
            row for part in every if part.counted for row in found[part.name]["validation"]
        ],
        "test": [row for rows in tested for row in rows],
    }


def _placed(each: Example, config: Data) -> Placed:
    """The source goes in front of the stratum, so that each is divided in proportion."""
    missing = each.rows.missing
    allowed = ("train", *missing) if each.split == "train" else (each.split,)
    item, name = _item(each, config), each.rows.part.name
    # Rows are numbered by source, so that conversations of two may be called the same.
    together = item.together and f"{name}\0{item.together}"
    item = replace(item, stratum=f"{name}\0{item.stratum}", together=together)
    return Placed(item, allowed)


def smallest(
    examples: Sequence[Example], config: Data, parts: Sequence[PartRows]
) -> Stratum | None:
    """The stratum that a stratified split can spread least; None where nothing is stratified."""
    if config.split.strategy != "stratified":
        return None
    found: list[Stratum] = []
    for rows in parts:
        made = [split for split in SPLITS if split not in rows.read.rows]
        if made and rows.part.counted:
            pool = [each for each in examples if each.split == "train" and each.rows is rows]
            name, prompts = smallest_stratum([_item(each, config) for each in pool])
            found.append(Stratum(name, prompts, 1 + len(made)))
    return min(found, key=lambda each: each.prompts, default=None)


def _ratios(config: Data, missing: Sequence[Split]) -> Mapping[Split, float]:
    shares: dict[Split, float] = {"validation": config.split.validation, "test": config.split.test}
    wanted = {split: share for split, share in shares.items() if split in missing}
    return {"train": 1.0 - sum(wanted.values()), **wanted}


def _item(each: Example, config: Data) -> Item:
    """What of a row says where it goes; the rule's column is the task's, and none of replay."""
    rule, part = config.split, each.rows.part
    prompt, together = each.text.identity, each.text.together
    if rule.strategy == "random" or not part.counted:
        return Item(prompt, together=together)
    if rule.by is None:  # a group split always names its column
        return Item(prompt, each.row.label, together=together)
    value = as_text(each.text.row, rule.by, part.columns)
    if rule.strategy == "group":
        return Item(prompt, each.row.label, value, together)
    return Item(prompt, normal_text(value, config.label_steps), together=together)
