"""Learning curves of several contestants in one picture: an SVG file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slmcompile.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Point, axes, svg, ticks
from slmcompile.report.text import escape

HEIGHT, LINE = 260, 17
COLOURS = ("#1f5fbf", "#c2571a", "#1a7f4b", "#8a3ffc", "#b42318", "#5d6873", "#a56a00")
_STYLE = """<style>
text { font: 11px system-ui, sans-serif; fill: #1c2127; } .tick { fill: #5d6873; }
.grid { stroke: #e3e7eb; } .axis { stroke: #5d6873; } polyline { fill: none; stroke-width: 2; }
</style>"""


def curves(title: str, across: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Lines of shares (0 to 1) over what they cost, with a legend below.

    Args:
        title: what y is.
        across: what x is.
        lines: points of each, in order of x.
    """
    x_ticks = ticks(0.0, max(x for points in lines.values() for x, _ in points), 6)
    y_ticks = [number / 5 for number in range(6)]

    def at_x(x: float) -> float:
        return LEFT + x / x_ticks[-1] * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return TOP + (1 - y) * (HEIGHT - TOP - BOTTOM)

    total = HEIGHT + LINE * (len(lines) + 1) + 8
    body = [_STYLE, f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>']
    body.append(axes(x_ticks, y_ticks, at_x, at_y))
    at = HEIGHT + LINE
    body.append(f'<text x="{LEFT}" y="{at}">{escape(f"{title}, over {across}")}</text>')
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        at += LINE
        places = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        body.append(f'<polyline stroke="{colour}" points="{places}"/>')
        body += [
            f'<circle fill="{colour}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3"/>'
            for x, y in points
        ]
        body.append(
            f'<line x1="{LEFT}" x2="{LEFT + 18}" y1="{at - 4}" y2="{at - 4}" stroke="{colour}"'
            f' stroke-width="3"/><text x="{LEFT + 25}" y="{at}">{escape(name)}</text>'
        )
    ends = [f"{name} ends at {p[-1][1]:.2f} after {p[-1][0]:.0f}" for name, p in lines.items()]
    drawn = svg(title, f"{title} over {across}: {'; '.join(ends)}", total, "".join(body))
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
