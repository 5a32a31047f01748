"""Lines in a chart, as SVG by hand: small, the same bytes for the same data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

PALETTE = ("#3b82f6", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#475569", "#a16207")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 380, 260, 52, 30, 40, 50
LEGEND = 20


def charts(panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]], x: str, y: str, floor: float) -> str:
    """SVG of panels side by side, each (title, line by name); a line has its value at 1, 2, …; y is logarithmic and
    values below ``floor`` lie on it. All panels have one scale and one legend.
    """
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    values = [max(value, floor) for _, lines in panels for line in lines.values() for value in line]
    low, high = math.floor(math.log10(min(values))), math.log10(max(values))
    last = max(len(line) for _, lines in panels for line in lines.values())
    whole = len(panels) * (WIDTH + GAP) + LEFT
    rows = math.ceil(len(names) / 6)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {HEIGHT + LEGEND * rows}" '
            'font-family="sans-serif" font-size="11" fill="#334155">'
        ),
        f'<rect width="{whole}" height="{HEIGHT + LEGEND * rows}" fill="#ffffff"/>',
    ]
    inner = HEIGHT - TOP - BOTTOM

    def up(value: float) -> float:
        return TOP + inner * (high - math.log10(max(value, floor))) / ((high - low) or 1.0)

    for i, (title, lines) in enumerate(panels):
        left = LEFT + i * (WIDTH + GAP)

        def across(n: float, left: float = left) -> float:
            return left + WIDTH * (n - 1) / max(last - 1, 1)

        middle = left + WIDTH / 2
        parts.append(f'<text x="{middle}" y="18" text-anchor="middle" font-size="13">{escape(title)}</text>')
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>')
        for power in range(low, math.floor(high) + 1):
            at = up(10.0**power)
            parts.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="#e2e8f0"/>')
            parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        for n in [1, *range(25, last + 1, 25)]:
            parts.append(f'<text x="{across(n):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{n}</text>')
        for name, line in lines.items():
            points = " ".join(f"{across(n):.1f},{up(value):.1f}" for n, value in enumerate(line, 1))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.6"/>')
    parts.append(
        f'<text transform="translate(13 {TOP + inner / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    for i, name in enumerate(names):
        left, at = LEFT + (i % 6) * 120, HEIGHT + LEGEND * (i // 6) + 8
        parts.append(f'<path d="M{left} {at}h18" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{left + 24}" y="{at + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
