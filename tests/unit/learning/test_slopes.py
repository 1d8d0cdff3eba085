"""Within a known task a prompt may be hard or easy: what its counts say of that is learned for each task."""

from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.evaluation.tables import Item  # noqa: E402
from stretto.learning.evidence.matrices import Matrix  # noqa: E402
from stretto.learning.evidence.success import Logistic, cross_fitted, folds  # noqa: E402
from stretto.learning.evidence.training import Prompts, learn, nats  # noqa: E402

RNG = np.random.default_rng(3)
ITEMS = 600


def made() -> tuple[list[Item], Any]:
    """Two tasks of templates. The more numbers to add, the more often it is wrong; the more numbers to sort, the less often."""
    items, right = [], []
    for k in range(ITEMS):
        size = int(RNG.integers(2, 12))
        task = ("add", "sort")[k % 2]
        numbers = " ".join(str(n) for n in RNG.integers(10, 99, size))
        prompt = (
            f"Add up these: {numbers}" if task == "add" else f"Put in rising order the list {numbers} please"
        )
        items.append(Item(str(k), prompt, task=task))
        hard = (size - 2) / 9 if task == "add" else (11 - size) / 9
        right.append(float(RNG.random() > 0.1 + 0.8 * hard))
    return items, np.array(right)[:, None]


def test_a_length_that_is_hard_in_one_task_and_easy_in_another_is_learned_for_each() -> None:
    """Cross-fitted, the slopes foretell better than nearness and counts alone, and each task goes its own way."""
    items, right = made()
    prompts = Prompts.learned(items, 4)
    x, fold = prompts.matrix(items), folds(ITEMS)
    assert prompts.loose == 2 + 2 * 7
    plain = x[:, : x.shape[1] - 14]
    with_slopes = cross_fitted(lambda: Logistic(0.003, loose=prompts.loose), x, right, fold)
    without = cross_fitted(lambda: Logistic(0.003, loose=2), plain, right, fold)
    assert nats(with_slopes, right) < nats(without, right) - 0.02
    digits = np.array([sum(map(str.isdigit, i.prompt)) for i in items])
    for task, sign in (("add", -1), ("sort", 1)):
        at = np.array([i.task == task for i in items])
        assert sign * np.corrcoef(digits[at], with_slopes[at, 0])[0, 1] > 0.5


def test_what_tells_of_tasks_is_shrunk_less_than_words() -> None:
    """The same column as a loose one keeps more of its weight."""
    x = RNG.normal(size=(400, 3))
    y = (RNG.random((400, 1)) < 1 / (1 + np.exp(-2 * x[:, 2:]))).astype(float)
    tight, loose = (Logistic(0.001, loose=k).fit(x, y).weights[3, 0] for k in (0, 1))
    assert loose > 2 * tight > 0


def test_a_task_of_one_prompt_has_a_spread() -> None:
    """It is that of the others, in part: no prompt stands infinitely far from the usual one."""
    items, _ = made()
    prompts = Prompts.learned([*items, Item("one", "Quite another thing 7", task="other")], 4)
    assert np.isfinite(prompts.matrix(items)).all()
    assert (prompts.spread > 0.01).all()


def pool(right: Any, items: list[Item]) -> Matrix:
    """Three workers: two are right where `right` says so, give or take, the third three times in four whatever is asked."""
    good = np.hstack(
        [right, np.where(RNG.random((ITEMS, 1)) < 0.1, 1 - right, right), RNG.random((ITEMS, 1)) < 0.75]
    )
    wrong = np.arange(3)[None] + 1
    costs = np.broadcast_to([1.0, 0.5, 0.2], good.shape).copy()
    return Matrix(
        ("a", "b", "c"),
        tuple(items),
        np.where(good, 0, wrong),
        good.astype(float),
        costs,
        np.full(good.shape, 3.0),
    )


@pytest.mark.parametrize("told", [True, False])
def test_slopes_are_kept_only_where_they_foretell_the_shortlist_better(told: bool) -> None:
    """Where length says how hard a prompt is they stay; where it says nothing they are left out of all that is learned."""
    items, right = made()
    if not told:
        right = (RNG.random((ITEMS, 1)) < 0.7).astype(float)
    found = learn(pool(right, items), size=3, prices=(0.02, 0.05, 0.2), dimensions=4)
    slopes = found.prompts.spread is not None
    assert slopes == told
    losses = found.told["nats of the shortlist"]
    assert (losses["slopes"] <= losses["none"]) == told
    features = found.prompts.matrix(items)
    assert isinstance(found.success, Logistic)
    assert found.success.weights.shape[0] == 1 + features.shape[1]
