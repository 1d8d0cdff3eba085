"""RouteLLM's threshold and FrugalGPT's cascade are special cases of the sequential policy: the same type, fewer asks open."""

import asyncio
from functools import partial

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.engine.run import Engine, Run  # noqa: E402
from stretto.evaluation.recorded import RecordedPool, question  # noqa: E402
from stretto.evaluation.tables import Item, Said  # noqa: E402
from stretto.learning.evidence.special import by_question, in_order, lattice_of, thresholds  # noqa: E402
from stretto.learning.evidence.training import Learned, artefact, learn, matrix, values  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Step  # noqa: E402
from stretto.testing import MemoryStore, by_hand, said  # noqa: E402
from stretto.testing import question as asked  # noqa: E402
from stretto.types import Answer, Failure, Message, Reply  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(480)
PAIR, CHAIN = ("cheap", "dear"), ("cheap", "middle", "dear")
NEAR = 1e-3
"""An artefact holds values in 16 bits and features in half precision: what is nearer to a threshold may fall on either side."""


def learned(workers: tuple[str, ...], solver: object) -> Learned:
    data = matrix(TABLE, workers)
    return learn(data, names=workers, dimensions=12, lattice_of=partial(lattice_of, solver))


ROUTED, CHAINED = learned(PAIR, by_question), learned(CHAIN, in_order)
ROUTER, CASCADE = (Evidence(artefact(one, {"from": "a made table"})) for one in (ROUTED, CHAINED))


def one_of(item: Item, worker: str) -> Said:
    found = TABLE.said(item.id, worker)
    assert found is not None
    return found


def run(evidence: Evidence, price: float, item: Item) -> Run:
    """Through the engine, on the recorded pool."""
    engine = Engine(RecordedPool(TABLE), MemoryStore())
    policy = Sequential(evidence, price=price)
    return asyncio.run(engine.run(policy, question(item), purpose="evaluation"))


def gain(evidence: Evidence, prompt: str) -> float:
    """How much likelier the strong one is expected to be right on a prompt, as the artefact holds it at its lowest price."""
    worth = evidence.worths(0, 0, 0b11, None, *evidence.seen(prompt))
    return float(worth[2] - worth[1] + evidence.prices[0] * (evidence.paid[1] - evidence.paid[0]))


def by_threshold(score: float, alpha: float) -> str:
    """RouteLLM's rule."""
    return "dear" if score >= alpha else "cheap"


def test_between_two_workers_it_is_the_threshold_of_routellm() -> None:
    """For every prompt and price one worker is asked: the strong one if and only if its gain is at least alpha.

    The gain is a score of the prompt alone, alpha one of the price alone: u times what a call of the strong one costs more.
    """
    close, picked, items = 0, 0, TABLE.items[::3]
    for item in items:
        score = gain(ROUTER, item.prompt)
        for u in ROUTER.prices:
            alpha = u * (ROUTER.paid[1] - ROUTER.paid[0])
            plan = Sequential(ROUTER, price=u).plan(asked(item.prompt, *PAIR))
            steps, answer = by_hand(plan, lambda step: said("A", step.worker))
            asks = [step.worker for step in steps if isinstance(step, Ask)]
            if abs(score - alpha) < NEAR:
                close += 1
                continue
            assert asks == [by_threshold(score, alpha)], (item.id, u)
            assert isinstance(answer, Answer)
            assert answer.message.text == "A"
            picked += score >= alpha
    every = len(items) * len(ROUTER.prices)
    assert close < 0.02 * every
    assert 0.2 * every < picked < 0.9 * every, "both are asked somewhere"


def test_on_recorded_rows_the_threshold_brings_the_same_answers_and_costs() -> None:
    """Each item gets the recorded answer, score and cost of the worker that the rule names; nothing else is paid."""
    for u in (0.05, 0.18, 0.4):
        for item in TABLE.items[:60]:
            score, alpha = gain(ROUTER, item.prompt), u * (ROUTER.paid[1] - ROUTER.paid[0])
            if abs(score - alpha) < NEAR:
                continue
            ran, row = run(ROUTER, u, item), one_of(item, by_threshold(score, alpha))
            assert (ran.calls, ran.answer.worker, ran.answer.message.text) == (
                1,
                by_threshold(score, alpha),
                row.answer,
            )
            assert ran.cost / 1e12 == pytest.approx(row.cost)


def by_frugal(place: int, item: Item) -> tuple[int, str, float]:
    """FrugalGPT's rule with the thresholds of an artefact: how many are asked, whose answer goes out, how near it was."""
    tau, near = thresholds(values(CHAINED))[place], 1.0
    logits, _ = CASCADE.seen(item.prompt)
    hear, heard = CASCADE.listener(item.prompt), {}
    for k, worker in enumerate(CHAIN):
        row = one_of(item, worker)
        heard[k] = hear(k, Answer(Message("assistant", row.answer or "")), row.output or 0)
        believed = CASCADE.believed(heard, logits)
        sure = float(believed.first[0])
        if k == len(tau) or sure >= tau[k]:
            break
        near = min(near, abs(sure - tau[k]))
    if k < len(tau):
        near = min(near, abs(sure - tau[k]))
    return k + 1, CHAIN[int(believed.speaker[0])], near


def test_in_a_fixed_order_it_is_the_cascade_of_frugalgpt() -> None:
    """At every price the recorded rows are asked in this order until the score reaches the stage's threshold, and cost that."""
    close, calls = 0, set()
    for place, u in enumerate(CASCADE.prices):
        for item in TABLE.items[place::37]:
            count, worker, near = by_frugal(place, item)
            if near < NEAR:
                close += 1
                continue
            ran = run(CASCADE, u, item)
            assert (ran.calls, ran.answer.worker) == (count, worker), (item.id, u)
            assert ran.answer.message.text == one_of(item, worker).answer
            paid = sum(one_of(item, w).cost or 0.0 for w in CHAIN[:count])
            assert ran.cost / 1e12 == pytest.approx(paid)
            calls.add(count)
    assert calls == {1, 2, 3}
    assert close <= 5


def test_the_thresholds_are_the_same_for_every_prompt_and_fall_with_the_price() -> None:
    """They stand in the artefact as the worth of asking on, whatever the prompt; at a high price fewer are doubted."""
    found = thresholds(values(CHAINED))
    for place in range(len(CASCADE.prices)):
        for item in TABLE.items[:20]:
            logits, near = CASCADE.seen(item.prompt)
            heard = {0: CASCADE.listener(item.prompt)(0, Answer(Message("assistant", "A")), 5)}
            worth = CASCADE.worths(place, 1, 0b111, CASCADE.believed(heard, logits), logits, near)
            assert worth[2] == pytest.approx(found[place, 0], abs=NEAR)
            assert worth[3] < 0, "the third is not open before the second"
    assert (found[-1] < found[0]).all()


def test_no_other_threshold_brings_more_on_the_training_items() -> None:
    """Of two workers, tried at a hundred thresholds and three prices: score (half by its chance) less the price of asking."""
    pair = learned(PAIR, in_order)
    lattice = pair.train
    for u in (0.03, 0.13, 0.4):
        per = u / pair.unit
        score = 0.5 * lattice.first + 0.5 * lattice.score

        def brought(tau: float, per: float = per, score: object = score) -> float:
            stops = np.clip(lattice.first[1], 1e-4, 1 - 1e-4) >= tau
            return float(np.where(stops, score[1], score[3] - per * lattice.costs[:, 1]).mean())

        (chosen,) = thresholds(values(pair, [u]))[0]
        assert brought(chosen) >= max(map(brought, np.linspace(0, 1, 101))) - 1e-9


def test_a_worker_that_fails_or_may_not_be_used_is_passed_by() -> None:
    """By the question the other one answers; a chain goes on in its order with those who are left."""

    def answer(step: Step) -> Reply:
        assert isinstance(step, Ask)
        broken = Failure("unavailable", "down") if step.worker == "cheap" else None
        return said("" if broken else "A", step.worker, error=broken)

    def asks(evidence: Evidence, *workers: str) -> list[str]:
        plan = Sequential(evidence, price=evidence.prices[-1]).plan(asked(TABLE.items[0].prompt, *workers))
        return [step.worker for step in by_hand(plan, answer)[0] if isinstance(step, Ask)]

    assert asks(ROUTER, *PAIR) == ["cheap", "dear"]
    assert asks(CASCADE, *CHAIN)[:2] == ["cheap", "middle"]
    assert asks(CASCADE, "middle", "dear")[0] == "middle"


def test_in_two_rounds_it_is_asked_one_by_one_all_the_same() -> None:
    """A threshold or a chain knows no batch to begin with."""
    for evidence in (ROUTER, CASCADE):
        plan = Sequential(evidence, price=0.18, rounds=2).plan(
            asked(TABLE.items[0].prompt, *evidence.workers)
        )
        steps, _ = by_hand(plan, lambda step: said("A", step.worker))
        assert all(isinstance(step, Ask) for step in steps if hasattr(step, "worker"))
        assert any(isinstance(step, Ask) for step in steps)


def test_who_was_not_asked_everything_cannot_be_in_it() -> None:
    """Gaps are refused, with the reason."""
    items = [i.id for i in TABLE.items]
    part = TABLE.only()
    part._said["cheap"] = {i: s for i, s in part._said["cheap"].items() if i != items[0]}
    data = matrix(part, ["dear"], gaps=["cheap"])
    with pytest.raises(ValueError, match="every item"):
        learn(data, names=("dear", "cheap"), dimensions=12, lattice_of=partial(lattice_of, in_order))
