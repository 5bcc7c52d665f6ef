"""The data report: what a person wants to know of a data set before paying for a training run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from slmcompile.console.printable import shortened
from slmcompile.data.duplicates import Contradiction
from slmcompile.data.examples import examples, tokens
from slmcompile.data.part_rows import PartRows
from slmcompile.data.report_facts import LABELS_COUNTED, RowFacts
from slmcompile.data.rows import ConversationFacts
from slmcompile.data.source_report import document_notes, mixture_notes
from slmcompile.data.steps import Done
from slmcompile.data.store import Row
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


def lengths(values: Sequence[int]) -> dict[str, Any]:
    """Mean, maximum, percentiles (nearest rank) and a histogram of lengths in tokens.

    The histogram is ``{"edges": [n+1 numbers], "counts": [n numbers]}``; a bin holds
    ``edges[i] <= length < edges[i + 1]``.
    """
    ordered = sorted(values)
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


def label_counts(splits: Mapping[Split, Sequence[Row]]) -> dict[str, dict[str, int]]:
    """Rows of each label in each split; of very many labels the most frequent ones."""
    total = Counter(row.label for rows in splits.values() for row in rows)
    listed = sorted(total, key=lambda label: (-total[label], label))[:LABELS_COUNTED]
    each = {split: Counter(row.label for row in rows) for split, rows in splits.items()}
    return {split: {label: count[label] for label in listed} for split, count in each.items()}


def report(
    splits: Mapping[Split, Sequence[Row]],
    parts: Sequence[PartRows],
    *,
    tokenizer: Tokenizer,
    labelled: bool,
    duplicates: int,
    too_long: Sequence[str],
    max_length: int,
    contradicting: Sequence[Contradiction],
    facts: RowFacts,
    sources: Sequence[Mapping[str, Any]],
    documents: Mapping[str, int],
) -> dict[str, Any]:
    """The content of ``data_report.json``.

    Args:
        splits: the rows as written.
        parts: the rows of each source.
        tokenizer: the base model's, to show examples.
        labelled: whether a label distribution makes sense for the task.
        duplicates: rows dropped as exact repeats.
        too_long: places of the rows dropped as longer than ``max_length``.
        max_length: the recipe's ``data.max_length``.
        contradicting: prompts answered in two ways (kept).
        facts: what the rules judge.
        sources: of ``source_reports``.
        documents: of ``document_counts``.

    ``read`` are rows that steps have left of the sources; examples, where a conversation gave
    several. Stop token and template are the first source's.
    """
    every = [row for rows in splits.values() for row in rows]
    steps = [
        replace(step, words=_of(rows, step.words)) for rows in parts for step in rows.read.steps
    ]
    read = sum(len(rows.rendering.rows) for rows in parts)
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
            "too_long": {"count": len(too_long), "where": list(too_long[:LISTED])},
        },
        "max_length": max_length,
        "too_long_share": round(len(too_long) / read, 6),
        "contradicting": {
            "count": len(contradicting),
            "listed": [
                {
                    "prompt": shortened(c.prompt, _TEXT),
                    "completions": [shortened(text, _TEXT) for text in c.completions[:LISTED]],
                    "where": list(c.where[:LISTED]),
                }
                for c in contradicting[:LISTED]
            ],
        },
        "lengths": {
            "prompt": lengths([len(row.prompt_ids) for row in every]),
            "answer": lengths([len(row.input_ids) - len(row.prompt_ids) for row in every]),
            "total": lengths([len(row.input_ids) for row in every]),
        },
        "labels": label_counts(_counted(splits)) if labelled else {},
        "labels_never_trained": list(facts.never_trained)[:LISTED],
        "leaks": dict(facts.leaks_normalised),
        "tokens": tokens(splits),
        "examples": examples(splits["train"], tokenizer),
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


def _counted(splits: Mapping[Split, Sequence[Row]]) -> dict[Split, list[Row]]:
    return {split: [row for row in rows if row.counted] for split, rows in splits.items()}


def joined(facts: Sequence[ConversationFacts]) -> ConversationFacts:
    """Those of all sources as one; what the chat template writes is the same in all."""
    if len(facts) == 1:
        return facts[0]
    return ConversationFacts(
        untrained=sum(each.untrained for each in facts),
        cut=sum(each.cut for each in facts),
        one_a_turn=sum(each.one_a_turn for each in facts),
        examples=sum(each.examples for each in facts),
        thinking=any(each.thinking for each in facts),
        opening=next((each.opening for each in facts if each.opening), ""),
        dated=any(each.dated for each in facts),
        ignored=dict(sum((Counter(each.ignored) for each in facts), Counter())),
    )


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
