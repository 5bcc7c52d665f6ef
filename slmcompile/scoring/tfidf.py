"""TF-IDF vectors over words and word pairs, in numpy alone.

weight = term frequency * ln(rows / document frequency) (Spärck Jones 1972), rows scaled to unit
length. The words of a prompt template occur in every row and so weigh nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")

Floats = NDArray[np.float32]
Sparse = dict[int, float]


def terms(text: str) -> Counter[str]:
    """Words and pairs of neighbouring words, case-folded, with their counts."""
    words = _WORD.findall(text.casefold())
    return Counter([*words, *(f"{one} {two}" for one, two in pairwise(words))])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Terms that carry weight, and how much: term → index and index → idf."""

    index: Mapping[str, int]
    idf: tuple[float, ...]

    def vector(self, text: str) -> Sparse:
        """The text as a unit vector: index → weight; empty if no term is known."""
        weights = {
            self.index[term]: count * self.idf[self.index[term]]
            for term, count in terms(text).items()
            if term in self.index
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {number: weight / length for number, weight in weights.items()} if length else {}


def fit(texts: Sequence[str], limit: int | None = None) -> Vocabulary:
    """The vocabulary of the training texts, or its ``limit`` most frequent terms."""
    frequency: Counter[str] = Counter()
    for text in texts:
        frequency.update(terms(text).keys())
    weighted = [term for term, count in frequency.items() if count < len(texts)]
    chosen = sorted(weighted, key=lambda term: (-frequency[term], term))[:limit]
    return Vocabulary(
        {term: number for number, term in enumerate(chosen)},
        tuple(math.log(len(texts) / frequency[term]) for term in chosen),
    )


def dense(vectors: Sequence[Sparse], width: int) -> Floats:
    """Sparse vectors as a matrix of shape [rows, width]."""
    matrix: Floats = np.zeros((len(vectors), width), dtype=np.float32)
    for row, vector in enumerate(vectors):
        matrix[row, list(vector)] = list(vector.values())
    return matrix
