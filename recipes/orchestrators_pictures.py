"""The pictures of docs/reference/orchestrators.md as small SVG files, drawn by hand."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from stretto.evaluation.intervals import Interval

__all__ = ["bars", "steps", "trade"]

_COLOURS = ("#1b6ca8", "#c8501e", "#2b8a3e", "#8e44ad", "#b8860b", "#0b7285", "#d6336c", "#5c940d")


def _text(x: float, y: float, said: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'


def _save(path: Path, width: float, height: float, parts: Sequence[str]) -> None:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"])
    path.write_text(body + "\n", encoding="utf-8")


def bars(path: Path, shown: Mapping[str, Mapping[str, Interval]], sets: Sequence[str]) -> None:
    """A panel a set, a bar a contender, with its 95 % interval."""
    left, wide, row, top = 205, 190, 17, 40
    parts = []
    for column, kind in enumerate(sets):
        at = left + column * (wide + 24)
        parts.append(_text(at + wide / 2, 18, kind, more=' font-weight="bold"'))
        for tick in (0, 0.25, 0.5, 0.75, 1):
            x = at + tick * wide
            parts.append(f'<path d="M{x:.1f} {top - 6}V{top + row * len(shown)}" stroke="#ddd" fill="none"/>')
            parts.append(_text(x, top - 9, f"{tick:g}", more=' fill="#666" font-size="9"'))
        for number, (name, found) in enumerate(shown.items()):
            y = top + number * row
            if column == 0:
                parts.append(_text(left - 8, y + 12, name, "end"))
            if (value := found.get(kind)) is None:
                continue
            colour = _colour(name)
            parts.append(
                f'<rect x="{at}" y="{y + 2}" width="{value.value * wide:.1f}" height="{row - 5}" fill="{colour}" opacity=".75"/>'
            )
            low, high = at + value.low * wide, at + value.high * wide
            parts.append(f'<path d="M{low:.1f} {y + 8}H{high:.1f}" stroke="#111" fill="none"/>')
            said = f"{value.value:.2f}".replace("0.", ".", 1)
            parts.append(_text(max(high, at + 2) + 4, y + 12, said, "start", ' font-size="9.5"'))
    _save(path, left + len(sets) * (wide + 24) + 10, top + row * len(shown) + 10, parts)


def _colour(name: str) -> str:
    if name.startswith("trinity"):
        return "#c8501e" if name in ("trinity", "trinity-1") else "#e5ab8f"
    if name.startswith("conductor"):
        return "#1b6ca8"
    if name in ("stretto-ultra", "ultra-1"):
        return "#8e44ad"
    return "#bbb" if name == "oracle" else "#7d8a94"


def trade(path: Path, points: Mapping[str, tuple[float, Interval]], bound: str = "") -> None:
    """Quality over all four sets against money, logarithmic."""
    width, height, left, right, top, bottom = 820, 440, 56, 150, 24, 44
    if len(points) < 2:
        return
    logs = [math.log10(cost) for cost, _ in points.values()]
    low, high = min(logs) - 0.05, max(logs) + 0.05

    def place(cost: float, value: float) -> tuple[float, float]:
        x = left + (math.log10(cost) - low) / (high - low) * (width - left - right)
        return x, height - bottom - value * (height - top - bottom)

    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = place(10**low, tick)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="#ddd" fill="none"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "end"))
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            at = power + math.log10(factor)
            if low <= at <= high:
                x = place(10**at, 0)[0]
                parts.append(f'<path d="M{x:.1f} {top}V{height - bottom}" stroke="#eee" fill="none"/>')
                parts.append(_text(x, height - bottom + 16, f"{factor * 10.0**power:g}"))
    taken: list[tuple[float, float, float]] = []
    for name, (cost, value) in sorted(points.items(), key=lambda p: -p[1][1].value):
        (x, y), (_, y0), (_, y1) = place(cost, value.value), place(cost, value.low), place(cost, value.high)
        colour = _colour(name)
        parts.append(f'<path d="M{x:.1f} {y0:.1f}V{y1:.1f}" stroke="{colour}" fill="none"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        down, wide = y + 4, 6.2 * len(name)
        while any(abs(down - t) < 12 and x + 8 < b and a < x + 8 + wide for t, a, b in taken):
            down += 12
        taken.append((down, x + 8, x + 8 + wide))
        parts.append(_text(x + 8, down, name, "start"))
    parts.append(_text((left + width - right) / 2, height - 8, "USD per 1,000 problems"))
    parts.append(_text(left, 14, "Share of problems solved, all four sets", "start", ' font-weight="bold"'))
    _save(path, width, height, parts)


def steps(path: Path, calls: Mapping[str, Mapping[str, float]]) -> None:
    """Calls a problem by the number of skills that it needs, a line a contender."""
    if not calls:
        return
    width, height, left, right, top, bottom = 560, 300, 46, 170, 30, 40
    most = max(value for each in calls.values() for value in each.values())

    def place(at: int, value: float) -> tuple[float, float]:
        return left + at / 2 * (width - left - right), height - bottom - value / most * (
            height - top - bottom
        )

    parts = [
        _text(
            left,
            16,
            "Calls a problem, the coordinator's or planner's own among them",
            "start",
            ' font-weight="bold"',
        )
    ]
    for tick in range(math.floor(most) + 1):
        y = place(0, tick)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="#ddd" fill="none"/>')
        parts.append(_text(left - 6, y + 4, f"{tick}", "end"))
    for place_, said in enumerate(("one skill", "two skills", "three skills")):
        parts.append(_text(place(place_, 0)[0], height - bottom + 16, said))
    free = float(top)
    for number, (name, each) in enumerate(sorted(calls.items(), key=lambda c: -c[1]["triples"])):
        colour = _COLOURS[number % len(_COLOURS)]
        spots = [place(at, each[kind]) for at, kind in enumerate(("simple", "composite", "triples"))]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
        at = max(spots[-1][1] + 4, free)
        free = at + 13
        parts.append(
            _text(spots[-1][0] + 8, at, f"{name} {each['triples']:.1f}", "start", f' fill="{colour}"')
        )
    _save(path, width, height, parts)
