"""Where some workers may not be asked, the values are those that were solved without them; and what was certified is kept."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.artifacts import Artifact  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.evaluation.recorded import RecordedPool, question  # noqa: E402
from stretto.learning.evidence.lattice import solve, walk  # noqa: E402
from stretto.learning.evidence.pools import smaller  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix  # noqa: E402
from stretto.policies.evidence.beliefs import Beliefs, bounded, view, views  # noqa: E402
from stretto.policies.evidence.pools import NEVER, members, parts  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Note, Quote, Step  # noqa: E402
from stretto.testing import MemoryStore, by_hand, said  # noqa: E402
from stretto.testing import question as asked  # noqa: E402
from stretto.types import Failure  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(480)
LEARNED = learn(matrix(TABLE, TABLE.workers), size=3, dimensions=12)
ARTEFACT = artefact(LEARNED, {})
KNOWN = Evidence(ARTEFACT)
WORKERS = KNOWN.workers
EVERYBODY = 0b111
CERTIFICATE = {"single": "dear", "cost": 0.5, "bound": 0.004, "reason": "as shown", "n": 400}


def certified(u: float | None, **changed: Any) -> Sequential:
    data = {**ARTEFACT.data, "certified": CERTIFICATE | {"u": u} | changed}
    return Sequential(Evidence(Artifact(ARTEFACT.schema, {}, data)))


def test_every_smaller_pool_of_a_small_shortlist_is_solved() -> None:
    """All of two workers at least up to seven; above that those that lack one."""
    assert [bin(p) for p in smaller(3)] == ["0b11", "0b101", "0b110"]
    assert len(smaller(7)) == 2**7 - 1 - 1 - 7
    assert sorted(p.bit_count() for p in smaller(9)) == [8] * 9
    assert parts(0b101) == [0, 0b001, 0b100]


def test_values_of_a_smaller_pool_are_those_solved_without_the_others() -> None:
    """To the rounding of the file, at the price nearest on the dial; who is not in it cannot be asked."""
    first, second = np.array([0.62]), np.array([0.2])
    logits = LEARNED.train.logits[:1]
    near = None if LEARNED.train.near is None else LEARNED.train.near[:1]
    believed = Beliefs(np.array([0]), np.array([0]), first, second)
    for pool in smaller(3):
        workers = members(pool)
        (place,) = (k for k in range(len(KNOWN.prices)) if k == 10)
        price = KNOWN.prices[place] / LEARNED.unit
        solved = solve(LEARNED.train.among(workers), [price], rich=LEARNED.rich)
        found = KNOWN.worths(place, 0, pool, None, logits, near)
        right = (views(logits, near) @ solved.weights[0][0])[0]
        assert found[[1 + k for k in workers]] == pytest.approx(right[1:], abs=2e-3)
        assert all(found[1 + k] == NEVER for k in range(3) if k not in workers)
        one = 1 << workers[0]
        found = KNOWN.worths(place, one, pool, believed, logits)
        right = (view(first, second, logits, rich=LEARNED.rich) @ solved.weights[1][0])[0]
        paid = price * LEARNED.train.costs[:, workers[1]].mean()
        assert found[0] == pytest.approx(right[0], abs=2e-3)
        most = bounded(right[0], right[2], 0.62, paid)
        assert found[1 + workers[1]] == pytest.approx(most, abs=2e-3)


def test_served_decisions_in_a_smaller_pool_are_the_learned_ones() -> None:
    """Through the engine, with each worker excluded in turn: the calls and the answers that the solution without it foresees.

    But for whom to ask first where that is a tie to the rounding of the file.
    """
    dev = [k for k, item in enumerate(TABLE.items) if item.split == "dev"]
    assert LEARNED.dev is not None
    engine = Engine(RecordedPool(TABLE), MemoryStore())
    policy = Sequential(KNOWN, certified=False)
    for gone in range(3):
        workers = [k for k in range(3) if k != gone]
        solved = solve(LEARNED.train.among(workers), [KNOWN.prices[10] / LEARNED.unit], rich=LEARNED.rich)
        lattice = LEARNED.dev.among(workers).judged()
        (expected,) = walk(solved, lattice)
        worths = (views(lattice.logits, lattice.near) @ solved.weights[0][0])[:, 1:]
        for number, item in enumerate(dev[:25]):
            if abs(worths[number, 0] - worths[number, 1]) < 1e-4:
                continue
            request = replace(question(TABLE.items[item], dial=0.5), exclude={"worker": (WORKERS[gone],)})
            ran = asyncio.run(engine.run(policy, request))
            one = TABLE.said(TABLE.items[item].id, ran.answer.worker)
            assert one is not None
            assert (ran.calls, one.score) == (expected.calls[number], expected.score[number])


def test_a_worker_that_fails_is_not_counted_on() -> None:
    """After its failure the worths are those of the pool without it."""
    down = Failure("unavailable", "down")
    policy = Sequential(KNOWN, certified=False)
    request = asked("add the numbers total 7 red", *WORKERS, dial=0.5)
    steps, _ = by_hand(policy.plan(request), lambda step: _down(step, down))
    notes = [s.choice for s in steps if isinstance(s, Note)]
    failed = WORKERS.index(notes[0].picked)
    able = EVERYBODY & ~(1 << failed)
    again = KNOWN.worths(10, 0, able, None, *KNOWN.seen(request.prompt))
    told = {o.name: o.estimates["worth"] for o in notes[1].options}
    assert told == {WORKERS[k]: pytest.approx(again[1 + k], abs=1e-4) for k in members(able)}


def _down(step: Step, failure: Failure) -> Any:
    worker = getattr(step, "worker", "")
    first = worker == max(WORKERS, key=lambda w: KNOWN.worths(10, 0, 7, None, *SEEN)[1 + WORKERS.index(w)])
    return said("", worker, error=failure) if first else said("A", worker)


SEEN = KNOWN.seen("add the numbers total 7 red")


def test_what_is_certain_gets_no_second_opinion() -> None:
    """Asking is worth at most what stopping is and all that is left to gain, less its price: at .997 sure .003."""
    assert bounded(1.05, 1.07, 0.997, 0.034) == pytest.approx(1.05 + 0.003 - 0.034)
    assert bounded(0.6, 0.64, 0.6, 0.03) == pytest.approx(0.64)


def test_one_worker_that_may_be_used_answers_alone() -> None:
    """As the last ask, so that it may stream; nothing is paid beside it, and the choice says who was not to be had."""
    policy = Sequential(KNOWN)
    request = asked("add the numbers", "middle", dial=1.0)
    steps, last = by_hand(policy.plan(request), lambda step: said("A", "middle"))
    assert isinstance(last, Ask)
    assert (last.worker, last.otherwise, last.speaks) == ("middle", None, True)
    (note,) = (s.choice for s in steps if isinstance(s, Note))
    assert note.reason == "the only one of 3 that may be used"
    assert policy.outlook(request, lambda ask: Quote(10, 20, 5, 5)).calls.most == 3


def _asks(policy: Sequential, dial: float, *workers: str) -> tuple[str, int]:
    """Who was asked alone as the last step (or ""), and how many asks there were before."""
    request = asked("add the numbers total 7 red", *(workers or WORKERS), dial=dial)
    steps, last = by_hand(policy.plan(request), lambda step: said("A", getattr(step, "worker", "")))
    return (last.worker if isinstance(last, Ask) else ""), sum(isinstance(s, Ask) for s in steps)


def test_from_the_middle_of_the_dial_on_no_price_is_above_the_certified_one() -> None:
    """At .5 and above the certified price or a lower one; below .5 what the caller asks for, and a fixed price is the owner's."""
    policy = certified(KNOWN.prices[3])
    assert [policy._price(asked("q", dial=d)) for d in (1.0, 0.9, 0.5, 0.45, 0.0)] == [0, 2, 3, 11, 20]
    fixed = replace(policy, price=KNOWN.prices[20])
    assert fixed._price(asked("q", dial=0.5)) == 20
    assert replace(policy, certified=False)._price(asked("q", dial=0.5)) == 10


def test_where_nothing_is_certified_the_best_single_worker_answers_alone() -> None:
    """From the middle of the dial on; with the likeliest other one behind it, should it fail."""
    policy = certified(None)
    assert _asks(policy, 0.5) == ("dear", 0)
    assert _asks(policy, 1.0) == ("dear", 0)
    assert _asks(policy, 0.3)[0] == ""
    request = asked("add the numbers total 7 red", *WORKERS)
    _, last = by_hand(policy.plan(request), lambda step: said("A"))
    assert isinstance(last.otherwise, Ask)
    assert last.otherwise.worker in {"cheap", "middle"}


def test_what_is_certified_but_dearer_is_for_those_who_ask_for_better() -> None:
    """In the middle of the dial the best single worker, above it the certified price."""
    policy = certified(KNOWN.prices[1], cost=1.4)
    assert _asks(policy, 0.5) == ("dear", 0)
    assert (
        _asks(certified(KNOWN.prices[1], cost=1.4, bound=-0.02), 0.5)[0] == ""
    )  # surely better is worth its price
    name, asks = _asks(policy, 0.8)
    assert name == ""
    assert asks >= 1


def test_without_the_best_single_worker_nothing_is_certified() -> None:
    """Where it may not be used the certificate says nothing: the others serve by the dial."""
    assert _asks(certified(None), 0.5, "cheap", "middle")[0] == ""


def test_an_explorer_explores_beside_the_best_single_worker_too() -> None:
    """Whoever set `explore` wants to learn: there the sequence is kept."""
    policy = replace(certified(None), explore=0.4)
    assert _asks(policy, 0.5)[0] == ""
