"""The boundary to policy code: what plans do wrong, what limits refuse them, and what is left behind."""

import asyncio
import gc
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from stretto.engine.run import Engine
from stretto.errors import ConfigError, NoCandidate, PolicyError
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Begin, Choice, Count, Fork, Next, Note, Outlook, version
from stretto.types import Answer, Limits, Message
from tests.unit.engine.doubles import FunctionPool, ListStore, immediately
from tests.unit.engine.test_run import Planned, ask, engine, trouble


def raises_ours():
    yield Ask("a")
    raise ConfigError("x")


def unfinished():
    yield Begin(Ask("a"))
    try:
        yield "nonsense"
    finally:
        yield Note(Choice("too late"))


def odd_branch():
    yield Fork((Ask("a"), Answer()))


def unbegun():
    arrival = yield Next()
    return Answer(Message("assistant", repr(arrival)))


def no_answer():
    yield Ask("a")


def could_not_start():
    raise ValueError("x")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (raises_ours, "failed at step 1: ConfigError: x"),
        (unfinished, "yielded str"),
        (odd_branch, "a branch is Answer"),
        (no_answer, "ended at step 1 with NoneType"),
        (Answer, "is no generator: it gave Answer"),
        (could_not_start, "could not be started: ValueError: x"),
    ],
)
def test_a_broken_plan_is_a_recorded_failure_and_leaves_no_task(plan, said):
    """Whatever a plan raises, yields or returns instead, the run ends with a `policy` failure, and replays to it."""
    store = ListStore()
    world = engine(lambda *a: "x", store)
    policy = Planned(lambda request: plan())

    async def run():
        try:
            return await world.run(policy, ask())
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    done = asyncio.run(run())

    assert done.answer.error.kind == "policy"
    assert said in done.answer.error.message
    assert store.kinds(done.id)[-1] == "finished"
    assert asyncio.run(world.replay(done.id, policy)).answer == done.answer


def test_a_next_with_nothing_under_way_is_none():
    """Nothing begun, nothing to wait for."""
    run = asyncio.run(engine(lambda *a: "x").run(Planned(lambda request: unbegun()), ask()))

    assert run.answer.text == "None"


def test_what_was_begun_and_never_started_leaves_nothing_behind():
    """A plan that begins an ask and returns at once: nobody is called, and no coroutine is left unawaited."""

    def plan(request):
        yield Begin(Ask("a"))
        return Answer(Message("assistant", "x"))

    world = engine(lambda *a: "x")

    run = asyncio.run(world.run(Planned(plan), ask()))
    gc.collect()

    assert (run.answer.text, world._pool.calls) == ("x", [])


# --- after a refusal by a limit a plan may only return an answer ---


def begun_first(request):
    yield Begin(Ask("a", max_tokens=100))
    arrival = yield Next()
    reply = yield Ask("a", max_tokens=1)
    return Answer(Message("assistant", f"{arrival.reply.error.kind} {reply.error.kind}"))


def forked_first(request):
    answers = yield Fork((Ask("a", max_tokens=1), Ask("b", max_tokens=1)))
    reply = yield Ask("a", max_tokens=1)
    return Answer(Message("assistant", f"{answers[0].error.kind} {reply.error.kind}"))


def forked_after(request):
    first = yield Ask("a", max_tokens=100)
    (second,) = yield Fork((forked_first(request),))
    return Answer(Message("assistant", f"{first.error.kind} {second.error.kind}"))


@pytest.mark.parametrize(
    ("plan", "limits"),
    [
        (begun_first, Limits(usd=50)),
        (forked_first, Limits(depth=0)),
        (forked_first, Limits(fanout=1)),
        (forked_after, Limits(usd=50)),
    ],
)
def test_every_kind_of_refusal_leaves_a_plan_only_its_answer(plan, limits):
    """Not only a plain ask: one that was begun, a fork too deep, a fork too wide."""
    world = engine(lambda *a: "x")

    run = asyncio.run(world.run(Planned(plan), ask(limits=limits)))

    assert (run.answer.text, run.calls) == ("limit limit", 0)


def test_a_tail_ask_after_a_refusal_gives_its_otherwise():
    """The last ask is refused like any other, and the answer in hand goes out."""

    def plan(request):
        yield Ask("a", max_tokens=100)
        return Ask(
            "b", max_tokens=1, otherwise=Answer(Message("assistant", "in hand"), why="the best so far")
        )

    world = engine(lambda *a: "x")

    run = asyncio.run(world.run(Planned(plan), ask(limits=Limits(usd=50))))

    assert (run.answer.text, run.calls) == ("in hand", 0)
    assert run.answer.why.startswith("the best so far; b as solver gave no answer (limit: usd")


def test_begun_asks_count_against_the_fan_out():
    """What is begun side by side is as wide as a fork of it."""

    def plan(request):
        for _ in range(5):
            yield Begin(Ask("a"))
        kinds = []
        for _ in range(5):
            arrival = yield Next()
            kinds.append(arrival.reply.error.kind if arrival.reply.error else "ok")
        return Answer(Message("assistant", " ".join(sorted(kinds))))

    run = asyncio.run(engine(lambda *a: "x").run(Planned(plan), ask(limits=Limits(fanout=2))))

    assert run.answer.text == "limit limit limit ok ok"


# --- forks ---


def test_a_fork_ends_when_its_time_has_passed():
    """What has not answered by then is dropped, what has answered counts."""

    async def attempt(ask, endpoint, number):
        return "x" if ask.worker == "a" else await asyncio.Event().wait()

    def plan(request):
        answers = yield Fork((Ask("a"), Ask("b")), within=0.02)
        return Answer(Message("assistant", " ".join(a.text or a.error.kind for a in answers)))

    run = asyncio.run(engine(attempt).run(Planned(plan), ask()))

    assert run.answer.text == "x dropped"


def test_failures_do_not_count_towards_a_quorum():
    """A quorum of two out of one failure and two answers waits for both answers."""

    async def attempt(ask, endpoint, number):
        for _ in range({"a": 0, "b": 3, "c": 6}[ask.worker]):
            await asyncio.sleep(0)
        return trouble("bad_request", retryable=False) if ask.worker == "a" else ask.worker

    def plan(request):
        answers = yield Fork((Ask("a"), Ask("b"), Ask("c")), quorum=2)
        return Answer(Message("assistant", " ".join(a.text or a.error.kind for a in answers)))

    run = asyncio.run(engine(attempt).run(Planned(plan), ask()))

    assert run.answer.text == "bad_request b c"


def test_a_broken_branch_breaks_the_run_and_cancels_the_others():
    """A plan that fails inside a fork ends the run; the branch beside it is charged and recorded as cancelled."""
    store = ListStore()

    def broken():
        yield Note(Choice("x"))
        yield Ask("b")
        raise KeyError("k")

    async def attempt(ask, endpoint, number):
        return "x" if ask.worker == "b" else await asyncio.Event().wait()

    def plan(request):
        yield Fork((Ask("a"), broken()))

    run = asyncio.run(Engine(FunctionPool(attempt), store).run(Planned(plan), ask()))

    assert "KeyError" in run.answer.error.message
    assert [(e.worker, e.error and e.error.kind) for e in store.events(run.id) if e.kind == "answered"] == [
        ("b", None),
        ("a", "cancelled"),
    ]


# --- dry runs of plans that are broken, or begin otherwise ---


def endless():
    while True:
        yield Note(Choice("again"))


@pytest.mark.parametrize(
    ("plan", "said"),
    [(could_not_start, "could not be started"), (Answer, "no generator"), (endless, "without an ask")],
)
def test_a_dry_run_of_a_broken_plan_says_so(plan, said):
    """A `PolicyError`, whatever the plan does; a plan that never asks does not hold the gateway up."""
    with pytest.raises(PolicyError, match=said):
        engine(lambda *a: "x").preview(Planned(lambda request: plan()), ask())


def test_a_dry_run_shows_what_a_race_begins_with():
    """A begun ask is an ask."""

    @dataclass(frozen=True)
    class Race:
        def plan(self, request):
            yield Begin(Ask("b"))

        def outlook(self, request, quotes):
            return Outlook()

    async def preview():
        return engine(lambda *a: "x").preview(Race(), ask())

    assert [a.worker for a in asyncio.run(preview()).first] == ["b"]


# --- fingerprints ---


def test_the_version_of_a_pool_is_the_same_in_every_process():
    """It is a function of the cards alone: sets are put in order, whatever the process's hash seed."""
    code = (
        "import asyncio;from tests.unit.engine.test_run import *;"
        "store=ListStore();asyncio.run(engine(lambda *a:'x',store).run(Solo('a'),ask()));print(store.written[0].version)"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "0123"
    ]

    assert len(set(told)) == 1


def test_a_policy_with_a_set_of_settings_has_one_version():
    """Settings of any kind go into the version, in one order."""

    @dataclass(frozen=True)
    class Picky:
        among: frozenset

    one = Picky(frozenset({("a", 1), ("b", 2), 3}))

    assert version(one) == version(Picky(frozenset({3, ("b", 2), ("a", 1)})))
    assert version(one) != version(Picky(frozenset({3, ("b", 2)})))


def test_nobody_counts_a_text_that_he_may_not_see():
    """A worker that is denied is not asked for its tokens either; where one of several is, the others count."""

    class Counting(FunctionPool):
        async def count(self, ask):
            self.calls.append((ask, ask.worker))
            return Count(len(ask.worker), True)

    pool = Counting(immediately(lambda *a: "x"))
    only_b = ask(exclude={"worker": ("a", "c")})
    with pytest.raises(NoCandidate, match="a: worker 'a' is excluded"):
        asyncio.run(Engine(pool, ListStore()).count(Solo("a"), only_b))
    assert pool.calls == []

    counted = asyncio.run(Engine(pool, ListStore()).count(Fuse(("a", "b", "c")), only_b))
    assert (counted, [name for _, name in pool.calls]) == (Count(1, True), ["b"])
