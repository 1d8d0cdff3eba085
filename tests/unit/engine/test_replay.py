"""Replay and resume: random nested plans with random delays and failures, from the record alone."""

import asyncio
import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stretto.engine.run import Engine
from stretto.errors import ContentNotKept, Diverged, RunNotFound, VersionChanged
from stretto.ledger.events import Answered, Opened
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Begin, Choice, Fork, Next, Note, Option, Outcome, put
from stretto.types import Answer, Failure, Limits, Message, Request, Usage, derive_seed
from tests.unit.engine.doubles import FunctionPool, ListStore, immediately, says


@dataclass(frozen=True)
class Tree:
    """A random plan: `shape` is a nested tuple of what to do; every text it returns depends on every reply it saw."""

    shape: tuple
    CODE: str = "1"

    def plan(self, request):
        text = yield from self._play(self.shape, request)
        return Ask(
            "a",
            (Message("user", f"finish {text}"),),
            seed="step",
            otherwise=Answer(Message("assistant", text)),
        )

    def outlook(self, request, quotes):
        raise AssertionError("not asked for")

    def _play(self, shape, request):
        kind, *parts = shape
        if kind == "ask":
            reply = yield from put(Ask(parts[0], (Message("user", f"to {parts[0]}"),), seed="step"))
            return reply.text or f"<{reply.error.kind}>"
        if kind == "note":
            yield Note(Choice("x", (Option("x", {"worth": 1.0}), Option("y", rejected="less"))))
            return "n"
        if kind == "seq":
            texts = []
            for part in parts:
                texts.append((yield from self._play(part, request)))
            return "(" + " ".join(texts) + ")"
        if kind == "if":
            text = yield from self._play(parts[0], request)
            return text + (yield from self._play(parts[1 + derive_seed(0, text) % 2], request))
        if kind == "race":
            for worker in parts:
                yield Begin(Ask(worker, seed="step"))
            first = yield Next()
            second = yield Next(within=0)
            return f"[{first.reply.text} {second and second.reply.text}]"
        quorum, branches = parts[0], parts[1:]
        answers = yield Fork(tuple(self._branch(b, request) for b in branches), quorum=quorum)
        return "{" + ",".join(a.text or a.error.kind for a in answers) + "}"

    def _branch(self, shape, request):
        text = yield from self._play(shape, request)
        return Answer(Message("assistant", text))


workers = st.sampled_from(["a", "b", "c"])
leaf = st.one_of(st.tuples(st.just("ask"), workers), st.just(("note",)))


def nest(ordered):
    """Shapes; `ordered` leaves out what depends on the order of arrival (quorums and races)."""

    def grow(inner):
        several = st.lists(inner, min_size=1, max_size=3)
        options = [
            several.map(lambda parts: ("seq", *parts)),
            st.tuples(st.just("if"), inner, inner, inner),
            several.map(lambda parts: ("fork", None, *parts)),
        ]
        if not ordered:
            options.append(several.map(lambda parts: ("fork", 1, *parts)))
            options.append(st.lists(workers, min_size=1, max_size=3).map(lambda ws: ("race", *ws)))
        return st.one_of(options)

    return st.recursive(leaf, grow, max_leaves=8)


def world(delays, store):
    """An engine whose attempts take a random number of turns of the loop, and fail or answer by what they are asked."""
    chance = random.Random(delays)

    async def attempt(ask, endpoint, number):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        fate = derive_seed(7, ask.worker, ask.params.get("seed"))
        if fate % 5 == 0:
            return Outcome(usage=Usage(2, 0), error=Failure("upstream_error"), retryable=False)
        return says(f"{ask.worker}{fate % 97}", input=3, output=fate % 4)

    pool = FunctionPool(attempt)
    return Engine(pool, store, clock=lambda: 5.0), pool


def request(seed=3):
    return Request(messages=(Message("user", "q"),), seed=seed, limits=Limits(calls=60))


thorough = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(shape=nest(ordered=False), delays=st.integers(0, 9999))
def test_a_run_replays_to_the_same_answer_without_a_call(shape, delays):
    """Whatever the plan, the delays and the failures: the record alone gives the same answer, usage and cost."""
    store = ListStore()
    engine, pool = world(delays, store)
    policy = Tree(shape)
    run = asyncio.run(engine.run(policy, request()))
    made, written = len(pool.calls), len(store.written)

    again = asyncio.run(engine.replay(run.id, policy))

    assert again.answer == run.answer
    assert (again.usage, again.cost, again.calls) == (run.usage, run.cost, run.calls)
    assert again.missing == ()
    assert (len(pool.calls), len(store.written)) == (made, written)


def answered(events):
    """Addresses whose outcome is on record for good."""
    return {
        e.at
        for e in events
        if isinstance(e, Answered) and e.final and not (e.error and e.error.kind == "cancelled")
    }


@thorough
@given(shape=nest(ordered=True), delays=st.integers(0, 9999))
def test_resuming_from_every_cut_makes_only_the_missing_attempts(shape, delays):
    """The record cut after any event: what is on it is not asked again, and the answer is the uncut run's."""
    whole = ListStore()
    engine, _ = world(delays, whole)
    policy = Tree(shape)
    run = asyncio.run(engine.run(policy, request()))
    opened = next(i for i, e in enumerate(whole.written) if isinstance(e, Opened))

    for cut in range(opened + 1, len(whole.written) + 1):
        store = ListStore()
        store.append(whole.written[:cut])
        kept = answered(store.written)
        engine, pool = world(delays + cut, store)
        resumed = asyncio.run(engine.resume(run.id, policy))

        asked = [e.at for e in store.written[cut:] if e.kind == "asked"]
        assert resumed.answer == run.answer
        assert not kept & set(asked)
        assert len(pool.calls) == len(asked)


@thorough
@given(shape=nest(ordered=False), delays=st.integers(0, 9999), cut=st.integers(0, 10_000))
def test_races_and_quorums_resume_without_asking_again_what_is_on_record(shape, delays, cut):
    """Where the order of arrival matters, the recorded order is kept; what was dropped unrecorded may be asked anew."""
    whole = ListStore()
    engine, _ = world(delays, whole)
    policy = Tree(shape)
    run = asyncio.run(engine.run(policy, request()))
    opened = next(i for i, e in enumerate(whole.written) if isinstance(e, Opened))
    cut = opened + 1 + cut % (len(whole.written) - opened)
    store = ListStore()
    store.append(whole.written[:cut])
    kept = answered(store.written)
    engine, _ = world(delays + 1, store)

    asyncio.run(engine.resume(run.id, policy))

    assert not kept & {e.at for e in store.written[cut:] if e.kind == "asked"}
    final = asyncio.run(engine.replay(run.id, policy))
    assert final.missing == ()


# --- what is refused ---


def recorded(policy=Solo("a"), answer=lambda a, e, n: "x", **fields):
    store = ListStore()
    engine = Engine(FunctionPool(immediately(answer)), store, clock=lambda: 5.0)
    run = asyncio.run(engine.run(policy, replace(request(), **fields)))
    return store, engine, run


def test_a_run_is_not_resumed_under_a_changed_policy():
    """A policy with other settings has another version; the error names both."""
    _store, engine, run = recorded(Fuse(("a", "b")))

    with pytest.raises(VersionChanged, match="fuse-"):
        asyncio.run(engine.resume(run.id, Fuse(("a", "c"))))


def test_a_step_that_asks_something_else_is_found_at_its_address():
    """An ask that differs from the recorded one raises, naming the step."""
    store, engine, run = recorded(Fuse(("a", "b")))
    wrong = [
        replace(e, fingerprint="00" * 16) if e.kind == "asked" and e.at == "0.1/0" else e
        for e in store.written
    ]
    store.written[:] = wrong

    with pytest.raises(Diverged, match=r"0\.1/0"):
        asyncio.run(engine.replay(run.id, Fuse(("a", "b"))))


def test_a_run_without_its_texts_says_so():
    """Digest-only records answer replay with content_not_kept."""
    store, engine, run = recorded()
    store.written[:] = [replace(e, content=None) if hasattr(e, "content") else e for e in store.written]

    with pytest.raises(ContentNotKept):
        asyncio.run(engine.replay(run.id, Solo("a")))


def test_an_unknown_run_is_not_found():
    """There is nothing to replay."""
    _, engine, _ = recorded()

    with pytest.raises(RunNotFound):
        asyncio.run(engine.replay("run_0", Solo("a")))


def test_an_intent_without_an_outcome_counts_at_what_was_reserved():
    """A call lost with its process may have cost its worst case, so a resumed run counts it so, and makes a new attempt."""
    store, engine, run = recorded(limits=Limits(usd=40), max_tokens=10)
    cut = next(i for i, e in enumerate(store.written) if e.kind == "answered")
    del store.written[cut:]

    resumed = asyncio.run(engine.resume(run.id, Solo("a")))

    assert resumed.cost == 15 + 5
    assert [e.attempt for e in store.written if e.kind == "asked"] == [1, 2]


# --- another policy on the same record ---


def test_another_policy_is_answered_from_what_the_record_holds():
    """A panel's record can tell what one of its members alone would have said, and what nobody was asked."""
    _store, engine, run = recorded(Fuse(("a", "b")), lambda a, e, n: f"from {a.worker}")
    calls = len(engine._pool.calls)

    solo = asyncio.run(engine.replay(run.id, Solo("b")))
    other = asyncio.run(engine.replay(run.id, Solo("c")))

    assert (solo.answer.text, solo.calls, solo.missing) == ("from b", 1, ())
    assert (other.answer.error.kind, other.missing) == ("not_recorded", ("0",))
    assert len(engine._pool.calls) == calls


def test_a_composed_policy_replays_like_a_plain_one():
    """A cascade whose first rung is a panel is recorded and replayed by address."""
    policy = Cascade((Rung("panel", Fuse(("a", "b"))), Rung("c", Solo("c"))), check="verifier", verifier="a")
    _, engine, run = recorded(policy, lambda a, e, n: "no" if a.role == "verifier" else f"from {a.worker}")

    again = asyncio.run(engine.replay(run.id, policy))

    assert (again.answer, run.answer.text) == (run.answer, "from c")


# --- plans that have changed though their version has not ---


@dataclass
class Moody:
    """A plan that does something else each time it is played."""

    plans: list

    def plan(self, request):
        return self.plans.pop(0)()

    def outlook(self, request, quotes):
        raise AssertionError("not asked for")


def answer():
    return Answer(Message("assistant", "x"))


def two_begun():
    yield Begin(Ask("a"))
    yield Begin(Ask("b"))
    yield Next()
    yield Next()
    return answer()


def noted_and_begun():
    yield Note(Choice("x"))
    yield Begin(Ask("b"))
    yield Next()
    yield Next()
    return answer()


def wide():
    yield Fork((Ask("a"), Ask("b")))
    return answer()


def narrow():
    yield Fork((Ask("a"),))
    return answer()


def asks_nobody():
    yield Ask("nobody")
    return answer()


def asks_another():
    yield Ask("nobody else")
    return answer()


@pytest.mark.parametrize(
    "plans", [(two_begun, noted_and_begun), (wide, narrow), (narrow, wide), (asks_nobody, asks_another)]
)
def test_a_plan_that_goes_other_ways_than_its_record_is_found(plans):
    """Another begun ask, another fork, another refused worker: `Diverged`, never an answer that was not recorded."""
    policy = Moody(list(plans))
    store = ListStore()
    engine = Engine(FunctionPool(immediately(lambda *a: "x")), store, clock=lambda: 5.0)
    engine._versions[id(policy)] = (policy, "moody-1")
    run = asyncio.run(engine.run(policy, request()))

    with pytest.raises(Diverged):
        asyncio.run(engine.replay(run.id, policy))


def test_a_run_without_a_beginning_is_not_found():
    """Events that belong to no opened run cannot be replayed."""
    store, engine, run = recorded()
    store.written[:] = [e for e in store.written if e.kind != "opened"]

    with pytest.raises(RunNotFound):
        asyncio.run(engine.replay(run.id, Solo("a")))


def test_a_request_whose_text_was_not_kept_says_so():
    """A run of refusals has no answers to miss, but its request is gone too."""
    store, engine, run = recorded(Solo("nobody"))
    store.written[:] = [replace(e, content=None) if e.kind == "opened" else e for e in store.written]

    with pytest.raises(ContentNotKept):
        asyncio.run(engine.replay(run.id, Solo("nobody")))


def test_a_race_is_replayed_under_another_policy_too():
    """Begun asks and forks of another plan are answered by what the record holds, whatever order it was asked in."""

    @dataclass(frozen=True)
    class Race:
        def plan(self, request):
            yield Begin(Ask("a", speaks=True))
            arrival = yield Next()
            (second,) = yield Fork((Ask("b", speaks=True),))
            return Answer(Message("assistant", f"{arrival.reply.text}, {second.text}"))

        def outlook(self, request, quotes):
            raise AssertionError("not asked for")

    _store, engine, run = recorded(Fuse(("a", "b")), lambda a, e, n: f"from {a.worker}")

    assert asyncio.run(engine.replay(run.id, Race())).answer.text == "from a, from b"


def test_feedback_waits_until_it_is_durable():
    """A score is recorded like any event, and `score` returns when the store says that it lasts."""

    class Slow(ListStore):
        waited = False

        def append(self, batch):
            super().append(batch)
            return self.wait()

        async def wait(self):
            self.waited = True

    store = Slow()
    engine = Engine(FunctionPool(immediately(lambda *a: "x")), store)

    async def go():
        run = await engine.run(Solo("a"), request())
        store.waited = False
        await engine.score(run.id, 0.5, by="me")
        return run

    run = asyncio.run(go())

    assert (store.kinds(run.id)[-1], store.waited) == ("scored", True)


def test_many_policies_are_known_by_their_versions_in_bounded_memory():
    """Versions of policies are remembered for the hot path, but not for ever."""
    engine = Engine(FunctionPool(immediately(lambda *a: "x")), ListStore())

    seen = {engine.preview(Solo("a", reason=str(n)), request()).version for n in range(300)}

    assert len(seen) == 300
    assert len(engine._versions) < 300


def test_a_run_that_was_cut_while_it_waited_names_the_wait_as_missing():
    """A replay of a race whose arrival is not on record says so, and goes by the replies there are."""

    @dataclass(frozen=True)
    class Race:
        def plan(self, request):
            yield Begin(Ask("a"))
            arrival = yield Next()
            return Answer.of(arrival.reply)

        def outlook(self, request, quotes):
            raise AssertionError("not asked for")

    store, engine, run = recorded(Race())
    store.written[:] = [e for e in store.written if e.kind not in ("arrived", "finished")]

    again = asyncio.run(engine.replay(run.id, Race()))

    assert (again.answer.text, again.missing) == ("x", ("1",))
