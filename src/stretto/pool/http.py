"""The upstream HTTP/1.1 client: keep-alive connections per origin, one write a request, typed errors, no surprises.

The seam is `Transport`, one method. `HttpClient` is the real one; anything that answers an `HttpRequest` can stand in for it.

What it does not do: follow redirects (a 3xx is an answer like any other, so credentials go nowhere else), decompress, use
proxies, keep cookies, or retry, save one case: a kept connection that proves dead at once, before any byte of the answer.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

from stretto.pool.http_connection import MAX_BODY, Connection, HttpRequest, Origin, Phase, TransportError

__all__ = [
    "MAX_BODY",
    "Address",
    "HttpClient",
    "HttpRequest",
    "HttpResponse",
    "Origin",
    "Phase",
    "Resolve",
    "Transport",
    "TransportError",
    "header_block",
    "parse_url",
    "run_out",
]

Address = tuple[socket.AddressFamily, Any]
Resolve = Callable[[str, int], Awaitable[list[Address]]]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")
_AFTER_DONE = 0.25
_OURS = frozenset({"host", "content-length", "transfer-encoding", "accept-encoding", "connection"})


class HttpResponse(Protocol):
    """An answer. Read it to its end, or close it; whoever drops it unread keeps its connection busy until the deadline.

    Every reading method raises TransportError when the exchange fails, and closes the connection when its task is cancelled.
    """

    @property
    def status(self) -> int:
        """The status code, never a 1xx."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The header fields: names in lower case, the values of repeated fields joined by a comma."""

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """The rest of the body; TransportError `body_limit` when that is longer than `limit` bytes."""

    async def next(self) -> bytes:
        """All body bytes that came since the last look, as one piece; b"" at the end of the body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of `next` until the end."""

    async def close(self) -> None:
        """Let go of the answer. One that is not finished takes its connection with it. Never waits; twice is harmless."""

    def cancel(self) -> None:
        """`close`, for callers that cannot await."""


class Transport(Protocol):
    """The seam between a worker and the network."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send one request; TransportError when no answer came. Cancelling it closes the connection at once."""


def parse_url(url: str) -> tuple[Origin, bytes]:
    """Split `http://host[:port][/path]`, `https://...` or `unix:/path/of.sock` into origin and path (b"" for none).

    ValueError names what is wrong. The path is returned without a trailing slash, fit for having more appended.
    """
    if _NOT_IN_URL.search(url):
        raise ValueError(f"{url!r}: a URL holds no spaces or control characters")
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path.startswith("/"):
            raise ValueError(f"{url!r}: write the absolute path of the socket after unix:")
        return Origin("unix", "localhost", 0, path, b"localhost", f"unix:{path}"), b""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    scheme: Literal["http", "https"]
    if parts.scheme == "http":
        scheme, usual = "http", 80
    elif parts.scheme == "https":
        scheme, usual = "https", 443
    else:
        raise ValueError(f"{url!r}: a URL begins with http://, https:// or unix:")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a URL must not hold a user name or password; give the key by api_key_env"
        )  # not echoed
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a base URL has no query and no fragment")
    try:
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        host = ""
    if not host or port == 0:
        raise ValueError(f"{url!r}: the host or port is missing or malformed")
    port = port or usual
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port == usual else f"{shown}:{port}"
    base = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=-._~").encode()
    return Origin(scheme, host, port, "", authority.encode(), f"{scheme}://{shown}:{port}"), base


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of header fields for `HttpRequest.headers`, to be made once. ValueError names a field that is no header field.

    Values are not echoed in errors, since they may be keys.
    """
    lines = []
    for name, value in fields:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name!r} is written by the client itself")
        if _NOT_IN_VALUE.search(value) or value != value.strip(" \t"):
            raise ValueError(f"the value of the header {name!r} holds control characters or outer spaces")
        try:
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        except UnicodeEncodeError:
            raise ValueError(f"the value of the header {name!r} holds characters beyond Latin-1") from None
    return b"".join(lines)


class HttpClient:
    """A `Transport` over real connections, for one event loop.

    `max_connections` per origin, further requests wait in the order they came (within their deadline); an unused connection is
    closed after `keep_alive` seconds; connecting, with the TLS handshake, takes at most `connect_timeout` seconds.
    Certificates and host names are always verified, against the system's authorities and those in the PEM file `ca_file`.
    A connection that was kept unused for `stale_after` seconds and is lost within `stale_window` seconds of a request, before any
    byte of an answer, had died unnoticed: that request is sent once more, over a fresh connection. Every other loss is an error,
    since the upstream may have worked on the request; whether to repeat it is for those to decide who count attempts.
    A name that does not resolve is not looked up again for `dns_negative` seconds.
    """

    def __init__(
        self,
        *,
        max_connections: int = 1024,
        keep_alive: float = 15.0,
        connect_timeout: float = 10.0,
        stale_after: float = 0.5,
        stale_window: float = 0.1,
        dns_negative: float = 5.0,
        ca_file: str | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.keep_alive = keep_alive
        self.connect_timeout = connect_timeout
        self.stale_after = stale_after
        self.stale_window = stale_window
        self.ca_file = ca_file
        self.names = _Names(resolve or _resolve, dns_negative)
        self.opened = 0  # connections, since the start
        self.stale_retries = 0
        self.closed = False
        self._pools: dict[str, _OriginPool] = {}
        self._tls: ssl.SSLContext | None = None

    async def send(self, request: HttpRequest) -> HttpResponse:
        """As `Transport.send`."""
        pool = self._pools.get(request.origin.key) or self._pool(request.origin)
        connection = pool.free.pop() if pool.free else await pool.take(request.deadline)
        unused_since = connection.last
        exchange = connection.begin(request)
        waiter = exchange.waiter = pool.loop.create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            exchange.cancel()
            raise
        error = exchange.error
        if error is not None and error.phase == "send" and connection.served > 1:
            now = pool.loop.time()
            if (
                now - connection.last >= self.stale_window
                or connection.last - unused_since < self.stale_after
            ):
                raise error
            self.stale_retries += 1
            connection = await pool.take(request.deadline, fresh=True)
            exchange = connection.begin(request)
            await exchange.wait(pool.loop)
            error = exchange.error
        if error is not None:
            raise error
        return exchange

    async def close(self) -> None:
        """Close every connection; exchanges in hand and requests that wait for a connection fail as `closed`."""
        self.closed = True
        for pool in self._pools.values():
            pool.close()

    async def tls(self) -> ssl.SSLContext:
        """The context of all https connections, made when the first is opened (reading the authorities takes a while)."""
        if self._tls is None:
            self._tls = await asyncio.get_running_loop().run_in_executor(None, _tls_context, self.ca_file)
        return self._tls

    def _pool(self, origin: Origin) -> _OriginPool:
        pool = self._pools[origin.key] = _OriginPool(self, origin, asyncio.get_running_loop())
        return pool


_LOCAL = 64
"""Connections to one Unix socket: llama.cpp keeps a thread for each, up to 256 for all gateway processes together."""


class _OriginPool:
    """The connections to one origin: `free` ones (the last used first), and places for at most `max_connections`."""

    def __init__(self, client: HttpClient, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self.origin = origin
        self.loop = loop
        self.free: list[Connection] = []
        # those that are not taken, by a connection or by one in the making
        self.places = min(client.max_connections, _LOCAL) if origin.socket_path else client.max_connections
        self.connections: set[Connection] = set()
        self.waiters: deque[asyncio.Future[Connection | None]] = deque()

    async def take(self, deadline: float | None, *, fresh: bool = False) -> Connection:
        """A connection, kept or new; `fresh`: rather a new one."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._take(fresh)
        except TimeoutError:
            raise self._error("total", "no connection was to be had before the deadline") from None

    async def _take(self, fresh: bool) -> Connection:
        while True:
            if self.free and not fresh:
                return self.free.pop()
            if self.free and not self.places:
                self.free[0].retire()
            if self.places:
                self.places -= 1
                return await self._open()
            turn: asyncio.Future[Connection | None] = self.loop.create_future()
            self.waiters.append(turn)
            try:
                connection = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    connection = turn.result()
                    if connection is None:
                        self._free_place()
                    elif connection.open:
                        self.give(connection)
                raise
            if connection is None:
                return await self._open()
            if connection.open:
                return connection

    def give(self, connection: Connection) -> None:
        """As `Owner.give`."""
        while self.waiters:
            turn = self.waiters.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self.free.append(connection)

    def forget(self, connection: Connection) -> None:
        """As `Owner.forget`. One that was never handed out still has its place with whoever opens it."""
        if connection in self.connections:
            self.connections.remove(connection)
            if connection in self.free:
                self.free.remove(connection)
            self._free_place()

    def close(self) -> None:
        """Close all connections and wake all who wait for one."""
        while self.waiters:
            turn = self.waiters.popleft()
            if not turn.done():
                turn.set_exception(self._error("closed", "the client is closed"))
        for connection in list(self.connections):
            connection.fail("closed", "the client is closed")

    def _free_place(self) -> None:
        while self.waiters:
            turn = self.waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.places += 1

    async def _open(self) -> Connection:
        """A new connection, in a place that is already ours."""
        connection = Connection(self, self.origin, self.loop, self.client.keep_alive)
        try:
            try:
                async with asyncio.timeout(self.client.connect_timeout):
                    await self._connect(connection)
            except TimeoutError:
                raise self._error(
                    "connect", f"no connection within {self.client.connect_timeout:g} s"
                ) from None
            if self.client.closed:
                connection.retire()
                raise self._error("closed", "the client is closed")
            if not connection.open:
                raise self._error("connect", "the connection was closed as soon as it was made")
        except BaseException:
            self._free_place()
            raise
        self.connections.add(connection)
        self.client.opened += 1
        return connection

    async def _connect(self, connection: Connection) -> None:
        tls: ssl.SSLContext | None = None
        if self.origin.scheme == "https":
            try:
                tls = await self.client.tls()
            except OSError as error:
                raise self._error("tls", f"the authorities cannot be loaded: {_reason(error)}") from error
        sock = await self._dial()
        try:
            if self.origin.scheme == "unix":
                await self.loop.create_unix_connection(lambda: connection, sock=sock)
            else:
                name = self.origin.host if tls is not None else None
                await self.loop.create_connection(
                    lambda: connection, sock=sock, ssl=tls, server_hostname=name
                )
        except OSError as error:
            sock.close()
            if isinstance(error, TimeoutError):
                raise
            raise self._error("connect" if tls is None else "tls", _reason(error)) from error
        except BaseException:
            sock.close()
            raise

    async def _dial(self) -> socket.socket:
        """A connected socket: the addresses one after the other, each with its share of the time that is left."""
        origin = self.origin
        addresses: list[Address]
        if origin.scheme == "unix":
            addresses = [(socket.AF_UNIX, origin.socket_path)]
        else:
            found = await self.client.names.addresses(origin.host, origin.port)
            if isinstance(found, str):
                raise self._error("connect", f"the name does not resolve: {found}")
            addresses = found
        end = self.loop.time() + self.client.connect_timeout
        reason = "the name has no address"
        for position, (family, address) in enumerate(addresses):
            share = (end - self.loop.time()) / (len(addresses) - position)
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(share):
                    await self.loop.sock_connect(sock, address)
                return sock
            except OSError as error:
                sock.close()
                reason = _reason(error)
            except BaseException:
                sock.close()
                raise
        raise self._error("connect", reason)

    def _error(self, phase: Phase, message: str) -> TransportError:
        return TransportError(phase, f"{self.origin.key}: {message}")


class _Names:
    """Name look-ups: one at a time for each name, failures remembered for a while."""

    def __init__(self, resolve: Resolve, negative: float) -> None:
        self._resolve = resolve
        self._negative = negative
        self._failed: dict[tuple[str, int], tuple[float, str]] = {}
        self._running: dict[tuple[str, int], asyncio.Task[list[Address] | str]] = {}

    async def addresses(self, host: str, port: int) -> list[Address] | str:
        """The addresses, or why there are none."""
        key = (host, port)
        loop = asyncio.get_running_loop()
        until, reason = self._failed.get(key, (0.0, ""))
        if loop.time() < until:
            return reason
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = loop.create_task(self._look_up(key, loop))
        return await asyncio.shield(task)  # others may be waiting for the same answer

    async def _look_up(self, key: tuple[str, int], loop: asyncio.AbstractEventLoop) -> list[Address] | str:
        try:
            return await self._resolve(*key)
        except OSError as error:
            reason = _reason(error)
            self._failed[key] = (loop.time() + self._negative, reason)
            return reason
        finally:
            del self._running[key]


async def _resolve(host: str, port: int) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid here: {error.verify_message}"
    if isinstance(error, TimeoutError) and not error.args:
        return "no connection in time"
    return error.strerror or str(error) or type(error).__name__


async def run_out(response: HttpResponse) -> None:
    """Read the few bytes after the end of a stream, so that its connection can be used again; not for long."""
    try:
        async with asyncio.timeout(_AFTER_DONE):
            while await response.next():
                pass
    except (TimeoutError, TransportError):
        return
