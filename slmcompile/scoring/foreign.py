"""A plug-in's measure: what it raises and returns is told as its own fault."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from slmcompile.console.errors import SlmcompileError
from slmcompile.metrics.metric import Metric
from slmcompile.registry.table import program
from slmcompile.scoring.measures import Rows
from slmcompile.scoring.paired import Difference


class Foreign:
    """``Measure`` of a metric that a plug-in brings.

    Raises:
        SlmcompileError: it cannot be imported, raises, or returns something else than a measure
            does (exit 1).
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._measure = self._call("import", lambda: program(metric.program))

    def value(self, rows: Rows) -> float:
        """See ``Measure.value``."""
        found: float = self._call("value", lambda: float(self._measure.value(rows)))
        low, high = self._metric.low, self._metric.high
        if not low <= found <= high:
            raise self._fault("value", f"{found} is not between {low} and {high}")
        return found

    def interval(self, rows: Rows) -> tuple[float, float] | None:
        """See ``Measure.interval``."""
        found = self._call("interval", lambda: self._measure.interval(rows))
        return None if found is None else self._bounds("interval", found)

    def difference(self, one: Rows, other: Rows) -> Difference | None:
        """See ``Measure.difference``."""
        found = self._call("difference", lambda: self._measure.difference(one, other))
        if found is None:
            return None
        if not isinstance(found, Difference):
            raise self._fault("difference", "is neither scoring.paired.Difference nor None")
        self._bounds("difference", (found.low, found.high))
        return found

    def _bounds(self, what: str, found: Any) -> tuple[float, float]:
        def pair() -> tuple[float, float]:
            low, high = found
            return float(low), float(high)

        low, high = self._call(what, pair)
        if not isfinite(low) or not isfinite(high):
            raise self._fault(what, f"{low} and {high} are not both finite")
        return low, high

    def _call(self, what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            raise self._fault(what, f"{type(error).__name__}: {error}") from error

    def _fault(self, what: str, fault: str) -> SlmcompileError:
        return SlmcompileError(
            f"{self._metric.plugin}: metric {self._metric.name}: {what}: {fault}",
            "mend the plug-in, or take the metric out of eval.metrics",
        )
