"""The data report: what a person wants to know of a data set before paying for a training run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from slmcompile.console.printable import shortened
from slmcompile.data.duplicates import Contradictions
from slmcompile.data.examples import shown, tokens
from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.heads import joined
from slmcompile.data.part_rows import PartRows
from slmcompile.data.report_facts import LABELS_COUNTED, RowFacts
from slmcompile.data.rows import ConversationFacts
from slmcompile.data.source_report import document_notes, mixture_notes
from slmcompile.data.steps import Done
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.shapes.splits import Split

FORMAT_VERSION = "1.1"

LISTED = 20
"""Rows, prompts, answers or labels listed by name; the counts are always complete."""

_TEXT = 2000
"""Characters of a text listed by name."""

_BINS = 20
_WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0")
_PERCENTILES = (50, 90, 95, 99)


def lengths(values: Sequence[int] | npt.NDArray[Any]) -> dict[str, Any]:
    """Mean, maximum, percentiles (nearest rank) and a histogram of lengths in tokens.

    The histogram is ``{"edges": [n+1 numbers], "counts": [n numbers]}``; a bin holds
    ``edges[i] <= length < edges[i + 1]``.
    """
    ordered: list[int] = np.sort(np.asarray(values)).tolist()
    width = max(1, -(-(ordered[-1] + 1) // _BINS))
    counts = Counter(value // width for value in ordered)
    bins = ordered[-1] // width + 1
    return {
        "mean": round(sum(ordered) / len(ordered), 2),
        "min": ordered[0],
        "max": ordered[-1],
        "percentiles": {
            f"p{p}": ordered[max(0, -(-len(ordered) * p // 100) - 1)] for p in _PERCENTILES
        },
        "histogram": {
            "edges": [n * width for n in range(bins + 1)],
            "counts": [counts[n] for n in range(bins)],
        },
    }


def label_counts(examples: Examples, splits: Mapping[Split, Numbers]) -> dict[str, dict[str, int]]:
    """Rows of each label in each split; of very many labels the most frequent ones."""
    names, codes = examples.name("label"), examples.columns["label"]
    each = {
        split: np.bincount(codes[examples.counted(numbers)], minlength=len(names)).tolist()
        for split, numbers in splits.items()
    }
    total = [sum(counts) for counts in zip(*each.values(), strict=True)]
    there = [code for code, count in enumerate(total) if count]
    listed = sorted(there, key=lambda code: (-total[code], names[code]))[:LABELS_COUNTED]
    return {split: {names[code]: count[code] for code in listed} for split, count in each.items()}


def report(
    splits: Mapping[Split, Numbers],
    examples: Examples,
    *,
    tokenizer: Tokenizer,
    labelled: bool,
    duplicates: int,
    too_long: Numbers,
    max_length: int,
    contradicting: Contradictions,
    facts: RowFacts,
    sources: Sequence[Mapping[str, Any]],
    documents: Mapping[str, int],
) -> dict[str, Any]:
    """The content of ``data_report.json``.

    Args:
        splits: the examples as written.
        examples: all there are.
        tokenizer: the base model's, to show examples.
        labelled: whether a label distribution makes sense for the task.
        duplicates: rows dropped as exact repeats.
        too_long: those dropped as longer than ``max_length``.
        max_length: the recipe's ``data.max_length``.
        contradicting: prompts answered in two ways (kept).
        facts: what the rules judge.
        sources: of ``source_reports``.
        documents: of ``document_counts``.

    ``read`` are rows that steps have left of the sources; examples, where a conversation gave
    several. Stop token and template are the first source's.
    """
    parts = examples.parts
    every = np.concatenate(list(splits.values()))
    prompt = examples.columns["prompt_tokens"][every]
    total = examples.columns["tokens"][every]
    steps = [
        replace(step, words=_of(rows, step.words)) for rows in parts for step in rows.read.steps
    ]
    read = sum(rows.texts for rows in parts)
    stop = parts[0].rendering.stop
    conversations = joined([rows.rendering.conversations for rows in parts])
    found: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "read": read,
        "files": [
            {
                "path": file.path,
                "rows": len(file.rows),
                "format": file.format,
                "delimiter": file.delimiter,
                "encoding": file.encoding,
                "compression": file.compression,
            }
            for rows in parts
            for file in rows.read.files
        ],
        "counts": {split: len(rows) for split, rows in splits.items()},
        "dropped": {
            "duplicates": duplicates,
            "too_long": {
                "count": len(too_long),
                "where": [examples.where(number) for number in too_long[:LISTED].tolist()],
            },
        },
        "max_length": max_length,
        "too_long_share": round(len(too_long) / read, 6),
        "contradicting": {
            "count": contradicting.count,
            "listed": [
                {
                    "prompt": shortened(c.prompt, _TEXT),
                    "completions": [shortened(text, _TEXT) for text in c.completions[:LISTED]],
                    "where": list(c.where[:LISTED]),
                }
                for c in contradicting.first[:LISTED]
            ],
        },
        "lengths": {
            "prompt": lengths(prompt),
            "answer": lengths(total - prompt),
            "total": lengths(total),
        },
        "labels": label_counts(examples, splits) if labelled else {},
        "labels_never_trained": list(facts.never_trained)[:LISTED],
        "leaks": dict(facts.leaks_normalised),
        "tokens": tokens(examples, splits),
        "examples": shown(examples, splits["train"], tokenizer),
        "template": parts[0].part.template.model_dump(mode="json"),
        "stop": {"id": stop.id, "text": stop.text},
        "conversations": asdict(conversations),
        "notes": [
            *(step.line() for step in steps),
            *notes(conversations),
            *document_notes(documents, max_length),
            *mixture_notes(sources),
        ],
        "facts": asdict(facts),
    }
    if steps:
        found["steps"] = [asdict(step) for step in steps]
    if documents:
        found["documents"] = dict(documents)
    if sources:
        found["sources"] = list(sources)
    found["warnings"] = warnings(found, facts, steps)
    return found


def _of(rows: PartRows, words: str) -> str:
    return f"{rows.part.name}: {words}" if rows.part.name else words


def notes(conversations: ConversationFacts) -> list[str]:
    """Sentences for what was done with conversations on the way to examples."""
    found = conversations
    lines = []
    if found.untrained:
        lines.append(
            f"{found.untrained} assistant turns are not trained, as the rows say"
            " (weight 0, train false)"
        )
    if found.cut:
        lines.append(f"{found.cut} conversations are cut behind their last trained turn")
    if found.one_a_turn:
        lines.append(
            f"{found.one_a_turn} conversations became {found.examples} examples, one for each"
            " trained turn: the chat template writes earlier turns otherwise later on"
        )
    if found.thinking:
        lines.append("answers hold reasoning: the chat template's enable_thinking is on")
    if found.opening:
        lines.append(
            f"every answer begins with {found.opening!r}, which the chat template does not write"
            " into the prompt"
        )
    if found.dated:
        lines.append("the chat template writes today's date: every prompt has 26 July 2024 there")
    lines += [
        f"{count} messages have the field {name!r}, which no chat template reads"
        for name, count in sorted(found.ignored.items())
    ]
    return lines


def warnings(found: Mapping[str, Any], facts: RowFacts, steps: Sequence[Done]) -> list[str]:
    """Sentences for what a person should look at before training."""
    lines = [f"one label is written in several ways: {one}" for one in facts.several_writings]
    lines += [
        f"{step.words}: no row has {', '.join(map(shortened, step.idle()))}"
        for step in steps
        if step.idle()
    ]
    labels = found["labels"].get("train", {})
    if labels and all(_WHOLE_FLOAT.fullmatch(label) for label in labels):
        lines.append(
            f"labels are written {', '.join(sorted(labels)[:3])}, as pandas writes whole numbers"
            " beside gaps; data.normalize_labels=[number] writes them without .0"
        )
    if count := found["contradicting"]["count"]:
        lines.append(f"{count} prompts are answered in more than one way")
    for pair, count in found["leaks"].items():
        if count:
            inner, outer = pair.split("_in_")
            lines.append(f"{count} rows of {inner} have a prompt that is in {outer}")
    if count := found["dropped"]["too_long"]["count"]:
        lines.append(f"{count} rows longer than {found['max_length']} tokens were dropped")
    if found["labels_never_trained"]:
        lines.append(f"labels never trained: {', '.join(found['labels_never_trained'])}")
    return lines
