"""Sums, holds and records that must agree on every path: retries, refusals, cancellation, resumption, a broken caller."""

import asyncio
import random
from dataclasses import replace

import pytest

from stretto.engine.run import Engine
from stretto.errors import Diverged, LedgerError, LedgerUnavailable
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Outcome, Quote
from stretto.types import Answer, Failure, Key, Limits, Message, Price, Usage
from tests.unit.engine.doubles import FunctionPool, ListStore, says
from tests.unit.engine.test_run import Planned, Purse, ask, engine, trouble
from tests.virtual_time import in_virtual_time

TWO = {"a": ("1", "2")}
KEY = Key("k", total=1000)


def costly(ask, endpoint, number):
    """Every other attempt fails, and costs something all the same."""
    return replace(trouble(), usage=Usage(3, 1)) if number % 2 else "ok"


def sums(store, run):
    answered = [e for e in store.events(run) if e.kind == "answered"]
    return sum((e.usage for e in answered), Usage()), sum(e.cost for e in answered), len(answered)


def test_what_served_is_the_attempt_that_wrote_the_answer():
    """The failed attempt before it counts in the run's usage only; a replay says the same."""
    store = ListStore()
    world = engine(costly, store, places=TWO)

    run = asyncio.run(world.run(Solo("a"), ask()))
    again = asyncio.run(world.replay(run.id, Solo("a")))
    other = asyncio.run(world.replay(run.id, Fuse(("a",))))

    assert (run.usage, run.served) == (Usage(6, 3), Usage(3, 2))
    assert (again.usage, again.served, again.cost) == (run.usage, run.served, run.cost)
    assert (other.usage, other.cost, other.calls) == (run.usage, run.cost, run.calls)


def test_a_plan_sees_the_same_reply_in_a_replay_to_the_last_field():
    """Usage, cost, seconds, attempts and what is left are read from the record, so a plan may decide by them."""

    def plan(request):
        first = yield Ask("a", max_tokens=10)
        second = yield Ask("b", max_tokens=10)
        return Answer(Message("assistant", repr((first, second))))

    store = ListStore()
    world = engine(costly, store, places=TWO, limits=Limits(usd=1000, calls=30))
    policy = Planned(plan)
    run = asyncio.run(world.run(policy, ask()))

    assert asyncio.run(world.replay(run.id, policy)).answer == run.answer


def test_a_retry_that_a_limit_refuses_keeps_what_was_spent_before():
    """The reply tells the first failure with its cost; so does the replay."""

    def plan(request):
        reply = yield Ask("a", max_tokens=10)
        return Answer(
            Message(
                "assistant",
                f"{reply.cost} {reply.usage.output} {reply.attempts} {reply.error.kind} {reply.seconds}",
            )
        )

    world = engine(costly, places=TWO, limits=Limits(calls=1))
    policy = Planned(plan)

    run = asyncio.run(world.run(policy, ask()))

    assert run.answer.text.startswith("4 1 1 overloaded")
    assert (run.cost, run.calls) == (4, 1)
    assert asyncio.run(world.replay(run.id, policy)).answer == run.answer


def test_a_caller_that_can_be_written_to_no_more_leaves_no_money_held():
    """When `emit` raises, the attempt is recorded and charged as cancelled, the run has an end, the key's hold is settled."""
    purse, store = Purse(100), ListStore()

    async def emit(deltas):
        raise ConnectionResetError("gone")

    world = engine(lambda *a: "two words", store, accounts=purse)
    with pytest.raises(ConnectionResetError):
        asyncio.run(world.run(Solo("a"), ask(max_tokens=10), key=KEY, emit=emit, run_id="run_1"))

    assert (purse.held, purse.free) == ([], 100 - 6)
    assert store.kinds("run_1")[-2:] == ["answered", "finished"]
    assert store.written[-1].error.kind == "cancelled"
    assert (store.written[-1].usage, store.written[-1].cost, store.written[-1].calls) == sums(store, "run_1")


def test_who_leaves_while_money_is_awaited_has_made_no_call():
    """Nothing is held, nothing counted, and the run has an end."""
    store = ListStore()

    class Slow(Purse):
        async def reserve(self, key, amount, deadline):
            self.slow += 1
            await asyncio.Event().wait()

    purse = Slow(100)

    async def leave():
        world = engine(lambda *a: "x", store, accounts=purse)
        task = asyncio.create_task(world.run(Solo("a"), ask(max_tokens=10), key=KEY))
        while not purse.slow:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())

    assert [e.kind for e in store.written] == ["pooled", "opened", "finished"]
    assert (store.written[-1].calls, store.written[-1].cost) == (0, 0)


class Waiting(ListStore):
    """A store whose appends from the `number`-th on are durable only when `event` is set, or fail with `error`."""

    def __init__(self, number, error=None):
        super().__init__()
        self.number, self.error = number, error
        self.event = asyncio.Event()
        self.waiting = False

    def append(self, batch):
        self.number -= 1
        if self.number < 0 and self.error is not None:
            raise self.error
        super().append(batch)
        self.waiting = self.number < 0
        return self.event.wait() if self.waiting else None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_who_leaves_while_the_record_is_written_leaves_no_money_held(number):
    """Cancelled in the flush of the intent, of the outcome of a fork's branch, of the end: every hold is settled."""
    purse = Purse(1000)

    async def leave():
        store = Waiting(number)
        world = engine(lambda *a: "x", store, accounts=purse)
        task = asyncio.create_task(world.run(Fuse(("a",)), ask(max_tokens=10), key=KEY, run_id="run_1"))
        while not store.waiting:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return store, asyncio.all_tasks() - {asyncio.current_task()}

    store, left = asyncio.run(leave())

    assert purse.held == []
    assert purse.free == 1000 - sums(store, "run_1")[1]
    assert len([e for e in store.written if e.kind == "asked"]) == sums(store, "run_1")[2]
    assert len(left) <= 1  # the end of the run is being made durable


@pytest.mark.parametrize("error", [LedgerUnavailable("full"), LedgerError("not JSON")])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_store_that_fails_leaves_no_money_held_and_the_pool_is_noted_again(number, error):
    """Whichever write fails, the caller is told, nothing stays held, and the next run's record refers to a pool on record."""
    purse, store = Purse(1000), Waiting(number, error)
    world = engine(lambda *a: "x", store, accounts=purse)

    with pytest.raises(type(error)):
        asyncio.run(world.run(Fuse(("a", "b")), ask(max_tokens=10), key=KEY))
    store.error, store.number = None, 99
    run = asyncio.run(world.run(Solo("a"), ask()))

    assert purse.held == []
    assert store.events(run.id)[0].pool in store.pools


class Far(random.Random):
    """A jitter that would wait a million seconds."""

    def uniform(self, a, b):
        return 1e6


def test_a_pause_before_a_retry_ends_with_the_time_of_the_run():
    """Deadlines are inherited by back-off: the run ends in its time with the failure it has."""
    world = Engine(
        FunctionPool(lambda *a: asyncio.sleep(0, trouble())), ListStore(), clock=lambda: 1.0, jitter=Far()
    )

    run = in_virtual_time(world.run(Solo("a"), ask(limits=Limits(seconds=10))))

    assert (run.answer.error.kind, run.calls) == ("overloaded", 1)


def test_the_pause_before_a_retry_heeds_retry_after():
    """A short time that the upstream names is waited out, then the same place is tried again."""
    limited = Outcome(error=Failure("rate_limited", retry_after=0.001), retryable=True)
    world = engine(lambda a, e, n: limited if n == 1 else "ok")

    run = asyncio.run(world.run(Solo("a"), ask()))

    assert (run.answer.text, run.calls) == ("ok", 2)


# --- resumption with a pool that has changed ---


def cut_before_asking(**pool):
    store = ListStore()
    world = engine(lambda *a: "x", store, **pool)
    run = asyncio.run(world.run(Solo("a"), ask(max_tokens=10, require={"region": ("eu",)})))
    del store.written[next(i for i, e in enumerate(store.written) if e.kind == "asked") :]
    return store, run


EU, US = {"a": {"region": "eu"}}, {"a": {"region": "us"}}


def test_a_resumed_attempt_is_charged_at_todays_price():
    """What is reserved and what is settled go by the same price list."""
    store, run = cut_before_asking(labels=EU)
    world = engine(lambda *a: says("x", input=5, output=10), store, labels=EU, price=Price(7, 7))

    assert asyncio.run(world.resume(run.id, Solo("a"))).cost == 7 * 15


@pytest.mark.parametrize("pool", [{"labels": US}, {"labels": EU, "workers": ("b",)}])
def test_a_resumed_run_asks_nobody_who_may_not_be_asked_today(pool):
    """A worker that has moved out of the required region, or has gone, is denied at the door."""
    store, run = cut_before_asking(labels=EU)
    world = engine(lambda *a: "x", store, **pool)

    resumed = asyncio.run(world.resume(run.id, Solo("a")))

    assert (resumed.answer.error.kind, world._pool.calls) == ("denied", [])


def test_a_resumed_run_obeys_a_key_that_has_become_stricter():
    """The key's constraints of today hold for what is still asked."""
    store, run = cut_before_asking(labels={"a": {"region": "eu", "vendor": "x"}})
    world = engine(lambda *a: "x", store, labels={"a": {"region": "eu", "vendor": "x"}})

    resumed = asyncio.run(world.resume(run.id, Solo("a"), key=Key("k", exclude={"vendor": ("x",)})))

    assert resumed.answer.error.kind == "denied"


def test_a_resumption_that_leaves_its_record_is_ended_in_it():
    """`Diverged` reaches the caller, and what was asked until then is recorded with an end."""
    store, run = cut_before_asking(labels=EU)
    asked = asyncio.run(engine(lambda *a: "x", other := ListStore(), labels=EU).run(Solo("a"), ask()))
    store.written += [
        replace(e, run=run.id) for e in other.events(asked.id) if e.kind == "asked"
    ]  # an intent with another fingerprint

    with pytest.raises(Diverged):
        asyncio.run(engine(lambda *a: "x", store, labels=EU).resume(run.id, Solo("a")))

    assert (store.written[-1].kind, store.written[-1].error.kind) == ("finished", "policy")


def test_resuming_a_finished_run_only_replays_it():
    """There is nothing to go on with, and nothing is written."""
    store = ListStore()
    world = engine(lambda *a: "x", store)
    run = asyncio.run(world.run(Solo("a"), ask()))
    written = len(store.written)

    resumed = asyncio.run(world.resume(run.id, Solo("a")))

    assert (resumed.answer, resumed.usage, len(store.written)) == (run.answer, run.usage, written)


def test_a_cancelled_run_replays_to_its_end_and_resumes_to_an_answer():
    """How it would have gone on is not on record; a resumption asks what was cancelled anew, and counts both."""
    store = ListStore()
    blocked = True

    async def attempt(ask, endpoint, number):
        if ask.worker == "b" and blocked:
            await asyncio.Event().wait()
        return "x"

    world = engine(attempt, store)
    policy = Fuse(("a", "b"))

    async def leave():
        task = asyncio.create_task(world.run(policy, ask(), run_id="run_1"))
        while len(world._pool.calls) < 2 or "answered" not in [e.kind for e in store.written]:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    end = store.written[-1]
    again = asyncio.run(world.replay("run_1", policy))
    blocked = False
    resumed = asyncio.run(world.resume("run_1", policy))

    assert again.answer.error == end.error
    assert (again.usage, again.cost, again.calls, again.missing) == (end.usage, end.cost, end.calls, ())
    assert (resumed.answer.text, resumed.answer.why) == ("x", "2 of 2 agree")
    assert (resumed.usage, resumed.cost, resumed.calls) == sums(store, "run_1")
    final = asyncio.run(world.replay("run_1", policy))
    assert (final.answer, final.usage, final.cost) == (resumed.answer, resumed.usage, resumed.cost)


def test_more_cached_than_put_in_is_never_a_gain():
    """An upstream that reports nonsense cannot earn money for a key."""
    assert Price(10, 1, 1).of(Usage(5, 0, 100)) == 5


@pytest.mark.parametrize(("total", "cap"), [(5000, None), (1005, 1000), (70, 65), (60, None)])
def test_an_open_output_cap_is_lowered_to_what_a_key_has_left(total, cap):
    """A key with a little money is not refused for an answer that nobody asked to be that long; 64 tokens are the least."""

    class Wide(FunctionPool):
        def quote(self, ask):
            most = ask.max_tokens or 4000
            return Quote(5, 5 + most, 5, most)

    pool, purse = Wide(lambda *a: asyncio.sleep(0, "ok")), Purse(total)

    run = asyncio.run(Engine(pool, ListStore(), purse).run(Solo("a"), ask(), key=Key("k", total=total)))

    if total == 60:
        assert run.answer.error.kind == "limit"
    else:
        assert (run.answer.text, pool.calls[0][0].max_tokens) == ("ok", cap or 4000)
    assert purse.held == []


def test_a_store_that_fails_while_the_caller_leaves_hides_nothing():
    """The cancellation goes on, the hold is settled, and the pool is noted again by the next run."""
    purse = Purse(1000)

    async def leave():
        store = Waiting(99)
        asked = asyncio.Event()

        async def attempt(ask, endpoint, number):
            asked.set()
            await asyncio.Event().wait()

        world = engine(attempt, store, accounts=purse)
        task = asyncio.create_task(world.run(Solo("a"), ask(max_tokens=10), key=KEY))
        await asked.wait()
        store.number, store.error = 0, LedgerUnavailable("full")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), world._pool_version

    assert asyncio.run(leave()) == (True, "")
    assert (purse.held, purse.free) == ([], 995)


def test_an_end_that_does_not_become_durable_is_told():
    """The wait for the last record fails: the caller gets the error, not an answer that may be lost."""

    class Failing(ListStore):
        def append(self, batch):
            super().append(batch)
            return self.fail() if any(e.kind == "finished" for e in batch) else None

        async def fail(self):
            raise LedgerUnavailable("fdatasync")

    with pytest.raises(LedgerUnavailable, match="fdatasync"):
        asyncio.run(engine(lambda *a: "x", Failing()).run(Solo("a"), ask()))


def test_an_intent_that_does_not_become_durable_is_not_acted_on():
    """The wait for the intent fails: no call is made, and nothing stays held."""

    class Failing(ListStore):
        def append(self, batch):
            super().append(batch)
            return self.fail() if any(e.kind == "asked" for e in batch) else None

        async def fail(self):
            raise LedgerUnavailable("fdatasync")

    purse = Purse(1000)
    world = engine(lambda *a: "x", Failing(), accounts=purse)

    with pytest.raises(LedgerUnavailable, match="fdatasync"):
        asyncio.run(world.run(Solo("a"), ask(max_tokens=10), key=KEY))

    assert (world._pool.calls, purse.held, purse.free) == ([], [], 1000)


def test_a_cap_cannot_make_room_where_writing_is_free():
    """Input alone that passes the ceiling is refused."""
    run = asyncio.run(engine(lambda *a: "x", price=Price(1, 0)).run(Solo("a"), ask(limits=Limits(usd=3))))

    assert run.answer.error.kind == "limit"
