"""Figures as they are shown."""

import pytest

from stretto.cli.terminal import columns, duration, money, short
from stretto.types import PICO


@pytest.mark.parametrize(
    ("pico", "shown"),
    [
        (None, "-"),
        (0, "$0"),
        (1, "$0.000000000001"),
        (4_100_000, "$0.0000041"),
        (600_000_000_000, "$0.60"),
        (12_345_000_000, "$0.0123"),
        (PICO, "$1.00"),
        (1234 * PICO + PICO // 2, "$1,234.50"),
    ],
)
def test_money_is_never_rounded_to_nothing(pico: int | None, shown: str) -> None:
    """Small amounts keep their digits, large ones are shown in cents."""
    assert money(pico) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.00123, "1.2 ms"),
        (0.166, "166 ms"),
        (1.25, "1.2 s"),
        (99.0, "99.0 s"),
        (600, "10.0 min"),
    ],
)
def test_durations_are_shown_in_a_unit_that_fits(seconds: float | None, shown: str) -> None:
    """Milliseconds, seconds or minutes."""
    assert duration(seconds) == shown


def test_long_texts_are_cut_to_one_line() -> None:
    """Line breaks go, and what is too long ends in an ellipsis."""
    assert short("a\n  b\tc") == "a b c"
    assert short("x" * 100, 10) == "x" * 9 + "…"


def test_columns_are_aligned() -> None:
    """Cells of one column begin at the same place."""
    assert columns([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc  d"]
    assert columns([]) == []
