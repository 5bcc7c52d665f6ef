"""Bits per byte of the references: likelihoods that compare between models of other tokenizers.

Gao et al. 2020 (The Pile, arXiv:2101.00027), section 3.1: -log2 of the likelihood over the text's
UTF-8 bytes. Perplexity is a token's, so a tokenizer of longer tokens makes it larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer, load_tokenizer, token_text
from slmcompile.scoring.measures import Sums, ratio
from slmcompile.scoring.records import Beside, Column


def _terms(row: Mapping[str, Any]) -> tuple[float, float]:
    """Bits and bytes of a row's trained turns."""
    return -row["log_likelihood"] / math.log(2), float(row["reference_bytes"])


BITS_PER_BYTE = Sums(_terms, ratio)
"""Of all rows: bits by bytes, and not the mean of rows."""


def open_column(beside: Beside) -> Column:
    """The bytes of each row's trained text, as ``reference_bytes``."""
    tokenizer = load_tokenizer(beside.folders["base"])

    def column(_: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
        return {"reference_bytes": trained_bytes(row, tokenizer)}

    return column


def trained_bytes(row: Row, tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of all trained turns of a row.

    Trained tokens decode to those turns, each with the stop token behind it: the data stage has
    proved it. What a stop token is called is the tokenizer's own and no byte of the text; that an
    answer ends there is a thing to predict, and its likelihood counts. A document is its text, and
    a piece of one that goes on has no stop token.
    """
    if row.document:
        return len(row.completion.encode())
    trained = [token for token in row.labels if token != IGNORED]
    stop = trained[-1]
    text = tokenizer.decode(trained, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    stops = trained.count(stop) * len(token_text(tokenizer, stop).encode())
    return len(text.encode()) - stops
