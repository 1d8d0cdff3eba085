"""One HTTP call as the routes see it: its headers, its body within bounds, its client's presence, and what is sent back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import orjson

from stretto.errors import TooLarge
from stretto.gateway.errors import Problem
from stretto.types import Key, record
from stretto.wire.base import Format

__all__ = [
    "Call",
    "ClientDisconnected",
    "Headers",
    "Receive",
    "Response",
    "Send",
    "Watch",
    "Watchtower",
    "json_response",
    "repeated",
]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]

_JSON: Final = (b"content-type", b"application/json")
_SINGLE: Final = frozenset((b"authorization", b"x-api-key", b"content-length", b"host", b"origin"))


@record
class Response:
    """A whole answer: `headers` are those besides content type and length, `kind` is the content type."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    kind: tuple[bytes, bytes] = _JSON

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = [self.kind, (b"content-length", b"%d" % len(self.body)), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    @classmethod
    def of(
        cls,
        problem: Problem,
        run_id: str = "",
        headers: Sequence[tuple[bytes, bytes]] = (),
        more: Mapping[str, Any] | None = None,
        form: Format | None = None,
    ) -> "Response":
        """The answer that an error makes in `form`; of a run, with a `stretto` block that says where its receipt is."""
        body = orjson.dumps(problem.body(run_id, more, form))
        return cls(problem.status, body, [*problem.headers(), *headers])


def json_response(value: Any, status: int = 200) -> Response:
    """An answer that is JSON."""
    return Response(status, orjson.dumps(value))


class Call:
    """One HTTP call.

    `form` is the format of its route, `None` where that is plain JSON. `started`: the head of a stream has been sent (or is about
    to be); then an error can only be told by `in_band`. `key` is the caller's, `None` for an anonymous one. `afterwards` is done
    once the whole answer has been sent.
    """

    __slots__ = (
        "afterwards",
        "form",
        "headers",
        "in_band",
        "key",
        "method",
        "path",
        "query",
        "receive",
        "send",
        "started",
        "watch",
    )

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.receive = receive
        self.send = send
        self.headers: Headers = {}
        self.form: Format | None = None
        self.key: Key | None = None
        self.started = False
        self.in_band: Callable[[Problem], Awaitable[None]] | None = None
        self.watch: Watch | None = None
        self.afterwards: Callable[[], None] | None = None

    async def body(self, limit: int, patience: float) -> bytes:
        """The body: at most `limit` bytes, with at most `patience` seconds between its pieces.

        Raises `TooLarge` as soon as it is known to be, `TimeoutError`, and `ClientDisconnected` when the caller leaves meanwhile.
        """
        length = self.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > limit):
            raise TooLarge(f"The body may have at most {limit} bytes.")
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > limit:
                raise TooLarge(f"The body may have at most {limit} bytes.")
            return body
        parts, size = [body], len(body)
        while message.get("more_body", False):
            async with asyncio.timeout(patience):
                message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge(f"The body may have at most {limit} bytes.")
        return b"".join(parts)


class ClientDisconnected(Exception):
    """The caller left before its request was whole. Nobody is there to be told."""


def repeated(headers: Sequence[tuple[bytes, bytes]]) -> Problem | None:
    """What is wrong when a header that we act on stands twice: which one counts must never be a matter of opinion."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and (name in _SINGLE or name.startswith(b"x-stretto-")):
            text = f"The header {name.decode('latin-1')!r} stands there twice."
            return Problem(400, "invalid_request_error", "invalid_request", text, close=True)
        seen.add(name)
    return None


class Watch:
    """The client of one call, watched while its run is under way. `left`: it has gone, and the run was cancelled for that."""

    __slots__ = ("_listener", "_receive", "_task", "left")

    def __init__(self, receive: Receive, task: "asyncio.Task[Any]") -> None:
        self._receive = receive
        self._task = task
        self._listener: asyncio.Task[None] | None = None
        self.left = False

    def begin(self) -> None:
        """Start to listen."""
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self._task.cancel()

    def end(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()


class Watchtower:
    """Notices callers who leave, at next to no cost for short calls.

    A call enters a set and leaves it at its end. One timer for all of them looks into the set every `interval` seconds while
    anyone is in it, and only then starts a listening task for each. Measured on CPython 3.11 with uvloop: 0.3 us a call,
    against 1.6 us for a timer of its own and 5 us for a task of its own. A caller who leaves is noticed within `interval`.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._fresh: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, receive: Receive) -> Watch:
        """Watch the client of the call that the current task serves; to be handed to `leave` at its end."""
        task = asyncio.current_task()
        assert task is not None
        watch = Watch(receive, task)
        self._fresh.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)
        return watch

    def leave(self, watch: Watch) -> None:
        """The run is over."""
        self._fresh.discard(watch)
        watch.end()

    def _look(self) -> None:
        for watch in self._fresh:
            watch.begin()
        self._timer = (
            asyncio.get_running_loop().call_later(self._interval, self._look) if self._fresh else None
        )
        self._fresh.clear()
