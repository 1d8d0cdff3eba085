"""Workers that were asked only part of the items: learned of where they were, counted on nowhere else."""

import dataclasses

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.evaluation.recorded import RecordedPool  # noqa: E402
from stretto.evaluation.recorded import question as recorded  # noqa: E402
from stretto.evaluation.tables import Said, Table  # noqa: E402
from stretto.learning.evidence.lattice import Lattice, solve, walk  # noqa: E402
from stretto.learning.evidence.matrices import Matrix  # noqa: E402
from stretto.learning.evidence.posterior import fit_posterior  # noqa: E402
from stretto.learning.evidence.success import log_odds  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix, values  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Step  # noqa: E402
from stretto.testing import by_hand, question, said  # noqa: E402
from stretto.types import Answer, Failure, Message, Reply, Usage  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

WHOLE = ("cheap", "middle", "dear")


def late(n: int = 600) -> Table:
    """The made table with a worker more, `late`, that was asked only sums: as good as `dear` there, for a tenth of the price."""
    table = made(n)
    more = {}
    for item in table.items:
        if item.task == "sums":
            one = table.said(item.id, "dear")
            assert one is not None
            more[item.id] = (dataclasses.replace(one, cost=0.002),)
    everybody: dict[str, dict[str, tuple[Said, ...]]] = {
        w: {i.id: (one,) for i in table.items if (one := table.said(i.id, w))} for w in table.workers
    }
    return Table("late", table.items, everybody | {"late": more})


def data(n: int = 600) -> Matrix:
    return matrix(late(n), WHOLE, gaps=["late"])


def lattice(found: Matrix) -> Lattice:
    logits = log_odds(np.full(found.scores.shape, 0.7))
    parts = found.classes, logits, found.scores, None, None, found.there
    fit = fit_posterior(*parts, trees=False)
    none = np.zeros(len(found.items), dtype=int)
    return Lattice.of([fit], none, found.classes, logits, found.scores, found.costs, there=found.there)


def test_a_worker_with_gaps_keeps_every_item() -> None:
    """The items are those that the others answered; where the worker was not asked, nothing is made up."""
    found = data(60)
    sums = np.array([i.task == "sums" for i in found.items])
    assert len(found.items) == 60
    assert late(60).partly() == ("late",)
    assert (found.there[:, 3] == sums).all()
    assert np.isnan(found.scores[~sums, 3]).all()
    assert (found.classes[~sums, 3] == -1).all()
    assert (found.costs[~sums, 3] == 0).all()
    assert found.workers[found.best] == "dear"


def test_who_is_not_there_adds_nothing() -> None:
    """A subset with a worker that was not asked amounts to the subset without it."""
    found = lattice(data(120))
    assert found.there is not None
    gone = ~found.there[:, 3]
    for mask in range(8):
        for part in (found.first, found.second, found.score):
            assert (part[mask | 8, gone] == part[mask, gone]).all()


def test_nobody_is_asked_who_is_not_there() -> None:
    """At any price the walk pays for `late` only where it was asked, though it is the best buy there."""
    found = lattice(data())
    counted = dataclasses.replace(found, costs=np.zeros_like(found.costs))
    counted.costs[:, 3] = 1.0
    assert found.there is not None
    asked = walk(solve(found, [1.0, 10.0, 100.0]), counted).cost
    assert (asked[:, ~found.there[:, 3]] == 0).all()
    assert asked[:, found.there[:, 3]].mean() > 0.5


def test_two_who_were_never_asked_together_are_not_asked_together() -> None:
    """Nothing is known of what they amount to side by side, so having asked one, asking the other is worth less than nothing."""
    found = data(400)
    scores = found.scores.copy()
    scores[found.there[:, 3], 0] = np.nan  # `cheap` was asked the others only
    classes = np.where(np.isnan(scores), -1, found.classes)
    solved = solve(
        lattice(dataclasses.replace(found, scores=scores, classes=classes)), [1.0], rich=False
    ).weights
    typical = np.array([1.0, 0.6, 0.36, 0.4, 0.1, 0, 0, 0.2, 0.12, 0.04, 0.8, 0.5, 0.9, 0.54])
    assert typical @ solved[1][0][:, 1 + 3] < -1
    assert typical @ solved[8][0][:, 1 + 0] < -1
    assert typical @ solved[9][0][:, 0] == pytest.approx(0.6)


def test_a_late_worker_is_worth_having() -> None:
    """With it the same money buys more, cross-fitted; without gaps the result is what it was before there were any."""
    found = data()
    with_it, without = learn(found, size=4), learn(found.of([0, 1, 2]), size=4)
    assert "late" in with_it.workers
    per = [u / without.unit for u in without.prices]
    assert with_it.crossed.worth(per).mean() > without.crossed.worth(per).mean() + 0.005
    assert without.train.there is None


def test_serving_goes_on_when_a_worker_with_gaps_does_not_answer() -> None:
    """An ask of it that fails costs nothing and is no evidence: the others are asked."""
    learned = learn(data(), size=4)
    assert values(learned)
    policy = Sequential(Evidence(artefact(learned, {})), price=0.01)

    def answer(step: Step) -> Reply:
        assert isinstance(step, Ask)
        if step.worker == "late":
            return Reply(error=Failure("not_recorded", "it was not asked this"))
        return said("B")

    steps, end = by_hand(policy.plan(question("add the numbers total 7 red", *learned.workers)), answer)
    assert {"late"} < {step.worker for step in steps if isinstance(step, Ask)}
    assert isinstance(end, Answer)
    assert end.error is None
    assert end.message.text == "B"


def test_served_decisions_are_the_learned_ones_with_gaps() -> None:
    """Where asking who is not there fails, every dev item gets the calls and the score that the walk foresaw."""
    learned, table = learn(data(), size=4), late()
    policy = Sequential(Evidence(artefact(learned, {})), price=0.02)
    assert learned.dev is not None
    (expected,) = walk(values(learned, [0.02]), learned.dev)
    pool = RecordedPool(table)
    for number, item in enumerate([i for i in table.items if i.split == "dev"]):

        def answer(step: Step, id: str = item.id) -> Reply:
            assert isinstance(step, Ask)
            if (one := table.said(id, step.worker)) is None:
                return Reply(error=Failure("not_recorded", "it was not asked this"))
            return Reply(
                Message("assistant", one.answer), worker=step.worker, usage=Usage(20, one.output or 0)
            )

        request = dataclasses.replace(recorded(item), pool=pool.cards())
        steps, end = by_hand(policy.plan(request), answer)
        asked = [s.worker for s in steps if isinstance(s, Ask) and table.said(item.id, s.worker)]
        assert len(asked) == expected.calls[number]
        assert isinstance(end, Answer)
        one = table.said(item.id, end.worker)
        assert one is not None
        assert one.score == expected.score[number]
