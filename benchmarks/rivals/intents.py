"""Seven intents of voice-intents: a small task that a model of 135 million parameters learns.

The rows of the seven commonest intents in training, with the intent's name as the whole answer.
They are split as the recipe splits them: sentences of held-out rows come from templates that were
never trained on.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from slmcompile.data.store import IGNORED, Row, read_split

INTENTS = 7


def intents(base: Path, data: Path, count: int, held_out: int) -> tuple[list[Row], list[Row]]:
    """Rows to train, and held-out rows, drawn once and for all.

    Args:
        base: folder with the tokenizer.
        data: train.parquet, validation.parquet and test.parquet, each row with its intent.
        count: of the rows to train.
        held_out: of the others at most, from validation and test.

    Raises:
        ValueError: there are fewer rows to train.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    splits = {name: read_split(data, name) for name in ("train", "validation", "test")}
    found = Counter(row.label for row in splits["train"])
    seven = sorted(found, key=lambda label: (-found[label], label))[:INTENTS]

    def named(row: Row) -> Row:
        answer = [*tokenizer.encode(row.label, add_special_tokens=False), row.input_ids[-1]]
        ids, untrained = [*row.prompt_ids, *answer], [IGNORED] * len(row.prompt_ids)
        return replace(row, completion=row.label, input_ids=ids, labels=[*untrained, *answer])

    train = [named(row) for row in splits["train"] if row.label in seven]
    others = [
        named(row) for name in ("validation", "test") for row in splits[name] if row.label in seven
    ]
    if len(train) < count:
        raise ValueError(f"{data}: {len(train)} rows of {INTENTS} intents, not {count}")
    draw = random.Random(0)
    return draw.sample(train, count), draw.sample(others, min(held_out, len(others)))
