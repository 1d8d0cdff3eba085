"""How well a signal tells right answers from wrong ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from stretto.evaluation.verification import (
    area,
    balanced_accuracy,
    balanced_at,
    best_threshold,
    calibration_error,
    lowest_threshold,
    reliability,
)

SIGNALS = some.lists(some.tuples(some.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), some.booleans()), max_size=30)


def test_the_area_counts_how_often_a_right_answer_is_surer():
    """Three of four pairs of a right and a wrong answer are in order; a tie counts half."""
    assert area([(0.9, True), (0.4, True), (0.5, False), (0.1, False)]) == 0.75
    assert area([(0.5, True), (0.5, False)]) == 0.5
    assert area([(0.9, True)]) is None


@given(SIGNALS)
def test_the_area_is_that_of_all_pairs(signal):
    """Counted by hand over every pair of a right and a wrong answer, it is the same."""
    pairs = [(r > w) + 0.5 * (r == w) for r, a in signal for w, b in signal if a and not b]

    assert area(signal) == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([(0.9, True), (0.8, True), (0.1, False)], 1.0),
        ([(0.9, True), (0.8, False), (0.7, True), (0.1, False)], 0.75),
        ([(0.9, True)], 0.5),
    ],
)
def test_balanced_accuracy_is_that_of_the_best_threshold(pairs, found):
    """One when a threshold separates perfectly, a half when there is nothing to separate."""
    assert balanced_accuracy(pairs) == found


@given(SIGNALS)
def test_no_threshold_is_better_than_the_best(signal):
    """At the best threshold the balanced accuracy is what was promised, and at no other value higher."""
    cut, reached = best_threshold(signal)
    there = [balanced_at(signal, value) for value, _ in signal]

    if there and None not in there:
        assert reached == pytest.approx(max(0.5, *there))
        assert reached == 0.5 or balanced_at(signal, cut) == pytest.approx(reached)
    else:
        assert (cut, reached) == (1.0, 0.5)


def test_the_lowest_threshold_that_surely_keeps_the_precision_is_taken():
    """Surely is the lower end of the interval: 73 right of 73 are .95 or more, 72 are not; the lowest such value counts."""
    assert lowest_threshold([(0.9, True)] * 72, 0.95) is None
    value, accepted, share = lowest_threshold([(0.9, True)] * 73, 0.95)
    assert (value, accepted, share.value) == (0.9, 73, 1.0)
    value, accepted, _ = lowest_threshold([(0.9, True)] * 80 + [(0.5, True)] * 5 + [(0.2, False)] * 20, 0.95)
    assert (value, accepted) == (0.5, 85)


def test_equally_sure_answers_are_accepted_together_or_not_at_all():
    """A threshold cannot tell apart answers of the same confidence."""
    assert lowest_threshold([(0.7, True)] * 80 + [(0.7, False)] * 20, 0.9) is None


def test_an_honest_signal_has_no_calibration_error():
    """Of answers that are .75 sure, three of four right: on the diagonal. All right: .25 off."""
    honest = [(0.75, True)] * 3 + [(0.75, False)]

    assert calibration_error(honest) == 0.0
    assert calibration_error([(0.75, True)]) == 0.25
    (part,) = reliability(honest)
    assert (part.n, part.value, part.right.value) == (4, 0.75, 0.75)


def test_bins_hold_every_answer_once():
    """Certainty belongs to the last bin; empty bins are left out; without answers there is no error to tell."""
    assert [b.n for b in reliability([(0.0, True), (0.05, False), (1.0, True)])] == [2, 1]
    with pytest.raises(ValueError, match="at least one"):
        calibration_error([])
