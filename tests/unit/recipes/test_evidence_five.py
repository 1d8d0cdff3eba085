"""The aim over several sets: which prices are chosen together, and what is said of them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

np = pytest.importorskip("numpy")

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture
def five(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe, importable as it is for who runs it."""
    monkeypatch.syspath_prepend(str(RECIPES))
    import evidence_five

    yield evidence_five
    sys.modules.pop("evidence_five", None)


def part(five: ModuleType, *rows: tuple[float, float], n: int = 400) -> object:
    """A set where each price gains so many points of each item, give or take one, at such a cost."""
    away = np.where(np.arange(n) % 2, 0.01, -0.01)
    score = np.array([gain / 100 + away for gain, _ in rows])
    cost = np.array([np.full(n, cost) for _, cost in rows])
    return five.Part.of(score, cost, np.zeros(n), np.ones(n))


def test_what_one_set_wins_may_pay_for_another(five: ModuleType) -> None:
    """Over the sets the loss of one is borne where another gains more; every set for itself keeps its best single worker."""
    parts = [part(five, (3.0, 0.5), (2.0, 0.3)), part(five, (-1.0, 0.2))]
    assert five.each(parts) == (1, 1)  # the second set's last row: the best single worker
    assert five.chosen(parts) == (1, 0)
    assert five.cost_of(parts, (1, 0)) == pytest.approx((0.3 * 0.2) ** 0.5)
    mean, low, high = five.mean_of(parts, (1, 0))
    assert mean == pytest.approx(0.5)
    assert low < mean < high


def test_a_mean_that_chance_may_have_made_is_not_enough(five: ModuleType) -> None:
    """The lower end of the interval has to be at least 0, not the mean alone."""
    parts = [part(five, (1.05, 0.1), (2.0, 0.4)), part(five, (-1.0, 0.2))]
    assert five.chosen(parts, bound=0.0) == (0, 0)
    assert five.chosen(parts) == (1, 0)


def test_no_set_may_lose_more_than_is_borne(five: ModuleType) -> None:
    """With a least difference a set whose prices all lose more stays with its best single worker."""
    parts = [part(five, (9.0, 0.5)), part(five, (-4.0, 0.1), (-0.5, 0.6))]
    assert five.chosen(parts) == (0, 0)
    assert five.chosen(parts, least=-1.0) == (0, 1)


def test_nobody_pays_more_than_the_best_single_worker(five: ModuleType) -> None:
    """A price that is dearer than the best single worker is never chosen, whatever it gains."""
    parts = [part(five, (9.0, 1.2), (0.5, 0.9)), part(five, (-1.0, 0.1))]
    assert five.chosen(parts) == (1, 1)


def test_one_price_for_all(five: ModuleType) -> None:
    """One price has to do for all sets: the cheapest whose mean is surely not below."""
    parts = [part(five, (3.0, 0.5), (1.0, 0.3)), part(five, (0.0, 0.4), (-2.0, 0.1))]
    assert five.common(parts) == (0, 0)
