"""Whether two workers err together."""

import pytest

from stretto.evaluation.together import together

RIGHT = (True, "x")


def wrong(said="y"):
    return (False, said)


def test_independent_errors_meet_as_often_as_chance_has_it():
    """A quarter of problems wrong by both where each is wrong on half of them: no correlation, and half is rescued."""
    found = together([[(RIGHT, RIGHT), (RIGHT, wrong()), (wrong(), RIGHT), (wrong(), wrong())]])

    assert (found.n, found.a_wrong, found.b_wrong, found.both_wrong, found.expected) == (4, 2, 2, 1, 1.0)
    assert found.phi == 0.0
    assert found.rescued.value == 0.5


def test_equal_errors_are_perfectly_correlated_and_opposite_ones_the_reverse():
    """Phi is 1 where both fail on the same problems, -1 where exactly one fails on each."""
    assert together([[(RIGHT, RIGHT), (wrong(), wrong())]]).phi == pytest.approx(1.0)
    assert together([[(RIGHT, wrong()), (wrong(), RIGHT)]]).phi == pytest.approx(-1.0)


def test_a_kind_that_both_find_hard_is_no_correlation():
    """Two kinds, one that both fail always and one that both always solve: within each there is nothing in common."""
    found = together([[(wrong(), wrong())] * 5, [(RIGHT, RIGHT)] * 5])

    assert found.phi is None
    assert (found.both_wrong, found.expected) == (5, 5.0)


def test_the_same_wrong_answer_is_counted_apart():
    """A vote is misled only where both give the same wrong answer."""
    found = together([[(wrong("a"), wrong("a")), (wrong("a"), wrong("b")), (RIGHT, RIGHT)]])

    assert (found.both_wrong, found.same_wrong) == (2, 1)


def test_who_never_errs_needs_no_rescue():
    """Without an error of the first there is no share of rescued ones."""
    assert together([[(RIGHT, wrong())]]).rescued is None
