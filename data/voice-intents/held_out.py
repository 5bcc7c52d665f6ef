"""Makes held_out.jsonl: more sentences of the templates that no training on commands.jsonl sees.

A split by template leaves 57 wordings for the test, of which commands.jsonl has three or four
sentences each: too few to tell two models apart that differ by a point or two. Here the same
wordings are filled again, from the same household, as often as it takes; no sentence of
commands.jsonl occurs. Which templates these are says the split of conf/data/voice-intents.yaml
(slmcompile divides), so that a training on that file may be measured on this one. Run again, it
writes the same bytes:

    pip install home-assistant-intents==2026.10.27 hassil==3.12.1
    python data/voice-intents/held_out.py
"""

from __future__ import annotations

import json
import random

from make import HERE, ROWS, TRIES_PER_ROW, Part, drawn, templates, write
from source import Line, check_versions, lines, load

from slmcompile.data.split import Item, assign

SEED = 0
"""Of the split (the recipe's ``data.seed``) and of the expansions (that of commands.jsonl)."""

VALIDATION = TEST = 0.1
"""Shares of the split."""

WANTED = 1500

Source = tuple[random.Random, str, str, list[tuple[Line, list[Part]]]]
"""An intent's template with its expansions, and what draws of them."""


def held_out_templates(commands: list[dict[str, str]]) -> set[str]:
    """Templates of the rows that a split by template gives to the test."""
    items = [Item(row["text"], row["intent"], row["template"]) for row in commands]
    shares = {"train": 1.0 - (VALIDATION + TEST), "validation": VALIDATION, "test": TEST}
    splits = assign(items, shares, SEED, cover=True)
    by_split: dict[str, set[str]] = {split: set() for split in shares}
    for row, split in zip(commands, splits, strict=True):
        by_split[split].add(row["template"])
    return by_split["test"] - by_split["train"] - by_split["validation"]


def add_one(source: Source, rows: dict[str, dict[str, str]], known: set[str]) -> bool:
    """Adds a row of a template that is in neither; False where there seems to be none any more."""
    for _ in range(TRIES_PER_ROW):
        row = drawn(*source)
        if rows.get(row["text"], row)["answer"] != row["answer"]:
            raise SystemExit(f"two meanings: {row['text']!r}")
        if row["text"] not in rows and row["text"] not in known:
            if len(rows) < WANTED:
                rows[row["text"]] = row
            return True
    return False


def make(commands: list[dict[str, str]]) -> list[dict[str, str]]:
    """All rows, in an order that mixes the intents."""
    held_out, known = held_out_templates(commands), {row["text"] for row in commands}
    intents, rules = load()
    sources: list[Source] = []
    for intent in ROWS:
        expanded = templates(random.Random(f"{SEED}/{intent}"), lines(intents, intent), rules)
        for template, expansions in expanded.items():
            if f"{intent}: {template}" in held_out:
                rng = random.Random(f"held out/{SEED}/{intent}/{template}")
                sources.append((rng, intent, template, expansions))
    rows: dict[str, dict[str, str]] = {}
    while sources and len(rows) < WANTED:
        sources = [each for each in sources if add_one(each, rows, known)]
    order = random.Random(f"held out/{SEED}/order")
    return [rows[text] for _, text in sorted((order.random(), text) for text in rows)]


def main() -> None:
    """Writes held_out.jsonl beside this script."""
    check_versions()
    text = (HERE / "commands.jsonl").read_text(encoding="utf-8")
    write(make([json.loads(line) for line in text.splitlines()]), HERE / "held_out.jsonl")


if __name__ == "__main__":
    main()
