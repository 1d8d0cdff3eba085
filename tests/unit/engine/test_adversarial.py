"""Random plans under random limits, failures, delays and cancellations: what must hold of every record."""

import asyncio
import random
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stretto.engine.run import Engine
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.route import Route, Rule, Uniform, When
from stretto.policies.solo import Solo
from stretto.steps import Ask, Begin, Choice, Fork, Next, Note, Outcome, Quote
from stretto.types import (
    Answer,
    Card,
    Failure,
    Key,
    Limits,
    Message,
    Price,
    Request,
    TokenLogprob,
    Usage,
    derive_seed,
)
from tests.unit.engine.doubles import FunctionPool, ListStore, says
from tests.unit.engine.test_run import Planned, Purse, engine

thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEY = Key("k", total=10**9)


@dataclass(frozen=True)
class Jungle:
    """A random plan that decides by every field of every reply."""

    shape: tuple
    CODE: str = "1"

    def plan(self, request):
        text = yield from self._play(self.shape)
        return Ask("a", (Message("user", text),), otherwise=Answer(Message("assistant", text)))

    def outlook(self, request, quotes):
        raise AssertionError("not asked for")

    def _play(self, shape):
        kind, *parts = shape
        if kind == "ask":
            reply = yield Ask(parts[0], max_tokens=parts[1], seed="step")
            return digest(reply)
        if kind == "note":
            yield Note(Choice("x"))
            return "n"
        if kind == "seq":
            texts = []
            for part in parts:
                texts.append((yield from self._play(part)))
            return digest(*texts)
        if kind == "if":
            text = yield from self._play(parts[0])
            return digest(text, (yield from self._play(parts[1 + derive_seed(0, text) % 2])))
        if kind == "begin":
            fetched, *workers = parts
            for worker in workers:
                yield Begin(Ask(worker, max_tokens=5, seed="step"))
            arrivals = []
            for turn in range(fetched):
                arrivals.append((yield Next(within=None if turn % 2 else 0)))
            return digest(*arrivals)
        quorum, within, *branches = parts
        tail = Ask("c", seed="step", otherwise=Answer(Message("assistant", "otherwise")))
        plans = (*(self._branch(b) for b in branches), tail)
        return digest(*(yield Fork(plans, quorum=quorum, within=within)))

    def _branch(self, shape):
        text = yield from self._play(shape)
        return Answer(Message("assistant", text))


def digest(*seen):
    return f"{derive_seed(0, repr(seen)):x}"


workers = st.sampled_from(["a", "b", "c", "nobody"])
leaf = st.one_of(st.tuples(st.just("ask"), workers, st.sampled_from([None, 1, 30])), st.just(("note",)))


def grow(inner):
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda parts: ("seq", *parts)),
        st.tuples(st.just("if"), inner, inner, inner),
        st.tuples(st.sampled_from([None, 1, 2, 9]), st.sampled_from([None, 60.0]), several).map(
            lambda t: ("fork", t[0], t[1], *t[2])
        ),
        st.tuples(st.integers(0, 4), st.lists(workers, min_size=1, max_size=3)).map(
            lambda t: ("begin", t[0], *t[1])
        ),
    )


shapes = st.recursive(leaf, grow, max_leaves=8)
limits = st.builds(
    Limits,
    usd=st.sampled_from([None, 20, 60, 200]),
    calls=st.sampled_from([None, 0, 2, 5]),
    depth=st.sampled_from([1, 8]),
    fanout=st.sampled_from([2, 32]),
)


def world(chance, store, purse):
    """Attempts take some turns of the loop, and fail, fail for now, or answer, whatever they are asked."""

    async def attempt(ask, endpoint, number):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        fate = chance.randrange(6)
        if fate < 2:
            usage = Usage(chance.randrange(5), chance.randrange(2), estimated=fate == 0)
            return Outcome(usage=usage, error=Failure("overloaded", "so"), retryable=fate == 0)
        return says(
            f"t{chance.randrange(9)}", input=5, output=min(ask.max_tokens or 10, chance.randrange(10))
        )

    class Still(random.Random):
        def uniform(self, a, b):
            return 0.0

    pool = FunctionPool(attempt, places={"a": ("a/1", "a/2"), "b": ("b/1",)})
    return Engine(pool, store, purse, clock=lambda: 5.0, jitter=Still())


def request(limits):
    return Request(messages=(Message("user", "q"),), seed=3, limits=limits)


def check(store, run_id, purse, limits):
    """What must hold of every record with an end."""
    events = store.events(run_id)
    end = [e for e in events if e.kind == "finished"][-1]
    answered = [e for e in events if e.kind == "answered"]
    asked = [(e.at, e.attempt) for e in events if e.kind == "asked"]
    assert sorted(asked) == sorted((e.at, e.attempt) for e in answered)
    assert len(set(asked)) == len(asked)
    assert end.usage == sum((e.usage for e in answered), Usage())
    assert end.cost == sum(e.cost for e in answered)
    assert end.calls == len(asked)
    assert limits.usd is None or end.cost <= limits.usd
    assert limits.calls is None or end.calls <= limits.calls
    assert purse.held == []
    assert min((min(e.cost, e.usage.input, e.usage.output) for e in answered), default=0) >= 0


@thorough
@given(shape=shapes, limits=limits, seed=st.integers(0, 9999))
def test_every_record_adds_up_and_replays_to_the_same_answer(shape, limits, seed):
    """Begun asks and unknown workers inside forks, quorums, retries and refusals: one answer, one sum, nothing held."""
    store, purse = ListStore(), Purse(10**9)
    engine = world(random.Random(seed), store, purse)
    policy = Jungle(shape)

    async def go():
        run = await engine.run(policy, request(limits), key=KEY)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return run

    run = asyncio.run(go())
    calls = len(engine._pool.calls)
    again = asyncio.run(engine.replay(run.id, policy))

    check(store, run.id, purse, limits)
    assert purse.free == 10**9 - run.cost
    assert again.answer == run.answer
    assert (again.usage, again.served, again.cost, again.calls) == (
        run.usage,
        run.served,
        run.cost,
        run.calls,
    )
    assert again.missing == ()
    assert len(engine._pool.calls) == calls


@thorough
@given(shape=shapes, limits=limits, seed=st.integers(0, 9999), turns=st.integers(0, 60))
def test_a_run_that_is_left_at_any_turn_adds_up_and_can_be_resumed(shape, limits, seed, turns):
    """Cancelled at a random turn of the loop: no task is left, every intent has an outcome, and the resumed run adds up too."""
    store, purse, chance = ListStore(), Purse(10**9), random.Random(seed)
    policy = Jungle(shape)

    async def leave():
        task = asyncio.create_task(
            world(chance, store, purse).run(policy, request(limits), key=KEY, run_id="run_1")
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        begun = turns > 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return begun

    if not asyncio.run(leave()):
        return
    check(store, "run_1", purse, limits)
    cut = len(store.written)
    final = {e.at for e in store.written if e.kind == "answered" and (e.final and not cancelled(e))}

    resumed = asyncio.run(world(chance, store, purse).resume("run_1", policy, key=KEY))

    check(store, "run_1", purse, limits)
    assert not final & {e.at for e in store.written[cut:] if e.kind == "asked"}
    again = asyncio.run(world(chance, store, purse).replay("run_1", policy))
    assert (again.answer, again.usage, again.cost) == (resumed.answer, resumed.usage, resumed.cost)
    assert again.missing == ()


def cancelled(event):
    return event.error is not None and event.error.kind == "cancelled"


def test_what_was_begun_and_never_fetched_is_not_missed_in_a_replay():
    """The plan never saw its reply, so the answer does not depend on it."""

    def plan(request):
        yield Begin(Ask("a"))
        reply = yield Ask("b")
        return Answer.of(reply)

    store = ListStore()
    policy = Planned(plan)
    run = asyncio.run(engine(lambda *a: "x", store).run(policy, request(Limits())))
    store.written[:] = [e for e in store.written if getattr(e, "at", "") != "0"]

    assert asyncio.run(engine(lambda *a: "x", store).replay(run.id, policy)).missing == ()


# --- outlooks ---


class Bytes(FunctionPool):
    """Prices what is asked by its bytes, so that a worst case has to know how long a judge's question may get."""

    def quote(self, ask):
        given = sum(len(m.text.encode()) for m in ask.messages)
        cap = ask.max_tokens or 4000
        return Quote(given, given + 3 * cap, given, cap)


singles = st.sampled_from(["a", "b", "c"])
solos = singles.map(Solo)
rungs = st.one_of(singles.map(lambda w: Rung.of_worker(w, "agreement")), solos.map(lambda s: Rung("s", s)))


def compose(inner):
    return st.one_of(
        st.lists(singles, min_size=1, max_size=3, unique=True).map(lambda ws: Fallback(tuple(ws))),
        st.builds(
            Fuse,
            st.lists(singles, min_size=1, max_size=4).map(tuple),
            st.sampled_from(["vote", "select"]),
            judge=st.just("c"),
            quorum=st.sampled_from([None, 1, 2]),
        ),
        st.builds(
            Cascade,
            st.lists(st.one_of(rungs, inner.map(lambda p: Rung("p", p))), min_size=1, max_size=3).map(tuple),
            check=st.sampled_from(["agreement", "verifier", "confidence"]),
            verifier=st.just("b"),
        ),
        st.tuples(inner, st.sampled_from(["q", "other"])).map(
            lambda t: Route(
                rules=(Rule(When(contains=(t[1],)), "gone", Solo("gone")), Rule(When(), "x", t[0]))
            )
        ),
        st.just(Uniform()),
        st.just(Route()),
    )


policies = st.recursive(solos, compose, max_leaves=4)


@thorough
@given(policy=policies, seed=st.integers(0, 9999), barred=st.sampled_from([(), ("a",), ("b",)]))
def test_no_run_takes_more_than_its_outlooks_most(policy, seed, barred):
    """Money and calls, with retries, failures and answers as long as they may be (each sign four bytes)."""
    chance = random.Random(seed)

    async def attempt(ask, endpoint, number):
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        given = sum(len(m.text.encode()) for m in ask.messages)
        cap = ask.max_tokens or 4000
        if chance.randrange(3) == 0:
            return Outcome(usage=Usage(given, 0), error=Failure("overloaded"), retryable=True)
        text = chance.choice(["yes", "no", "\N{MATHEMATICAL BOLD SMALL A}" * 9000, "<answer>" * 2000])
        fields = {"logprobs": (TokenLogprob("x", -0.1 * chance.randrange(20)),)}
        return Outcome(Message("assistant", text), "stop", Usage(given, cap), **fields)

    class Still(random.Random):
        def uniform(self, a, b):
            return 0.0

    card = Card("a", Price(1, 3))
    pool = Bytes(attempt, price=card.price, places={w: (f"{w}/1", f"{w}/2") for w in "abc"})
    engine = Engine(pool, ListStore(), jitter=Still())
    question = replace(request(Limits()), exclude={"worker": barred})

    async def go():
        return engine.preview(policy, question).outlook, await engine.run(policy, question)

    outlook, run = asyncio.run(go())

    assert run.calls <= outlook.calls.most
    assert run.cost <= outlook.usd.most
    assert outlook.usd.least <= outlook.usd.expected <= outlook.usd.most
