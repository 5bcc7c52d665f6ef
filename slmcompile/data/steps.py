"""What a recipe does with rows before templates see them: ``data.steps``, one behind the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.rows import SourceRow
from slmcompile.data_steps import DATA_STEPS
from slmcompile.data_steps.step import StepKeys
from slmcompile.registry.table import program
from slmcompile.shapes.splits import Split

_COUNTED = 12
"""Counts of a step that a line tells."""

_LONGEST = 40


@dataclass(frozen=True)
class Done:
    """What a step did, over all splits.

    Attributes:
        words: the step.
        read: rows that it was given.
        left: rows that it gave back.
        facts: what it counted.
    """

    words: str
    read: int
    left: int
    facts: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """One sentence for a person."""
        left = f"{self.words}: {self.left} of {self.read} rows are left"
        return f"{left}; counted {counted(self.facts)}" if self.facts else left

    def idle(self) -> list[str]:
        """What it was to count and met in no row."""
        return [name for name, count in self.facts.items() if not count]


def counted(facts: Mapping[str, int]) -> str:
    """Counts in words, the first of many."""
    told = [f"{shortened(name, _LONGEST)}: {count}" for name, count in facts.items()]
    more = [f"{len(told) - _COUNTED} more"] if len(told) > _COUNTED else []
    return ", ".join([*told[:_COUNTED], *more])


def stepped(
    rows: Mapping[Split, Sequence[SourceRow]],
    steps: Sequence[StepKeys],
    columns: Mapping[str, str],
    *,
    whole: bool = True,
) -> tuple[dict[Split, list[SourceRow]], list[Done]]:
    """The rows behind all steps, and what each of these did.

    Args:
        rows: as the source holds them, by split.
        steps: the recipe's ``data.steps``.
        columns: the recipe's ``data.columns``.
        whole: whether these are all rows, of which each step has to leave some.

    Raises:
        BadDataError: a step cannot do it with a row, or leaves no row of a split; what it says
            begins with the step's key (exit 65).
    """
    made = {split: list(given) for split, given in rows.items()}
    done: list[Done] = []
    for number, step in enumerate(steps):
        entry = DATA_STEPS[step.type]
        apply, facts = program(entry.program), Counter[str]()
        read = sum(map(len, made.values()))
        for split, given in made.items():
            try:
                made[split], met = apply(step, given, columns)
            except BadDataError as error:
                raise BadDataError(f"data.steps.{number}: {error.what}", error.mend) from error
            facts.update(met)
            if whole and given and not made[split]:
                rows_of = f" of {split}" if len(made) > 1 else ""
                raise BadDataError(
                    f"data.steps.{number}: {entry.words(step)} leaves no row{rows_of}",
                    program(entry.hint)(step, given, columns)
                    if entry.hint
                    else "correct the step, or take it out",
                )
        done.append(Done(entry.words(step), read, sum(map(len, made.values())), dict(facts)))
    return made, done
