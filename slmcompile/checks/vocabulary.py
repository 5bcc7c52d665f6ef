"""The rule over vocabularies: every token that the tokenizer can write has a row in the embedding.

Reads ``tokenizer.json`` as data; no tokenizer is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slmcompile.checks.architecture import architecture_of
from slmcompile.checks.context import CheckContext
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.training.target_modules import leaf

_FILE = "tokenizer.json"
_MAX_BYTES = 64 << 20
"""Twice the file of 262,144 tokens."""


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a tokenizer.

    Attributes:
        size: largest id + 1.
        last: the token that has it.
        added: tokens that lie beyond the tokenizer's own model, by id.
    """

    size: int
    last: str
    added: Mapping[int, str]


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The ids in a folder's ``tokenizer.json``; None if they cannot be read."""
    path = folder / _FILE
    try:
        state = path.stat()
        if state.st_size > _MAX_BYTES:
            return None
        return _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> Vocabulary:
    """One file of several megabytes may serve a thousand recipes."""
    text = path.read_text(encoding="utf-8")
    vocab = _value(text, "vocab", text.index('"model":'))
    if isinstance(vocab, list):  # Unigram: pairs of piece and score, in order of ids
        by_id = {number: str(piece[0]) for number, piece in enumerate(vocab)}
    else:
        by_id = {int(number): str(token) for token, number in vocab.items()}
    entries = _value(text, "added_tokens", 0) or []
    added = {int(entry["id"]): str(entry["content"]) for entry in entries}
    beyond = {number: token for number, token in added.items() if number not in by_id}
    largest = max(max(by_id, default=-1), max(added, default=-1))
    return Vocabulary(largest + 1, {**by_id, **added}.get(largest, ""), beyond)


def _value(text: str, key: str, start: int) -> Any:
    """The JSON value behind a key's first place after ``start``.

    The merges, most of the file, are left unread. A key cannot be met inside a token, where its
    quotation marks would be escaped.
    """
    name = f'"{key}":'
    place = text.index(name, start) + len(name)
    while text[place].isspace():
        place += 1
    return json.JSONDecoder().raw_decode(text, place)[0]


@check(
    13,
    "vocabulary-fits",
    "a token without a row in the embedding: an index error, or a token that is never learnt",
    needs=("T", "H"),
)
def vocabulary_fits(context: CheckContext) -> Verdict:
    """Tokenizer size ≤ embedding rows, and tokens added behind the model's own can be trained.

    A token whose row is beyond what the configuration counts as vocabulary was added after the
    base model was trained; a frozen embedding would leave it as it was initialised.
    """
    model, facts = architecture_of(context), context.model
    if model is None or facts is None:
        return needs_probe(context.base_stage, "the tokenizer is there by then")
    vocabulary = read_vocabulary(facts.folder)
    if vocabulary is None or model.embedding_rows is None:
        return needs_probe(
            f"{context.name}/train", f"{facts.where}: its {_FILE} or its embedding is not readable"
        )
    rows = model.embedding_rows
    where = context.at("model.source")
    if vocabulary.size > rows:
        return refuted(
            f"{facts.where}: token {vocabulary.last!r} has id {vocabulary.size - 1}, the embedding"
            f" {rows} rows",
            "take the tokenizer that the weights were trained with, or resize the embedding",
            where,
        )
    trained_with = facts.config.get("vocab_size")
    late = [
        token
        for number, token in sorted(vocabulary.added.items())
        if isinstance(trained_with, int) and number >= trained_with
    ]
    lora = context.recipe.train.lora
    frozen = lora is not None and not any(
        leaf(name) in lora.modules_to_save for name in model.others
    )
    if late and frozen:
        return refuted(
            f"{facts.where}: token {late[0]!r} was added beyond the vocabulary of {trained_with},"
            " and its embedding is frozen",
            "train the embedding: train.lora.modules_to_save=[embed_tokens], or train=full",
            context.at("train.lora.modules_to_save"),
        )
    return proved(f"{vocabulary.size} token ids, {rows} rows in the embedding")
