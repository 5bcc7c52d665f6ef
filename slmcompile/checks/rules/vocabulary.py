"""The rule over vocabularies: every token that the tokenizer can write has a row in the embedding.

Reads ``tokenizer.json`` as data; no tokenizer is loaded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slmcompile.base.facts import size_in
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext

_FILE = "tokenizer.json"
_MAX_BYTES = 48 << 20
"""More than the file of 262,144 tokens has."""
_MOST_COMMAS = 1_000_000
"""Of tokens and all before them; what it costs to read them follows."""
_MERGES = re.compile(r'"merges":\s*\[')


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a tokenizer.

    Attributes:
        size: largest id + 1.
        last: the token that has it.
    """

    size: int
    last: str


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The ids in a folder's ``tokenizer.json``; None if they cannot be read."""
    path = folder / _FILE
    try:
        state = path.stat()
        if state.st_size > _MAX_BYTES:
            return None
        return _read(path, state.st_mtime_ns, state.st_size)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ):
        return None


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> Vocabulary:
    """One file of several megabytes may serve a thousand recipes."""
    text = path.read_text(encoding="utf-8")
    model = text.index('"model":')
    # Behind the vocabulary; most of the file.
    merges = _MERGES.search(text, model)
    head = text[: merges.start()] if merges else text
    if head.count(",") > _MOST_COMMAS:
        raise ValueError(f"{path}: too many values for a tokenizer")
    vocab = _value(head, "vocab", model)
    if isinstance(vocab, list):  # Unigram: pairs of piece and score, in order of ids
        found = [(len(vocab) - 1, str(vocab[-1][0]))] if vocab else []
    else:
        ids = {int(number): token for token, number in vocab.items()}
        found = [(max(ids), str(ids[max(ids)]))] if ids else []
    entries = _value(head, "added_tokens", 0) or []
    found += [(int(entry["id"]), str(entry["content"])) for entry in entries]
    largest, last = max(found, default=(-1, ""))
    return Vocabulary(largest + 1, last)


def _value(text: str, key: str, start: int) -> Any:
    """The JSON value behind a key's first place after ``start``.

    A key cannot be met inside a token, where its quotation marks would be escaped.
    """
    name = f'"{key}":'
    place = text.index(name, start) + len(name)
    while text[place].isspace():
        place += 1
    return json.JSONDecoder().raw_decode(text, place)[0]


@check(
    13,
    "vocabulary-fits",
    "a token without a row in the embedding: an index error, or a model that does not load",
    needs=("T", "H"),
)
def vocabulary_fits(context: CheckContext) -> Verdict:
    """Tokenizer size ≤ embedding rows, and those are the configuration's ``vocab_size``.

    Whether a token was added after the base model was trained, so that a frozen embedding would
    leave it as it was initialised, is not known: headers say nothing of a row's values.
    """
    model, facts = architecture_of(context), context.model
    if model is None or facts is None:
        return needs_probe(context.base_stage, "the tokenizer is there by then")
    vocabulary = read_vocabulary(facts.folder)
    if vocabulary is None or model.embedding is None:
        return needs_probe(
            f"{context.name}/train", f"{facts.where}: its {_FILE} or its embedding is not readable"
        )
    rows = model.embedding[0]
    where = context.at("model.source")
    if vocabulary.size > rows:
        return refuted(
            f"{facts.where}: token {vocabulary.last!r} has id {vocabulary.size - 1}, the embedding"
            f" {rows} rows",
            "take the tokenizer that the weights were trained with, or resize the embedding",
            where,
        )
    stated = size_in(facts.language, "vocab_size")
    if stated not in {None, rows}:
        return refuted(
            f"{facts.where}: config.json says vocab_size {stated}, the embedding has {rows} rows,"
            " so it does not load",
            "take the config.json that the weights were saved with",
            where,
        )
    return proved(f"{vocabulary.size} token ids, {rows} rows in the embedding")
