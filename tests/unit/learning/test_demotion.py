"""A promise that holds is hardly ever called broken, however often one looks; a broken one is found out."""

import random

import pytest

from stretto.learning.demotion import kept


def scores(rate: float, n: int, seed: int) -> list[float]:
    """Right or wrong, with this chance to be right."""
    rng = random.Random(seed)
    return [float(rng.random() < rate) for _ in range(n)]


def test_looking_after_every_outcome_is_no_mistake() -> None:
    """Of 300 streams of 1,000 outcomes at exactly the promised rate at most 1 in 20 is ever called broken."""
    assert sum(kept(scores(0.8, 1000, seed), 0.8).broken for seed in range(300)) <= 15


def test_a_broken_promise_is_found_out() -> None:
    """Ten points below what was promised is noticed within 1,000 outcomes nearly always, 30 points within 100."""
    assert sum(kept(scores(0.7, 1000, seed), 0.8).broken for seed in range(50)) >= 47
    assert sum(kept(scores(0.5, 100, seed), 0.8).broken for seed in range(50)) >= 47


def test_better_than_promised_is_no_evidence_against() -> None:
    """Where everything is right the odds against never rise."""
    found = kept([1.0] * 500, 0.8)
    assert (found.broken, found.mean) == (False, 1.0)
    assert found.against <= 1.0


def test_differences_may_be_negative() -> None:
    """Paired differences lie between -1 and 1: a candidate that always loses is refuted, one that ties is not."""
    assert kept([-1.0] * 20, -0.01, low=-1.0).broken
    assert not kept([0.0] * 2000, -0.01, low=-1.0).broken


@pytest.mark.parametrize("promised", [1.5, -0.1])
def test_a_promise_that_nobody_could_keep_is_a_mistake(promised: float) -> None:
    """It lies between the least and the greatest outcome; no outcomes at all refute nothing."""
    with pytest.raises(ValueError, match="lies between"):
        kept([1.0], promised)
    assert not kept([], 0.5).broken
