"""Tokenized rows on disk: one Parquet file per split, the contract between data and its consumers.

Columns: ``id`` int64, ``prompt`` string, ``completion`` string, ``label`` string,
``prompt_ids`` list<int32>, ``input_ids`` list<int32>, ``labels`` list<int32>, ``prompt_cuts``
list<int32>. Where some row is not as rows of one source with prompts are, also ``source`` string,
``counted`` bool or ``document`` bool.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import pyarrow as pa

IGNORED = -100
"""Label of a position that is not trained (the convention of torch and transformers)."""

_AT_ONCE = 4096

GROUP = 1 << 16
"""Rows of a row group, so that neither who writes nor who reads has more of a file in memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example.

    Attributes:
        id: row number over all sources, from 0; with documents among them a million times that,
            plus the number of the piece. A row that training sees twice has one id.
        prompt: rendered prompt text.
        completion: reference answer, without the stop token.
        label: the label within the completion (an intent, a class); empty of plain text.
        prompt_ids: token ids of the prompt, as sent to the model in evaluation.
        input_ids: token ids of prompt, completion and stop token.
        labels: as ``input_ids`` where trained (completion and stop token), else ``IGNORED``.
        prompt_cuts: characters of the prompt before which it is cut to be encoded in pieces; empty
            unless a value spells a control token.
        source: name of its source; empty where there is one.
        counted: whether it is of the task, and not there against forgetting.
        document: whether it is plain text that asks nothing, all of it trained.
    """

    id: int
    prompt: str
    completion: str
    label: str
    prompt_ids: list[int]
    input_ids: list[int]
    labels: list[int]
    prompt_cuts: list[int] = field(default_factory=list)
    source: str = ""
    counted: bool = True
    document: bool = False

    @property
    def asked(self) -> bool:
        """Whether an answer to it is generated and judged; of all rows likelihoods are known."""
        return self.counted and not self.document

    @property
    def trained_turns(self) -> int:
        """Runs of trained positions: one an assistant turn."""
        trained = [label != IGNORED for label in self.labels]
        return sum(on and not before for before, on in pairwise([False, *trained]))


def split_file(folder: Path, split: str) -> Path:
    """Path of a split's Parquet file."""
    return folder / f"{split}.parquet"


def write_split(folder: Path, split: str, rows: Iterable[Row]) -> None:
    """Writes one split; equal rows give equal bytes."""
    rows = list(rows)
    write_batches(
        folder,
        split,
        [to_batch(rows).append_column("id", _numbers([row.id for row in rows]))],
        source=any(row.source for row in rows),
        counted=not all(row.counted for row in rows),
        document=any(row.document for row in rows),
    )


def write_batches(
    folder: Path,
    split: str,
    batches: Iterable[pa.RecordBatch],
    *,
    source: bool,
    counted: bool,
    document: bool,
) -> None:
    """Writes one split, given in any portions; equal rows give equal bytes.

    Args:
        folder: where to.
        split: its name.
        batches: its rows, as of ``to_batch`` and with their column ``id``.
        source: whether some row has the name of a source.
        counted: whether some row is not of the task.
        document: whether some row asks nothing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    left_out = {"source": not source, "counted": not counted, "document": not document}
    schema = pa.schema([each for each in schema if not left_out.get(each.name, False)])
    with pq.ParquetWriter(split_file(folder, split), schema, compression="zstd") as writer:
        for table in _groups(batches, schema):
            writer.write_table(table)


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in portions of ``GROUP``, each in one piece: a page ends where a piece does."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        rest = batch.select(schema.names)
        while count + len(rest) >= GROUP:
            waiting.append(rest.slice(0, GROUP - count))
            yield pa.Table.from_batches(waiting, schema).combine_chunks()
            rest, waiting, count = rest.slice(GROUP - count), [], 0
        if len(rest):
            waiting.append(rest)
            count += len(rest)
    if waiting:
        yield pa.Table.from_batches(waiting, schema).combine_chunks()


def _schema() -> pa.Schema:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema(
        [
            ("id", pa.int64()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("label", pa.string()),
            ("prompt_ids", ids),
            ("input_ids", ids),
            ("labels", ids),
            ("prompt_cuts", ids),
            ("source", pa.string()),
            ("counted", pa.bool_()),
            ("document", pa.bool_()),
        ]
    )


def _numbers(ids: Sequence[int]) -> pa.Array:
    import pyarrow as pa

    return pa.array(ids, pa.int64())


def to_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows without their ids, with every other column."""
    import pyarrow as pa

    fields = [each for each in _schema() if each.name != "id"]
    arrays = [pa.array([getattr(row, each.name) for row in rows], each.type) for each in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def from_batch(batch: pa.RecordBatch, ids: Sequence[int]) -> list[Row]:
    """The rows of a batch of ``to_batch``, which are called so."""
    return [Row(id=number, **row) for number, row in zip(ids, batch.to_pylist(), strict=True)]


class StoredRows(Sequence[Row]):
    """A split in the columns that it is written in; a row is made when it is asked for.

    A row of fifty tokens takes a kilobyte, and seven as an object with lists of numbers.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self.batches = batches
        self._starts = [0, *accumulate(map(len, batches))]

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches:
            for start in range(0, len(batch), _AT_ONCE):
                yield from _rows_of(batch.slice(start, _AT_ONCE))

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise IndexError(place)
        batch = bisect_right(self._starts, number) - 1
        (row,) = _rows_of(self.batches[batch].slice(number - self._starts[batch], 1))
        return row

    def counted(self) -> StoredRows:
        """Those that are of the task."""
        return _with(self, "counted", wanted=True)

    def asked(self) -> StoredRows:
        """Those of them that an answer is generated to."""
        return _with(self.counted(), "document", wanted=False)

    def by_id(self) -> Mapping[int, Row]:
        """They by id; of those with one id the last."""
        return _ById(self)

    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [
            length
            for batch in self.batches
            for length in batch.column("input_ids").value_lengths().to_pylist()
        ]


def _with(rows: StoredRows, column: str, *, wanted: bool) -> StoredRows:
    """Rows of which a column says so; without the column it says so of all."""
    import pyarrow.compute as pc

    if not any(column in batch.schema.names for batch in rows.batches):
        return rows
    masks = [batch.column(column) for batch in rows.batches]
    masks = masks if wanted else [pc.invert(mask) for mask in masks]
    return StoredRows([batch.filter(mask) for batch, mask in zip(rows.batches, masks, strict=True)])


class _ById(Mapping[int, Row]):
    def __init__(self, rows: StoredRows) -> None:
        self._rows = rows
        ids = [number for batch in rows.batches for number in batch.column("id").to_pylist()]
        self._places = {number: place for place, number in enumerate(ids)}

    def __getitem__(self, number: int) -> Row:
        return self._rows[self._places[number]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _rows_of(batch: pa.RecordBatch) -> list[Row]:
    names = batch.schema.names
    columns = [column.to_pylist() for column in batch.columns]
    return [Row(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def lengths_of(rows: Sequence[Row]) -> list[int]:
    """Tokens of each row."""
    if isinstance(rows, StoredRows):
        return rows.lengths()
    return [len(row.input_ids) for row in rows]


def open_split(folder: Path, split: str) -> StoredRows:
    """One split in the order in which it was written, in little memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: list[pa.RecordBatch] = []
    with pq.ParquetFile(split_file(folder, split)) as stored:
        for group in range(stored.num_row_groups):
            found += stored.read_row_group(group, use_threads=False).to_batches()
    pa.default_memory_pool().release_unused()  # what was unpacked is kept as long otherwise
    return StoredRows(found)


def read_split(folder: Path, split: str) -> list[Row]:
    """One split in the order in which it was written, all of it as rows."""
    return list(open_split(folder, split))
