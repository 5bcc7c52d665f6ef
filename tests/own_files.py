"""Small data files of the kinds that people bring, and what each is for."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_COLOURS = ("red", "blue", "green")
_LONG = "The meeting went on for hours and nobody could say what about. "


@dataclass(frozen=True)
class Kind:
    """A file and what is right of it."""

    content: bytes
    task: str
    prompt: tuple[str, ...] = ()
    answer: str = ""
    messages: str = ""
    text: str = ""
    rows: int = 30
    encoding: str | None = None


def lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """As JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def cells(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    """As CSV."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def _talk(number: int, *, sharegpt: bool = False) -> list[dict[str, Any]]:
    keys, user, assistant = (
        (("from", "value"), "human", "gpt")
        if sharegpt
        else (("role", "content"), "user", "assistant")
    )
    said = (
        (user, f"which colour has box {number}"),
        (assistant, f"box {number} is {_colour(number)}"),
    )
    return [dict(zip(keys, each, strict=True)) for each in said]


def _colour(number: int) -> str:
    return _COLOURS[number % 3]


_LABELLED = [{"text": f"is box number {n} of wood?", "label": _colour(n)} for n in range(30)]
_TOOL = {"type": "function", "function": {"name": "weather"}}

FILES = {
    "semicolons.csv": Kind(cells(_LABELLED, ";"), "classification", ("text",), "label"),
    "tabs.tsv": Kind(cells(_LABELLED, "\t"), "classification", ("text",), "label"),
    "latin.csv": Kind(
        cells(_LABELLED).replace(b"wood?", "böx".encode("cp1252")),
        "classification",
        ("text",),
        "label",
        encoding="cp1252",
    ),
    "packed.jsonl.gz": Kind(
        gzip.compress(lines(_LABELLED), mtime=0), "classification", ("text",), "label"
    ),
    "unnamed.csv": Kind(
        cells(
            [
                {"": n, "Frage": row["text"], "Farbe": row["label"]}
                for n, row in enumerate(_LABELLED)
            ]
        ),
        "classification",
        ("Frage",),
        "Farbe",
    ),
    "array.json": Kind(
        json.dumps(
            [{"question": f"and box {n}?", "answer": f"It is box {n}."} for n in range(30)]
        ).encode(),
        "generation",
        ("question",),
        "answer",
    ),
    "alpaca.json": Kind(
        json.dumps(
            [
                {
                    "instruction": f"Name the colour of box {n}.",
                    "input": "" if n % 2 else f"The box is {_colour(n)}.",
                    "output": f"Box {n} has the colour {_colour(n)}.",
                }
                for n in range(30)
            ]
        ).encode(),
        "generation",
        ("instruction", "input"),
        "output",
    ),
    "completions.jsonl": Kind(
        lines([{"prompt": f"Box {n}:", "completion": f" number {n} of many"} for n in range(30)]),
        "generation",
        ("prompt",),
        "completion",
    ),
    "about.jsonl": Kind(
        lines(
            [
                {"context": f"{_LONG} {n}", "question": f"When was {n}?", "answer": f"In year {n}."}
                for n in range(30)
            ]
        ),
        "generation",
        ("context", "question"),
        "answer",
    ),
    "objects.jsonl": Kind(
        lines(
            [
                {"text": f"light {n} on", "output": {"lamp": n, "colour": _colour(n)}}
                for n in range(30)
            ]
        ),
        "extraction",
        ("text",),
        "output",
    ),
    "summaries.jsonl": Kind(
        lines(
            [
                {"document": f"{n} {_LONG * 3}", "summary": f"Meeting {n} was long."}
                for n in range(30)
            ]
        ),
        "summarisation",
        ("document",),
        "summary",
    ),
    "messages.jsonl": Kind(
        lines([{"messages": _talk(n)} for n in range(30)]), "generation", messages="messages"
    ),
    "sharegpt.jsonl": Kind(
        lines([{"id": f"c{n}", "conversations": _talk(n, sharegpt=True)} for n in range(30)]),
        "generation",
        messages="conversations",
    ),
    "talks.parquet": Kind(
        _parquet([{"messages": _talk(n), "n": n} for n in range(30)]),
        "generation",
        messages="messages",
    ),
    "talks-as-text.csv": Kind(
        cells([{"messages": json.dumps(_talk(n))} for n in range(30)]),
        "generation",
        messages="messages",
    ),
    "calls.jsonl": Kind(
        lines(
            [
                {
                    "messages": [
                        {"role": "user", "content": f"weather in town {n}?"},
                        {
                            "role": "assistant",
                            "content": None,
                            "tool_calls": [
                                {
                                    "type": "function",
                                    "function": {"name": "weather", "arguments": {"town": n}},
                                }
                            ],
                        },
                    ],
                    "tools": [_TOOL],
                }
                for n in range(30)
            ]
        ),
        "generation",
        messages="messages",
    ),
    "labelled-talks.jsonl": Kind(
        lines(
            [
                {
                    "messages": [
                        {"role": "user", "content": f"box {n}"},
                        {"role": "assistant", "content": _colour(n)},
                    ]
                }
                for n in range(30)
            ]
        ),
        "classification",
        messages="messages",
    ),
    "documents.jsonl": Kind(
        lines([{"text": f"{n}. {_LONG * 2}", "url": f"x/{n}"} for n in range(30)]),
        "generation",
        text="text",
    ),
}
