"""Shadow runs: a candidate answers again beside what serves, on an account of its own, and nobody who is served notices."""

import asyncio
import json
from typing import Any

import pytest

from stretto.engine.run import Engine
from stretto.gateway.settings import Shadow
from stretto.gateway.shadows import ACCOUNT, Shadows, repeatable
from stretto.ledger.accounts import MemoryAccounts
from stretto.ledger.events import Answered, Opened
from stretto.ledger.memory import MemoryStore
from stretto.ledger.read import Reader
from stretto.policies.solo import Solo
from stretto.steps import Ask, Emit, Outcome, Tally
from stretto.types import Key, Message, Request, ToolCall
from stretto.wire import chat
from stretto.wire.base import Incoming
from tests.asgi import Exchange, call
from tests.gateway_world import CHAT, Names, World, WrittenPool, echo, hello, says

COST = 7_000_000
WORST = 1_000_000_000
EVERY = Shadow(policy="b", of="a", share=1.0, day=10 * WORST)


def shadowed(settings: Shadow = EVERY, **fields: Any) -> World:
    return World(shadow=settings, accounts=fields.pop("accounts", MemoryAccounts()), **fields)


async def served(world: World, body: dict[str, Any], **headers: str) -> Exchange:
    """A call, and whatever it sets off beside."""
    got = await call(world.app, "POST", CHAT, body, **headers)
    await world.app.shadows.settled()
    return got


def runs(world: World, purpose: str) -> list[Any]:
    return list(world.store.runs(50, None, None, purpose))


def test_a_candidate_answers_the_same_request_beside_who_serves() -> None:
    """Its run is in the ledger with the purpose `shadow`, on an account of its own, and names the run that served."""
    world = shadowed()
    got = asyncio.run(served(world, hello()))
    assert got.json["stretto"]["served_by"] == "a"
    (mine,), (shadow,) = runs(world, "serve"), runs(world, "shadow")
    assert (shadow.policy, shadow.worker, shadow.key, shadow.cost) == ("b", "b", ACCOUNT, COST)
    assert (mine.policy, mine.key, mine.calls) == ("a", "", 1)
    receipt = Reader(world.store).receipt(shadow.run)
    assert (receipt["beside"], receipt["purpose"]) == (mine.run, "shadow")
    assert "beside" not in Reader(world.store).receipt(mine.run)
    asked = [ask.messages for ask in world.pool.asks]
    assert asked[0] == asked[1]


def test_a_stream_is_shadowed_after_its_end() -> None:
    """The candidate is asked when the last piece has gone out, not before; the stream is what it is without it."""

    async def told(world: World) -> tuple[Exchange, int]:
        exchange = Exchange(world.app, "POST", CHAT, json.dumps(hello(stream=True)).encode())
        got = await exchange.run()
        asked = len(world.pool.asks)
        await world.app.shadows.settled()
        return got, asked

    got, asked = asyncio.run(told(shadowed()))
    assert got.complete
    assert asked == 1
    plain, _ = asyncio.run(told(World()))
    assert len(got.chunks) == len(plain.chunks)


def test_a_caller_never_waits_for_a_candidate() -> None:
    """While the candidate hangs the caller has its answer; those beyond `at_once` are dropped and counted."""

    async def hanging() -> tuple[int, str]:
        gate = asyncio.Event()

        async def slow(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
            if ask.worker == "b":
                await gate.wait()
            return says(f"{ask.worker} says")

        world = shadowed(Shadow(policy="b", of="a", share=1.0, day=10 * WORST, at_once=1), attempt=slow)
        for _ in range(3):
            got = await call(world.app, "POST", CHAT, hello())
            assert got.status == 200
        gate.set()
        await world.app.shadows.settled()
        metrics = await call(world.app, "GET", "/metrics")
        return len(runs(world, "shadow")), metrics.body.decode()

    count, metrics = asyncio.run(hanging())
    assert count == 1
    assert 'stretto_shadow_runs_total{outcome="dropped"} 2' in metrics
    assert 'stretto_shadow_runs_total{outcome="ok"} 1' in metrics


def test_a_share_is_drawn_from_the_ids_of_the_runs() -> None:
    """About a third of 300 runs at .33; the same runs whenever it is asked."""
    world = World()
    shadows = Shadows(world.engine, world.catalog, Shadow(policy="b", of="a", share=0.33, day=0))
    run = asyncio.run(world.engine.run(Solo("a"), Request(messages=(Message("user", "x"),)), name="a"))
    incoming = chat.parse_request(json.dumps(hello()).encode())
    drawn = []
    for number in range(300):
        one = type(run)(**{f: getattr(run, f) for f in run.__dataclass_fields__} | {"id": f"run_{number}"})
        first = shadows.after(one, incoming, incoming.request, None) is not None
        assert first == (shadows.after(one, incoming, incoming.request, None) is not None)
        drawn.append(first)
    assert 70 <= sum(drawn) <= 130


def test_other_names_and_failed_runs_have_no_shadow() -> None:
    """Only requests to the name that is to be replaced, and only where there is an answer to compare with."""

    async def failing(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        return await echo(ask, emit, tally) if ask.worker != "a" else Outcome(error=_down())

    world = shadowed()
    asyncio.run(served(world, hello("b")))
    assert not runs(world, "shadow")
    world = shadowed(attempt=failing)
    asyncio.run(served(world, hello()))
    assert not runs(world, "shadow")


def _down() -> Any:
    from stretto.types import Failure

    return Failure("upstream_error", "down")


@pytest.mark.parametrize(
    ("changed", "may"),
    [
        ({}, True),
        ({"store": False}, False),
        ({"store": True}, True),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, True),
        ({"tools": [{"type": "mcp", "server_url": "https://example.com"}]}, False),
        ({"web_search_options": {}}, False),
        ({"mcp_servers": []}, False),
    ],
)
def test_what_may_act_or_must_not_be_kept_is_not_repeated(changed: dict[str, Any], may: bool) -> None:
    """`store: false`, tools that a provider runs, and servers that it calls are left alone; plain functions are nobody's act."""
    request = Request(
        messages=(Message("user", "x"),),
        tools=tuple(changed.get("tools", ())),
        extra={k: v for k, v in changed.items() if k != "tools"},
    )
    assert repeatable(Incoming(request), request) is may


def test_tool_loops_and_unstored_responses_are_not_repeated() -> None:
    """What goes on from a tool's call belongs to the worker that made it; Responses say `store` beside the request."""
    calls = Message("assistant", "", tool_calls=(ToolCall("c1", "f", "{}"),))
    looped = Request(messages=(Message("user", "x"), calls, Message("tool", "4", tool_call_id="c1")))
    assert not repeatable(Incoming(looped), looped)
    plain = Request(messages=(Message("user", "x"),))
    assert not repeatable(Incoming(plain, more={"store": False}), plain)


def test_ceilings_of_place_hold_for_the_shadow() -> None:
    """What the caller or its key excludes the candidate may not ask either: its run is refused, and calls nobody."""
    labels = {"a": {"region": "eu"}, "b": {"region": "us"}}
    world = shadowed(labels=labels)
    asyncio.run(served(world, hello(stretto={"require": {"region": "eu"}})))
    assert [ask.worker for ask in world.pool.asks] == ["a"]
    key = Key("key_1", "eu", frozenset({"models"}), require={"region": ("eu",)})
    world = shadowed(labels=labels, keys={"sk-1": key})
    asyncio.run(served(world, hello(), authorization="Bearer sk-1"))
    assert [ask.worker for ask in world.pool.asks] == ["a"]
    (shadow,) = runs(world, "shadow")
    assert shadow.status == "failed"


def test_the_callers_money_is_not_touched() -> None:
    """The caller's key pays for what served it, the shadow account for the shadow: each to the pico-dollar."""
    accounts = MemoryAccounts()
    key = Key("key_1", "one", frozenset({"models"}), day=5 * WORST)
    world = shadowed(accounts=accounts, keys={"sk-1": key})
    asyncio.run(served(world, hello(), authorization="Bearer sk-1"))
    assert accounts.left(key) == 5 * WORST - COST
    assert accounts.left(Key(ACCOUNT, ACCOUNT, day=EVERY.day)) == EVERY.day - COST


def test_the_ceiling_of_the_day_is_never_passed_and_ends_the_shadows() -> None:
    """They go on while their worst case fits; then they rest, and begin anew the next day (UTC); callers notice nothing."""
    now = [1_000_000.0]
    day = WORST + 3 * COST
    accounts = MemoryAccounts(lambda: now[0])
    pool, store = WrittenPool(echo, {}), MemoryStore()
    engine = Engine(pool, store, accounts)
    wanted = Shadow(policy="b", of="a", share=1.0, day=day)
    shadows = Shadows(engine, Names(pool, {}), wanted, lambda: now[0])
    incoming = chat.parse_request(json.dumps(hello()).encode())
    account = Key(ACCOUNT, ACCOUNT, day=day)

    async def request() -> None:
        run = await engine.run(Solo("a"), incoming.request, name="a")
        begin = shadows.after(run, incoming, incoming.request, None)
        assert begin is not None
        begin()
        await shadows.settled()

    async def all_day() -> None:
        for _ in range(10):
            await request()
        spent = sum(
            e.cost
            for s in store.runs(50, None, None, "shadow")
            for e in store.events(s.run)
            if isinstance(e, Answered)
        )
        assert spent == 4 * COST
        assert accounts.left(account) == day - spent
        made = lambda: len(store.runs(50, None, None, "shadow"))  # noqa: E731
        assert made() == 5  # the fifth was refused at the door, and called nobody
        for seconds, count in ((9.0, 5), (2.0, 6), (19.0, 6), (2.0, 7)):  # it rests, longer each time
            now[0] += seconds
            await request()
            assert made() == count
        now[0] += 86400.0
        await request()
        assert made() == 8
        assert accounts.left(account) == day - COST

    asyncio.run(all_day())


def test_at_shutdown_shadows_end_and_are_recorded() -> None:
    """What is under way is cancelled, its reservation returned and its end written; none begins after that."""

    async def closing() -> None:
        accounts = MemoryAccounts()
        begun = asyncio.Event()

        async def slow(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
            if ask.worker == "b":
                begun.set()
                await asyncio.get_running_loop().create_future()
            return says("done")

        world = shadowed(attempt=slow, accounts=accounts)
        await call(world.app, "POST", CHAT, hello())
        await begun.wait()
        await world.app.close()
        (shadow,) = runs(world, "shadow")
        assert shadow.status == "failed"
        receipt = Reader(world.store).receipt(shadow.run)
        assert receipt["error"]["kind"] == "cancelled"
        assert accounts.left(Key(ACCOUNT, ACCOUNT, day=EVERY.day)) == EVERY.day
        await call(world.app, "POST", CHAT, hello())
        assert len(runs(world, "shadow")) == 1

    asyncio.run(closing())


def test_a_caller_who_hangs_up_sets_off_no_shadow() -> None:
    """There was no answer, so there is nothing to hold the candidate against."""

    async def leaving() -> None:
        begun = asyncio.Event()

        async def slow(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
            begun.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        world = shadowed(attempt=slow)
        exchange = Exchange(world.app, "POST", CHAT, json.dumps(hello()).encode())
        task = asyncio.create_task(exchange.run())
        await begun.wait()
        exchange.leave()
        await task
        await world.app.shadows.settled()
        assert not runs(world, "shadow")

    asyncio.run(leaving())


def test_a_candidate_that_breaks_is_nobodys_trouble() -> None:
    """A policy that raises: the caller has its answer, the shadow is counted as failed."""

    class Broken:
        CODE = "1"

        def plan(self, request: Request) -> Any:
            raise ZeroDivisionError

        def outlook(self, request: Request, quotes: Any) -> Any:
            raise ZeroDivisionError

    world = shadowed(Shadow(policy="broken", of="a", share=1.0, day=WORST), policies={"broken": Broken()})
    got = asyncio.run(served(world, hello()))
    assert got.status == 200
    (shadow,) = runs(world, "shadow")
    opened = next(e for e in world.store.events(shadow.run) if isinstance(e, Opened))
    assert (shadow.status, opened.beside) == ("failed", runs(world, "serve")[0].run)
