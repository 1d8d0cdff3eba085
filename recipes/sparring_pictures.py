"""Pictures of the sparring pool's figures as small SVG files, drawn by hand: no library is needed."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from stretto.evaluation.verification import Bin

__all__ = ["heat_map", "reliability_diagram"]

Colour = tuple[int, int, int]
_PAPER: Colour = (255, 255, 255)
_HIGH: Colour = (20, 75, 125)
_LOW: Colour = (165, 45, 30)
_LINES = ("#1b6ca8", "#c8501e", "#2b8a3e", "#8e44ad", "#b8860b", "#555555", "#d6336c", "#0b7285", "#5c940d")
_FONT = 'font-family="system-ui, sans-serif" font-size="11"'


def _tone(share: float) -> Colour:
    """White at 0, deep blue at 1, deep red at -1."""
    end = _HIGH if share >= 0 else _LOW
    red, green, blue = (round(a + (b - a) * min(1.0, abs(share))) for a, b in zip(_PAPER, end, strict=True))
    return red, green, blue


def _text(x: float, y: float, said: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'


def _save(path: Path, width: float, height: float, parts: Sequence[str]) -> None:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" {_FONT}>'
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"])
    path.write_text(body + "\n", encoding="utf-8")


def heat_map(
    path: Path,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float],
    title: str,
) -> None:
    """One coloured cell for each value in -1..1, with the figure in it; a missing one stays white."""
    longest = max((len(column) for column in columns), default=0)
    left, top, wide, high = 110, 44 + 4 * longest, 52, 20
    parts = [_text(left, 14, title, "start", ' font-weight="bold"')]
    for x, column in enumerate(columns):
        at = left + (x + 0.5) * wide
        parts.append(_text(at, top - 6, column, "start", f' transform="rotate(-38 {at:.0f} {top - 6})"'))
    for y, row in enumerate(rows):
        parts.append(_text(left - 6, top + y * high + 14, row, "end"))
        for x, column in enumerate(columns):
            value = values.get((row, column))
            if value is None:
                continue
            red, green, blue = tone = _tone(value)
            ink = "#111" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"
            parts.append(
                f'<rect x="{left + x * wide}" y="{top + y * high}" width="{wide - 1}" height="{high - 1}"'
                f' fill="#{bytes(tone).hex()}" stroke="#ddd"/>'
            )
            said = f"{value:.2f}".replace("0.", ".", 1)
            parts.append(_text(left + (x + 0.5) * wide, top + y * high + 14, said, more=f' fill="{ink}"'))
    _save(path, left + len(columns) * wide + 5 * longest, top + len(rows) * high + 8, parts)


def reliability_diagram(
    path: Path, panels: Mapping[str, Mapping[str, Sequence[Bin]]], labels: Sequence[str]
) -> None:
    """Per panel and line: the share of right answers over how sure somebody was, with intervals; on the diagonal it is honest.

    `labels` name the horizontal axes.
    """
    side, gap, top = 250, 62, 34
    parts = []
    for place, (label, (title, lines)) in enumerate(zip(labels, panels.items(), strict=True)):
        left = gap + place * (side + gap)
        parts += _axes(left, top, side, title, label)
        for number, (name, bins) in enumerate(lines.items()):
            colour = _LINES[number % len(_LINES)]
            points = []
            for each in bins:
                x = left + each.value * side
                y, low, high = (
                    top + (1 - v) * side for v in (each.right.value, each.right.low, each.right.high)
                )
                points.append(f"{x:.1f},{y:.1f}")
                parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" opacity=".45"/>')
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>')
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>')
            if place == 0:
                at = top + side + 46 + 14 * number
                parts.append(f'<rect x="{left}" y="{at - 8}" width="9" height="9" fill="{colour}"/>')
                parts.append(_text(left + 14, at, name, "start"))
    names = max((len(lines) for lines in panels.values()), default=0)
    _save(path, gap + len(panels) * (side + gap), top + side + 46 + 14 * names, parts)


def _axes(left: float, top: float, side: float, title: str, label: str) -> list[str]:
    parts = [
        _text(left + side / 2, top - 14, title, more=' font-weight="bold"'),
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#888"/>',
        f'<path d="M{left} {top + side}L{left + side} {top}" stroke="#999" stroke-dasharray="4 3"/>',
        _text(left + side / 2, top + side + 28, label),
    ]
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(left + tick * side, top + side + 14, f"{tick:g}"))
        parts.append(_text(left - 5, top + (1 - tick) * side + 4, f"{tick:g}", "end"))
    at = f"{left - 30} {top + side / 2}"
    parts.append(_text(left - 30, top + side / 2, "share right", more=f' transform="rotate(-90 {at})"'))
    return parts
