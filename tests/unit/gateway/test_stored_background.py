"""Responses in the background: they outlive their caller, can be read at any time, are really cancelled, and fail honestly."""

import asyncio
import json
from typing import Any

from stretto.gateway.background import Background
from stretto.gateway.shelf import Kept, Shelf
from stretto.ledger.states import MemoryStates
from stretto.steps import Ask, Emit, Outcome, Tally
from stretto.types import Delta
from tests.asgi import Exchange
from tests.gateway_world import World, echo, fails, forever
from tests.unit.gateway.test_stored import RESPONSES, create, played, send


async def ended(world: World, id: str) -> Any:
    """The response once it has ended."""
    while True:
        got = (await send(world, "GET", f"{RESPONSES}/{id}")).json
        if got["status"] not in ("queued", "in_progress"):
            return got
        await asyncio.sleep(0)


def test_the_answer_comes_at_once_and_the_run_goes_on() -> None:
    """The caller gets `in_progress` while the worker has not even answered; later GET gives the whole answer."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        await go.wait()
        return await echo(ask, emit, tally)

    async def run(world: World) -> None:
        made = await create(world, background=True)
        assert (made["status"], made["background"], made["output"]) == ("in_progress", True, [])
        await begun.wait()
        assert (await send(world, "GET", f"{RESPONSES}/{made['id']}")).json == made
        go.set()
        done = await ended(world, made["id"])
        assert done["status"] == "completed"
        assert done["output"][0]["content"][0]["text"] == "a says hello"
        assert done["stretto"]["run_id"] == f"run_{made['id'].removeprefix('resp_')}"

    played(run, World(slow))


def test_its_events_can_be_streamed_by_those_who_come_later() -> None:
    """`stream=true` follows it live; who leaves and asks again after the last number gets the rest, without a gap."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        assert emit is not None
        await emit([Delta("one ")])
        begun.set()
        await go.wait()
        await emit([Delta("two")])
        return Outcome(message=(await echo(ask, None, tally)).message)

    async def run(world: World) -> None:
        body = {"model": "a", "input": "x", "background": True, "stream": True}
        first = Exchange(world.app, "POST", RESPONSES, json.dumps(body).encode())
        call = asyncio.create_task(first.run())
        await begun.wait()
        while not first.events or first.events[-1]["type"] != "response.output_text.delta":
            await asyncio.sleep(0)
        id, last = first.events[0]["response"]["id"], first.events[-1]["sequence_number"]
        first.leave()
        await call
        go.set()
        rest = (await send(world, "GET", f"{RESPONSES}/{id}?stream=true&starting_after={last}")).events
        assert [e["sequence_number"] for e in rest] == list(range(last + 1, last + 1 + len(rest)))
        assert rest[-1]["type"] == "response.completed"
        whole = (await send(world, "GET", f"{RESPONSES}/{id}?stream=true")).events
        assert whole == [*first.events, *rest]

    played(run, World(slow))


def test_cancel_stops_the_run_itself() -> None:
    """The worker's call is cancelled, the ledger says so, and the response is `cancelled`; a second time changes nothing."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        try:
            await forever()
        finally:
            stopped.set()
        raise AssertionError

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await begun.wait()
        got = (await send(world, "POST", f"{RESPONSES}/{id}/cancel")).json
        assert (got["id"], got["status"], got["error"]) == (id, "cancelled", None)
        assert stopped.is_set()
        assert (await send(world, "POST", f"{RESPONSES}/{id}/cancel")).json == got
        finished = world.store.events(world.only_run())[-1]
        assert finished.error.kind == "cancelled"
        asked = {"model": "a", "input": "x", "previous_response_id": id}
        assert (await send(world, "POST", RESPONSES, asked)).status == 400

    played(run, World(endless))


def test_what_is_no_background_response_cannot_be_cancelled() -> None:
    """A response that was answered in its own call is over: 400, as OpenAI has it."""

    async def run(world: World) -> None:
        id = (await create(world))["id"]
        got = await send(world, "POST", f"{RESPONSES}/{id}/cancel")
        assert (got.status, got.error["type"]) == (400, "invalid_request_error")

    played(run)


def test_another_process_cancels_through_the_states() -> None:
    """A gateway that does not work on the response leaves a note; the one that does reads it and stops."""
    states = MemoryStates()
    begun = asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        await forever()
        raise AssertionError

    async def run(world: World) -> None:
        other = World(states=states, tick=0.1)
        id = (await create(world, background=True))["id"]
        await begun.wait()
        assert (await send(other, "GET", f"{RESPONSES}/{id}")).json["status"] == "in_progress"
        assert (await send(other, "POST", f"{RESPONSES}/{id}/cancel")).json["status"] == "cancelled"
        events = (await send(other, "GET", f"{RESPONSES}/{id}?stream=true")).events
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        assert events[-1]["type"] == "response.failed"

    played(run, World(endless, states=states, tick=0.1))


def test_a_failed_run_is_a_failed_response() -> None:
    """The error stands in the response, in the protocol's own words."""

    async def broken(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        return fails("upstream_error")

    async def run(world: World) -> None:
        done = await ended(world, (await create(world, background=True))["id"])
        assert (done["status"], done["error"]["code"]) == ("failed", "server_error")

    played(run, World(broken))


def test_what_a_caller_can_mend_is_told_at_once() -> None:
    """An unknown model, or constraints that nobody satisfies, are errors of the call, not of a response."""

    async def run(world: World) -> None:
        for fields in ({"model": "nobody"}, {"model": "a", "stretto": {"require": {"region": "moon"}}}):
            got = await send(world, "POST", RESPONSES, {"input": "x", "background": True, **fields})
            assert got.status in (400, 404)
        got = await send(
            world, "POST", RESPONSES, {"model": "a", "input": "x", "background": True, "store": False}
        )
        assert got.error["param"] == "background"

    played(run)


def test_a_gateway_that_stops_says_so() -> None:
    """What is under way when the server stops has failed, and its run is recorded as cancelled."""
    begun = asyncio.Event()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        await forever()
        raise AssertionError

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await begun.wait()
        await world.app.close()
        done = (await send(world, "GET", f"{RESPONSES}/{id}")).json
        assert done["status"] == "failed"
        assert "shutting down" in done["error"]["message"]

    played(run, World(endless))


def test_a_response_whose_process_died_has_failed() -> None:
    """Without a sign of life `in_progress` is not believed: whoever looks finds it failed, and it stays so."""

    async def run() -> None:
        now = 1000.0
        states = MemoryStates(lambda: now)
        shelf = Shelf(states, 3600.0, lambda: now)
        response = {"id": "resp_1", "status": "in_progress", "background": True, "output": []}
        await shelf.put(Kept(response, [], logged=True), "")
        await shelf.beat("resp_1", "", 15.0)
        background = Background(shelf)
        assert (await background.look("resp_1", "")).response["status"] == "in_progress"
        now = 1016.0
        lost = await background.look("resp_1", "")
        assert lost.response["status"] == "failed"
        assert "stopped before" in lost.response["error"]["message"]
        assert (await shelf.get("resp_1", "")).response == lost.response

    asyncio.run(run())


def test_deleting_stops_the_run() -> None:
    """DELETE of a response under way cancels it first, and takes its events along."""
    begun, stopped = asyncio.Event(), asyncio.Event()
    states = MemoryStates()

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        begun.set()
        try:
            await forever()
        finally:
            stopped.set()
        raise AssertionError

    async def run(world: World) -> None:
        id = (await create(world, background=True))["id"]
        await begun.wait()
        assert (await send(world, "DELETE", f"{RESPONSES}/{id}")).status == 200
        assert stopped.is_set()
        assert not states._kept

    played(run, World(endless, states=states))
