"""One upstream HTTP/1.1 connection: a request in one write, the answer parsed as its bytes come.

The parser (llhttp, in its strict mode) frames the answer. Its callbacks are few, because each one is a call into Python: body
pieces go straight into a list, and the head is kept as raw bytes and split into fields only when somebody looks.

All times are seconds of `loop.time()`. A connection has one timer, which is set anew only when it fires: a call on a kept-alive
connection starts and cancels none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

__all__ = [
    "HIGH_WATER",
    "MAX_BODY",
    "MAX_HEAD",
    "Connection",
    "Exchange",
    "HttpRequest",
    "Origin",
    "Owner",
    "Phase",
    "TransportError",
]

MAX_BODY = 64 * 1024 * 1024
MAX_HEAD = 64 * 1024
HIGH_WATER = 256 * 1024

_BODILESS = (b"GET", b"HEAD", b"DELETE")
_WITHOUT_BODY = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b\r\n"
_WITH_BODY = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%bcontent-length: %d\r\n\r\n%b"
_HEAD_END = b"\r\n\r\n"
_COPY_BELOW = 16 * 1024
_MANY_PIECES = 1024
# uvloop's clock stands still within one turn of the loop, and its timers count whole milliseconds
_CLOCK_SLACK = 0.002

Phase = Literal["connect", "tls", "send", "first_byte", "idle", "total", "protocol", "body_limit", "closed"]


class TransportError(Exception):
    """An exchange that failed below HTTP. The text names the origin, never a header or a byte of a body.

    `phase` says where: `connect` (name, refusal, time to connect), `tls` (certificate, handshake), `send` (the connection was
    lost before any byte of the answer), `first_byte` and `idle` (the upstream was silent for too long, before or inside the
    answer), `total` (the deadline), `protocol` (not HTTP/1.1, an oversized head, a content encoding), `body_limit`,
    `closed` (the answer was cut off, or the client or the caller closed).
    `sent`: a byte of the request may have reached the upstream. `received`: a byte of the answer came.
    """

    def __init__(self, phase: Phase, message: str, *, sent: bool = False, received: bool = False) -> None:
        super().__init__(message)
        self.phase: Phase = phase
        self.sent = sent
        self.received = received


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; made from a base URL by `parse_url`. `key` tells origins apart and is fit for messages."""

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int
    socket_path: str
    authority: bytes
    key: str


class HttpRequest(NamedTuple):
    """One request. `path` begins with a slash and holds the query; `headers` is a block made by `header_block`.

    The client itself writes `host`, `accept-encoding: identity` and `content-length`. `deadline` is a moment of `loop.time()`;
    the timeouts are seconds, `first_byte_timeout` from the write, `idle_timeout` from the last byte that came; None is no limit.
    `stream=False`: `send` returns when the whole answer is there, at most `body_limit` bytes. `stream=True`: when its head is.
    A named tuple, because one is made for every attempt and a frozen dataclass takes four times as long to make.
    """

    method: bytes
    origin: Origin
    path: bytes
    headers: bytes = b""
    body: bytes = b""
    deadline: float | None = None
    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    stream: bool = False
    body_limit: int = MAX_BODY


def _final_head(raw: bytes, interim: int) -> tuple[int, int]:
    """Where the final head begins and ends, after that many 1xx heads. Line breaks may stand before each."""
    start = end = 0
    for _ in range(interim + 1):
        start = end
        while raw[start] in b"\r\n":
            start += 1
        end = raw.index(_HEAD_END, start) + len(_HEAD_END)
    return start, end


def _is_encoded(fields: dict[bytes, bytes]) -> bool:
    return (
        fields.get(b"content-encoding", b"identity").lower() not in (b"identity", b"")
        or fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked"
    )


class Owner(Protocol):
    """What a connection tells the pool it belongs to."""

    def give(self, connection: Connection) -> None:
        """The connection is free for the next request."""

    def forget(self, connection: Connection) -> None:
        """The connection is gone, and the place it took is free. Told once."""


class Exchange:
    """One request and the answer to it, as `HttpResponse` promises. Used by one task at a time."""

    __slots__ = (
        "connection",
        "error",
        "fields",
        "interim",
        "limit",
        "pieces",
        "raw",
        "request",
        "status",
        "unread",
        "waiter",
        "whole",
    )

    def __init__(self, connection: Connection, request: HttpRequest) -> None:
        self.connection: Connection | None = connection  # None: the exchange is over, well or badly
        self.request = request
        self.status = 0  # until the head is whole
        self.whole = not request.stream  # the reader waits for the end, not for pieces
        self.limit = request.body_limit
        self.error: TransportError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.pieces: list[bytes | bytearray] = []
        self.unread = 0
        self.raw = b""
        self.interim = 0
        self.fields: dict[bytes, bytes] | None = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The header fields: names in lower case, the values of repeated fields joined by a comma."""
        if self.fields is None:
            fields: dict[bytes, bytes] = {}
            self.fields = fields
            for line in self.raw.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                name, value = name.lower(), value.strip(b" \t")
                fields[name] = fields[name] + b", " + value if name in fields else value
        return self.fields

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """The rest of the body; TransportError `body_limit` when that is longer than `limit` bytes."""
        connection = self.connection
        if connection is not None and self.unread <= limit:
            self.whole = True
            self.limit = limit
            connection.resume()
            await self.wait(connection.loop)
        if self.unread > limit:
            self.stop("body_limit", f"the answer is longer than {limit} bytes")
        if self.error is not None:
            raise self.error
        return self.take()

    async def next(self) -> bytes:
        """All body bytes that came since the last look, as one piece; b"" at the end of the body."""
        while not self.pieces:
            if self.connection is None:
                if self.error is not None:
                    raise self.error
                return b""
            await self.wait(self.connection.loop)
        piece = self.take()
        if self.connection is not None and self.connection.paused:
            self.connection.resume()
        return piece

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of `next` until the end."""
        while piece := await self.next():
            yield piece

    async def close(self) -> None:
        """Let go of the answer. One that is not finished takes its connection with it. Never waits; twice is harmless."""
        self.cancel()

    def cancel(self) -> None:
        """`close`, for callers that cannot await."""
        if self.connection is not None:
            self.stop("closed", "the caller closed the answer before its end")

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep until something came (or, for a whole answer, until it is over). Being cancelled closes the connection."""
        waiter = self.waiter = loop.create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self.waiter = None

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def merge(self) -> None:
        """Put very many small pieces together: each takes more memory than its bytes."""
        first = self.pieces[0]
        merged = first if isinstance(first, bytearray) else bytearray(first)
        merged += b"".join(self.pieces[1:])
        self.pieces = [merged]

    def take(self) -> bytes:
        """Everything unread, as one piece."""
        piece = b"".join(self.pieces)  # no copy when it is one bytes object
        self.pieces.clear()
        self.unread = 0
        return piece

    def stop(self, phase: Phase, message: str) -> None:
        """End the exchange from the reader's side; what was not read is dropped, and an unfinished answer's connection closed."""
        self.pieces.clear()
        self.unread = 0
        if self.connection is not None:
            self.connection.fail(phase, message)
        else:
            self.error = TransportError(
                phase, f"{self.request.origin.key}: {message}", sent=True, received=True
            )


class _TrailingData(Exception):
    """The upstream went on after the end of its answer."""


class Connection(asyncio.Protocol):
    """A connection to one origin, used by one exchange at a time; after each it goes back to its owner or is forgotten."""

    __slots__ = (
        "_done",
        "_exchange",
        "_feed",
        "_head_only",
        "_keep",
        "_parser",
        "_parts",
        "_time",
        "_timer",
        "_timer_at",
        "keep_alive",
        "last",
        "loop",
        "on_body",
        "open",
        "origin",
        "owner",
        "paused",
        "received",
        "served",
        "transport",
    )

    def __init__(
        self, owner: Owner, origin: Origin, loop: asyncio.AbstractEventLoop, keep_alive: float
    ) -> None:
        self.owner = owner
        self.origin = origin
        self.loop = loop
        self.keep_alive = keep_alive
        self.transport: asyncio.Transport
        self.open = False
        self.served = 0
        self.paused = False
        self.received = False
        self._exchange: Exchange | None = None
        self._done = True  # the answer in hand is whole
        self._keep = True  # after it, the connection can serve another
        self._head_only = False  # the request was a HEAD
        self._time = loop.time
        self.last = 0.0  # when the last byte came, or the request was written
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data

    # ---------------------------------------------------------------- what the pool and the reader ask

    def begin(self, request: HttpRequest) -> Exchange:
        """Write the request, head and body at once. TransportError when its deadline has passed already."""
        now = self.last = self._time()
        self.received = False
        at = self._timer_at
        deadline, first_byte, idle = request.deadline, request.first_byte_timeout, request.idle_timeout
        if (
            (deadline is not None and deadline < at)
            or (first_byte is not None and now + first_byte < at)
            or (idle is not None and now + idle < at)
        ):
            if deadline is not None and deadline <= now:
                self._rest()
                raise TransportError(
                    "total", f"{self.origin.key}: the deadline passed before the request was sent"
                )
            self._set_timer(self._soonest(request))
        exchange = self._exchange = Exchange(self, request)
        self._done = False
        self.served += 1
        method, body = request.method, request.body
        if body or method not in _BODILESS:
            large = len(body) > _COPY_BELOW
            message = _WITH_BODY % (
                method,
                request.path,
                self.origin.authority,
                request.headers,
                len(body),
                b"" if large else body,
            )
            if large:
                self.transport.writelines((message, body))  # under uvloop one system call, without a copy
            else:
                self.transport.write(message)
        else:
            self._head_only = method == b"HEAD"
            self.transport.write(
                _WITHOUT_BODY % (method, request.path, self.origin.authority, request.headers)
            )
        return exchange

    def resume(self) -> None:
        """Read on after a pause; the time of the pause does not count as the upstream's silence."""
        if not self.paused or self.transport.is_closing():
            return
        self.paused = False
        self.transport.resume_reading()
        exchange = self._exchange
        self.last = self._time()
        if exchange is not None and (soonest := self._soonest(exchange.request)) < self._timer_at:
            self._set_timer(soonest)

    def fail(self, phase: Phase, message: str) -> None:
        """End the exchange in hand with an error, and the connection at once."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
            exchange.error = TransportError(
                phase, f"{self.origin.key}: {message}", sent=True, received=self.received
            )
            exchange.wake()
        if self._leave():
            self.transport.abort()

    def retire(self) -> None:
        """Close an idle connection in good order."""
        if self._leave():
            self.transport.close()

    # ---------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection (for https: after the handshake) stands."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Parse what came, then wake the reader once, whatever number of chunks that was."""
        exchange = self._exchange
        if exchange is None:
            self.fail("protocol", "bytes without a request")  # they must never meet the next request
            return
        self.received = True
        self.last = self._time()
        headless = not exchange.status
        if headless:
            exchange.raw += data
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._done:
                self.fail("protocol", f"the answer is not HTTP/1.1 as it should be: {error}")
                return
            self._keep = False  # bytes after the end: the answer stands, the connection does not
        if headless and not self._accept_head(exchange):
            return
        parts = self._parts
        if parts:
            piece = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            exchange.pieces.append(piece)
            exchange.unread += len(piece)
            if len(exchange.pieces) > _MANY_PIECES:
                exchange.merge()
        if exchange.whole:
            if exchange.unread > exchange.limit:
                self.fail("body_limit", f"the answer is longer than {exchange.limit} bytes")
                return
            if not self._done:
                return
        if self._done:
            self._finish(exchange)
        elif exchange.unread > HIGH_WATER and not self.paused:
            self.paused = True
            self.transport.pause_reading()
        waiter = exchange.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> None:
        """The upstream will send no more: whatever was asked ends here, also when it no longer reads what we write."""
        self._end(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The same, unless it was seen before; with an error when the connection broke."""
        self._end(clean=exc is None)

    # ---------------------------------------------------------------- the parser's callbacks (`on_body` is a list's append)

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._done:
            raise _TrailingData

    def on_headers_complete(self) -> None:
        """Note the status of the final answer; a 1xx is not one."""
        exchange = self._exchange
        status = self._parser.get_status_code()
        if exchange is not None and status >= 200:
            exchange.status = status
            if self._head_only:
                self.on_message_complete()

    def on_message_complete(self) -> None:
        """The body is whole, or an interim answer is over."""
        exchange = self._exchange
        if exchange is not None and not exchange.status:
            exchange.interim += 1
            return
        self._done = True
        self._keep = self._parser.should_keep_alive()

    # ---------------------------------------------------------------- inside

    def _accept_head(self, exchange: Exchange) -> bool:
        raw = exchange.raw
        if exchange.status and not exchange.interim and raw[0] == 72:  # it begins with an H
            size = raw.find(_HEAD_END)
            exchange.raw = raw[:size]
        elif exchange.status:
            start, size = _final_head(raw, exchange.interim)
            exchange.raw = raw[start : size - len(_HEAD_END)]
        else:
            size = len(raw)
        if size > MAX_HEAD:
            self.fail("protocol", f"the head of the answer is longer than {MAX_HEAD} bytes")
            return False
        # an unusual spelling is not looked for: what is compressed is never expanded, only named sooner
        if raw.find(b"ncoding:", 0, size) > 0 and exchange.status and _is_encoded(exchange.headers):
            self.fail("protocol", "the answer is compressed, though only identity was accepted")
            return False
        return exchange.status != 0

    def _end(self, clean: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._leave():
                self.transport.abort()
        elif not self.received:
            self.fail("send", "the upstream closed the connection before its answer")
        elif (
            clean
            and exchange.status
            and not exchange.headers.keys() & {b"content-length", b"transfer-encoding"}
        ):
            self._keep = False  # an answer without a length lasts until the close
            self._finish(exchange)
            exchange.wake()
        else:
            self.fail("closed", "the upstream closed the connection inside its answer")

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.connection = None
        if self._head_only:
            self._head_only = False
            if exchange.take():
                self._keep = False
            # a new parser, because this one waits for the body that the head describes
            self._parser = HttpResponseParser(self)
            self._feed = self._parser.feed_data
        if self.transport.get_write_buffer_size():  # it answered before it had the whole request
            self._keep = False
        if self._keep and self.open:
            self._rest()
        elif self._leave():
            self.transport.abort()

    def _rest(self) -> None:
        idle_until = self.last + self.keep_alive
        if idle_until < self._timer_at:
            self._set_timer(idle_until)
        self.owner.give(self)

    def _leave(self) -> bool:
        """Take the connection out of use; True the first time."""
        if not self.open:
            return False
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.owner.forget(self)
        return True

    def _soonest(self, request: HttpRequest) -> float:
        """The earliest moment at which something can be overdue."""
        soonest = request.deadline
        if soonest is None:
            soonest = math.inf
        if request.first_byte_timeout is not None and not self.received:
            soonest = min(soonest, self.last + request.first_byte_timeout)
        if request.idle_timeout is not None:
            soonest = min(soonest, self.last + request.idle_timeout)
        return soonest

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        """Fail or retire when something is overdue, else sleep until the next moment at which it can be."""
        self._timer = None
        self._timer_at = math.inf
        now = self._time() + _CLOCK_SLACK
        exchange = self._exchange
        if exchange is None:
            due = self.last + self.keep_alive
            if due <= now:
                self.retire()
                return
        else:
            request = exchange.request
            due = math.inf if request.deadline is None else request.deadline
            if due <= now:
                self.fail("total", "the answer was not finished by the deadline")
                return
            phase: Phase = "idle" if self.received else "first_byte"
            patience = request.idle_timeout if self.received else request.first_byte_timeout
            if patience is not None and not self.paused:
                if self.last + patience <= now:
                    where = "inside its answer" if self.received else "before its answer"
                    self.fail(phase, f"the upstream was silent for {patience:g} s {where}")
                    return
                due = min(due, self.last + patience)
        if due < math.inf:
            self._set_timer(due)
