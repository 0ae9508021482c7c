"""Draws what a provider admitted against its limit, as an SVG: ``python -m benchmarks.pacing --plot FILE``."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP, BELOW = 860, 150, 64, 20, 34, 58, 44
INK, FAINT, LINE, LIMIT = "#57606a", "#afb8c1", "#2f6feb", "#cf222e"  # legible on white and on dark alike


class Panel(Struct, frozen=True):
    """One curve: requests admitted in each second, the limit per second, and a title."""

    title: str
    admitted: Sequence[int]
    limit: float


def svg(panels: Sequence[Panel], seconds: int) -> str:
    """The panels under one another, over so many seconds."""
    height = TOP + len(panels) * (HEIGHT + GAP) - GAP + BELOW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}" role="img" aria-label="Requests admitted per second, against the limit">'
    ]
    for place, panel in enumerate(panels):
        parts += _panel(panel, TOP + place * (HEIGHT + GAP), seconds)
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">seconds</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, top: float, seconds: int) -> list[str]:
    right, bottom = WIDTH - RIGHT, top + HEIGHT
    most = 1.3 * panel.limit

    def x(second: float) -> float:
        return LEFT + (right - LEFT) * second / seconds

    def y(rate: float) -> float:
        return bottom - HEIGHT * min(rate, most) / most

    points = " ".join(f"{x(at + 0.5):.1f},{y(rate):.1f}" for at, rate in enumerate(panel.admitted[:seconds]))
    parts = [f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{panel.title}</text>']
    for second in range(0, seconds + 1, 60):
        parts.append(f'<line x1="{x(second):.1f}" x2="{x(second):.1f}" y1="{top}" y2="{bottom}" stroke="{FAINT}" '
                     'stroke-width="0.5"/>')  # fmt: skip
        parts.append(f'<text x="{x(second):.1f}" y="{bottom + 16}" text-anchor="middle">{second}</text>')
    for rate in (0.0, panel.limit / 2, panel.limit):
        parts.append(f'<text x="{LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:g}</text>')
    parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{INK}"/>')
    parts.append(f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.5"/>')
    parts.append(
        f'<line x1="{LEFT}" x2="{right}" y1="{y(panel.limit):.1f}" y2="{y(panel.limit):.1f}" '
        f'stroke="{LIMIT}" stroke-dasharray="5 4"/>'
    )
    parts.append(f'<text x="{right}" y="{y(panel.limit) - 6:.1f}" text-anchor="end" fill="{LIMIT}">the limit</text>')
    return parts
