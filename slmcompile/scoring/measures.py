"""What a metric's program is, and the one for shares of right rows.

A measure sees rows: lines of ``predictions.jsonl`` of one artifact, in the order of the test rows,
each with ``reference``, ``prediction``, ``compared`` (the prediction with its label in the declared
writing), ``correct``, ``label``, ``predicted_label`` and, of a model, ``cut_off``,
``log_likelihood`` (natural logarithm, summed over the reference) and ``tokens``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.paired import Difference, of_right, of_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

Rows = Sequence[Mapping[str, Any]]
Terms = Callable[[Mapping[str, Any]], Sequence[float]]


class Measure(Protocol):
    """A metric of one artifact's rows, and of two artifacts' on the same rows."""

    def value(self, rows: Rows) -> float:
        """Of at least one row."""

    def interval(self, rows: Rows) -> tuple[float, float] | None:
        """Its 95 % interval; None where none is known."""

    def difference(self, one: Rows, other: Rows) -> Difference | None:
        """The one minus the other, by pairs of rows; None where nothing is known of chance."""


@dataclass(frozen=True)
class Share:
    """The share of rows that are right, in [0, 1]: Wilson's interval, McNemar's test."""

    right: Callable[[Mapping[str, Any]], bool]

    def value(self, rows: Rows) -> float:
        """Right rows of all rows."""
        return sum(map(self.right, rows)) / len(rows)

    def interval(self, rows: Rows) -> tuple[float, float] | None:
        """Wilson's."""
        return wilson(self.value(rows), len(rows))

    def difference(self, one: Rows, other: Rows) -> Difference:
        """By the rows that only one of the two has right."""
        return of_right(list(map(self.right, one)), list(map(self.right, other)))


@dataclass(frozen=True)
class Sums:
    """A metric that follows from sums of terms over rows: paired bootstrap.

    Attributes:
        terms: of a row.
        of: the metric of sums, [..., terms] → [...].
    """

    terms: Terms
    of: Callable[[Floats], Floats]

    def value(self, rows: Rows) -> float:
        """Of all rows."""
        import numpy as np

        return float(
            self.of(np.asarray([self.terms(row) for row in rows], dtype=float).sum(axis=0))
        )

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no share of rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference | None:
        """By resamples of the rows."""
        return of_sums(
            [self.terms(row) for row in one], [self.terms(row) for row in other], self.of
        )


def ratio(sums: Floats) -> Floats:
    """The first of two sums as a share of the second; 0 where that is 0."""
    import numpy as np

    found: Floats = sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
    return found
