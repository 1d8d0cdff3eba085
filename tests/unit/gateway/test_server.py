"""What is added to uvicorn's HTTP protocol. (Its limits and refusals are tried on a real socket in tests/integration.)"""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from stretto.gateway.server import http_protocol


class Wire:
    """A transport that remembers what was written, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        """Remember it."""
        self.writes.append(data)

    def close(self) -> None:
        """Remember that."""
        self.closed = True

    def is_closing(self) -> bool:
        """As it was told."""
        return self.closed

    def get_extra_info(self, name: str) -> None:
        """Nothing is known."""


async def spoken(app: Any, data: bytes) -> Wire:
    """What is written when `data` comes in."""
    protocol_class: Any = http_protocol()
    config = uvicorn.Config(app, http=protocol_class, lifespan="off", log_config=None, access_log=False)
    config.load()
    state, wire = ServerState(), Wire()
    protocol = protocol_class(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(data)
    while state.tasks:
        await asyncio.wait(state.tasks)
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire


GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_head_and_first_piece_are_one_write() -> None:
    """What follows the head at once joins it; later pieces leave as they come."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    writes = asyncio.run(spoken(app, GET)).writes
    assert writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert writes[0].endswith(b"3\r\none\r\n")
    assert writes[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


def test_a_head_waits_for_the_first_piece_of_its_body() -> None:
    """However late that comes, and even if it is empty, as the ASGI specification says."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body"})

    writes = asyncio.run(spoken(app, GET)).writes
    assert writes[0].endswith(b"\r\n\r\n")
    assert writes[1:] == [b"0\r\n\r\n"]


def test_a_head_request_gets_the_head_alone() -> None:
    """The length is that of the body that a GET would have."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"one"})

    writes = asyncio.run(spoken(app, GET.replace(b"GET", b"HEAD"))).writes
    assert len(writes) == 1
    assert writes[0].endswith(b"content-length: 3\r\n\r\n")


def test_a_header_cannot_be_ended_by_its_value() -> None:
    """A line break in a value makes an error of the whole answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1\r\ny: 2")]})

    writes = asyncio.run(spoken(app, GET)).writes
    assert len(writes) == 1
    assert writes[0].startswith(b"HTTP/1.1 500 ")
    assert b"y: 2" not in writes[0]


def test_a_body_is_as_long_as_it_says() -> None:
    """One that is longer or shorter never completes: the connection is closed."""
    for body in (b"one and more", b"o"):

        async def app(scope: Any, receive: Any, send: Any, body: bytes = body) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
            await send({"type": "http.response.body", "body": body})

        wire = asyncio.run(spoken(app, GET))
        assert wire.closed
        assert wire.writes == []


def test_a_connection_that_closes_takes_the_whole_answer_with_it() -> None:
    """Closing flushes what was kept back."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})

    wire = asyncio.run(spoken(app, GET))
    assert wire.closed
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 204 No Content\r\n")
