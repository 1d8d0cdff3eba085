"""APGR and CPT against cases worked out by hand."""

import pytest

np = pytest.importorskip("numpy")

from stretto.evaluation.two_models import two_models  # noqa: E402

N = 1000
WEAK = np.array([0.0] * 200 + [1.0] * 800)


def test_random_routing_recovers_half() -> None:
    """A score without information gives APGR .5 and needs half the calls for half the gap."""
    score = np.random.default_rng(0).permutation(N)
    found = two_models(score, WEAK, np.ones(N))
    assert found.apgr == pytest.approx(0.5, abs=0.05)
    assert found.cpt[0.5] == pytest.approx(0.5, abs=0.07)


def test_perfect_routing_needs_only_the_items_that_differ() -> None:
    """All of the gap after 20 % of the calls: APGR 1 - .2 / 2, CPT50 10 %."""
    found = two_models(1 - WEAK, WEAK, np.ones(N))
    assert found.apgr == pytest.approx(0.9)
    assert found.cpt == {0.2: pytest.approx(0.04), 0.5: pytest.approx(0.1), 0.8: pytest.approx(0.16)}


def test_the_worst_routing_is_far_below_half() -> None:
    """A score the wrong way round recovers nothing until the end."""
    found = two_models(WEAK, WEAK, np.ones(N))
    assert found.apgr == pytest.approx(0.1)
    assert found.cpt[0.5] == pytest.approx(0.9)


def test_there_must_be_a_gap() -> None:
    """With no gap there is nothing to recover."""
    with pytest.raises(ValueError, match="not better"):
        two_models(WEAK, np.ones(N), WEAK)
