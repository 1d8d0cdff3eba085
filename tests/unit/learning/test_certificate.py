"""What the certificate in an artefact says: of the price that serves in the middle of the dial."""

from dataclasses import dataclass
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from stretto.learning.evidence.risk import FEWEST_TASKS, certified_data, certify  # noqa: E402

N = 400
US = (0.01, 0.1, 1.0)


@dataclass
class Walked:
    """What a price brought."""

    score: Any
    cost: Any


def certificate(*walks: tuple[float, float]) -> Any:
    """Of a best single worker that is right half of the time at a cost of 1, and prices: how often right, at what cost."""
    base = np.arange(N) % 2.0
    right = [np.where(np.arange(N) < share * N, 1.0, 0.0) for share, _ in walks]
    scores = [
        np.maximum(base, r) if share >= 0.5 else base * r for (share, _), r in zip(walks, right, strict=True)
    ]
    walked = [Walked(score, np.full(N, cost)) for score, (_, cost) in zip(scores, walks, strict=True)]
    return certified_data(US, walked, base, np.ones(N), "best")


def test_what_is_far_better_in_the_middle_is_not_lost_to_what_is_as_good_at_the_end() -> None:
    """Every price passes; the cheapest is the best single worker itself, the middle one is dearer and far better: it counts."""
    found = certificate((0.9, 3.0), (0.8, 2.5), (0.5, 1.0))
    assert found["u"] == 1.0
    assert found["cost"] == 2.5
    assert found["bound"] < -0.1
    assert "gain at least" in found["reason"]


def test_a_certified_price_below_the_middle_is_what_serves_there() -> None:
    """Where the middle price does not pass, the certified one serves in its place, and the figures are its own."""
    found = certificate((0.9, 0.7), (0.2, 0.1), (0.1, 0.1))
    assert found["u"] == 0.01
    assert found["cost"] == 0.7
    assert found["bound"] < 0


def test_dearer_and_no_better_is_still_told() -> None:
    """As good as the best single worker at more money: no gain is claimed."""
    base = np.arange(N) % 2.0
    same = [Walked(base, np.full(N, cost)) for cost in (1.4, 1.2, 1.0)]
    found = certified_data(US, same, base, np.ones(N), "best")
    assert found["cost"] == 1.2
    assert found["bound"] >= 0


@pytest.mark.parametrize("known", [FEWEST_TASKS, FEWEST_TASKS - 1])
def test_a_gain_on_some_tasks_that_others_lose_is_not_certified_where_tasks_can_be_told(known: int) -> None:
    """Two thirds of the tasks gain, one third loses as much: over these items a sure gain, over another mix perhaps not."""
    count = 100 * known
    task = np.arange(count) % known
    better = np.where(task % 3 == 0, -0.5, 0.5) * (np.arange(count) % 2)
    base, ones = np.full(count, 0.5), np.ones(count)
    walks = [(0.1, base + better, 0.3 * ones)]
    assert certify(walks, base, ones).u == 0.1
    assert (certify(walks, base, ones, tasks=[f"t{k}" for k in task]).u == 0.1) == (known < FEWEST_TASKS)
