"""Controls and paired comparison, against cases whose answer is known."""

import pytest

np = pytest.importorskip("numpy")

from stretto.evaluation import controls  # noqa: E402
from stretto.evaluation.intervals import paired_difference  # noqa: E402

SCORES = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
COSTS = np.tile([3.0, 1.0, 0.5], (4, 1))
CLASSES = np.array([[0, 1, 0], [0, 1, 1], [0, 1, -1], [-1, -1, -1]])


def test_random_is_an_expectation() -> None:
    """No draw: the mean over the workers."""
    found = controls.random_worker(SCORES, COSTS)
    assert found.score.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert found.cost.tolist() == pytest.approx([1.5] * 4)


def test_the_known_task_falls_back_to_the_best_overall() -> None:
    """Each task has its best worker of train; a task that train does not know goes to the best of all."""
    train = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = controls.known_task(train, ["x", "y", "x"], SCORES, COSTS, ["x", "y", "y", "z"])
    assert found.score.tolist() == [1, 0, 1, 1]
    assert found.cost.tolist() == [3, 1, 1, 3]


def test_a_plain_vote_counts_and_breaks_ties_by_rank() -> None:
    """The plurality wins; without one the better worker's answer; those without an answer do not vote."""
    train = np.array([[0.9, 0.8, 0.7]])
    found = controls.plain_vote(train, CLASSES, SCORES, COSTS, 3)
    assert found.score.tolist() == [1, 0, 0, 1]
    assert found.cost.tolist() == [4.5] * 4


def test_the_same_model_again() -> None:
    """A panel of samples votes; the best of them by a perfect judge is marked as a bound."""
    panel = controls.resampled(CLASSES, SCORES, COSTS, panel=True)
    best = controls.resampled(CLASSES, SCORES, COSTS, panel=False)
    assert panel.score.tolist() == [1, 0, 0, 1]
    assert (best.score.tolist(), best.bound, panel.bound) == ([1, 1, 1, 1], True, False)


def test_the_naive_oracle_takes_the_cheapest_right_answer() -> None:
    """Per item the best score, at the lowest cost of those who reached it."""
    found = controls.naive_oracle(SCORES, COSTS)
    assert found.score.tolist() == [1, 1, 1, 1]
    assert found.cost.tolist() == [0.5, 3, 1, 1]


def test_the_cross_fitted_oracle_sees_no_gain_in_luck() -> None:
    """Workers that only guess gain nothing from being many, where the naive oracle gains much; real skill is kept."""
    rng = np.random.default_rng(0)
    luck = (rng.random((4000, 8, 3)) < 0.5).astype(float)
    found = controls.resampled_oracle(luck, np.ones((4000, 8)))
    assert found is not None
    assert found.score.mean() == pytest.approx(0.5, abs=0.02)
    assert controls.naive_oracle(luck[:, :, 0], np.ones((4000, 8))).score.mean() > 0.99
    skill = np.zeros((4000, 8, 3))
    skill[np.arange(4000), rng.integers(0, 8, 4000)] = 1.0
    kept = controls.resampled_oracle(skill, np.ones((4000, 8)))
    assert kept is not None
    assert kept.score.mean() == 1.0
    assert controls.resampled_oracle(luck[:, :, :1], np.ones((4000, 8))) is None


def test_paired_intervals_agree_with_the_plain_bootstrap() -> None:
    """Drawing counts of few values gives the interval that drawing items gives; many values take the other way."""
    rng = np.random.default_rng(1)
    a, b = (rng.random(500) < 0.7).astype(float), (rng.random(500) < 0.6).astype(float)
    fast, slow = controls.paired(a, b), paired_difference(list(a), list(b))
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.006)
    fine = controls.paired(a + rng.normal(0, 1e-6, 500), b)
    assert (fast.low, fast.high) == pytest.approx((fine.low, fine.high), abs=0.006)
    with pytest.raises(ValueError, match="positive length"):
        controls.paired([], [])


def test_mcnemar_is_exact() -> None:
    """Against the binomial by hand: 1 of 10 discordant pairs has p = 2 * 11 / 1024; none at all p = 1."""
    a, b = [1.0] * 9 + [0.0] + [1.0] * 5, [0.0] * 9 + [1.0] + [1.0] * 5
    assert controls.mcnemar(a, b) == (9, 1, pytest.approx(22 / 1024))
    assert controls.mcnemar([1.0], [1.0]) == (0, 0, 1.0)
    assert controls.mcnemar([1.0] * 3000 + [0.0] * 3000, [0.0] * 3000 + [1.0] * 3000)[2] == 1.0


@pytest.mark.parametrize(
    ("gain", "cost", "told"),
    [
        (0.10, 2.0, "better, at 2.00 x"),
        (-0.10, 0.5, "worse"),
        (0.0, 0.5, "not more than 1 point worse"),
        (0.0, 1.5, "no gain shown"),
    ],
)
def test_the_verdict_is_read_off_the_interval(gain: float, cost: float, told: str) -> None:
    """Better and worse need an interval on one side of zero; equal quality is only claimed within a margin."""
    rng = np.random.default_rng(2)
    base = controls.Control("base", (rng.random(20_000) < 0.5).astype(float), np.ones(20_000))
    flip = rng.random(20_000) < abs(gain)
    score = np.where(flip, 1.0 if gain > 0 else 0.0, base.score)
    (row,) = controls.compare([controls.Control("it", score, cost * np.ones(20_000))], base)
    assert told in controls.verdict(row)
    assert "| it | 20000 |" in controls.table([row])
    assert row.cost == pytest.approx(cost)
