"""OpenAI Responses over a WebSocket: each `response.create` is answered by the events that a stream would have.

Requests of one lane (`stream_id`) are answered one after another, lanes side by side. A response that is not stored can be gone
on from on its own connection, for as long as nothing that went on from it has failed.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.errors import AccessError, RequestError, StrettoError
from stretto.gateway.call import Headers, Receive, Send, repeated
from stretto.gateway.errors import INTERNAL, Problem, of_exception, unknown_path
from stretto.gateway.shelf import Item, owner_of
from stretto.gateway.stored import Asked, Stored
from stretto.types import NO_USAGE, Key
from stretto.wire import responses
from stretto.wire.base import bounded_json, expect_bool, expect_object, expect_text
from stretto.wire.responses_object import response_object

__all__ = ["PATH", "Socket"]

_log = logging.getLogger("stretto.gateway")

PATH: Final = responses.ROUTE
_LANES: Final = 16
_WAITING: Final = 16
_NEAR: Final = 8
_LANE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_HTTP_ONLY: Final = ("stream", "stream_options", "background")
_UNSUPPORTED: Final = 1003


class Socket:
    """Serves WebSocket connections to /v1/responses.

    `admit` finds the key of a call, or raises `AccessError`. `room`: bytes of requests that may wait on one connection.
    """

    def __init__(self, stored: Stored, admit: Callable[[Headers], Key | None], room: int) -> None:
        self._stored = stored
        self._admit = admit
        self._room = room

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> int:
        """Serve one connection to its end. The HTTP status that its opening was answered with."""
        await receive()
        given = scope["headers"]
        headers: Headers = dict(given)
        problem = repeated(given) if len(headers) != len(given) else None
        if scope["path"].rstrip("/") != PATH:
            problem = unknown_path(scope["path"])
        try:
            self._admit(headers)
        except AccessError as error:
            problem = problem or of_exception(error)
        if problem is not None:
            await _turn_away(problem, scope, send)
            return problem.status
        await send({"type": "websocket.accept"})
        await _Session(self._stored, self._admit, headers, send, self._room).serve(receive)
        return 101


async def _turn_away(problem: Problem, scope: Mapping[str, Any], send: Send) -> None:
    """Refuse a connection before it is one."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json"), *problem.headers()]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": orjson.dumps(problem.body())})


class _Session:
    """One connection."""

    def __init__(
        self,
        stored: Stored,
        admit: Callable[[Headers], Key | None],
        headers: Headers,
        send: Send,
        room: int,
    ) -> None:
        self._stored = stored
        self._admit = admit
        self._headers = headers
        self._send = send
        self._room = room
        self._sending = asyncio.Lock()
        self._lanes: dict[str, asyncio.Queue[tuple[dict[str, Any], int]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._near: OrderedDict[str, Sequence[Item]] = OrderedDict()

    async def serve(self, receive: Receive) -> None:
        """Take requests until the client leaves; then what is under way is cancelled."""
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                if text is None:
                    await self._send({"type": "websocket.close", "code": _UNSUPPORTED})
                    return
                try:
                    self._take(text)
                except RequestError as error:
                    await self._tell_error(of_exception(error), "")
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _take(self, text: str) -> None:
        """Put a request into its lane. Raises `RequestError`."""
        try:
            event = expect_object(bounded_json(text.encode()), "event")
        except ValueError as error:
            raise RequestError(f"The message is {error}.") from None
        if event.get("type") != "response.create":
            raise RequestError("`type` must be `response.create`.", param="type")
        lane = event.get("stream_id")
        if lane is not None and _LANE_NAME.fullmatch(expect_text(lane, "stream_id")) is None:
            raise RequestError(
                "`stream_id` must be 1 to 256 letters, digits, `_`, `.` or `-`.", param="stream_id"
            )
        name = lane or ""
        if name not in self._lanes:
            if len(self._lanes) >= _LANES:
                raise _Crowded(f"This connection has its {_LANES} lanes; use one of them.", param="stream_id")
            self._lanes[name] = asyncio.Queue(_WAITING)
            self._tasks.append(asyncio.create_task(self._work(name)))
        if len(text) > self._room:
            raise _Crowded("Too much waits on this connection.", param="stream_id")
        try:
            self._lanes[name].put_nowait((event, len(text)))
            self._room -= len(text)
        except asyncio.QueueFull:
            raise _Crowded("Too many requests wait in this lane.", param="stream_id") from None

    async def _work(self, lane: str) -> None:
        """Answer the requests of one lane."""
        while True:
            event, size = await self._lanes[lane].get()
            self._room += size
            problem: Problem | None
            asked: list[Asked] = []
            try:
                problem = await self._answer(event, lane, asked)
            except StrettoError as error:
                problem = of_exception(error)
            except asyncio.CancelledError:
                raise
            except Exception:
                # the boundary of a task that nobody awaits
                _log.exception("a request on a WebSocket failed")
                problem = INTERNAL
            if problem is not None:
                self._near.pop(str(event.get("previous_response_id")), None)
                await self._tell_failure(problem, lane, asked)

    async def _answer(self, event: Mapping[str, Any], lane: str, begun: list[Asked]) -> Problem | None:
        for name in _HTTP_ONLY:
            if event.get(name) is not None:
                raise RequestError(f"`{name}` has no place on a WebSocket.", param=name)
        generate = event.get("generate")
        generates = generate is None or expect_bool(generate, "generate")
        fields = {k: v for k, v in event.items() if k not in ("type", "stream_id", "generate")}
        key = self._admit(self._headers)  # it may have been revoked since the connection was made
        incoming = replace(responses.parse_request(orjson.dumps(fields)), stream=True)
        asked = await self._stored.asked(incoming, key, self._headers, self._near)
        if not generates:
            await self._warm(asked, lane)
            return None
        begun.append(asked)

        async def send(data: bytes) -> None:
            await self._tell(data, lane)

        problem = await self._stored.play(asked, send)
        if problem is None and not asked.turn.stores and asked.turn.items is not None:
            self._remember(asked, asked.turn.items)
        return problem

    async def _warm(self, asked: Asked, lane: str) -> None:
        """Take in what a later request will go on from. No model is called."""
        turn, created = asked.turn, int(time.time())
        begun = response_object(asked.run_id, created, turn.incoming, "in_progress")
        done = response_object(
            asked.run_id,
            created,
            turn.incoming,
            "completed",
            usage=(NO_USAGE, NO_USAGE),
            completed=created,
        )
        if turn.stores:
            await self._stored.put(turn.kept(done, asked.run_id), owner_of(asked.key))
        else:
            self._remember(asked, turn.whole)
        for number, (kind, response) in enumerate(
            (("created", begun), ("in_progress", begun), ("completed", done))
        ):
            event = {"type": f"response.{kind}", "sequence_number": number, "response": response}
            await self._text(orjson.dumps(event), lane)

    def _remember(self, asked: Asked, items: Sequence[Item]) -> None:
        self._near[f"resp_{asked.run_id.removeprefix('run_')}"] = items
        while len(self._near) > _NEAR:
            self._near.popitem(last=False)

    # --- what is told ---

    async def _tell_failure(self, problem: Problem, lane: str, asked: Sequence[Asked]) -> None:
        """One event that ends the request: `response.failed` where its stream has begun, else `error`."""
        writer = asked[0].turn.writer if asked else None
        if writer is None:
            await self._tell_error(problem, lane)
            return
        told = writer.failed(problem.message, problem.type, problem.code, problem.param)
        await self._tell(told, lane)

    async def _tell_error(self, problem: Problem, lane: str) -> None:
        event = {"type": "error", "status": problem.status, **problem.body()}
        await self._text(orjson.dumps(event), lane)

    async def _tell(self, data: bytes, lane: str) -> None:
        """Each event of a piece of a stream as a message of its own."""
        for event in data.split(b"\n\n"):
            _, found, body = event.partition(b"\ndata: ")
            if found:
                await self._text(body, lane)

    async def _text(self, body: bytes, lane: str) -> None:
        if lane:
            body = b'%b,"stream_id":%b}' % (body[:-1], orjson.dumps(lane))
        async with self._sending:
            await self._send({"type": "websocket.send", "text": body.decode()})


class _Crowded(RequestError):
    """This connection has its share of work."""

    status = 429
    code = "websocket_stream_limit_reached"
