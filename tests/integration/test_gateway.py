"""The gateway under a real server, with the real OpenAI SDK and with sockets that misbehave."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import uvicorn

from stretto.gateway.server import http_protocol
from stretto.types import Delta, Usage
from tests.gateway_world import CHAT, World, fails, forever, hello, says

PATIENCE = 10.0
"""Seconds after which a test gives up; nothing depends on how fast it goes."""


@contextlib.contextmanager
def served(world: World, patience: float = PATIENCE) -> Iterator[int]:
    """The gateway under uvicorn on a free port of loopback; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        world.app,
        http=http_protocol(patience),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@contextlib.contextmanager
def client(world: World) -> Iterator[openai.OpenAI]:
    """The SDK as it comes, pointed at a served gateway."""
    with served(world) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as found:
        yield found


MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("model", ["a", "org/c", "panel"])
def test_the_sdk_gets_answers_and_sees_who_served(model: str) -> None:
    """Whole answers, with the `stretto` block in the model's extra fields."""
    with client(World()) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
        answer = raw.parse()
        assert answer.model == model
        assert (answer.choices[0].message.content or "").endswith("says hello")
        assert answer.usage is not None
        assert answer.model_extra is not None
        block = answer.model_extra["stretto"]
        assert raw.headers["x-stretto-run-id"] == block["run_id"]
        assert raw.headers["x-stretto-served-by"] == block["served_by"]


@pytest.mark.parametrize("model", ["a", "panel"])
def test_the_sdk_reads_streams_to_their_end(model: str) -> None:
    """Pieces, finish reason, usage."""
    with client(World()) as sdk:
        chunks = list(
            sdk.chat.completions.create(
                model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text.endswith("says hello")
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.prompt_tokens == (3 if model == "a" else 9)


def test_the_sdk_does_not_retry_what_was_retried_here() -> None:
    """One call is one attempt upstream, whatever the SDK's own retries are set to."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        return fails("overloaded", "busy", 5.0)

    world = World(attempt)
    with client(world) as sdk, pytest.raises(openai.InternalServerError) as caught:
        sdk.chat.completions.create(model="a", messages=MESSAGES)
    assert caught.value.status_code == 503
    assert caught.value.code == "upstream_overloaded"
    assert len(world.pool.asks) == 1


def test_the_sdk_takes_a_cut_stream_for_an_error() -> None:
    """A failure after the first piece raises in the client instead of ending tidily."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.emitted = True
        await emit([Delta("half")])
        return fails("cut")

    with client(World(attempt)) as sdk:
        stream = sdk.chat.completions.create(model="a", messages=MESSAGES, stream=True)
        assert next(stream).choices[0].delta.content == "half"
        with pytest.raises(openai.APIError, match="broke off"):
            next(stream)


def test_the_sdk_waits_through_keep_alives() -> None:
    """Comments before and between the pieces do no harm."""
    go = threading.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, go.wait, PATIENCE)
        return says("at last")

    world = World(attempt, first_beat=0.001, beat=0.001)
    with client(world) as sdk:
        stream = sdk.chat.completions.create(model="a", messages=MESSAGES, stream=True)
        go.set()
        text = "".join(c.choices[0].delta.content or "" for c in stream)
    assert text == "at last"


def test_the_sdk_lists_models_and_finds_one_with_a_slash() -> None:
    """`/v1/models` and `/v1/models/{id}`."""
    with client(World()) as sdk:
        assert {m.id for m in sdk.models.list()} == {"a", "b", "org/c", "panel"}
        assert sdk.models.retrieve("org/c").id == "org/c"
        with pytest.raises(openai.NotFoundError):
            sdk.models.retrieve("org/d")


def test_the_sdk_carries_options_in_extra_body() -> None:
    """The `stretto` object travels as the SDK sends it."""
    world = World()
    with client(world) as sdk:
        sdk.chat.completions.create(
            model="a", messages=MESSAGES, extra_body={"stretto": {"policy": "b", "limits": {"calls": 1}}}
        )
    assert [ask.worker for ask in world.pool.asks] == ["b"]


def spoken(port: int, data: bytes) -> socket.socket:
    """A connection on which `data` has been sent."""
    found = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    found.sendall(data)
    return found


def request(body: dict[str, Any]) -> bytes:
    """A chat request as it stands on the wire."""
    raw = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (
        CHAT.encode(),
        len(raw),
        raw,
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("pieces", [0, 1, 10])
def test_when_the_connection_closes_the_work_stops(streaming: bool, pieces: int) -> None:
    """Before the first byte, after one piece, after ten; streaming or not: the attempt is cancelled and recorded."""
    reached, stopped = threading.Event(), threading.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.usage = Usage(4, pieces)
        if emit is not None:
            for _ in range(pieces):
                tally.emitted = True
                await emit([Delta("x ")])
        reached.set()
        try:
            await forever()
        finally:
            stopped.set()

    world = World(attempt)
    with served(world) as port:
        with spoken(port, request(hello(stream=streaming))):
            assert reached.wait(PATIENCE)
        assert stopped.wait(PATIENCE)
    events = world.store.events(world.only_run())
    assert events[-1].kind == "finished"
    assert events[-1].error.kind == "cancelled"
    assert events[-1].usage.output == pieces


def test_a_client_that_does_not_read_holds_the_worker_back() -> None:
    """Memory stays bounded: the worker waits for the client instead of filling the gateway."""
    held, emitted = threading.Event(), 0

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        nonlocal emitted
        tally.emitted = True
        for _ in range(1000):
            sent = asyncio.ensure_future(emit([Delta("x" * 65536)]))
            await asyncio.wait({sent}, timeout=0.3)
            if not sent.done():
                held.set()
            await sent
            emitted += 65536
        return says("all of it")

    with served(World(attempt)) as port, spoken(port, request(hello(stream=True))):
        assert held.wait(PATIENCE)
        assert emitted < 32_000_000


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
        HEAD + b"content-length: 2, 2\r\n\r\n{}",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 0x2\r\n\r\n{}",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        HEAD + b"x-a: b\r\n continued: c\r\ncontent-length : 2\r\n\r\n{}",
        HEAD + b"x-a: b\x00c\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"x a: b\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b": b\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/9.9\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        b"POST http://x.invalid/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\nhost: localhost\ncontent-length: 2\n\n{}",
        b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        HEAD + b"host: localhost\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"x-a: b\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"x-a: b\rcontent-length: 2\r\n\r\n{}",
        HEAD + b"x-a: b\r\n continued\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"content-length: +2\r\n\r\n{}",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD.replace(b"1.1", b"2.0") + b"content-length: 2\r\n\r\n{}",
        b"GET /health\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(raw: bytes) -> None:
    """What two parsers could read differently is a 400, and nothing that follows it is served."""
    world = World()
    with served(world) as port, spoken(port, raw + request(hello())) as connection:
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                heard += part
    assert heard.startswith(b"HTTP/1.1 400")
    assert heard.count(b"HTTP/1.1 ") == 1
    assert world.pool.asks == []


def test_a_large_body_is_refused_while_it_is_being_sent() -> None:
    """413 comes after the head, with the body still on its way."""
    with served(World()) as port, spoken(port, HEAD + b"content-length: 99999999\r\n\r\n{") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_who_sends_all_of_a_large_body_before_listening_hears_why_it_is_refused() -> None:
    """The connection is not reset under the answer; what follows the body on it is not served."""
    world, size = World(), 25_000_000
    head = HEAD + b"content-length: %d\r\n\r\n" % size
    with served(world) as port, spoken(port, head + b" " * size + request(hello())) as connection:
        heard = b""
        while part := connection.recv(65536):
            heard += part
    assert heard.startswith(b"HTTP/1.1 413")
    assert heard.count(b"HTTP/1.1 ") == 1
    assert world.pool.asks == []


def test_calls_follow_each_other_on_one_connection() -> None:
    """Keep-alive, after an answer and after an error."""
    world = World()
    with served(world) as port, spoken(port, request(hello("nobody"))) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        for _ in range(3):
            connection.sendall(request(hello()))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert len(world.pool.asks) == 3


@pytest.mark.parametrize("head", [HEAD + b"x-a: " + b"a" * 2_000_000, HEAD + b"x-a: b\r\n" * 200_000])
def test_a_head_without_end_is_refused(head: bytes) -> None:
    """Headers are bounded: what has not ended after 64 KiB is refused."""
    with (
        served(World()) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
    ):
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
        heard = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                heard += part
    assert heard.startswith(b"HTTP/1.1 431") or not heard


def test_a_connection_that_says_nothing_is_closed() -> None:
    """A client that opens a connection, or begins a head, and then stops is not waited for without end."""
    with served(World(), patience=0.05) as port:
        for data in (b"", HEAD):
            with spoken(port, data) as connection:
                assert connection.recv(65536) == b""
