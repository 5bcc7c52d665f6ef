"""How well each label is told by each artifact; nothing here is HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmcompile.report.facts import ReportFacts
from slmcompile.scoring.classification import LabelScores


@dataclass(frozen=True, slots=True)
class ByLabel:
    """The table of labels.

    Attributes:
        artifacts: names of the columns.
        rows: label, its rows in the test split, and its scores by column.
        labels: how many labels there are, with those that are not shown.
    """

    artifacts: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[LabelScores]]]
    labels: int

    @property
    def caption(self) -> str:
        """What the figures are."""
        some = f", the {len(self.rows)} most frequent" if len(self.rows) < self.labels else ""
        return f"F1 of each label (precision, recall), {self.labels} labels{some}"


def by_label(facts: ReportFacts, most: int) -> ByLabel | None:
    """At most so many labels, the most frequent first; None of fewer than two labels."""
    artifacts = [each.name for each in facts.artifacts if each.name in facts.labels]
    columns = [facts.labels[name] for name in artifacts]
    if not columns or len(columns[0]) < 2:
        return None
    # All have answered the same rows, so that all list the same labels.
    rows = [(each[0].label, each[0].support, each) for each in zip(*columns, strict=True)]
    return ByLabel(artifacts, rows[:most], len(rows))
