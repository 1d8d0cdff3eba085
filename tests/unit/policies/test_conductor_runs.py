"""The conductor on the real engine, whatever its planner writes and whoever fails: records replay and resume, outlooks hold."""

import asyncio
import random
from dataclasses import replace

import pytest

from stretto.artifacts import Artifact
from stretto.engine.run import Engine
from stretto.ledger.events import Answered, Opened
from stretto.policies.conductor import CONDUCTOR_SCHEMA, Conductor
from stretto.policies.forms import TAGGED
from stretto.policies.masked import Masked
from stretto.policies.outright import Outright
from stretto.policies.planning import PROMPTED
from stretto.policies.route import Table
from stretto.policies.workflow import Workflow, WorkflowStep, written
from stretto.pool.scripted import Scripted
from stretto.steps import Quote
from stretto.testing import ScriptedPool
from stretto.types import Card, Failure, Limits, Message, Price, Request, TokenLogprob, Usage, derive_seed
from tests.unit.engine.doubles import FunctionPool, ListStore, says

WORKERS = ("a", "b", "c")
DATA = {
    "workers": WORKERS,
    "plan": "Models: {models}\nTask: {question}\nPlan?",
    "again": "Models: {models}\nTask: {question}\nGiven: {reply}\nPlan?",
    "forms": "given",
    "steps": 4,
}
NUMBERS = {"a": 0, "b": 1, "c": 2, "(itself)": 3}


def conductor(**settings):
    return Conductor.trained(Artifact(CONDUCTOR_SCHEMA, {}, DATA), "p", **settings)


def planned(fate, *, itself=False):
    """What a planner writes: a random workflow, now and then nonsense or nothing."""
    rng = random.Random(fate)
    if rng.random() < 0.15:
        return rng.choice(["", "no idea", "model_id = [9]\nsubtasks = ['x']\naccess_list = [[]]"])
    if rng.random() < 0.1:
        return "model_id = []\nsubtasks = []\naccess_list = []"
    among = [*WORKERS, "(itself)"] if itself and rng.random() < 0.5 else WORKERS
    steps = tuple(
        WorkflowStep(rng.choice(among), f"do {n}", rng.choice(["all", (), tuple(range(n))]))
        for n in range(rng.randint(1, 4))
    )
    return written(Workflow(steps), NUMBERS)


def world(delays, store):
    """An engine whose planner and workers answer or fail by what they are asked, after a random number of turns of the loop."""
    chance = random.Random(delays)

    async def attempt(ask, endpoint, number):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        text = ask.messages[-1].text
        fate = derive_seed(11, ask.worker, text, ask.params.get("temperature"))
        if ask.worker == "p":
            return says(planned(fate, itself="3" in text.split("\n")[0])) if fate % 20 else failed()
        sure = (TokenLogprob("x", -(fate % 13) / 6),) if ask.want == "logprobs" else ()
        return failed() if fate % 7 == 0 else says(f"{ask.worker}{fate % 97}", output=fate % 4, logprobs=sure)

    pool = FunctionPool(attempt, workers=(*WORKERS, "p"))
    return Engine(pool, store, clock=lambda: 5.0), pool


def failed():
    return replace(says("", output=0), error=Failure("upstream_error", "down"), retryable=False)


def request(seed, **limits):
    return Request(messages=(Message("user", f"question {seed}"),), seed=seed, limits=Limits(**limits))


KNOWN = Table(
    Artifact(
        "stretto.route-table/1",
        data={
            "tasks": {"t": {"prior": 1.0, "workers": {"a": [9, 9], "b": [5, 9]}}},
            "words": {"question": {"t": -1.0}},
            "unseen": {"t": -9.0},
        },
    )
)

POLICIES = {
    "alone": Outright(KNOWN, conductor(), "conductor", 0.9),
    "not alone": Outright(KNOWN, conductor(), "conductor", 0.95),
    "plain": conductor(),
    "recursive": conductor(depth=2),
    "itself": conductor(depth=2, itself=True),
    "doubting": conductor(depth=1, doubt=0.5),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", range(25))
def test_a_run_replays_to_the_same_answer_without_a_call(name, seed):
    """Random workflows, delays and failures: the record alone gives the same answer, usage and cost."""
    store = ListStore()
    engine, pool = world(seed, store)
    run = asyncio.run(engine.run(POLICIES[name], request(seed)))
    made = len(pool.calls)

    again = asyncio.run(engine.replay(run.id, POLICIES[name]))

    assert again.answer == run.answer
    assert (again.usage, again.cost, again.missing) == (run.usage, run.cost, ())
    assert len(pool.calls) == made


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_cut_anywhere_resumes_to_the_same_answer(name, seed):
    """What is on record is not asked again, whatever the cut; the answer is the uncut run's."""
    whole = ListStore()
    engine, _ = world(seed, whole)
    run = asyncio.run(engine.run(POLICIES[name], request(seed)))
    opened = next(i for i, e in enumerate(whole.written) if isinstance(e, Opened))

    for cut in range(opened + 1, len(whole.written) + 1):
        store = ListStore()
        store.append(whole.written[:cut])
        kept = {e.at for e in store.written if isinstance(e, Answered) and e.final}
        engine, _ = world(seed + cut, store)
        resumed = asyncio.run(engine.resume(run.id, POLICIES[name]))

        assert resumed.answer == run.answer
        assert not kept & {e.at for e in store.written[cut:] if e.kind == "asked"}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("calls", range(8))
def test_limits_hold_and_every_run_says_something(name, calls):
    """Never more calls than allowed; an answer wherever one call was left for it, else the limit as the reason."""
    for seed in range(6):
        store = ListStore()
        engine, pool = world(seed, store)
        run = asyncio.run(engine.run(POLICIES[name], request(seed, calls=calls)))

        assert len(pool.calls) <= calls
        error = run.answer.error
        assert error is None or error.kind in ("limit", "upstream_error")
        if error is None:
            assert run.answer.text


def test_a_caller_who_leaves_cancels_every_step():
    """Steps side by side are cancelled together, and the record says so."""
    store = ListStore()
    two = Workflow((WorkflowStep("a", "x"), WorkflowStep("b", "y"), WorkflowStep("c", "z", "all")))

    async def play():
        begun = asyncio.Event()

        async def attempt(ask, endpoint, number):
            if ask.worker == "p":
                return says(written(two, NUMBERS))
            if ask.worker == "b":
                begun.set()
            await asyncio.Event().wait()
            return says("never")

        engine = Engine(FunctionPool(attempt, workers=(*WORKERS, "p")), store, clock=lambda: 5.0)
        task = asyncio.ensure_future(engine.run(conductor(), request(1)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())

    ended = {e.worker: e.error.kind for e in store.written if isinstance(e, Answered) and e.error}
    assert ended == {"a": "cancelled", "b": "cancelled"}


# --- outlooks ---


class BytesPool(ScriptedPool):
    """Counts bytes for tokens, so that longer prompts cost more."""

    def quote(self, ask):
        cap = 40 if ask.max_tokens is None else ask.max_tokens
        given = sum(len(message.text.encode()) for message in ask.messages or ())
        price = next(card for card in self.cards() if card.id == ask.worker).price
        return Quote(price.of(Usage(given, 1)), price.of(Usage(given, cap)), given, cap)


LONG = "\N{GRINNING FACE}" * 9000


@pytest.mark.parametrize("name", [*POLICIES, "general"])
@pytest.mark.parametrize("seed", range(12))
def test_an_outlook_is_never_passed(name, seed):
    """Whatever is planned, however long the replies and whoever fails: calls and money stay within what was told before."""
    general = Conductor(
        "p", planning=PROMPTED, forms=replace(TAGGED, subtask_chars=50, reply_chars=300), depth=1
    )
    policy = POLICIES.get(name, general)
    rng = random.Random(seed)

    def script(ask):
        given = sum(len(message.text.encode()) for message in ask.messages or ())
        if rng.random() < 0.15:
            return Scripted(error=Failure("bad_request", "no"), usage=Usage(given, 0))
        text = planned(rng.random(), itself=True) if ask.worker == "p" else LONG[: rng.randrange(9000)]
        sure = (TokenLogprob("x", -rng.random()),)
        return Scripted(text or "?", usage=Usage(given, ask.max_tokens or 40), logprobs=sure)

    cards = {
        w: Card(w, Price(1 + n, 2 + n), abilities=frozenset({"text"})) for n, w in enumerate((*WORKERS, "p"))
    }

    async def play():
        engine = Engine(BytesPool(dict.fromkeys(cards, script), cards=cards), ListStore())
        asked = request(seed)
        return engine.preview(policy, asked).outlook, await engine.run(policy, asked)

    outlook, run = asyncio.run(play())

    assert run.calls <= outlook.calls.most
    assert run.cost <= outlook.usd.most
    assert outlook.calls.least <= run.calls


@pytest.mark.parametrize("how", ["excluded", "masked"])
def test_a_planner_that_may_not_be_used_is_not_asked(how):
    """Whether the caller excludes it or the owner masks it: one worker answers alone, and the receipt says why."""
    pool = ScriptedPool({"p": [], "a": ["1"], "b": ["1"], "c": ["1"]})
    request = Request(messages=(Message("user", "q"),))
    policy = conductor()
    if how == "masked":
        policy = Masked(policy, (("p", "garbled"),))
    else:
        request = replace(request, exclude={"worker": ("p",)})
    store = ListStore()
    done = asyncio.run(Engine(pool, store).run(policy, request))

    assert done.answer.text == "1"
    assert [ask.worker for ask in pool.asks] == [done.answer.worker]
    assert "p gave no plan (" in done.answer.why
    assert ("garbled" if how == "masked" else "excluded") in done.answer.why
