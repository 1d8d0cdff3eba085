"""Curves of a training or a search as one small SVG file: points over steps, with levels to compare them with."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

__all__ = ["learning_curve"]

_WIDE: Final = 760
_HIGH: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 168, 34, 44
_COLOURS: Final = ("#1b6ca8", "#c8501e", "#2b8a3e", "#8e44ad", "#b8860b", "#0b7285")

Point = tuple[float, float]


def learning_curve(
    path: Path,
    lines: Mapping[str, Sequence[Point]],
    *,
    title: str,
    across: str,
    up: str,
    marks: Mapping[str, float] | None = None,
    dots: Sequence[Point] = (),
) -> None:
    """Draw `lines` (name -> points in order) with dashed levels `marks` (name -> value) and pale `dots` behind them.

    `across` and `up` name the axes. Names stand at the right, where no other name stands. Values that are no numbers are left
    out; without any number a picture with axes only is written.
    """
    levels = {name: value for name, value in (marks or {}).items() if math.isfinite(value)}
    kept = {name: [p for p in points if math.isfinite(p[1])] for name, points in lines.items()}
    every = [*(p for points in kept.values() for p in points), *dots]
    xs = [x for x, _ in every] or [0.0, 1.0]
    ys = [y for _, y in every] + list(levels.values()) or [0.0, 1.0]
    low, high = _span(min(ys), max(ys))
    first, last = min(xs), max(max(xs), min(xs) + 1e-9)

    def place(x: float, y: float) -> Point:
        return (
            _LEFT + (x - first) / (last - first) * (_WIDE - _LEFT - _RIGHT),
            _HIGH - _BOTTOM - (y - low) / (high - low) * (_HIGH - _TOP - _BOTTOM),
        )

    parts = [_text(_LEFT, 18, title, "start", ' font-weight="bold"'), *_axes(first, last, low, high, place)]
    parts.append(_text((_LEFT + _WIDE - _RIGHT) / 2, _HIGH - 8, across))
    middle = (_TOP + _HIGH - _BOTTOM) / 2
    parts.append(_text(14, middle, up, more=f' transform="rotate(-90 14 {middle:.0f})"'))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="#9ab"/>' for x, y in (place(*p) for p in dots)]
    names: list[tuple[float, str, str]] = []
    for name, value in levels.items():
        y = place(first, value)[1]
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDE - _RIGHT}" stroke="#888" stroke-dasharray="5 4" fill="none"/>'
        )
        names.append((y, f"{name} {value:.3g}", "#555"))
    for number, (name, points) in enumerate(kept.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if points:
            names.append((place(*points[-1])[1], f"{name} {points[-1][1]:.3g}", colour))
    parts += _names(names)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"])
    path.write_text(body + "\n", encoding="utf-8")


def _span(low: float, high: float) -> tuple[float, float]:
    """The range that is drawn: a little more than the values take."""
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _step(span: float, most: int) -> float:
    """A round distance between ticks: 1, 2 or 5 times a power of ten, at most `most` of them."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)


def _axes(
    first: float, last: float, low: float, high: float, place: Callable[[float, float], Point]
) -> list[str]:
    parts = []
    step = _step(high - low, 6)
    value = math.ceil(low / step) * step
    while value <= high:
        y = place(first, value)[1]
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDE - _RIGHT}" stroke="#ddd" fill="none"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.6g}", "end"))
        value += step
    step = _step(last - first, 8)
    value = math.ceil(first / step) * step
    while value <= last:
        x = place(value, low)[0]
        parts.append(f'<path d="M{x:.1f} {_HIGH - _BOTTOM}v4" stroke="#888" fill="none"/>')
        parts.append(_text(x, _HIGH - _BOTTOM + 17, f"{value:.6g}"))
        value += step
    parts.append(f'<path d="M{_LEFT} {_TOP}V{_HIGH - _BOTTOM}H{_WIDE - _RIGHT}" stroke="#888" fill="none"/>')
    return parts


def _names(wanted: Sequence[tuple[float, str, str]]) -> list[str]:
    """The names of lines and levels, from top to bottom, each moved down where another stands."""
    parts, free = [], float(_TOP)
    for y, said, colour in sorted(wanted):
        at = max(y + 4, free)
        free = at + 13
        parts.append(_text(_WIDE - _RIGHT + 6, at, said, "start", f' fill="{colour}"'))
    return parts


def _text(x: float, y: float, said: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'
