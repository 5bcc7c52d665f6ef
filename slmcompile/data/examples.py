"""Rows decoded from their token ids, with what is trained of them, and their tokens counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.shapes.splits import Split


def tokens(examples: Examples, splits: Mapping[Split, Numbers]) -> dict[str, dict[str, int]]:
    """All tokens and trained tokens of each split."""
    return {
        split: {
            "total": int(examples.columns["tokens"][numbers].sum(dtype=np.int64)),
            "trained": int(examples.columns["trained"][numbers].sum(dtype=np.int64)),
        }
        for split, numbers in splits.items()
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


def shown(examples: Examples, numbers: Numbers, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Three rows: the shortest, one of median length, the longest."""
    order = np.lexsort((examples.ids[numbers], examples.columns["tokens"][numbers]))
    chosen = dict.fromkeys((0, len(order) // 2, len(order) - 1))
    return [example(examples.row(int(numbers[order[n]])), tokenizer) for n in chosen]
