"""What the commands print with. Colours and boxes only on a terminal; `rich` is loaded when something is drawn."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from stretto.types import usd

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["columns", "console", "dump", "duration", "money", "short", "table", "tokens", "when"]


def console(*, stderr: bool = False) -> "Console":
    """Where to draw. Without a terminal: no colours, and lines as long as they are."""
    from rich.console import Console

    plain = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=200 if plain else None, emoji=False, markup=False)


def dump(value: Any) -> None:
    """One JSON value on standard output, for scripts."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """A table. `right` names the columns that hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console().print(drawn)


def money(pico: int | None) -> str:
    """Pico-dollars for reading: at least two significant digits, `-` for none."""
    if pico is None:
        return "-"
    value = usd(pico)
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    digits = 4 if value >= 0.01 else 12
    whole, _, fraction = f"{value:.{digits}f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def duration(seconds: float | None) -> str:
    """Seconds for reading."""
    if seconds is None:
        return "-"
    if seconds < 0.0095:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.95:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def tokens(input: int, output: int) -> str:
    """Tokens in and out."""
    return f"{input}→{output}"


def when(time: float) -> str:
    """A point in time, local, to the second."""
    import datetime

    return datetime.datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M:%S")


def short(text: str, most: int = 60) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of aligned cells, for where a table would be too much (and `rich` too heavy)."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
