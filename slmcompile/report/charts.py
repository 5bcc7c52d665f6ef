"""Charts as inline SVG: lines, bars and intervals; no script, colours from the page's style.

Every chart is an image to a screen reader and carries its description in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slmcompile.report.text import escape, number

Point = tuple[float, float]

WIDTH = 460
# More points than pixels only make the page large.
_MOST_POINTS = 400
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 12, 26


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its class in the style sheet and its points in order of x."""

    name: str
    style: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at ``x`` with a label."""

    x: float
    label: str


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that span ``low``…``high``."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first = math.floor(low / step)
    found = [first * step]
    while found[-1] < high - step * 1e-9:
        found.append((first + len(found)) * step)
    return found


def tick_label(value: float, step: float) -> str:
    """A tick as short as its neighbours allow."""
    if value == 0:
        return "0"
    if abs(step) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    digits = max(0, -math.floor(math.log10(abs(step) * 1.0001)))
    if not math.isclose(round(step, digits), step, rel_tol=1e-6):
        digits += 1
    return f"{value:,.{digits}f}"


def line_chart(
    title: str, series: Sequence[Series], *, height: int = 260, mark: Mark | None = None
) -> str:
    """Lines over optimizer steps; y starts at 0. Empty text without points."""
    finite = [_finite(one) for one in series]
    points = [point for one in finite for point in one.points]
    if not points:
        return ""
    x_ticks = ticks(0.0, max(x for x, _ in points), 5)
    y_ticks = ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points), height // 60)
    plot_height = height - TOP - BOTTOM

    def at_x(x: float) -> float:
        return LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return TOP + (1 - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])) * plot_height

    body = [axes(x_ticks, y_ticks, at_x, at_y)]
    if mark is not None:
        body.append(_mark(mark, at_x, height))
    body += [_line(one, at_x, at_y) for one in finite]
    return svg(title, _describe(title, finite, mark), height, "".join(body))


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most ``_MOST_POINTS`` points, each the mean of its neighbours, for long runs."""
    width = -(-len(points) // _MOST_POINTS)
    if width < 2:
        return list(points)
    groups = [points[at : at + width] for at in range(0, len(points), width)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def _finite(series: Series) -> Series:
    kept = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, series.style, _thinned(kept), series.dots)


def _describe(title: str, series: Sequence[Series], mark: Mark | None) -> str:
    ends = [
        f"{one.name} from {number(one.points[0][1], 4)} to {number(one.points[-1][1], 4)}"
        for one in series
        if one.points
    ]
    return f"{title}: {'; '.join(ends)}" + (f"; {mark.label}" if mark else "")


def svg(title: str, description: str, height: int, body: str) -> str:
    """A chart of what is drawn in it."""
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'aria-label="{escape(description)}"><title>{escape(title)}</title>{body}</svg>'
    )


def axes(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
) -> str:
    """Lines at every tick of y, and what ticks of both are called."""
    parts = []
    bottom = at_y(y_ticks[0])
    for y in y_ticks:
        style = "axis" if y == y_ticks[0] else "grid"
        label = tick_label(y, y_ticks[1] - y_ticks[0])
        parts.append(
            f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
            f'y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>'
            f'<text class="tick" x="{LEFT - 7}" y="{at_y(y) + 4:.1f}" '
            f'text-anchor="end">{label}</text>'
        )
    for x in x_ticks:
        label = tick_label(x, x_ticks[1] - x_ticks[0])
        parts.append(
            f'<text class="tick" x="{at_x(x):.1f}" y="{bottom + 17:.1f}" '
            f'text-anchor="middle">{label}</text>'
        )
    return "".join(parts)


def _mark(mark: Mark, at_x: Callable[[float], float], height: int) -> str:
    x = at_x(mark.x)
    right = x > WIDTH * 0.7
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        f'<text class="note" x="{x - 5 if right else x + 5:.1f}" y="{TOP + 10}" '
        f'text-anchor="{"end" if right else "start"}">{escape(mark.label)}</text>'
    )


def _line(series: Series, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> str:
    places = [f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in series.points]
    line = f'<polyline class="line {series.style}" points="{" ".join(places)}"/>'
    if not series.dots:
        return line
    dots = (place.split(",") for place in places)
    return line + "".join(
        f'<circle class="dot {series.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in dots
    )


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], height: int = 200) -> str:
    """Bars between ``edges`` (one more than counts). Empty text without counts."""
    if not counts or len(edges) != len(counts) + 1 or not max(counts):
        return ""
    y_ticks = ticks(0.0, float(max(counts)), 3)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM

    def at_x(x: float) -> float:
        return LEFT + (x - edges[0]) / ((edges[-1] - edges[0]) or 1.0) * plot_width

    def at_y(y: float) -> float:
        return TOP + (1 - y / y_ticks[-1]) * plot_height

    x_ticks = [x for x in ticks(edges[0], edges[-1], 6) if edges[0] <= x <= edges[-1]]
    if len(x_ticks) < 2:
        x_ticks = [edges[0], edges[-1]]
    bars = "".join(
        f'<rect class="bar" x="{at_x(low) + 0.75:.1f}" y="{at_y(n):.1f}" '
        f'width="{max(at_x(high) - at_x(low) - 1.5, 0.5):.1f}" '
        f'height="{at_y(0) - at_y(n):.1f}"/>'
        for low, high, n in zip(edges, edges[1:], counts, strict=False)
    )
    description = f"{title}: {sum(counts)} rows from {edges[0]:g} to {edges[-1]:g}"
    return svg(title, description, height, axes(x_ticks, y_ticks, at_x, at_y) + bars)


def interval(value: float, bounds: tuple[float, float] | None, style: str = "") -> str:
    """A value of 0…1 as a dot on a track with its 95 % interval; the table cell says the number."""
    width, height, pad = 120, 16, 5

    def at(x: float) -> float:
        return pad + min(max(x, 0.0), 1.0) * (width - 2 * pad)

    middle = height / 2
    parts = [f'<line class="track" x1="{pad}" x2="{width - pad}" y1="{middle}" y2="{middle}"/>']
    if bounds is not None:
        parts.append(
            f'<line class="whisker {style}" x1="{at(bounds[0]):.1f}" x2="{at(bounds[1]):.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
        )
    parts.append(f'<circle class="value {style}" cx="{at(value):.1f}" cy="{middle}" r="4"/>')
    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
