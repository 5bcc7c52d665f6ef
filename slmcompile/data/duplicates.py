"""Prompts that are answered in two ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.row_facts import DOCUMENT
from slmcompile.data.row_keys import alike


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One prompt with several completions, and the rows they stand in."""

    prompt: str
    completions: tuple[str, ...]
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Prompts with more than one completion: how many, and the first in order of appearance."""

    count: int
    first: tuple[Contradiction, ...]


def contradictions(examples: Examples, numbers: Numbers, listed: int) -> Contradictions:
    """Prompts among the examples with more than one completion, the first ``listed`` in words."""
    asked = numbers[~examples.flagged(numbers, DOCUMENT)]  # documents ask nothing
    if not len(asked):
        return Contradictions(0, ())
    prompts = alike(examples.columns["prompt"][asked])
    answers = alike(examples.columns["answer"][asked])
    pairs = np.unique(np.stack([prompts, answers], axis=1), axis=0)
    several = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    _, first = np.unique(prompts, return_index=True)  # prompts are numbered from 0 without a gap
    told = several[np.argsort(first[several])][:listed]
    return Contradictions(
        len(several), tuple(_told(examples, asked[prompts == prompt]) for prompt in told)
    )


def _told(examples: Examples, numbers: Numbers) -> Contradiction:
    texts = [examples.text(number) for number in numbers.tolist()]
    return Contradiction(
        texts[0].prompt,
        tuple(dict.fromkeys(text.completion for text in texts)),
        tuple(text.row.where for text in texts),
    )
