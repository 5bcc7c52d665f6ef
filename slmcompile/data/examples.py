"""Rows decoded from their token ids, with what is trained of them, and their tokens counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.shapes.splits import Split


def tokens(splits: Mapping[Split, Sequence[Row]]) -> dict[str, dict[str, int]]:
    """All tokens and trained tokens of each split."""
    return {
        split: {
            "total": sum(len(row.input_ids) for row in rows),
            "trained": sum(label != IGNORED for row in rows for label in row.labels),
        }
        for split, rows in splits.items()
    }


def example(row: Row, tokenizer: Tokenizer) -> dict[str, Any]:
    """One row as segments of decoded text, each trained or not, made from its token ids."""
    segments: list[tuple[bool, list[int]]] = []
    for token, label in zip(row.input_ids, row.labels, strict=True):
        trained = label != IGNORED
        if not segments or segments[-1][0] != trained:
            segments.append((trained, []))
        segments[-1][1].append(token)
    return {
        "id": row.id,
        "tokens": len(row.input_ids),
        "segments": [
            {
                "trained": trained,
                "text": tokenizer.decode(
                    ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
                ),
            }
            for trained, ids in segments
        ],
    }


def examples(rows: Sequence[Row], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Three rows: the shortest, one of median length, the longest."""
    ordered = sorted(rows, key=lambda row: (len(row.input_ids), row.id))
    chosen = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
    return [example(ordered[number], tokenizer) for number in chosen]
