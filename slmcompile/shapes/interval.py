"""A quantity known to lie between two bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """``low <= value <= high``."""

    low: float
    high: float

    def __add__(self, other: Interval | float) -> Interval:
        if isinstance(other, Interval):
            return Interval(self.low + other.low, self.high + other.high)
        return Interval(self.low + other, self.high + other)

    def __mul__(self, factors: Interval) -> Interval:
        return Interval(self.low * factors.low, self.high * factors.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """High / low."""
        return self.high / self.low


def exactly(value: float) -> Interval:
    """One value."""
    return Interval(value, value)


def larger(*intervals: Interval) -> Interval:
    """The largest of several quantities."""
    return Interval(max(each.low for each in intervals), max(each.high for each in intervals))
