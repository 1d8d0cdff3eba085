"""What is learned of a pool from calibration problems."""

import pytest

from stretto.learning.calibration import Observation, best_threshold, route_table, thresholds
from stretto.policies.route import Table
from stretto.sparring.problems import FAMILIES, problems


def test_the_threshold_separates_right_from_wrong_in_the_middle_of_the_gap():
    """Wrong below 0.3, right from 0.7 on: the threshold is 0.5 and the balanced accuracy 1."""
    assert best_threshold([(0.1, False), (0.3, False), (0.7, True), (0.9, True)]) == (pytest.approx(0.5), 1.0)


@pytest.mark.parametrize(("right", "least"), [(True, 0.0), (False, 1.0)])
def test_with_nothing_to_separate_all_or_none_is_accepted(right, least):
    """A worker that was always right is trusted, one that was never right is not."""
    assert best_threshold([(0.4, right), (0.6, right)]) == (least, 0.5)


def test_the_table_recognises_every_family_and_knows_who_is_good_at_it():
    """Naive Bayes over the wording alone names the family of at least 95 % of calibration prompts."""
    seen = [Observation("w", f, i % 4 > 0, 0.5) for f in FAMILIES for i in range(8)]

    table = Table(route_table(seen, {}, n=2000, seed=5))

    asked = problems(FAMILIES, "calibration", 200, 6)
    assert sum(table.task(p.prompt)[0] == p.family for p in asked) >= 190
    assert table.estimates(FAMILIES[0]) == {"w": 7 / 10}


def test_thresholds_carry_their_quality():
    """The artefact says per worker how well its confidence separates, and on how many answers."""
    seen = [
        Observation("w", "f", good, sure)
        for good, sure in [(True, 0.9), (True, 0.8), (False, 0.2), (False, None)]
    ]

    data = thresholds(seen, {"seed": 1}).data

    assert data["workers"]["w"] == pytest.approx(0.5)
    assert data["quality"]["w"] == {"balanced_accuracy": 1.0, "n": 3}
