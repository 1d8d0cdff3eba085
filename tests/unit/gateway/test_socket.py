"""A WebSocket to /v1/responses under callers who do what they should not: nobody else pays for it, and the connection goes on."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stretto.steps import Ask, Emit, Outcome, Tally
from stretto.types import Key
from tests.gateway_world import World, echo, forever, says

ENDS = ("response.completed", "response.failed", "error")


class Wire:
    """One connection, as an ASGI server would hand it to the application."""

    def __init__(self, world: World, path: str = "/v1/responses", key: str = "") -> None:
        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope = {"type": "websocket", "path": path, "headers": headers, "extensions": {}}
        scope["extensions"] = {"websocket.http.response": {}}
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(world.app(scope, self._in.get, self.out.put))

    def say(self, **fields: Any) -> None:
        """One request, with a model and an input if it has none."""
        self.put(text=json.dumps({"type": "response.create", "model": "a", "input": "hi", **fields}))

    def put(self, **message: Any) -> None:
        """One message as it is."""
        self._in.put_nowait({"type": "websocket.receive", **message})

    async def event(self) -> Any:
        """The next event."""
        while (message := await self.out.get())["type"] == "websocket.accept":
            pass
        return json.loads(message["text"]) if "text" in message else message

    async def end(self, lane: str | None = None) -> Any:
        """The event that ends the next request (of a lane)."""
        while (event := await self.event()).get("type") not in ENDS or event.get("stream_id") != lane:
            pass
        return event

    async def leave(self) -> None:
        """The client goes away."""
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self.task


def played(test: Callable[[World], Awaitable[None]], world: World | None = None) -> None:
    """Run a test against a world of its own."""
    asyncio.run(test(world or World()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "7",
        '{"type": "response.steer"}',
        "[" * 100_000,
        '{"a": ' * 5000 + "1" + "}" * 5000,
    ],
)
def test_nonsense_is_an_error_event_and_no_end(text: str) -> None:
    """What is no request is answered with an error, and the next request is served."""

    async def run(world: World) -> None:
        wire = Wire(world)
        wire.put(text=text)
        error = await wire.event()
        assert (error["type"], error["status"]) == ("error", 400)
        wire.say()
        assert (await wire.end())["type"] == "response.completed"
        await wire.leave()

    played(run)


def test_binary_messages_end_the_connection() -> None:
    """The protocol has none: the close code says so."""

    async def run(world: World) -> None:
        wire = Wire(world)
        wire.put(bytes=b"\x00")
        assert await wire.event() == {"type": "websocket.close", "code": 1003}
        await wire.task

    played(run)


@pytest.mark.parametrize(("path", "key", "status"), [("/v1/responses", "", 401), ("/v1/chat", "one", 404)])
def test_who_may_not_is_turned_away_with_an_http_answer(path: str, key: str, status: int) -> None:
    """Before it is a WebSocket, a refusal is an HTTP answer in OpenAI's shape."""

    async def run(world: World) -> None:
        wire = Wire(world, path, key)
        head, body = await wire.out.get(), await wire.out.get()
        assert (head["type"], head["status"]) == ("websocket.http.response.start", status)
        assert set(json.loads(body["body"])["error"]) == {"message", "type", "param", "code"}
        await wire.task

    played(run, World(keys={"one": Key("k1")}))


def test_a_key_that_is_revoked_meanwhile_is_refused() -> None:
    """Each request is admitted anew."""
    keys = {"one": Key("k1")}

    async def run(world: World) -> None:
        wire = Wire(world, key="one")
        wire.say()
        assert (await wire.end())["type"] == "response.completed"
        keys.clear()
        wire.say()
        assert (await wire.end())["status"] == 401
        await wire.leave()

    played(run, World(keys=keys))


def test_lanes_and_waiting_requests_are_bounded() -> None:
    """Sixteen lanes, sixteen requests waiting in each, and no more bytes waiting than one body may have."""

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        await forever()
        raise AssertionError

    async def refused(wire: Wire) -> None:
        while (event := await wire.event())["type"] != "error":
            pass
        assert (event["status"], event["error"]["code"]) == (429, "websocket_stream_limit_reached")

    async def run(world: World) -> None:
        wire = Wire(world)
        for number in range(17):
            wire.say(stream_id=f"lane-{number}")
        await refused(wire)
        for _ in range(18):
            wire.say(stream_id="lane-0")
        await refused(wire)
        wire.say(stream_id="lane-1", input="x" * 9000)
        wire.say(stream_id="lane-2", input="x" * 9000)
        await refused(wire)
        await wire.leave()

    played(run, World(endless, body_limit=16_000))


def test_who_leaves_stops_everything_that_was_under_way() -> None:
    """All lanes' runs are cancelled when the connection ends, and are recorded as that."""
    under_way = 0

    async def endless(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        nonlocal under_way
        under_way += 1
        try:
            await forever()
        finally:
            under_way -= 1
        raise AssertionError

    async def run(world: World) -> None:
        wire = Wire(world)
        for number in range(3):
            wire.say(stream_id=f"lane-{number}")
        while under_way < 3:
            await asyncio.sleep(0)
        await wire.leave()
        assert under_way == 0
        for run in world.store.runs():
            assert world.store.events(run.run)[-1].error.kind == "cancelled"

    played(run, World(endless))


def test_lanes_do_not_wait_for_each_other() -> None:
    """A slow request in one lane holds up its own lane only; events carry the lane's name."""
    go = asyncio.Event()

    async def by_text(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        assert ask.messages is not None
        if ask.messages[-1].text == "slow":
            await go.wait()
        return await echo(ask, emit, tally)

    async def run(world: World) -> None:
        wire = Wire(world)
        wire.say(stream_id="one", input="slow")
        wire.say(stream_id="two")
        assert (await wire.end("two"))["type"] == "response.completed"
        go.set()
        assert (await wire.end("one"))["type"] == "response.completed"
        await wire.leave()

    played(run, World(by_text))


def test_another_keys_responses_are_not_there() -> None:
    """Neither stored ones nor those of another connection."""

    async def run(world: World) -> None:
        one, two = Wire(world, key="one"), Wire(world, key="two")
        for store in (True, False):
            one.say(store=store)
            id = (await one.end())["response"]["id"]
            two.say(previous_response_id=id)
            assert (await two.end())["error"]["code"] == "previous_response_not_found"
        await one.leave()
        await two.leave()

    played(run, World(keys={"one": Key("k1"), "two": Key("k2")}))


def test_what_failed_cannot_be_gone_on_from_without_a_store() -> None:
    """After a failure the connection forgets where it went on from, as the specification has it."""
    answers = iter(["first", None])

    async def then_fails(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        text = next(answers)
        if text is None:
            raise RuntimeError("a defect")
        return says(text)

    async def run(world: World) -> None:
        wire = Wire(world)
        wire.say(store=False)
        id = (await wire.end())["response"]["id"]
        wire.say(store=False, previous_response_id=id)
        assert (await wire.end())["type"] == "response.failed"
        wire.say(store=False, previous_response_id=id)
        assert (await wire.end())["error"]["code"] == "previous_response_not_found"
        await wire.leave()

    played(run, World(then_fails))
