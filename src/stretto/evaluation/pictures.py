"""The pictures of a report as inline SVG: no library, no script, colours from the page's own light or dark style."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from stretto.evaluation.comparison import Bin, Row
from stretto.evaluation.two_models import Between

__all__ = ["between", "calibration", "frontier", "use"]

_W, _H = 980, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 16, 44


def frontier(rows: Sequence[Row]) -> str:
    """Score against cost per 1,000 items (logarithmic): who is above and left of whom. The line joins the reachable best.

    What is free, or so bad that it would flatten the picture, stands at the edge with an arrow and its figures.
    """
    known = [r for r in rows if math.isfinite(r.usd)]
    shown = [r for r in known if r.usd > 0 and not _far_below(r, rows)]
    if len(shown) < 2:
        return ""
    costs = [math.log10(r.usd) for r in known if r.usd > 0]
    scores = [r.compared.score for r in known if not _far_below(r, rows)]
    low, high = min(costs) - 0.08, max(costs) + 0.3
    bottom, top = max(0.0, min(scores) - 0.03), min(1.0, max(scores) + 0.03)

    def place(row: Row) -> tuple[float, float]:
        at = math.log10(row.usd) if row.usd > 0 else low
        x = _LEFT + (at - low) / (high - low) * (_W - _LEFT - _RIGHT)
        up = max(0.0, (row.compared.score - bottom) / (top - bottom))
        return x, _H - _BOTTOM - up * (_H - _TOP - _BOTTOM)

    marks = [_grid_y(bottom, top), _ticks_x(low, high)]
    best, line = -1.0, []
    for row in sorted((r for r in shown if r.kind != "bound"), key=lambda r: (r.usd, -r.compared.score)):
        if row.compared.score > best:
            best = row.compared.score
            line.append(place(row))
    path = " L".join(f"{x:.1f},{y:.1f}" for x, y in line)
    marks.append(f'<path class="front" fill="none" stroke="#88a" d="M{path}"/>')
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in map(place, known)]
    for row in sorted(known, key=lambda r: ("policy", "control", "bound", "worker").index(r.kind)):
        x, y = place(row)
        told = f"{escape(row.name)}: {100 * row.compared.score:.2f} at ${row.usd:.4g} per 1,000"
        below, free = _far_below(row, rows), row.usd == 0
        edge = "below" if below else "left" if free else ""
        mark = _arrow(x, y, edge) if edge else _mark(row.kind, x, y)
        name = row.name if len(row.name) <= 30 else row.name[:29] + "…"
        figures = [f"{100 * row.compared.score:.1f}"] * below + ["free"] * free
        label = _label(f"{name}: {', '.join(figures)}" if figures else name, x, y, boxes, edge)
        marks.append(f'<g class="{row.kind}"><title>{told}</title>{mark}{label}</g>')
    marks.append(
        f'<text class="axis" x="{_W - _RIGHT}" y="{_H - 8}" text-anchor="end">USD per 1,000 items</text>'
    )
    return _svg("Score against cost", "".join(marks))


def _far_below(row: Row, rows: Sequence[Row]) -> bool:
    """So bad that it would flatten the picture."""
    best = max(r.compared.score for r in rows if r.kind != "bound")
    return row.compared.score < best - 0.45


def _arrow(x: float, y: float, edge: str) -> str:
    """A mark at the lower or left edge that points to where the place is."""
    shape = (
        f"M{x - 5:.1f},{y - 9:.1f} h10 l-5,9 Z"
        if edge == "below"
        else f"M{x + 9:.1f},{y - 5:.1f} v10 l-9,-5 Z"
    )
    return f'<path class="beyond" d="{shape}"/>'


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "policy":
        return f'<path d="M{x:.1f},{y - 7:.1f} l7,7 l-7,7 l-7,-7 Z"/>'
    if kind == "worker":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="ring" fill="none" stroke="#b7791f"/>'


def _label(text: str, x: float, y: float, boxes: list[tuple[float, float, float, float]], edge: str) -> str:
    """The name beside its mark, where no other name stands; none if there is no room (the title still tells).

    `edge`: which one an arrow stands on, `below` or `left`, or "": from there the name may be further away.
    """
    wide = 6.9 * len(text)
    right, over = ("start", x + 12, x + 12), ("middle", x, x - wide / 2)
    if edge == "below":
        start = ("start", max(x - 20, _LEFT), max(x - 20, _LEFT))
        places = [(*where, -13 * k) for where in (over, start) for k in range(1, 8)]
    elif edge:
        places = [(*right, 4 + 13 * k) for k in (0, -1, 1, -2, 2, -3, 3)]
    else:
        places = [(*right, 4), ("end", x - 12, x - 12 - wide, 4), (*over, -11), (*over, 20)]
    for anchor, at, left, shift in places:
        box = (left, y + shift - 10, left + wide, y + shift + 3)
        inside = box[0] >= _LEFT and box[2] <= _W - 2 and box[1] >= 2
        if inside and not any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes
        ):
            boxes.append(box)
            return f'<text x="{at:.1f}" y="{y + shift:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    return ""


def _grid_y(bottom: float, top: float) -> str:
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (top - bottom) / s <= 8), 0.25)
    value, marks = math.ceil(bottom / step) * step, []
    while value <= top + 1e-9:
        y = _H - _BOTTOM - (value - bottom) / (top - bottom) * (_H - _TOP - _BOTTOM)
        marks.append(f'<path class="grid" fill="none" stroke="#8883" d="M{_LEFT},{y:.1f} H{_W - _RIGHT}"/>')
        marks.append(
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>'
        )
        value += step
    return "".join(marks)


def _ticks_x(low: float, high: float) -> str:
    marks = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            at = power + math.log10(factor)
            if low <= at <= high and (factor == 1 or high - low < 2.5):
                x = _LEFT + (at - low) / (high - low) * (_W - _LEFT - _RIGHT)
                told = f"{factor * 10.0**power:g}"
                marks.append(
                    f'<path class="grid" fill="none" stroke="#8883" d="M{x:.1f},{_TOP} V{_H - _BOTTOM}"/>'
                )
                marks.append(
                    f'<text class="axis" x="{x:.1f}" y="{_H - _BOTTOM + 18}" text-anchor="middle">{told}</text>'
                )
    return "".join(marks)


_SIZE: Final = 300
"""Of the square pictures, whose axes go from 0 to 1."""


def _at(p: float) -> float:
    return 44 + p * (_SIZE - 56)


def _up(p: float) -> float:
    return _SIZE - 40 - p * (_SIZE - 56)


def _square(across: str, upwards: str) -> list[str]:
    """Grid, ticks, diagonal, and what goes from left to right and from below to above."""
    at, up, marks = _at, _up, []
    for p in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks.append(
            f'<path class="grid" fill="none" stroke="#8883" d="M{at(0)},{up(p):.1f} H{at(1)} M{at(p):.1f},{up(0)} V{up(1)}"/>'
        )
        marks.append(f'<text class="axis" x="38" y="{up(p) + 4:.1f}" text-anchor="end">{p:g}</text>')
        marks.append(f'<text class="axis" x="{at(p):.1f}" y="{_SIZE - 22}" text-anchor="middle">{p:g}</text>')
    marks.append(f'<path class="ideal" fill="none" stroke="#888" d="M{at(0)},{up(0)} L{at(1)},{up(1)}"/>')
    marks.append(f'<text class="axis" x="{at(1)}" y="{_SIZE - 6}" text-anchor="end">{across}</text>')
    marks.append(f'<text class="axis" x="{at(0)}" y="10">{upwards}</text>')
    return marks


def between(one: Between) -> str:
    """How much of the gap each dial wins back for its share of strong calls; by lot one would stand on the diagonal."""
    points = [(0.0, 0.0), *((p.share, p.recovered) for p in one.points), (1.0, 1.0)]
    line = " ".join(f"{_at(x):.1f},{_up(min(1.02, max(-0.05, y))):.1f}" for x, y in points)
    marks = [*_square("share of calls to the stronger one", "share of the gap won back")]
    marks.append(f'<polyline class="front" fill="none" stroke="#47d" points="{line}"/>')
    for p in one.points:
        told = (
            f"{escape(p.name)}: {100 * p.recovered:.1f} % of the gap for {100 * p.share:.1f} % of the calls"
        )
        x, y = _at(p.share), _up(min(1.02, max(-0.05, p.recovered)))
        marks.append(
            f'<g class="policy"><title>{told}</title><path d="M{x:.1f},{y - 5:.1f} l5,5 l-5,5 l-5,-5 Z"/></g>'
        )
    return _svg(f"{one.name} between {one.weak} and {one.strong}", "".join(marks), _SIZE, _SIZE)


def calibration(bins: Sequence[Bin], name: str) -> str:
    """Stated against realised, with intervals: on the line what was said was so."""
    at, up, marks = _at, _up, _square("stated probability of being right", "right")
    most = max(b.n for b in bins)
    for b in bins:
        x, radius = at(b.stated), 3 + 5 * math.sqrt(b.n / most)
        realised = f"{b.right.value:.2f} [{b.right.low:.2f}, {b.right.high:.2f}]"
        told = f"{b.n} answers: stated {b.stated:.2f}, right {realised}"
        marks.append(
            f'<g class="policy"><title>{told}</title>'
            f'<path class="bar" fill="none" stroke="#47d" d="M{x:.1f},{up(b.right.low):.1f} V{up(b.right.high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{up(b.right.value):.1f}" r="{radius:.1f}"/></g>'
        )
    return _svg(f"Calibration of {name}", "".join(marks), _SIZE, _SIZE)


def use(asked: Mapping[str, Mapping[str, int]]) -> str:
    """Whom each policy asked: its calls, split by worker, in the same order everywhere."""
    most = max((sum(found.values()) for found in asked.values()), default=0)
    if not most:
        return ""
    workers = list(dict.fromkeys(w for found in asked.values() for w in found))
    marks, y = [], 14
    for name, found in asked.items():
        marks.append(f'<text x="0" y="{y}">{escape(name)}: {sum(found.values())} calls</text>')
        x, y = 0.0, y + 8
        for worker in (w for w in workers if w in found):
            count = found[worker]
            wide = count / most * _W
            hue = 47 + 137 * workers.index(worker)
            told = f"{escape(worker)}: {count} calls ({count / sum(found.values()):.0%})"
            short = escape(worker) if wide > 6.4 * len(worker) + 8 else ""
            marks.append(
                f'<g><title>{told}</title><rect x="{x:.1f}" y="{y}" width="{max(wide - 1, 0.5):.1f}" height="24" rx="3" '
                f'fill="hsl({hue % 360} 45% 50%)"/><text class="on" x="{x + 6:.1f}" y="{y + 16}">{short}</text></g>'
            )
            x += wide
        y += 46
    return _svg("Whom each policy asked", "".join(marks), _W, y - 12)


def _svg(title: str, inside: str, width: int = _W, height: int = _H) -> str:
    size = f'viewBox="0 0 {width} {height}" style="max-width:{width}px"'
    return f'<svg {size} role="img" font-size="12" font-family="sans-serif" aria-label="{escape(title)}">{inside}</svg>'
