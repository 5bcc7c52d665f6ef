"""Which test rows are measured where ``eval.limit`` takes fewer than there are.

Rows are put into one order of which every beginning is a sample: every label once before any
twice, then spread over the labels as the whole test split is, and within a label by a seeded hash
of the row's text. So a larger limit only adds rows, and where a row stands in its file is nothing.

A label that would have less than half a row by its share has one all the same, at the cost of the
others: with many rare labels the sample is not the test split in small, and what is measured on it
tells more of rare labels than the split holds of them.

Of several sources each counts for itself: a label of another source is another label. What is there
against forgetting is no part of the sample, and as many rows of each such source are taken at most.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from slmcompile.data.store import Row


@dataclass(frozen=True, slots=True)
class Tested:
    """What of a row of the task says when it is measured, and what that takes.

    Attributes:
        label: its source and its label, which is empty where labels are none of a fixed set.
        digest: of ``digest``.
        tokens: of its answer without the stop token; none of a document.
    """

    label: tuple[str, str]
    digest: bytes
    tokens: int


def digest(seed: int, prompt: str, completion: str) -> bytes:
    """A row's place among those of its label."""
    text = f"{seed}\0{prompt}\0{completion}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()


def of_row(row: Row, seed: int, *, labelled: bool) -> Tested:
    """A row of the test split; arguments as of ``sample``."""
    return Tested(
        (row.source, row.label if labelled else ""),
        digest(seed, row.prompt, row.completion),
        len(row.input_ids) - len(row.prompt_ids) - 1 if row.asked else 0,
    )


def sample(rows: Sequence[Row], limit: int | None, seed: int, *, labelled: bool) -> list[Row]:
    """The rows that are measured, in the order in which they were given.

    Args:
        rows: the test split.
        limit: the recipe's ``eval.limit``; None takes all.
        seed: the recipe's ``data.seed``.
        labelled: whether a row's label is one of a fixed set.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    groups: dict[str, tuple[list[int], list[Tested]]] = {}
    for number, row in enumerate(rows):
        numbers, members = groups.setdefault("" if row.counted else row.source, ([], []))
        numbers.append(number)
        members.append(of_row(row, seed, labelled=labelled))
    kept = [numbers[n] for numbers, members in groups.values() for n in _order(members)[:limit]]
    return [rows[n] for n in sorted(kept)]


def longest_of_first(rows: Iterable[Tested]) -> list[tuple[int, int]]:
    """The longest answer of every sample of the task's rows, in tokens.

    Returns:
        (rows, tokens) with both rising: samples of that many rows and more have an answer of that
        length.
    """
    rows = list(rows)
    found: list[tuple[int, int]] = []
    for taken, number in enumerate(_order(rows), 1):
        if not found or rows[number].tokens > found[-1][1]:
            found.append((taken, rows[number].tokens))
    return found


def _order(rows: Sequence[Tested]) -> list[int]:
    """Numbers of all rows, those that are measured first in front.

    First every label once, the most frequent in front. Then labels take turns by the divisors 3, 5,
    … (Webster 1832, Sainte-Laguë 1910), which count the first row too: labels with more than one
    row have their shares, to within a row, of what the others leave them.
    """
    waiting: dict[tuple[str, str], list[tuple[bytes, int]]] = defaultdict(list)
    for number, row in enumerate(rows):
        waiting[row.label].append((row.digest, number))
    turns: list[tuple[bool, float, tuple[str, str], int]] = []
    queues: dict[tuple[str, str], Iterator[tuple[bytes, int]]] = {}
    for label, members in waiting.items():
        queues[label] = iter(sorted(members))
        turns.append((False, -float(len(members)), label, 0))
    heapq.heapify(turns)
    order: list[int] = []
    while turns:
        _, _, label, taken = heapq.heappop(turns)
        order.append(next(queues[label])[1])
        if taken + 1 < len(waiting[label]):
            priority = -len(waiting[label]) / (2 * (taken + 1) + 1)
            heapq.heappush(turns, (True, priority, label, taken + 1))
    return order
