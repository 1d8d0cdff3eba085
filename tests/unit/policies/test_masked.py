"""Leaving workers out for a while: recorded, for every policy, never leaving nobody, and known to all processes."""

from pathlib import Path

import pytest

from stretto.catalog.masks import Mask, Masks
from stretto.errors import ConfigError
from stretto.policies.masked import Masked
from stretto.policies.route import Route
from stretto.steps import Ask, Note, Quote
from stretto.testing import by_hand, question
from stretto.types import Price

WHY = (("a", "agreed 20 of 40 times, 32 were expected"),)
PRICES = {"a": Price.per_million(1, 1), "b": Price.per_million(2, 2)}


def test_a_masked_worker_is_passed_over_and_the_record_says_why() -> None:
    """The cheapest worker is left out: the next one is asked, and the first choice names who is missing and for what."""
    steps, last = by_hand(Masked(Route(), WHY).plan(question("hi", "a", "b", prices=PRICES)), lambda s: None)
    assert isinstance(last, Ask)
    assert last.worker == "b"
    assert isinstance(steps[0], Note)
    assert steps[0].choice.picked == "without a"
    assert steps[0].choice.options[1].rejected == WHY[0][1]


def test_nobody_is_left_out_where_nobody_would_be_left() -> None:
    """In a pool of the masked worker alone, and in one without it, the plan is the policy's own."""
    for workers in (("a",), ("b",)):
        steps, last = by_hand(Masked(Route(), WHY).plan(question("hi", *workers)), lambda s: None)
        assert isinstance(last, Ask)
        assert last.worker == workers[0]
        assert len(steps) == 1


def test_the_outlook_is_that_of_the_smaller_pool() -> None:
    """What a plan would take is foreseen for those who may play."""
    found = Masked(Route(), WHY).outlook(
        question("hi", "a", "b", prices=PRICES), lambda ask: Quote(PRICES[ask.worker].input, 1, 1, 1)
    )
    assert found.usd.expected == PRICES["b"].input


def test_masks_are_followed_by_every_process_and_end(tmp_path: Path) -> None:
    """What one writes the other reads within a second; it ends by itself, or is lifted; history stays."""
    now = [100.0]
    one, other = (Masks(tmp_path, clock=lambda: now[0]) for _ in range(2))
    assert other.current() == ()
    one.put(Mask("a", "why", 100.0, 200.0))
    now[0] = 101.0
    assert one.current() == other.current() == (("a", "why"),)
    now[0] = 200.0
    assert other.current() == ()
    one.put(Mask("b", "again", 200.0, 300.0))
    now[0] = 250.0
    assert one.lift("b")
    assert not one.lift("b")
    now[0] = 252.0
    assert other.current() == ()
    assert [(m.worker, m.until) for m in other.all()] == [("a", 200.0), ("b", 250.0)]


def test_a_damaged_file_leaves_nobody_out(tmp_path: Path) -> None:
    """Serving goes on; the command says what is wrong."""
    masks = Masks(tmp_path, clock=lambda: 5.0)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "masks.json").write_text("[{")
    assert masks.current() == ()
    with pytest.raises(ConfigError, match="move it away"):
        masks.all()
