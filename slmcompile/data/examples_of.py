"""Every example of all sources: its numbers in memory, its text and its ids in blocks on a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slmcompile.data.block import Block, Column
from slmcompile.data.documents import MOST_PIECES
from slmcompile.data.normalise import normalised
from slmcompile.data.part_rows import PartRows
from slmcompile.data.row_facts import DOCUMENT
from slmcompile.data.row_keys import Codes, Keys
from slmcompile.data.rows import Rendered
from slmcompile.data.spill import Blocks
from slmcompile.data.store import Row, from_batch

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = npt.NDArray[np.int64]


class Gathered:
    """The examples of all sources as their blocks come in."""

    def __init__(self) -> None:
        self.texts = Blocks()
        self.rows = Blocks()
        self.names: dict[str, Codes] = {}
        self.wrong: dict[int, str] = {}
        self._columns: dict[str, list[Column]] = {}
        self._texts: list[tuple[int, int]] = []

    def mark(self) -> int:
        """How many blocks there are."""
        return len(self.texts)

    def back_to(self, blocks: int) -> None:
        """Forgets those that were added last."""
        gone = self.texts.start(blocks)
        self.wrong = {number: told for number, told in self.wrong.items() if number < gone}
        self.texts.cut(blocks)
        self.rows.cut(blocks)
        for columns in self._columns.values():
            del columns[blocks:]
        del self._texts[blocks:]

    def texts_of(self, part: int) -> int:
        """Texts of a source."""
        return sum(count for of, count in self._texts if of == part)

    def add(self, block: Block, part: int, first: int) -> None:
        """Adds a block of a source.

        Args:
            block: it.
            part: number of the source.
            first: number of the block's first row in the source.
        """
        columns = block.columns
        count = len(columns["text"])
        start = self.texts.rows
        self.wrong |= {start + number: told for number, told in block.wrong}
        self.texts.add_packed(block.texts, count)
        self.rows.add_packed(block.rows, count)
        source = block.sources[columns["text"]]
        added: dict[str, Column] = {
            **columns,
            "text": columns["text"] + sum(count for _, count in self._texts),
            "together": np.where(columns["together"] >= 0, columns["together"] + first, -1),
            "origin": block.origin[source],
            "part": np.full(count, part, dtype=np.int16),
        }
        for name, texts in block.names.items():
            added[name] = self.names.setdefault(name, Codes()).of(texts).astype(np.int32)
        for name, column in added.items():
            self._columns.setdefault(name, []).append(column)
        self._texts.append((part, len(block.sources)))

    def columns(self) -> dict[str, Column]:
        """Each column as one; what it was made of is given up on the way."""
        return {name: np.concatenate(self._columns.pop(name)) for name in list(self._columns)}


@dataclass(frozen=True)
class Examples:
    """All examples, by number; repeats and those that are too long among them.

    Attributes:
        parts: the sources.
        gathered: their texts and rows.
        columns: numbers of each, by name.
        ids: number of each example's row, as it is written.
    """

    parts: Sequence[PartRows]
    gathered: Gathered
    columns: Mapping[str, Column]
    ids: Numbers

    @classmethod
    def of(cls, parts: Sequence[PartRows], gathered: Gathered) -> Examples:
        """Gives every example its number: that of its text among all, or of the piece of it."""
        columns = gathered.columns()
        stride = 1 if all(rows.asks for rows in parts) else MOST_PIECES
        ids = columns["text"] * stride + columns["piece"]
        return cls(parts, gathered, columns, ids)

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, number: int) -> Rendered:
        """What an example was made of."""
        block, at = self.gathered.texts.find(number)
        found: Rendered = self.gathered.texts[block][at]
        return found

    def where(self, number: int) -> str:
        """The place of its row."""
        return self.text(number).row.where

    def row(self, number: int) -> Row:
        """It as it is written."""
        block, at = self.gathered.rows.find(number)
        (found,) = from_batch(self.gathered.rows[block].slice(at, 1), [int(self.ids[number])])
        return found

    def batches(self, numbers: Numbers) -> Iterator[pa.RecordBatch]:
        """Examples as they are written, of each number one, block by block.

        Args:
            numbers: they, none before one that stands before it.
        """
        import pyarrow as pa

        rows = self.gathered.rows
        starts = [rows.start(block) for block in range(len(rows) + 1)]
        borders = np.searchsorted(numbers, starts).tolist()
        for block, (begin, end) in enumerate(pairwise(borders)):
            if begin < end:
                own = numbers[begin:end]
                batch = rows[block].take(pa.array(own - starts[block]))
                yield batch.append_column("id", pa.array(self.ids[own], pa.int64()))

    def part(self, number: int) -> PartRows:
        """The source that it is of."""
        return self.parts[int(self.columns["part"][number])]

    def of_part(self, numbers: Numbers, part: PartRows) -> Numbers:
        """Those of the examples that are of a source."""
        found: Numbers = numbers[self.columns["part"][numbers] == self.parts.index(part)]
        return found

    def counted(self, numbers: Numbers) -> Numbers:
        """Those of the examples that are of the task."""
        wanted = np.array([rows.part.counted for rows in self.parts])
        found: Numbers = numbers[wanted[self.columns["part"][numbers]]]
        return found

    def flagged(self, numbers: Numbers, flag: int) -> npt.NDArray[np.bool_]:
        """Which of the examples have a flag of ``row_facts``."""
        found: npt.NDArray[np.bool_] = (self.columns["flags"][numbers] & flag) != 0
        return found

    def name(self, column: str) -> Sequence[str]:
        """What the codes of a column stand for."""
        return self.gathered.names[column].names

    def keys(self, numbers: Numbers) -> Keys:
        """What the split needs to know of examples.

        Several sources count apart: the source goes in front of the stratum, so that each is
        divided in proportion, and conversations of two may be called the same.
        """
        columns = {name: self.columns[name][numbers] for name in ("normal", "order", "part")}
        part = columns["part"].astype(np.int64)
        stratum = self.columns["stratum"][numbers].astype(np.int64)
        names, together = self.name("stratum"), self.columns["together"][numbers]
        if self.parts[0].part.name:
            pairs, stratum = np.unique(
                np.stack([part, stratum], axis=1), axis=0, return_inverse=True
            )
            names = [f"{self.parts[p].part.name}\0{names[code]}" for p, code in pairs.tolist()]
            together = np.where(together >= 0, together * len(self.parts) + part, -1)
        return Keys(
            prompts=columns["normal"],
            orders=columns["order"],
            strata=stratum.reshape(-1),
            names=names,
            groups=self.columns["group"][numbers].astype(np.int64),
            together=together,
            key=lambda number: self._key(int(numbers[number])),
            prompt=lambda number: self._prompt(int(numbers[number])),
        )

    def _key(self, number: int) -> str:
        group = int(self.columns["group"][number])
        if group >= 0:
            return self.name("group")[group]
        return self._prompt(number)

    def _prompt(self, number: int) -> str:
        return normalised(self.text(number).identity)


def unrepeated(examples: Examples) -> npt.NDArray[np.bool_]:
    """Which examples are no repeat of another's prompt and completion in the same split.

    Of texts that several sources have, the first source's of the task is kept. Repeats in different
    given splits are leaks and stay, to be reported.
    """
    columns = examples.columns
    counted = np.array([rows.part.counted for rows in examples.parts])
    first = np.flatnonzero(columns["piece"] == 0)
    # Sources of the task in front, then as they come.
    first = first[np.argsort(~counted[columns["part"][first]], kind="stable")]
    kinds = [columns["origin"][first], examples.flagged(first, DOCUMENT)]
    order = _same([*kinds, *columns["prompt"][first].T, *columns["answer"][first].T])
    kept = np.zeros(int(columns["text"].max(initial=-1)) + 1, dtype=np.bool_)
    kept[columns["text"][first[order]]] = True
    found: npt.NDArray[np.bool_] = kept[columns["text"]]
    return found


def _same(columns: Sequence[Any]) -> Numbers:
    """The first of all that are equal in every column."""
    order = np.lexsort(columns)
    new = np.ones(len(order), dtype=np.bool_)
    if len(order):
        ordered = [column[order] for column in columns]
        new[1:] = np.logical_or.reduce([each[1:] != each[:-1] for each in ordered])
    found: Numbers = order[new]
    return found
