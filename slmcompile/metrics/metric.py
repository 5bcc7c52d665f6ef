"""What is to be known of a metric before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

Needs = Literal["text", "label", "likelihood", "ending"]

RESERVED = frozenset(
    {
        *("agreement", "rows", "test_rows", "labels", "test_labels", "turns", "references"),
        *(
            "sources",
            "tokens_per_second",
            "peak_memory_bytes",
            "size_bytes",
            "machine",
            "ran",
            "format_version",
        ),
    }
)
"""What results say of an artifact beside metrics: no metric is called so."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in recipes and in ``metrics.json``.
        title: its column's heading.
        words: as it stands in a sentence.
        place: where its column stands among the others; the first that was measured is the
            headline of a report.
        needs: what of an answer it is computed from: ``text`` compares whole answers, ``label``
            labels, ``likelihood`` takes the model's own probabilities of the references,
            ``ending`` how its answers ended.
        program: ``package.module:name`` of a ``scoring.measures.Measure``.
        higher_is_better: which way is better.
        low, high: smallest and largest value that it can take.
        of_task: whether it tells that answers are right, so that baselines are held against it.
        always: whether it is measured whatever ``eval.metrics`` says, and so not named there:
            never, of every task, or of extraction alone.
        default_of: tasks of which it is measured where ``eval.metrics`` is not given; ``every`` is
            every task, ``labelled`` every one whose rows have labels, ``documents`` plain text
            without a question, whatever the task. None that needs an extra.
        digits: decimals in a table.
        silent_at_zero: whether a column of zeros says nothing and is left out.
        packages: installed packages that its value depends on.
        file: key of ``eval`` that names the project file it is computed with; no other metric
            reads it.
        stages: kinds of stages whose folders it is computed with, beside rows and answers.
        column: ``package.module:name`` of a ``scoring.records.Opened``, where it needs something of
            every row that answers do not hold.
        epoch: raised when its numbers change.
        plugin: the plug-in that brings it, as the policy names it; empty where it is built in.
    """

    name: str
    title: str
    words: str
    place: int
    needs: Needs
    program: str
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    of_task: bool = False
    always: Literal["never", "every", "extraction"] = "never"
    default_of: frozenset[str] = frozenset()
    digits: int = 3
    silent_at_zero: bool = False
    packages: tuple[str, ...] = ()
    file: str = ""
    stages: tuple[str, ...] = ()
    column: str = ""
    epoch: int = 1
    plugin: str = ""

    @property
    def generates(self) -> bool:
        """Whether answers are generated for it."""
        return self.needs != "likelihood"

    @property
    def bounded(self) -> bool:
        """Whether it has a largest value."""
        return self.high < inf

    @property
    def span(self) -> float | None:
        """Largest minus smallest value; None where there is no largest."""
        return self.high - self.low if self.bounded else None

    @property
    def tells_of_learning(self) -> bool:
        """Whether a model that learnt the task is better at it, and not in its form alone."""
        return self.of_task or self.needs == "likelihood"

    def always_of(self, task: str) -> bool:
        """Whether it is measured of a task without being asked for."""
        return self.always in {"every", task}

    def measures(self, *, asks: bool) -> bool:
        """Whether it can be measured where rows ask something, or are plain text."""
        return asks or self.needs == "likelihood"

    def by_default_of(self, task: str, *, labelled: bool, asks: bool = True) -> bool:
        """Whether it is measured of a task where nobody says what is."""
        if not asks:
            return self.measures(asks=False) and not self.default_of.isdisjoint(
                {"every", "documents"}
            )
        return not self.default_of.isdisjoint({"every", task, *(["labelled"] if labelled else [])})
