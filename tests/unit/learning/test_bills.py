"""What each worker is expected to cost on a prompt is learned from its costs, and heeded where that is worth more."""

from dataclasses import replace
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.evaluation.tables import Item  # noqa: E402
from stretto.learning.evidence.bills import bills_of, fit_bills, foretold  # noqa: E402
from stretto.learning.evidence.matrices import Matrix  # noqa: E402
from stretto.learning.evidence.training import artefact, learn  # noqa: E402
from stretto.policies.evidence.beliefs import view, views  # noqa: E402
from stretto.policies.sequential import Evidence  # noqa: E402

ITEMS = 400


def made() -> Matrix:
    """Short and long prompts. The first worker is always right; it costs a call on short prompts, nine on long ones. The second
    one is right on two of three prompts and always cheap; how good they are, a prompt does not tell.
    """
    rng = np.random.default_rng(4)
    long = rng.random(ITEMS) < 0.5
    prompts = [" ".join(rng.choice(["red", "blue", "green"], 60 if each else 6)) for each in long]
    items = tuple(Item(str(k), prompt, split="train") for k, prompt in enumerate(prompts))
    right = np.stack([np.ones(ITEMS), rng.random(ITEMS) < 2 / 3], axis=1).astype(float)
    costs = np.stack([np.where(long, 9.0, 1.0), np.full(ITEMS, 0.1)], axis=1)
    classes = np.where(right > 0, 0, np.arange(2))
    return Matrix(("good", "cheap"), items, classes, right, costs, np.full((ITEMS, 2), np.nan))


DATA = made()
LONG = DATA.costs[:, 0] > 5
PRICES = (0.2, 0.5, 0.9)
LEARNED = learn(DATA, names=("good", "cheap"), prices=PRICES)


def test_a_dear_worker_is_asked_where_it_is_cheap_for_it() -> None:
    """At a price at which its mean cost is too much for what it brings, it is worth it on short prompts, not on long ones."""
    known = Evidence(artefact(LEARNED, {}))
    first = np.array(
        [int(known.worths(2, 0, 3, None, *known.seen(item.prompt))[1:].argmax()) for item in DATA.items]
    )
    assert (first[~LONG] == 0).mean() > 0.9
    assert (first[LONG] == 1).mean() > 0.9


def test_it_is_a_choice_that_is_said_with_its_figures() -> None:
    """Beside what else the values may be read from; the artefact holds the weights only where it was taken."""
    told = LEARNED.told["value"]
    assert told["expected costs"] > max(v for name, v in told.items() if name != "expected costs")
    assert "bills" in artefact(LEARNED, {}).data
    level = replace(DATA, costs=np.ones((ITEMS, 2)))
    plain = learn(level, names=("good", "cheap"), prices=PRICES)
    assert plain.train.bills is None
    assert "bills" not in artefact(plain, {}).data


def test_served_and_learned_expect_the_same_costs() -> None:
    """To the rounding of the file, in units of each worker's mean cost."""
    known = Evidence(artefact(LEARNED, {}))
    x = LEARNED.prompts.matrix(DATA.items[:20])
    expected = foretold(x, LEARNED.bills)
    served = np.concatenate([known.seen(item.prompt)[2] for item in DATA.items[:20]])
    assert served == pytest.approx(expected, abs=1e-3)
    assert expected[LONG[:20], 0].min() > 1.3
    assert expected[~LONG[:20], 0].max() < 0.7
    assert expected[:, 1] == pytest.approx(1.0, abs=0.1)


def test_an_artefact_without_them_decides_as_before() -> None:
    """Then nothing of costs is seen, and the values have the regressors that they had."""
    level = replace(DATA, costs=np.ones((ITEMS, 2)))
    known = Evidence(artefact(learn(level, names=("good", "cheap"), prices=PRICES), {}))
    logits, near, cost = known.seen("red blue")
    assert near is None
    assert cost is None
    assert known.worths(0, 0, 3, None, logits) == pytest.approx(
        known.worths(0, 0, 3, None, logits, near, cost)
    )


def test_each_regressor_stands_beside_itself_times_what_is_left_to_gain() -> None:
    """After a reply: what a further one costs counts the less, the surer the answer; before any, as it is."""
    logits, bill = np.array([[0.5, -1.0]]), np.array([[2.0, 0.5]])
    for rich, begin in ((False, 14), (True, 18)):
        row = view(np.array([0.75]), np.array([0.1]), logits, rich=rich, bills=bill)[0]
        assert row[begin:].tolist() == [2.0, 0.5, 0.5, 0.125]
        plain = view(np.array([0.75]), np.array([0.1]), logits, rich=rich)[0]
        assert row[:begin].tolist() == plain.tolist()
    assert views(logits, None, bill)[0, -2:].tolist() == [2.0, 0.5]


def fixed(worker: int) -> Any:
    """The weights where one worker's costs are to be learned."""
    x = np.random.default_rng(1).normal(size=(60, 3))
    costs = np.abs(np.stack([x[:, 0] + 3, np.zeros(60), np.ones(60)], axis=1))
    there = np.ones((60, 3), dtype=bool)
    there[1:, 2] = False
    return fit_bills(x, costs, there)[:, worker]


@pytest.mark.parametrize("worker", [1, 2], ids=["free", "asked once"])
def test_of_whom_nothing_can_be_learned_the_usual_cost_is_expected(worker: int) -> None:
    """A free worker, and one that was hardly asked: once its mean, whatever the prompt."""
    assert fixed(worker).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_what_is_expected_of_an_item_was_not_learned_from_it() -> None:
    """Cross-fitted: another cost of one item changes what is expected of the items of other folds, not of its own."""
    x = np.random.default_rng(2).normal(size=(50, 2))
    costs, there, fold = np.ones((50, 1)) + x[:, :1] ** 2, np.ones((50, 1), dtype=bool), np.arange(50) % 5
    before = bills_of(x, costs, there, fold)[1]
    costs[0] += 5
    after = bills_of(x, costs, there, fold)[1]
    assert (before[fold == 0] == after[fold == 0]).all()
    assert (before[fold != 0] != after[fold != 0]).all()
