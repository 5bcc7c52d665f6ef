"""Tokenized rows on disk: one Parquet file per split, the contract between data and its consumers.

Columns: ``id`` int64, ``prompt`` string, ``completion`` string, ``label`` string,
``prompt_ids`` list<int32>, ``input_ids`` list<int32>, ``labels`` list<int32>, ``prompt_cuts``
list<int32>. Where some row is not as rows of one source with prompts are, also ``source`` string,
``counted`` bool or ``document`` bool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

IGNORED = -100
"""Label of a position that is not trained (the convention of torch and transformers)."""


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.list_(pa.int32())
    rows = list(rows)
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("label", pa.string()),
            ("prompt_ids", ids),
            ("input_ids", ids),
            ("labels", ids),
            ("prompt_cuts", ids),
            *([("source", pa.string())] if any(row.source for row in rows) else []),
            *([("counted", pa.bool_())] if not all(row.counted for row in rows) else []),
            *([("document", pa.bool_())] if any(row.document for row in rows) else []),
        ]
    )
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), split_file(folder, split), compression="zstd")


def read_split(folder: Path, split: str) -> list[Row]:
    """Reads one split in the order in which it was written."""
    import pyarrow.parquet as pq

    columns = pq.read_table(split_file(folder, split), use_threads=False).to_pydict()
    names = list(columns)
    return [
        Row(**dict(zip(names, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]
