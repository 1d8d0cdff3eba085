"""What is hard for one worker is often hard for all: their success regressions may share it, where that foretells better."""

from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.evaluation.tables import Item  # noqa: E402
from stretto.learning.evidence.matrices import Matrix  # noqa: E402
from stretto.learning.evidence.success import Logistic, cross_fitted, folds  # noqa: E402
from stretto.learning.evidence.training import learn, nats  # noqa: E402

ITEMS, WORKERS, SIGNS = 300, 8, 40


def made(alike: bool) -> tuple[Any, Any]:
    """Forty signs of a prompt, and who was right: what is hard is the same for all workers, or each has its own."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(ITEMS, SIGNS))
    hard = rng.normal(size=(SIGNS, 1 if alike else WORKERS)) * 0.25
    level = np.linspace(-0.5, 1.0, WORKERS)
    return x, (rng.random((ITEMS, WORKERS)) < 1 / (1 + np.exp(-(x @ hard + level)))).astype(float)


def loss(x: Any, right: Any, common: float = 1.0, own: float = 1.0) -> float:
    """Cross-fitted, nats."""
    return nats(cross_fitted(lambda: Logistic(0.01, common=common, own=own), x, right, folds(ITEMS)), right)


def test_workers_that_find_the_same_things_hard_teach_each_other() -> None:
    """With little known of each, what they have in common foretells better than each by itself."""
    x, right = made(alike=True)
    assert loss(x, right, common=20.0, own=0.3) < loss(x, right) - 0.01


def test_workers_that_have_nothing_in_common_are_better_learned_each_by_itself() -> None:
    """Sharing then foretells worse, so it is a choice and no rule."""
    x, right = made(alike=False)
    assert loss(x, right, common=20.0, own=0.3) > loss(x, right) + 0.01


def test_the_same_penalty_for_both_is_each_by_itself() -> None:
    """Divided by the same number, the weights are those of a regression with that penalty, whoever else there is."""
    x, right = made(alike=True)
    both = Logistic(0.01, common=3.0, own=3.0).fit(x, right)
    alone = Logistic(0.03).fit(x, right[:, :1])
    assert np.allclose(both.weights[:, :1], alone.weights)


def test_a_penalty_that_leaves_each_nothing_of_its_own_gives_all_the_same_signs() -> None:
    """Then workers differ by their level only, and by how sure the mean of all is, so is each."""
    x, right = made(alike=True)
    fit = Logistic(0.01, common=1.0, own=1e-9).fit(x, right)
    assert np.allclose(fit.weights[1:], fit.weights[1:, :1], atol=1e-4)
    assert np.ptp(fit.weights[0]) > 0.5
    assert (fit.deviation(x) < Logistic(0.01).fit(x, right).deviation(x)).all()


def test_what_one_worker_was_not_asked_is_learned_from_the_others() -> None:
    """A worker with few outcomes takes from the others which prompts are hard."""
    x, right = made(alike=True)
    few = right.copy()
    few[60:, 0] = np.nan
    rest = slice(60, None)
    with_, without = (Logistic(0.01, common=a, own=b).fit(x, few) for a, b in ((20.0, 0.3), (1.0, 1.0)))
    assert nats(with_.predict(x)[rest, :1], right[rest, :1]) < nats(
        without.predict(x)[rest, :1], right[rest, :1]
    )


def test_sharing_is_chosen_where_it_foretells_better_and_said() -> None:
    """What was chosen between stands in the artefact's provenance, with the figures."""
    rng = np.random.default_rng(2)
    words = [f"word{k}" for k in range(30)]
    items, right = [], []
    for number in range(240):
        said = rng.choice(30, 8, replace=False)
        items.append(Item(str(number), " ".join(words[k] for k in said), split="train"))
        hard = (said < 15).mean() * 6 - 3
        right.append([float(rng.random() < 1 / (1 + np.exp(hard - level))) for level in (0.8, 0.5, 0.2, 0.0)])
    scores = np.array(right)
    classes = np.where(scores > 0, 0, np.arange(4))
    data = Matrix(tuple("abcd"), tuple(items), classes, scores, np.ones((240, 4)), np.full((240, 4), np.nan))
    found = learn(data, names=("a", "b"), prices=(0.01, 0.1, 0.25))
    told = found.told["success nats"]
    least = min(told, key=lambda name: told[name])
    assert least.startswith("common ")
    assert isinstance(found.success, Logistic)
    assert (found.success.common, found.success.own) == tuple(
        float(part.split()[1]) for part in least.split(", ")
    )
