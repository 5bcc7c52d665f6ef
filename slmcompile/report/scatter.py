"""A chart of points with intervals, of which one is marked: what was chosen among, and what was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmcompile.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Point, axes, svg, ticks
from slmcompile.report.text import escape

_APART = 12.0
"""Pixels between two labels, either way."""
_STEP = 13.0
_TALL = 12.0
"""Pixels that a label stands up from its baseline: higher up there is no room for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A point: what stands beside it, where it is, and its interval along y.

    Attributes:
        label: a number or a word or two.
        style: its class in the style sheet: ``chosen``, ``holds`` or ``misses``.
    """

    label: str
    x: float
    y: float
    bounds: tuple[float, float] | None = None
    style: str = "holds"


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal line at ``y`` with a label: what a value must not be behind."""

    y: float
    label: str


def scatter(
    title: str, description: str, places: Sequence[Place], bars: Sequence[Bar], height: int = 300
) -> str:
    """Points over what they cost; x starts at 0, y where the lowest is. Empty without points."""
    if not places:
        return ""
    ends = [end for place in places for end in (place.bounds or (place.y, place.y))]
    values = [*ends, *(bar.y for bar in bars)]
    x_ticks = ticks(0.0, max(place.x for place in places), 5)
    y_ticks = ticks(min(values), max(values), height // 60)

    def at_x(x: float) -> float:
        return LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return TOP + (1 - share) * (height - TOP - BOTTOM)

    body = [axes(x_ticks, y_ticks, at_x, at_y)]
    for bar in bars:
        y = at_y(bar.y)
        beside = y - 5 if y - 5 >= _TALL else y + _STEP
        body.append(
            f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="note" x="{WIDTH - RIGHT}" y="{beside:.1f}" text-anchor="end">'
            f"{escape(bar.label)}</text>"
        )
    taken: list[Point] = []
    labels = []
    for place in places:
        x, y, style = at_x(place.x), at_y(place.y), escape(place.style)
        if place.bounds:
            low, high = (at_y(end) for end in place.bounds)
            body.append(
                f'<line class="reach {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}"'
                f' y2="{high:.1f}"/>'
            )
        radius = 6 if place.style == "chosen" else 4
        body.append(f'<circle class="place {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        labels.append(
            f'<text class="note" x="{x:.1f}" y="{_beside(x, y, taken):.1f}"'
            f' text-anchor="middle">{escape(place.label)}</text>'
        )
    body += labels  # over all points
    return svg(title, description, height, "".join(body))


def _beside(x: float, y: float, taken: list[Point]) -> float:
    """Where a point's label stands: above it, or below, or further off, where no other is."""
    for away in (-9.0, 18.0, -9.0 - _STEP, 18.0 + _STEP, -9.0 - 2 * _STEP, 18.0 + 2 * _STEP):
        at = y + away
        if at >= _TALL and all(abs(x - a) >= _APART or abs(at - b) >= _APART for a, b in taken):
            break
    taken.append((x, at))
    return at
