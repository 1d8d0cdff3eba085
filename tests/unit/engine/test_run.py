"""The engine: what it executes, in which order it records, and what holds for the whole call tree."""

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from stretto.engine.run import Engine
from stretto.errors import LedgerUnavailable, NoCandidate
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Begin, Choice, Fork, Hold, Next, Note, Outcome, put
from stretto.types import (
    Answer,
    Card,
    Failure,
    Key,
    Limits,
    Message,
    Part,
    Price,
    Request,
    TokenLogprob,
    Usage,
)
from tests.unit.engine.doubles import FunctionPool, ListStore, immediately, says
from tests.virtual_time import in_virtual_time


def ask(text="hi", **fields):
    return Request(messages=(Message("user", text),), **fields)


def engine(answer, store=None, accounts=None, limits=Limits(), **pool):
    attempt = answer if asyncio.iscoroutinefunction(answer) else immediately(answer)
    return Engine(
        FunctionPool(attempt, **pool), store or ListStore(), accounts, limits=limits, clock=lambda: 1000.0
    )


@dataclass(frozen=True)
class Planned:
    """A policy from a generator function."""

    make: Any
    CODE: str = "1"
    nested: tuple = field(default=())

    def plan(self, request):
        return self.make(request)

    def outlook(self, request, quotes):
        raise AssertionError("not asked for")


def trouble(kind="overloaded", retryable=True):
    return Outcome(error=Failure(kind, "said so"), retryable=retryable)


# --- recording ---


def test_intent_stands_before_the_attempt_and_the_outcome_before_the_answer():
    """When an attempt starts its intent is in the store; when run returns, so are outcome and end."""
    store = ListStore()
    seen = []

    def answer(ask, endpoint, number):
        seen.append([e.kind for e in store.written])
        return "yes"

    run = asyncio.run(engine(answer, store).run(Solo("a"), ask()))

    assert seen == [["pooled", "opened", "asked"]]
    assert store.kinds(run.id) == ["opened", "asked", "answered", "finished"]
    assert run.answer.text == "yes"


def test_the_sum_of_the_attempts_is_the_usage_and_the_cost_of_the_run():
    """Failed attempts count with what they used; what served the caller is the attempt that wrote the answer."""
    store = ListStore()

    def answer(ask, endpoint, number):
        return Outcome(usage=Usage(4, 0), error=Failure("cut"), retryable=True) if number == 1 else says("ok")

    run = asyncio.run(engine(answer, store).run(Solo("a"), ask()))

    outcomes = [e for e in store.events(run.id) if e.kind == "answered"]
    assert run.calls == len(outcomes) == 2
    assert run.usage == sum((e.usage for e in outcomes), Usage()) == Usage(7, 2)
    assert run.cost == sum(e.cost for e in outcomes) == 9
    assert run.served == Usage(3, 2)


def test_a_call_is_not_made_when_its_intent_cannot_be_recorded():
    """An unwritable ledger refuses paid work instead of losing track of it."""

    class Full(ListStore):
        def append(self, batch):
            raise LedgerUnavailable("disk full")

    made = []
    with pytest.raises(LedgerUnavailable):
        asyncio.run(engine(lambda *a: made.append(a), Full()).run(Solo("a"), ask()))

    assert made == []


# --- attempts ---


def test_a_retryable_failure_goes_to_the_next_endpoint_at_once():
    """Failover prefers an endpoint that has not been tried for this ask."""
    world = engine(lambda a, e, n: trouble() if e.name == "a/1" else "ok", places={"a": ("a/1", "a/2")})

    run = asyncio.run(world.run(Solo("a"), ask()))

    assert run.answer.text == "ok"
    assert [name for _, name in world._pool.calls] == ["a/1", "a/2"]


def test_no_ask_makes_more_than_three_attempts():
    """The one retry layer is bounded, and the last failure is the reply's."""
    world = engine(lambda a, e, n: trouble(), places={"a": ("1", "2", "3", "4", "5")})

    run = asyncio.run(world.run(Solo("a"), ask()))

    assert (run.calls, run.answer.error.kind) == (3, "overloaded")


def test_a_failure_that_repeating_cannot_mend_is_not_repeated():
    """A bad request is asked once."""
    run = asyncio.run(engine(lambda a, e, n: trouble("bad_request", retryable=False)).run(Solo("a"), ask()))

    assert run.calls == 1


def test_the_retry_budget_keeps_retries_of_a_dead_upstream_to_a_fraction():
    """A hundred calls against a dead worker make at most a quarter more attempts than calls, past the initial stock."""
    world = engine(lambda a, e, n: trouble(), places={"a": ("1", "2")})

    async def many():
        for _ in range(100):
            await world.run(Solo("a"), ask())

    asyncio.run(many())

    assert len(world._pool.calls) <= 100 * 1.25 + 10


def test_nothing_is_retried_once_a_piece_has_been_shown():
    """An answer that broke off midway is not started anew under the caller's eyes."""

    async def attempt(ask, endpoint, number):
        return says("half an answer") if number > 1 else trouble("cut")

    class Emitting(FunctionPool):
        async def attempt(self, ask, endpoint, *, deadline, tally, emit):
            tally.emitted = True
            return await super().attempt(ask, endpoint, deadline=deadline, tally=tally, emit=None)

    async def emit(deltas):
        pass

    run = asyncio.run(Engine(Emitting(attempt), ListStore()).run(Solo("a"), ask(), emit=emit))

    assert (run.calls, run.answer.error.kind, run.streamed) == (1, "cut", True)


def test_a_worker_without_a_usable_endpoint_is_a_refusal_with_a_time_to_come_back():
    """Nothing is called; the reply says how long until it may be."""
    world = engine(lambda *a: "never")
    world._pool.down.add("a/1")

    run = asyncio.run(world.run(Solo("a"), ask()))

    assert (run.answer.error.kind, run.answer.error.retry_after, run.calls) == ("rate_limited", 7.0, 0)


# --- limits ---


def test_a_refusal_by_a_limit_is_data_and_the_plan_returns_its_best():
    """The cascade's dear rung does not fit the money left, so the cheap answer stands and says why."""
    unsure = (TokenLogprob("x", math.log(0.1)),)
    world = engine(lambda a, e, n: says("cheap answer", logprobs=unsure))
    cascade = Cascade((Rung.of_worker("a", "confidence"), Rung.of_worker("b", "confidence")))

    run = asyncio.run(world.run(cascade, ask(max_tokens=10, limits=Limits(usd=19))))

    assert run.answer.text == "cheap answer"
    assert "usd" in run.answer.why
    assert run.cost <= 19


def test_parallel_asks_together_never_pass_the_ceiling():
    """Money is held at the worst case before each attempt, so a fork cannot overshoot by its width."""
    world = engine(lambda a, e, n: says("x", input=5, output=10))

    run = asyncio.run(world.run(Fuse(("a",) * 8), ask(max_tokens=10, limits=Limits(usd=50))))

    assert run.calls == 3
    assert run.cost == 45
    assert "was refused (limit)" in run.answer.why


def test_an_open_output_cap_is_lowered_so_that_an_ask_fits():
    """Without max_tokens of the caller, the money left sets the cap that is sent, as long as it leaves a usable answer."""

    class Wide(FunctionPool):
        def quote(self, ask):
            return super().quote(ask) if ask.max_tokens else super().quote(_capped(ask, 4096))

    def _capped(ask, cap):
        from dataclasses import replace

        return replace(ask, max_tokens=cap)

    pool = Wide(immediately(lambda a, e, n: "ok"))

    run = asyncio.run(Engine(pool, ListStore()).run(Solo("a"), ask(limits=Limits(usd=1005))))

    assert run.answer.text == "ok"
    assert pool.calls[0][0].max_tokens == 1000


@pytest.mark.parametrize("limits", [Limits(calls=2), Limits(usd=31)])
def test_after_a_refusal_a_plan_may_only_return(limits):
    """What it still asks is refused unseen, even if it would fit."""

    def plan(request):
        first = yield Ask("a", max_tokens=10)
        second = yield Ask("a", max_tokens=10)
        third = yield Ask("a", max_tokens=200)
        fourth = yield Ask("a", max_tokens=1)
        return Answer(
            Message(
                "assistant",
                " ".join(r.error.kind if r.error else "ok" for r in (first, second, third, fourth)),
            )
        )

    run = asyncio.run(
        engine(lambda a, e, n: says("x", input=5, output=5)).run(Planned(plan), ask(limits=limits))
    )

    assert run.answer.text == "ok ok limit limit"
    assert run.calls == 2


def test_every_reply_tells_what_is_left():
    """A plan can see how much of each limit remains."""

    def plan(request):
        reply = yield from put(Ask("a", max_tokens=10))
        return Answer(Message("assistant", f"{reply.left.usd} {reply.left.calls}"))

    run = asyncio.run(
        engine(lambda a, e, n: says("x")).run(Planned(plan), ask(limits=Limits(usd=100, calls=5)))
    )

    assert run.answer.text == "95 4"


@pytest.mark.parametrize(("limits", "word"), [(Limits(depth=1), "depth"), (Limits(fanout=1), "fanout")])
def test_nested_and_wide_forks_end_at_the_callers_limits(limits, word):
    """Depth and fan-out hold for the whole tree; what they forbid is an answer with a limit failure."""

    def inner(request):
        answers = yield Fork((Ask("a"), Ask("b")))
        return answers[0]

    def outer(request):
        answers = yield Fork((inner(request),))
        return answers[0]

    run = asyncio.run(engine(lambda *a: "x").run(Planned(outer), ask(limits=limits)))

    assert (run.answer.error.kind, word in run.answer.error.message) == ("limit", True)


def test_a_worker_without_a_price_is_not_asked_under_a_money_ceiling():
    """A promise about money cannot be kept for a price nobody knows."""

    class Unpriced(FunctionPool):
        def quote(self, ask):
            from stretto.steps import Quote

            return Quote(0, 0, 1, 1, priced=False)

    run = asyncio.run(
        Engine(Unpriced(immediately(lambda *a: "x")), ListStore()).run(Solo("a"), ask(limits=Limits(usd=5)))
    )

    assert (run.answer.error.kind, "price" in run.answer.error.message) == ("limit", True)


def test_the_tail_asks_otherwise_is_the_answer_when_a_limit_refuses_it():
    """A last ask may carry the answer to give instead."""

    def plan(request):
        yield Note(Choice("a"))
        return Ask("a", otherwise=Answer(Message("assistant", "instead")))

    run = asyncio.run(engine(lambda *a: "x").run(Planned(plan), ask(limits=Limits(calls=0))))

    assert run.answer.text == "instead"
    assert "limit" in run.answer.why


class Purse:
    """Accounts of one key, in a double: `free` is what may still be held."""

    def __init__(self, free):
        self.free, self.held, self.slow = free, [], 0

    def try_reserve(self, key, amount):
        return None

    async def reserve(self, key, amount, deadline):
        self.slow += 1
        if amount > self.free:
            return Failure("limit", "key ceiling")
        self.free -= amount
        hold = Hold(key.id, "slab", amount)
        self.held.append(hold)
        return hold

    def settle(self, hold, cost):
        self.held.remove(hold)
        self.free += hold.amount - cost

    def left(self, key):
        return self.free


def test_a_keys_money_is_held_for_each_attempt_and_settled_at_the_true_cost():
    """After the run nothing is held, and exactly the cost is gone; a refused ask holds nothing."""
    purse = Purse(20)
    world = engine(lambda a, e, n: says("x", input=5, output=5), accounts=purse)
    key = Key("k", total=20)

    first = asyncio.run(world.run(Solo("a"), ask(max_tokens=10), key=key))
    second = asyncio.run(world.run(Solo("a"), ask(max_tokens=10), key=key))

    assert (first.cost, second.answer.error.kind, purse.held, purse.free) == (10, "limit", [], 10)


class Waiting(Purse):
    """Accounts that let the first caller through and keep the others waiting, until `broken` is set."""

    def __init__(self):
        super().__init__(1000)
        self.broken = asyncio.Event()

    async def reserve(self, key, amount, deadline):
        if self.slow:
            self.slow += 1
            await self.broken.wait()
            raise LedgerUnavailable("the accounts are gone")
        return await super().reserve(key, amount, deadline)


def test_a_call_that_was_cancelled_before_its_money_was_there_does_not_count():
    """The end of a run counts attempts that were made; one that still waited for the key's money is none."""
    store = ListStore()

    async def attempt(ask, endpoint, number):
        await asyncio.Event().wait()

    async def leave():
        purse = Waiting()
        running = engine(attempt, store, purse).run(Fuse(("a", "b")), ask(), key=Key("k", total=1000))
        task = asyncio.create_task(running)
        while purse.slow < 2 or [e.kind for e in store.written][-1:] != ["asked"]:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return purse

    purse = asyncio.run(leave())

    assert [e.kind for e in store.written].count("asked") == 1
    assert (store.written[-1].kind, store.written[-1].calls) == ("finished", 1)
    assert purse.held == []


def test_accounts_that_fail_leave_no_run_without_an_end():
    """When the money of one branch cannot be had, the other's outcome and the end are recorded before the error goes on."""
    store = ListStore()

    async def attempt(ask, endpoint, number):
        await asyncio.Event().wait()

    async def fail():
        purse = Waiting()
        running = engine(attempt, store, purse).run(Fuse(("a", "b")), ask(), key=Key("k", total=1000))
        task = asyncio.create_task(running)
        while purse.slow < 2 or [e.kind for e in store.written][-1:] != ["asked"]:
            await asyncio.sleep(0)
        purse.broken.set()
        with pytest.raises(LedgerUnavailable):
            await task
        return purse

    purse = asyncio.run(fail())

    answered, finished = store.written[-2:]
    assert (answered.kind, answered.error.kind, answered.cost) == ("answered", "cancelled", 5)
    assert (finished.kind, finished.error.kind, finished.calls, finished.cost) == (
        "finished",
        "unavailable",
        1,
        5,
    )
    assert purse.held == []


# --- place ---


def test_constraints_filter_the_pool_before_the_policy_and_name_the_denied():
    """A request that leaves nobody is refused with everyone's reason, before anything is recorded."""
    store = ListStore()
    world = engine(lambda *a: "x", store, labels={"a": {"region": "eu"}, "b": {"region": "us"}})

    run = asyncio.run(world.run(Fuse(("a", "b", "c")), ask(require={"region": ("eu",)})))
    with pytest.raises(
        NoCandidate, match=r"a: region is 'eu', required to be mars; b: .*; c: has no label 'region'"
    ):
        asyncio.run(world.run(Solo("a"), ask(require={"region": ("mars",)})))

    assert [a.worker for a, _ in world._pool.calls] == ["a"]
    assert {d.worker for d in store.events(run.id)[0].denied} == {"b", "c"}


def test_a_plan_that_asks_a_denied_worker_is_refused_at_the_door():
    """The door checks again what the filter took out."""
    world = engine(lambda *a: "x", labels={"a": {"region": "us"}, "b": {"region": "eu"}})

    run = asyncio.run(world.run(Solo("a"), ask(require={"region": ("eu",)})))

    assert (run.answer.error.kind, world._pool.calls) == ("denied", [])


def test_a_keys_constraints_make_the_requests_stricter():
    """A key that is bound to a place cannot ask elsewhere."""
    world = engine(lambda *a: "x", labels={"a": {"region": "us"}, "b": {"region": "eu"}})

    run = asyncio.run(world.run(Fuse(("a", "b")), ask(), key=Key("k", require={"region": ("eu",)})))

    assert run.answer.worker == "b"


# --- streaming ---


def test_only_the_outermost_tail_ask_streams():
    """In a cascade of a fuse, members and judges stay silent; the last rung's pieces come out."""
    pieces = []

    async def emit(deltas):
        pieces.extend(d.text for d in deltas)

    policy = Cascade((Rung("panel", Fuse(("a", "b"))), Rung("c", Solo("c"))), check="verifier", verifier="a")
    world = engine(lambda a, e, n: "no" if a.role == "verifier" else f"from {a.worker}")

    run = asyncio.run(world.run(policy, ask(), emit=emit))

    assert (pieces, run.answer.text, run.streamed) == (["from", "c"], "from c", True)


# --- leaving ---


def test_when_the_caller_leaves_the_whole_tree_is_cancelled_and_charged():
    """Every attempt under way is recorded as cancelled with what it used, and the run has an end."""
    store = ListStore()
    closed = []

    async def attempt(ask, endpoint, number):
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(ask.worker)

    async def leave():
        task = asyncio.create_task(engine(attempt, store).run(Fuse(("a", "b")), ask()))
        while len([e for e in store.written if e.kind == "asked"]) < 2:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    cancelled = asyncio.run(leave())

    outcomes = [e for e in store.written if e.kind == "answered"]
    assert cancelled
    assert sorted(closed) == ["a", "b"]
    assert [(e.error.kind, e.usage.input, e.cost) for e in outcomes] == [("cancelled", 5, 5)] * 2
    assert store.written[-1].kind == "finished"
    assert store.written[-1].error.kind == "cancelled"


def test_a_quorum_ends_a_fork_and_cancels_the_rest():
    """The slow member is dropped, charged for what it used, and the join records who made it."""
    store = ListStore()

    async def attempt(ask, endpoint, number):
        if ask.worker == "c":
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return "x"

    run = asyncio.run(engine(attempt, store).run(Fuse(("a", "b", "c"), quorum=2), ask()))

    joined = next(e for e in store.events(run.id) if e.kind == "joined")
    assert (sorted(joined.arrived), joined.dropped) == ([0, 1], (2,))
    assert run.answer.why == "2 of 2 agree; c was not waited for"


# --- plans that are broken ---


def test_a_plan_that_raises_is_a_recorded_policy_failure():
    """A broken plan is the run's error, not the server's end; the record names the step."""
    store = ListStore()

    def plan(request):
        yield Note(Choice("a"))
        raise ZeroDivisionError("oops")

    run = asyncio.run(engine(lambda *a: "x", store).run(Planned(plan), ask()))

    assert run.answer.error == Failure("policy", "the plan failed at step 1: ZeroDivisionError: oops")
    assert store.kinds(run.id)[-1] == "finished"


def test_a_plan_that_never_ends_is_stopped():
    """A plan that notes for ever ends at the step limit."""

    def plan(request):
        while True:
            yield Note(Choice("again"))

    run = asyncio.run(engine(lambda *a: "x").run(Planned(plan), ask()))

    assert "10000 steps" in run.answer.error.message


# --- begin and next ---


def test_begun_asks_come_back_in_the_order_they_finish():
    """A race takes the first good reply and drops the rest."""
    store = ListStore()

    async def attempt(ask, endpoint, number):
        if ask.worker == "a":
            await asyncio.Event().wait()
        return f"from {ask.worker}"

    def race(request):
        tickets = {}
        for worker in ("a", "b"):
            tickets[(yield Begin(Ask(worker)))] = worker
        arrival = yield Next()
        return Answer(Message("assistant", f"{tickets[arrival.ticket]}: {arrival.reply.text}"))

    run = asyncio.run(engine(attempt, store).run(Planned(race), ask()))

    assert run.answer.text == "b: from b"
    assert [e.worker for e in store.events(run.id) if e.kind == "answered" and e.error] == ["a"]


def test_next_gives_up_after_its_time():
    """`Next(within=0)` with nothing back yet is None, and says so when nothing is under way at all."""

    async def attempt(ask, endpoint, number):
        await asyncio.Event().wait()

    def plan(request):
        yield Begin(Ask("a"))
        arrival = yield Next(within=0)
        return Answer(Message("assistant", str(arrival)))

    run = asyncio.run(engine(attempt).run(Planned(plan), ask()))

    assert run.answer.text == "None"


# --- dry run ---


def test_a_preview_calls_nobody_and_never_promises_more_than_the_limits():
    """Candidates, the choice and an outlook under the ceilings, with nothing called or written."""
    store = ListStore()
    world = engine(lambda *a: "x", store, price=Price(1, 1))

    preview = world.preview(Fuse(("a", "b")), ask(limits=Limits(calls=3, usd=12)))

    assert [a.worker for a in preview.first] == ["a", "b"]
    assert (preview.outlook.calls.most, preview.outlook.usd.most) == (3, 12)
    assert (store.written, world._pool.calls) == ([], [])


def test_a_dry_run_of_a_plan_that_asks_first_shows_that_ask():
    """The first ask need not be a tail ask or a fork; a plan that answers at once asks nobody."""

    def asking(request):
        yield Note(Choice("a"))
        yield Ask("a")

    def answering(request):
        return Answer()
        yield

    @dataclass(frozen=True)
    class Quiet(Planned):
        def outlook(self, request, quotes):
            from stretto.steps import Outlook

            return Outlook()

    async def previews():
        world = engine(lambda *a: "x")
        return [world.preview(Quiet(plan), ask()) for plan in (asking, answering)]

    first, second = asyncio.run(previews())

    assert ([a.worker for a in first.first], first.choices[0].picked, second.first) == (["a"], "a", ())


def test_an_endpoint_outside_the_constraints_is_not_tried():
    """A worker with places in two regions is asked where the request allows; with none such it is denied at the door."""

    class Regions(FunctionPool):
        def candidates(self, ask):
            from stretto.steps import Endpoint, Ready

            return Ready(
                (Endpoint("us", ask.worker, {"region": "us"}), Endpoint("eu", ask.worker, self.other))
            )

    async def attempt(ask, endpoint, number):
        return endpoint.name

    pool = Regions(attempt, labels={w: {"region": "eu"} for w in "abc"})
    pool.other = {}
    here = asyncio.run(Engine(pool, ListStore()).run(Solo("a"), ask(require={"region": ("eu",)})))
    pool.other = {"region": "us"}
    nowhere = asyncio.run(Engine(pool, ListStore()).run(Solo("a"), ask(exclude={"region": ("us",)})))

    assert (here.answer.text, nowhere.answer.error.kind) == ("eu", "denied")


def test_an_unpriced_worker_is_not_asked_on_a_key_with_a_ceiling():
    """A key's ceiling is a promise too; the refused call does not count."""

    class Unpriced(FunctionPool):
        def quote(self, ask):
            from stretto.steps import Quote

            return Quote(0, 0, 1, 1, priced=False)

    purse = Purse(20)
    world = Engine(Unpriced(immediately(lambda *a: "x")), ListStore(), purse)

    run = asyncio.run(world.run(Solo("a"), ask(), key=Key("k", total=20)))

    assert (run.answer.error.kind, run.calls, purse.slow) == ("limit", 0, 0)


def test_money_that_this_process_has_leased_is_had_at_once():
    """What the accounts can set aside without waiting is not waited for."""

    class Leased(Purse):
        def try_reserve(self, key, amount):
            hold = Hold(key.id, "slab", amount)
            self.held.append(hold)
            self.free -= amount
            return hold

    purse = Leased(100)

    run = asyncio.run(
        engine(lambda *a: "x", accounts=purse).run(Solo("a"), ask(max_tokens=9), key=Key("k", total=100))
    )

    assert (run.cost, purse.slow, purse.held, purse.free) == (5, 0, [], 95)


def test_nothing_is_retried_after_the_deadline_or_without_a_place():
    """A failure that came with the end of the time, or that took the last endpoint out, is final."""

    async def late(ask, endpoint, number):
        await asyncio.sleep(20)
        return trouble()

    slow = in_virtual_time(engine(late).run(Solo("a"), ask(limits=Limits(seconds=10))))
    world = engine(lambda a, e, n: world._pool.down.add("a/1") or trouble())
    gone = asyncio.run(world.run(Solo("a"), ask()))
    used_up = asyncio.run(engine(lambda *a: "x").run(Solo("a"), ask(limits=Limits(seconds=0))))

    assert (slow.calls, slow.answer.error.kind) == (1, "overloaded")
    assert (gone.calls, gone.answer.error.kind) == (1, "overloaded")
    assert (used_up.calls, used_up.answer.error.message) == (0, "seconds: all 0 are used")


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"tools": ({"type": "function"},)}, "cannot do tools"),
        ({"response_format": {"type": "json_object"}}, "cannot do json"),
        ({"messages": (Message("user", (Part("image_url", data={}),)),)}, "cannot do vision"),
        ({"exclude": {"worker": ("a", "b", "c")}}, "worker 'a' is excluded"),
    ],
)
def test_a_worker_that_cannot_do_what_is_needed_is_taken_out(needs, reason):
    """Tools, structured output and pictures need the ability; the refusal tells each worker's reason."""

    class Plain(FunctionPool):
        def cards(self):
            return tuple(Card(w) for w in "abc")

    world = Engine(Plain(immediately(lambda *a: "x")), ListStore())

    with pytest.raises(NoCandidate, match=f"a: {reason}"):
        asyncio.run(world.run(Solo("a"), replace(ask(), **needs)))
