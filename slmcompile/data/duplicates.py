"""Rows that say the same twice, and prompts that are answered in two ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slmcompile.data.rows import Rendered


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One prompt with several completions, and the rows they stand in."""

    prompt: str
    completions: tuple[str, ...]
    where: tuple[str, ...]


def first_of_each(rows: Sequence[Rendered]) -> list[int]:
    """Indexes of the rows that are left when exact repeats (prompt and completion) are dropped."""
    seen: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        seen.setdefault((row.prompt, row.completion), number)
    return list(seen.values())


def contradictions(rows: Iterable[Rendered]) -> list[Contradiction]:
    """Prompts that occur with more than one completion, in order of appearance."""
    by_prompt: dict[str, list[Rendered]] = {}
    for row in rows:
        if row.document is not None:
            continue  # it asks nothing
        by_prompt.setdefault(row.prompt, []).append(row)
    return [
        Contradiction(
            prompt,
            tuple(dict.fromkeys(row.completion for row in same)),
            tuple(row.row.where for row in same),
        )
        for prompt, same in by_prompt.items()
        if len({row.completion for row in same}) > 1
    ]
