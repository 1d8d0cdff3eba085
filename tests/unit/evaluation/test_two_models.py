"""APGR and CPT against cases worked out by hand."""

from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")

from stretto.evaluation.runner import Result  # noqa: E402
from stretto.evaluation.two_models import between, two_models, uncertain  # noqa: E402

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


def test_intervals_hold_the_figures_and_shrink_with_more_items() -> None:
    """The figures are those of all items; of a quarter of them the interval is about twice as wide."""
    rng = np.random.default_rng(3)
    score = 0.5 - 0.3 * WEAK + 0.3 * rng.standard_normal(N)
    whole = uncertain(score, WEAK, np.ones(N), draws=200)
    part = uncertain(score[::4], WEAK[::4], np.ones(N // 4), draws=200)
    found = two_models(score, WEAK, np.ones(N))
    assert (whole.apgr.value, whole.cpt50.value) == (found.apgr, found.cpt[0.5])
    for each in (whole.apgr, whole.cpt50, whole.cpt80):
        assert each.low < each.value < each.high
    assert 1.5 < (part.apgr.high - part.apgr.low) / (whole.apgr.high - whole.apgr.low) < 2.7


def turned(name: str, strong: object, *, both: bool = False) -> list[Result]:
    """A policy that asks the strong worker where `strong` says so (with `both` after the weak one), else the weak one."""
    rows = []
    for k, picked in enumerate(np.asarray(strong, dtype=bool).tolist()):
        score = 1.0 if picked else float(WEAK[k])
        asked = ("weak", "strong") if both and picked else ("strong",) if picked else ("weak",)
        rows.append(Result(str(k), name, score, "", "A", 1, len(asked), 0.0, asked[-1], asked))
    return rows


SCORES = np.stack([WEAK, np.ones(N)], axis=1)


def test_a_policy_at_several_dials_gets_the_published_figures() -> None:
    """It asks the strong one just where the weak one fails, on 10 and 20 % of the items: the line of perfect routing.

    Whether the weak one was asked before does not count: calls of the strong one do.
    """
    for both in (False, True):
        dials = {f"mine@{d}": turned(f"mine@{d}", np.arange(N) < 1000 * d, both=both) for d in (0.1, 0.2)}
        (found,) = between(dials | {"other": turned("other", WEAK)}, ("weak", "strong"), SCORES)
        assert (found.name, found.weak, found.strong) == ("mine", "weak", "strong")
        assert (found.low, found.high) == (pytest.approx(0.8), 1.0)
        assert [(p.name, p.share, p.recovered) for p in found.points] == [
            ("mine@0.1", pytest.approx(0.1), pytest.approx(0.5)),
            ("mine@0.2", pytest.approx(0.2), pytest.approx(1.0)),
        ]
        assert found.figures.apgr.value == pytest.approx(0.9)
        assert found.figures.cpt50.value == pytest.approx(0.1)
        assert found.figures.cpt80.value == pytest.approx(0.16)
        assert found.figures.cpt80.low < 0.16 < found.figures.cpt80.high


def test_choosing_by_lot_comes_to_half() -> None:
    """APGR .5 and half of the calls for half of the gap lie inside the intervals."""
    lot = np.random.default_rng(5).random(N)
    dials = {f"lot@{d}": turned(f"lot@{d}", lot < d) for d in (0.25, 0.5, 0.75)}
    (found,) = between(dials, ("weak", "strong"), SCORES)
    assert found.figures.apgr.low < 0.5 < found.figures.apgr.high
    assert found.figures.cpt50.low < 0.5 < found.figures.cpt50.high


def test_without_two_dials_two_workers_and_a_gap_there_are_no_figures() -> None:
    """One dial is a point and no line; a third worker is not what the figures are of; and without a gap nothing is recovered."""
    some = np.arange(N) < 100
    one = {"mine@0.1": turned("mine@0.1", some)}
    assert between(one, ("weak", "strong"), SCORES) == ()
    always = {f"mine@{d}": turned(f"mine@{d}", some | True) for d in (0.1, 0.9)}
    assert between(always, ("weak", "strong"), SCORES) == ()
    third = [replace(r, asked=("third",)) for r in turned("mine@0.5", some)]
    assert between(one | {"mine@0.5": third}, ("weak", "strong", "third"), SCORES[:, [0, 1, 1]]) == ()
    two = one | {"mine@0.5": turned("mine@0.5", some)}
    level = np.stack([WEAK, WEAK[::-1]], axis=1)
    assert between(two, ("weak", "strong"), level) == ()
