"""The connection, fed by hand: what it makes of bytes."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.pool.http import parse_url
from stretto.pool.http_connection import Connection, Exchange, HttpRequest, TransportError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """The transport of a connection that is fed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: object) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    close = abort

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Lot:
    """The owner of a connection that is fed by hand."""

    def __init__(self) -> None:
        self.given = 0

    def give(self, connection: Connection) -> None:
        self.given += 1

    def forget(self, connection: Connection) -> None: ...


def fed(pieces: list[bytes], stream: bool) -> tuple[Exchange, int]:
    loop = asyncio.new_event_loop()
    lot = Lot()
    origin, _ = parse_url("http://upstream")
    connection = Connection(lot, origin, loop, 15.0)
    connection.connection_made(Wire())
    exchange = connection.begin(HttpRequest(b"POST", origin, b"/", stream=stream))
    for piece in pieces:
        if piece:
            connection.data_received(piece)
    connection.retire()
    loop.close()
    return exchange, lot.given


@given(
    st.sampled_from(
        [
            (OK, b"ok"),
            (
                b"\r\nHTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nB: c\r\nContent-Length: 3\r\n\r\nabc",
                b"abc",
            ),
            (CHUNKED + b"1\r\na\r\n1e\r\n" + b"b" * 30 + b"\r\n0\r\n\r\n", b"a" + b"b" * 30),
        ]
    ),
    st.lists(st.integers(0, 120), max_size=30),
    st.booleans(),
)
def test_an_answer_may_come_in_any_pieces(case: tuple[bytes, bytes], cuts: list[int], stream: bool) -> None:
    """Status, fields and body do not depend on how the bytes were cut on their way."""
    answer, body = case
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    exchange, given_back = fed([answer[start:end] for start, end in pairwise(edges)], stream)
    whole, _ = fed([answer], stream)
    assert (exchange.status, exchange.headers, exchange.take()) == (200, whole.headers, body)
    assert given_back == 1


def test_very_many_small_pieces_are_merged() -> None:
    """A body that comes byte by byte does not take forty times its size in memory."""
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b"ab"] * 49_999]
    exchange, _ = fed(pieces, stream=False)
    assert len(exchange.pieces) <= 1024
    exchange, _ = fed([*pieces, b"cd"], stream=False)
    assert exchange.take() == b"ab" * 49_999 + b"cd"


class Clock:
    """The part of an event loop that a connection uses, with a time of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> "Timer":
        timer = Timer(when, call)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, calling what falls due at its moment."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.call is not None and timer.when <= end]:
            timer = min(due, key=lambda one: one.when)
            call, timer.call = timer.call, None
            self.now = max(self.now, timer.when)
            assert call is not None
            call()
        self.now = end


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


def begun(clock: Clock, **more: object) -> tuple[Connection, Exchange]:
    origin, _ = parse_url("http://upstream")
    connection = Connection(Lot(), origin, clock, 15.0)  # type: ignore[arg-type]
    connection.connection_made(Wire())
    return connection, connection.begin(HttpRequest(b"POST", origin, b"/", **more))  # type: ignore[arg-type]


def phase(exchange: Exchange) -> str | None:
    return exchange.error.phase if exchange.error is not None else None


def test_the_first_byte_and_the_gaps_have_limits_of_their_own() -> None:
    """The idle limit counts from the last byte, shorter or longer than the first-byte limit, however long the answer takes."""
    clock = Clock()
    connection, exchange = begun(clock, stream=True, first_byte_timeout=60.0, idle_timeout=5.0)
    clock.advance(59)
    for piece in (CHUNKED[:9], CHUNKED[9:], *[b"1\r\na\r\n"] * 20):
        connection.data_received(piece)
        clock.advance(4.9)
    assert phase(exchange) is None
    clock.advance(0.2)
    assert phase(exchange) == "idle"
    assert not connection.open

    connection, exchange = begun(clock, first_byte_timeout=5.0, idle_timeout=60.0)
    clock.advance(4.9)
    assert phase(exchange) is None
    clock.advance(0.2)
    assert phase(exchange) == "first_byte"


def test_the_deadline_holds_whatever_comes() -> None:
    """Bytes put off the idle limit, never the deadline; an answer that is whole is beyond it."""
    clock = Clock()
    connection, exchange = begun(clock, stream=True, idle_timeout=5.0, deadline=clock.now + 12)
    connection.data_received(CHUNKED)
    for _ in range(3):
        clock.advance(3.9)
        connection.data_received(b"1\r\na\r\n")
    assert phase(exchange) is None
    clock.advance(0.4)
    assert phase(exchange) == "total"

    connection, exchange = begun(clock, deadline=clock.now + 12)
    connection.data_received(OK)
    clock.advance(14)
    assert phase(exchange) is None
    assert connection.open


def test_a_pause_is_not_the_upstreams_silence() -> None:
    """While the reader is slow and reading is paused, only the deadline counts; the idle limit starts anew afterwards."""
    clock = Clock()
    connection, exchange = begun(clock, stream=True, idle_timeout=5.0, deadline=clock.now + 1000)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000)
    assert connection.paused
    clock.advance(500)
    assert phase(exchange) is None
    connection.resume()
    clock.advance(4.9)
    assert phase(exchange) is None
    clock.advance(0.2)
    assert phase(exchange) == "idle"


def test_a_request_whose_deadline_has_passed_is_not_sent() -> None:
    """Nothing goes out for a caller who no longer waits; the connection stays for others, and is retired in its time."""
    clock = Clock()
    connection, exchange = begun(clock, stream=True)
    connection.data_received(OK)
    assert exchange.take() == b"ok"
    with pytest.raises(TransportError, match="before the request was sent") as caught:
        connection.begin(HttpRequest(b"POST", connection.origin, b"/", deadline=clock.now))
    assert (caught.value.phase, caught.value.sent, connection.open) == ("total", False, True)
    clock.advance(15.1)
    assert not connection.open


def test_the_upstreams_end_is_the_end_at_once() -> None:
    """An upstream that stops sending is not waited for, though it may never close its side or read the rest of the request."""
    for answer, outcome in ((b"", "send"), (CHUNKED, "closed"), (b"HTTP/1.1 200 OK\r\n\r\nall", None)):
        connection, exchange = begun(Clock())
        if answer:
            connection.data_received(answer)
        connection.eof_received()
        assert (phase(exchange), connection.open) == (outcome, False)


def test_an_unused_connection_is_retired() -> None:
    """Keep-alive counts from the end of the last answer."""
    clock = Clock()
    connection, _ = begun(clock, first_byte_timeout=600.0)
    clock.advance(100)
    connection.data_received(OK)
    clock.advance(14.9)
    assert connection.open
    clock.advance(0.2)
    assert not connection.open


@pytest.mark.parametrize("idle", [5.0, 60.0])
def test_calls_on_a_kept_connection_start_no_timers(idle: float) -> None:
    """A thousand calls in ten seconds set a handful of timers, not a thousand."""
    clock = Clock()
    connection, _ = begun(clock)
    connection.data_received(OK)
    for _ in range(1000):
        limits = {"deadline": clock.now + 600, "first_byte_timeout": 60.0, "idle_timeout": idle}
        connection.begin(HttpRequest(b"POST", connection.origin, b"/", **limits))  # type: ignore[arg-type]
        clock.advance(0.01)
        connection.data_received(OK)
    assert len(clock.timers) < 10
