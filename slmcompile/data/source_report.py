"""What the data report says of each of several sources, and of how they were mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slmcompile.data.divide import Divided
from slmcompile.data.examples import shown, tokens
from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.row_facts import DOCUMENT
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.shapes.splits import SPLITS


def source_reports(
    divided: Divided, examples: Examples, repeats: Sequence[int], tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """One object a source, in the recipe's order; none where there is one source.

    ``divided`` are its rows by split before sources were mixed, ``counts`` those that are trained
    and measured, of which ``different`` training rows; ``share`` and ``token_share`` are of all
    training rows and of all trained tokens.

    Args:
        divided: the examples of all splits.
        examples: all there are.
        repeats: of each source the number of its texts that are repeats.
        tokenizer: the base model's, to show examples.
    """
    if not divided.before:
        return []
    all_tokens = tokens(examples, divided.splits)["train"]["trained"]
    found = []
    for rows, repeated in zip(examples.parts, repeats, strict=True):
        part = rows.part
        own = {split: examples.of_part(divided.splits[split], rows) for split in SPLITS}
        of_tokens = tokens(examples, own)
        found.append(
            {
                "name": part.name,
                "template": part.template.type,
                "weight": part.weight,
                "replay": part.replay,
                "repeat": part.repeat,
                "files": [file.path for file in rows.read.files],
                "read": rows.texts,
                "duplicates": repeated,
                "divided": dict(divided.before[part.name]),
                "counts": {split: len(of_split) for split, of_split in own.items()},
                "different": len(np.unique(own["train"])),
                "share": round(len(own["train"]) / len(divided.splits["train"]), 6),
                "tokens": of_tokens,
                "token_share": round(of_tokens["train"]["trained"] / all_tokens, 6),
                "stop": {"id": rows.rendering.stop.id, "text": rows.rendering.stop.text},
                "examples": shown(examples, own["train"], tokenizer),
            }
        )
    return found


def document_counts(examples: Examples, numbers: Numbers) -> dict[str, int]:
    """Documents, those that became several rows, and how many rows those are; empty of none."""
    documents = numbers[examples.flagged(numbers, DOCUMENT)]
    if not len(documents):
        return {}
    _, pieces = np.unique(examples.columns["text"][documents], return_counts=True)
    long = pieces[pieces > 1]
    return {"count": len(pieces), "cut": len(long), "pieces": int(long.sum())}


def document_notes(documents: Mapping[str, int], max_length: int) -> list[str]:
    """A sentence on documents that were cut."""
    if not documents.get("cut"):
        return []
    return [
        f"{documents['cut']} of {documents['count']} documents are longer than {max_length} tokens"
        f" and became {documents['pieces']} rows, which train each of their tokens once"
    ]


def mixture_notes(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each source on what of it is trained."""
    lines = []
    for each in sources:
        trained, there, different = (
            each["counts"]["train"],
            each["divided"]["train"],
            each["different"],
        )
        of = f"all {there}" if different == there else f"{different} of {there}"
        again = f", {trained - different} of them again" if trained > different else ""
        replay = " against forgetting" if each["replay"] is not None else ""
        lines.append(
            f"{each['name']}: {of} training rows{again}, {each['share']:.1%} of the rows and"
            f" {each['token_share']:.1%} of the trained tokens{replay}"
        )
    return lines
