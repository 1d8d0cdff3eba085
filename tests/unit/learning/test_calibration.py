"""What is learned of a pool from calibration problems."""

import pytest

from stretto.learning.calibration import (
    Observation,
    balanced_accuracy,
    lowest_threshold,
    route_table,
    thresholds,
)
from stretto.policies.route import Table
from stretto.sparring.problems import FAMILIES, problems


def test_the_lowest_threshold_that_keeps_the_wanted_precision_is_taken():
    """Nine of ten right above 0.5 is enough for 0.9 and too little for 0.95."""
    pairs = [(0.9 - i / 100, True) for i in range(9)] + [(0.5, False), (0.4, False)]

    assert lowest_threshold(pairs, 0.9, least=1) == (0.5, 10, 0.9)
    assert lowest_threshold(pairs, 0.95, least=1) == (pytest.approx(0.82), 9, 1.0)


def test_a_precision_seen_on_a_handful_of_answers_is_not_trusted():
    """Nineteen right answers of nineteen are no reason to accept, twenty are."""
    assert lowest_threshold([(0.9, True)] * 19, 0.95) == (1.0, 0, 0.0)
    assert lowest_threshold([(0.9, True)] * 20, 0.95) == (0.9, 20, 1.0)


def test_equally_sure_answers_are_accepted_together_or_not_at_all():
    """A threshold cannot tell apart answers of the same confidence."""
    assert lowest_threshold([(0.7, True), (0.7, False)], 0.9, least=1) == (1.0, 0, 0.0)


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


def test_the_table_recognises_every_family_and_knows_who_is_good_at_it():
    """Naive Bayes over the wording alone names the family of at least 95 % of calibration prompts."""
    seen = [Observation("w", f, i % 4 > 0, 0.5) for f in FAMILIES for i in range(8)]

    table = Table(route_table(seen, {}, n=2000, seed=5))

    asked = problems(FAMILIES, "calibration", 200, 6)
    assert sum(table.task(p.prompt)[0] == p.family for p in asked) >= 190
    assert table.estimates(FAMILIES[0]) == {"w": 7 / 10}


def test_thresholds_carry_their_quality():
    """The artefact says per worker how well its confidence separates, and on how many answers."""
    answers = [(True, 0.9), *[(True, 0.8)] * 19, *[(False, 0.2)] * 3, (False, None)]
    seen = [Observation("w", "f", good, sure) for good, sure in answers]

    data = thresholds(seen, {"seed": 1}).data

    assert data["workers"]["w"] == 0.8
    assert data["quality"]["w"] == {"n": 23, "accepted": 20, "precision": 1.0, "best_balanced_accuracy": 1.0}
