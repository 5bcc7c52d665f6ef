"""The same rows for all: as Parquet for slmcompile, as JSON Lines for the others."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.store import Row, write_split

_BEGINNING = 3
"""Ids that are enough to know a row's beginning by (ChatML: ``<|im_start|>user`` and a line)."""


def write_rows(
    folder: Path, base: Path, rows: Sequence[Row], batch: int, order: Sequence[int] | None = None
) -> dict[str, Any]:
    """Writes them into a folder; returns the keys of a ``Job`` that speak of them.

    The others get them in ``order``, if there is one: that in which slmcompile's loop takes them.

    Raises:
        ValueError: the rows do not begin alike, or a beginning stands inside a row.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    write_split(folder, "train", rows)
    write_split(folder, "validation", rows[:batch])  # training needs one; no meter runs then
    lines = []
    for row in rows if order is None else [rows[number] for number in order]:
        completion = f"{row.completion}{tokenizer.decode(row.input_ids[-1:])}"
        texts = {"prompt": row.prompt, "completion": completion, "text": row.prompt + completion}
        lines.append(json.dumps({**texts, "input_ids": row.input_ids, "labels": row.labels}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    begins = rows[0].input_ids[:_BEGINNING]
    found = sum(
        row.input_ids[at : at + len(begins)] == begins
        for row in rows
        for at in range(len(row.input_ids))
    )
    if found != len(rows) or any(row.input_ids[: len(begins)] != begins for row in rows):
        raise ValueError("rows cannot be told apart once joined: they do not begin alike")
    lengths = [len(row.input_ids) for row in rows]
    return {
        "data": str(folder),
        "rows": str(path),
        "begins": begins,
        "mean_length": statistics.fmean(lengths),
    }
