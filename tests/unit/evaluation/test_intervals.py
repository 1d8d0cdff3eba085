"""Intervals."""

import random

import pytest

from stretto.evaluation.intervals import clustered, paired_difference, wilson


def test_wilson_agrees_with_the_published_example():
    """8 of 10 give [0.490, 0.943] (Brown, Cai and DasGupta 2001, standard tables)."""
    found = wilson(8, 10)

    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.8, 0.490, 0.943)


def test_the_paired_interval_covers_the_true_difference_about_as_often_as_it_says():
    """Over 200 samples of 80 pairs with a true difference of 0.1, at least 88 % of the intervals hold it."""
    rng = random.Random(1)
    held = 0
    for trial in range(200):
        a = [float(rng.random() < 0.6) for _ in range(80)]
        b = [float(rng.random() < 0.5) for _ in range(80)]
        found = paired_difference(a, b, seed=trial, draws=300)
        held += found.low <= 0.1 <= found.high

    assert held >= 176


def test_equal_answers_show_no_gain():
    """The interval of nothing is nothing, and neither above nor below zero."""
    found = paired_difference([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])

    assert (found.low, found.value, found.high) == (0, 0, 0)
    assert not found.above_zero
    assert not found.below_zero


@pytest.mark.parametrize("pair", [([1.0], []), ([], [])])
def test_unpaired_samples_are_refused(pair):
    """A paired comparison needs the same items on both sides."""
    with pytest.raises(ValueError, match="paired"):
        paired_difference(*pair)


def test_a_paired_interval_leaves_as_much_out_above_as_below():
    """Swapping the two sides mirrors the interval."""
    a, b = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]

    one, other = paired_difference(a, b, draws=1000), paired_difference(b, a, draws=1000)

    assert (one.low, one.high) == (-other.high, -other.low)


def test_a_proportion_of_nothing_is_refused():
    """No trials, no estimate."""
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="at least one trial"):
        clustered([])


def test_items_that_repeat_nothing_have_wilsons_interval():
    """Where every item asks for something else, a clustered interval is the plain one."""
    found = clustered([(place, float(place < 8)) for place in range(10)])

    assert (found.low, found.high) == pytest.approx((wilson(8, 10).low, wilson(8, 10).high))


def test_asking_the_same_again_says_nothing_new():
    """Ten items asked five times each, always with the same outcome, tell as much as ten; so do ten that never fail."""
    again = clustered([(place % 10, float(place % 10 < 8)) for place in range(50)])
    always = clustered([(place % 10, 1.0) for place in range(50)])

    assert (again.value, again.low, again.high) == pytest.approx((0.8, wilson(8, 10).low, wilson(8, 10).high))
    assert always.low == pytest.approx(wilson(10, 10).low)


def test_a_clustered_interval_covers_the_truth_about_as_often_as_it_says():
    """Over 300 samples of 60 clusters of 5, at least 92 % of the intervals hold the true share; plain ones far fewer."""
    rng = random.Random(2)
    held = plain = 0
    for _ in range(300):
        items = []
        for cluster in range(60):
            known = rng.random() < 0.7
            items += [(cluster, float(rng.random() < (0.95 if known else 0.05))) for _ in range(5)]
        truth = 0.7 * 0.95 + 0.3 * 0.05
        found, naive = clustered(items), wilson(sum(s for _, s in items), len(items))
        held += found.low <= truth <= found.high
        plain += naive.low <= truth <= naive.high

    assert held >= 276
    assert plain < held - 30
