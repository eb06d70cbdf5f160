"""The drawing of docs/chutes: answered calls by hour, and calls sent in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chutes_world import WALL_S

if TYPE_CHECKING:
    from chutes_world import Score

COLOURS = ("#b45f06", "#777777", "#3d6db5", "#e0a96d", "#bbbbbb", "#9bb8dd", "#1b7f4d")


def svg(scores: list[Score], world: str, calls: int, seed: int) -> str:
    """Share of answered calls by hour, and wasted calls, as one drawing."""
    wide, high, left, top = 760, 520, 60, 40

    def x(hour: float) -> float:
        return left + hour * 28.0

    def y(share: float) -> float:
        return top + (1.0 - share) * 220.0

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
            'font-family="sans-serif" font-size="12" role="img">'
        ),
        "<title>A simulated day: answered calls by hour, and wasted calls</title>",
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
        (
            f'<text x="{left}" y="22" font-size="14">Answered within {WALL_S:.0f} s, by hour '
            f"({calls:,} calls, {world} world, seed {seed}; simulated)</text>"
        ),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line x1="{left}" x2="{x(23)}" y1="{y(share)}" y2="{y(share)}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{left - 8}" y="{y(share) + 4}" text-anchor="end">{share:.0%}</text>'
        )
    parts += [
        f'<text x="{x(hour)}" y="{y(0) + 18}" text-anchor="middle">{hour} h</text>'
        for hour in range(0, 24, 3)
    ]
    most = max(max(s.wasted for s in scores), 1)
    for number, (s, colour) in enumerate(zip(scores, COLOURS, strict=True)):
        points = " ".join(
            f"{x(h):.1f},{y(a / n if n else 1):.1f}" for h, (a, n) in enumerate(s.by_hour)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        row = 320 + number * 27
        long = 380.0 * s.wasted / most
        parts.append(f'<text x="{left}" y="{row + 14}">{s.name}</text>')
        parts.append(
            f'<rect x="220" y="{row}" width="{max(long, 1):.1f}" height="20" fill="{colour}"/>'
        )
        parts.append(f'<text x="{228 + long:.1f}" y="{row + 14}">{s.wasted:,}</text>')
    parts.append('<text x="60" y="308" font-size="14">Calls sent in vain</text>')
    return "\n".join([*parts, "</svg>", ""])
