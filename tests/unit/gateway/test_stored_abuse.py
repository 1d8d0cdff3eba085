"""What must not happen to stored responses: ends never told, deleted ones that come back, one owner in all the room."""

import asyncio
import json
from typing import Any

import pytest

from stretto.errors import RequestError
from stretto.gateway.background import EACH, Background
from stretto.gateway.retold import ends, last_event
from stretto.gateway.shelf import Kept, Shelf
from stretto.ledger.states import MemoryStates
from stretto.steps import Ask, Emit, Outcome, Tally
from stretto.types import Key
from tests.asgi import Exchange
from tests.gateway_world import World, echo, forever, says
from tests.unit.gateway.test_stored import RESPONSES, create, played, send
from tests.unit.gateway.test_stored_background import ended


def kept(id: str, status: str, **more: Any) -> Kept:
    """A response in the background, as far as it matters here."""
    return Kept({"id": id, "status": status, "background": True, "output": [], **more}, [], logged=True)


def test_the_stream_of_a_response_whose_process_died_still_ends() -> None:
    """Whoever follows it gets what there was, and `response.failed` with the next number: never a stream without an end."""

    async def run() -> None:
        now = 1000.0
        shelf = Shelf(MemoryStates(lambda: now), 3600.0, lambda: now)
        await shelf.put(kept("resp_1", "in_progress"), "")
        await shelf.log("resp_1", "", 0, [b"event: response.created\ndata: {}\n\n"])
        events = [event async for event in Background(shelf, 0.001).events("resp_1", "") if event]
        assert len(events) == 2
        assert ends(events[1])
        last = json.loads(events[1].split(b"data: ")[1])
        assert (last["type"], last["sequence_number"]) == ("response.failed", 1)
        assert "stopped before" in last["response"]["error"]["message"]

    asyncio.run(run())


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_every_status_has_its_last_event(status: str) -> None:
    """What has ended ends its stream, a cancelled response as one that failed."""
    event = last_event({"id": "resp_1", "status": status}, 7)
    assert ends(event)
    assert b'"sequence_number":7' in event
    assert (b"response.failed" in event) == (status in ("failed", "cancelled"))


class SlowStates(MemoryStates):
    """Takes its time where a whole answer is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.keeping, self.go = asyncio.Event(), asyncio.Event()

    async def put(self, id: str, key: str, body: bytes, lifetime: float | None) -> None:
        """As `States.put`."""
        await super().put(id, key, body, lifetime)
        if b'"output_text"' in body and "/events/" not in id:
            self.keeping.set()
            await self.go.wait()


def test_a_cancel_that_comes_with_the_end_changes_nothing() -> None:
    """The answer is kept already when the cancel arrives: it stays complete, and its stream says so."""

    async def run() -> None:
        states = SlowStates()
        world = World(echo, states=states)
        id = (await create(world, background=True))["id"]
        await states.keeping.wait()
        got = (await send(world, "POST", f"{RESPONSES}/{id}/cancel")).json
        assert got["status"] == "completed"
        events = (await send(world, "GET", f"{RESPONSES}/{id}?stream=true")).events
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        assert events[-1]["type"] == "response.completed"
        assert [e["type"] for e in events if ends(b"event: %b\n" % e["type"].encode())] == [
            "response.completed"
        ]

    asyncio.run(run())


def test_many_who_want_it_to_stop_stop_it_once() -> None:
    """Cancels and a delete at the same time: each is answered, its follower's stream ends, and it is gone."""
    begun = asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
        raise AssertionError

    class Slow(MemoryStates):
        async def put(self, id: str, key: str, body: bytes, lifetime: float | None) -> None:
            await asyncio.sleep(0)
            await super().put(id, key, body, lifetime)

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await begun.wait()
        path = f"{RESPONSES}/{id}"
        follower = asyncio.create_task(send(world, "GET", f"{path}?stream=true"))
        await asyncio.sleep(0)
        tails = [("POST", "/cancel"), ("POST", "/cancel"), ("DELETE", ""), ("POST", "/cancel")]
        got = await asyncio.gather(*(send(world, method, path + tail) for method, tail in tails))
        assert {exchange.status for exchange in got} <= {200, 404}
        assert (await follower).complete
        assert (await send(world, "GET", path)).status == 404

    played(run, World(endless, states=Slow()))


def test_a_response_that_another_process_deleted_does_not_come_back() -> None:
    """The one that works on it stops, and keeps nothing of it."""
    states, begun = MemoryStates(), asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        await forever()
        raise AssertionError

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await begun.wait()
        shelf = Shelf(states, 3600.0)
        assert await shelf.delete(id, "")
        await world.app.close()
        assert await shelf.find(id, "") is None

    played(run, World(endless, states=states))


def test_an_owner_has_its_share_of_the_background() -> None:
    """One key's responses wait for each other, not in the way of another's: too many of them are a 429."""

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        await forever()
        raise AssertionError

    async def run(world: World) -> None:
        for _ in range(EACH):
            await create(world, key="one", background=True)
        body = json.dumps({"model": "a", "input": "x", "background": True}).encode()
        got = await Exchange(world.app, "POST", RESPONSES, body, {"authorization": "Bearer one"}).run()
        assert (got.status, got.error["code"]) == (429, "background_limit_reached")
        assert (await create(world, key="two", background=True))["status"] == "queued"
        await world.app.close()

    played(run, World(endless, keys={"one": Key("k1"), "two": Key("k2")}, tick=60.0))


def test_a_conversation_that_has_grown_beyond_measure_is_refused() -> None:
    """Sixty-four MiB of responses are enough to go on from; a caller must not fill the memory by going on and on."""

    async def run() -> None:
        shelf = Shelf(MemoryStates(), 3600.0)
        before = None
        for number in range(5):
            response = {"id": f"resp_{number}", "status": "completed", "output": []}
            response |= {"previous_response_id": before}
            item = {"type": "message", "role": "user", "content": "x" * (15 << 20)}
            await shelf.put(Kept(response, [item]), "")
            before = f"resp_{number}"
        assert len(await shelf.context("resp_3", "", {})) == 4
        with pytest.raises(RequestError, match="64 MiB"):
            await shelf.context("resp_4", "", {})

    asyncio.run(run())


def test_events_that_have_expired_are_made_anew() -> None:
    """A response in the background is streamed again from what it says when its events are gone before it is."""

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await ended(world, id)
        assert await world.states.delete(f"response/{id}/events/0", "")
        events = (await send(world, "GET", f"{RESPONSES}/{id}?stream=true")).events
        assert events[-1]["type"] == "response.completed"
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == "a says hello"

    played(run)


def test_a_caller_who_leaves_during_the_compaction_stops_it() -> None:
    """Nobody pays for the summary of somebody who has gone."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        try:
            await forever()
        finally:
            stopped.set()
        return says("")

    async def run(world: World) -> None:
        items = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b " * 2000},
            {"role": "user", "content": "c"},
        ]
        wish = [{"type": "compaction", "compact_threshold": 1000}]
        body = {"model": "a", "input": items, "context_management": wish}
        exchange = Exchange(world.app, "POST", RESPONSES, json.dumps(body).encode())
        call = asyncio.create_task(exchange.run())
        await begun.wait()
        exchange.leave()
        await stopped.wait()
        await call

    played(run, World(endless))
