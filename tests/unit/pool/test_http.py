"""The client against real sockets: each test has its own small server in the same loop."""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from stretto.pool.http import HttpClient, HttpRequest, Origin, TransportError, header_block, parse_url
from stretto.pool.http_connection import MAX_HEAD

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON = 0.05  # a timeout that is meant to pass


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest):
    """Run a coroutine on either event loop."""
    return request.param


class Upstream:
    """A server that counts its connections and requests."""

    def __init__(self, serve: Serve | None = None, answer: bytes = OK) -> None:
        self.serve = serve
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.at_once = 0
        self.most_at_once = 0
        self.left = asyncio.Event()  # some client closed its connection
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.serve is not None:
                await self.serve(reader, writer)
            else:
                while True:
                    await self.request(reader)
                    writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            self.at_once -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        whole = head + await reader.readexactly(length)
        self.requests.append(whole)
        return whole

    @contextlib.asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        try:
            yield parse_url(f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}")[0]
        finally:
            server.close()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=5)


def post(origin: Origin, body: bytes = b"{}", **more: object) -> HttpRequest:
    """A request; one that would wait for ever fails after a time far beyond what any test takes."""
    more.setdefault("deadline", asyncio.get_running_loop().time() + 60)
    return HttpRequest(b"POST", origin, b"/v1/x", b"content-type: application/json\r\n", body, **more)  # type: ignore[arg-type]


async def ask(upstream: Upstream, **more: object) -> tuple[int, bytes]:
    """One whole answer over a client of its own."""
    async with upstream.listen() as origin, closing(HttpClient()) as client:
        response = await client.send(post(origin, **more))
        return response.status, await response.read()


@contextlib.asynccontextmanager
async def closing(client: HttpClient) -> AsyncIterator[HttpClient]:
    try:
        yield client
    finally:
        await client.close()


def once(answer: bytes) -> Upstream:
    """An upstream that reads a request, writes `answer` and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.request(reader)
        writer.write(answer)

    upstream = Upstream(serve)
    return upstream


def silent_after(answer: bytes) -> Upstream:
    """An upstream that writes `answer` and then nothing, until the client leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.request(reader)
        writer.write(answer)
        await reader.readexactly(1)

    upstream = Upstream(serve)
    return upstream


async def failure(upstream: Upstream, **more: object) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await ask(upstream, **more)
    return caught.value


# -------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (CHUNKED + b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nTrailer: 1\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the close", 200, b"until the close"),
        (b"HTTP/1.0 200 OK\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nRetry-After: 1\r\n\r\nbusy", 503, b"busy"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=[
        "length",
        "chunked",
        "until-close",
        "empty-until-close",
        "204",
        "interim",
        "redirect",
        "error",
        "identity",
    ],
)
def test_every_framing_of_an_answer(run, answer: bytes, status: int, body: bytes) -> None:
    """An answer comes out the same whole or as a stream, whatever frames it; redirects are not followed."""

    async def main() -> None:
        assert await ask(once(answer)) == (status, body)
        async with once(answer).listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin, stream=True))
            assert (response.status, b"".join([piece async for piece in response.chunks()])) == (status, body)
            assert await response.next() == b""

    run(main())


def test_the_request_on_the_wire(run) -> None:
    """The request line, the client's own fields, the caller's, and the body arrive as one message."""

    async def main() -> None:
        upstream = Upstream()
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            await (await client.send(post(origin, b'{"a": 1}'))).read()
            await (await client.send(HttpRequest(b"GET", origin, b"/v1/models"))).read()
            big = b"x" * 3_000_000
            await (await client.send(post(origin, big))).read()
            host = origin.authority
        head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0] == b"POST /v1/x HTTP/1.1"
        assert set(head.split(b"\r\n")[1:]) == {
            b"host: " + host,
            b"accept-encoding: identity",
            b"content-type: application/json",
            b"content-length: 8",
        }
        assert body == b'{"a": 1}'
        assert b"content-length" not in upstream.requests[1]
        assert upstream.requests[2].endswith(b"\r\n\r\n" + big)

    run(main())


def test_headers_have_lower_case_names_and_joined_values(run) -> None:
    """Header fields are looked up in lower case; a repeated field keeps all its values; interim heads are not mixed in."""

    async def main() -> None:
        final = b"HTTP/1.1 200 OK\r\nX-A:  1 \r\nx-a: 2\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n"
        answer = b"HTTP/1.1 103 Hints\r\nX-A: no\r\n\r\n" + final
        async with Upstream(answer=answer).listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin))
            assert response.headers == {b"x-a": b"1, 2", b"x-empty": b"", b"content-length": b"0"}

    run(main())


def test_head_has_no_body_and_keeps_the_connection(run) -> None:
    """The length in an answer to HEAD is not waited for, and the connection serves the next request."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while request := await upstream.request(reader):
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" if request.startswith(b"HEAD") else OK
                )

        upstream = Upstream(serve)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            response = await client.send(HttpRequest(b"HEAD", origin, b"/"))
            assert (response.status, await response.read()) == (200, b"")
            assert await (await client.send(post(origin))).read() == b"ok"
            assert upstream.connections == 1

    run(main())


# -------------------------------------------------------------------------------- keep-alive and the pool


def test_connections_are_kept_and_used_again(run) -> None:
    """Answers one after the other take one connection; answers at once take one each."""

    async def main() -> None:
        upstream = Upstream()
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            for _ in range(5):
                assert await (await client.send(post(origin))).read() == b"ok"
            assert upstream.connections == 1
            await asyncio.gather(*(client.send(post(origin)) for _ in range(4)))
            assert upstream.connections == client.opened == 4

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,
        OK + b"H",
        OK + b"\0garbage",
    ],
    ids=["close", "http-1.0", "two-answers", "one-byte-more", "garbage-after"],
)
def test_a_connection_that_cannot_be_trusted_is_not_used_again(run, answer: bytes) -> None:
    """After `close`, or after bytes beyond the end of an answer, the answer stands and the next request has a new connection."""

    async def main() -> None:
        upstream = Upstream(answer=answer)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            for count in (1, 2):
                assert await (await client.send(post(origin))).read() == b"ok"
                await upstream.left.wait()
                upstream.left.clear()
                assert upstream.connections == count

    run(main())


def test_bytes_without_a_request_close_the_connection(run) -> None:
    """What an upstream says unasked is never taken for the answer to the next request."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await upstream.request(reader)
            writer.write(OK)
            await unasked.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await reader.readexactly(1)

        unasked = asyncio.Event()
        upstream = Upstream(serve)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            assert await (await client.send(post(origin))).read() == b"ok"
            unasked.set()
            await upstream.left.wait()
            assert await (await client.send(post(origin))).read() == b"ok"
            assert upstream.connections == 2
            assert client.stale_retries == 0

    run(main())


def test_an_idle_connection_is_closed_after_a_while(run) -> None:
    """A connection that nobody uses is given up, and the upstream sees it."""

    async def main() -> None:
        upstream = Upstream()
        async with upstream.listen() as origin, closing(HttpClient(keep_alive=SOON)) as client:
            await client.send(post(origin))
            await upstream.left.wait()

    run(main())


def stale_upstream(last_words: bytes = b"") -> Upstream:
    """The first connection serves one request and dies at the second, saying `last_words`; later ones serve."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = upstream.connections == 1
        await upstream.request(reader)
        writer.write(OK)
        await upstream.request(reader)
        writer.write(last_words if first else OK)

    upstream = Upstream(serve)
    return upstream


def test_a_kept_connection_that_proves_dead_is_replaced_once(run) -> None:
    """A request that met a dead kept connection is sent again, on a fresh connection, and the caller sees only the answer."""

    async def main() -> None:
        upstream = stale_upstream()
        async with (
            upstream.listen() as origin,
            closing(HttpClient(stale_after=0.0, stale_window=60.0)) as client,
        ):
            assert await (await client.send(post(origin))).read() == b"ok"
            assert await (await client.send(post(origin, b"again"))).read() == b"ok"
            assert (client.stale_retries, upstream.connections) == (1, 2)
            assert [request[-5:] for request in upstream.requests[1:]] == [b"again"] * 2

    run(main())


@pytest.mark.parametrize(
    ("last_words", "after", "window", "phase"),
    [(b"HTTP/1.1 2", 0.0, 60.0, "closed"), (b"", 0.0, 0.0, "send"), (b"", 60.0, 60.0, "send")],
    ids=["answer-begun", "too-late", "just-used"],
)
def test_a_request_is_not_repeated_once_the_upstream_may_have_worked_on_it(
    run, last_words: bytes, after: float, window: float, phase: str
) -> None:
    """With a byte of the answer there, after the window in which a dead connection shows, or on a connection that was in use
    a moment ago, a loss is the caller's to judge."""

    async def main() -> None:
        upstream = stale_upstream(last_words)
        async with (
            upstream.listen() as origin,
            closing(HttpClient(stale_after=after, stale_window=window)) as client,
        ):
            await client.send(post(origin))
            with pytest.raises(TransportError) as caught:
                await client.send(post(origin))
            error = caught.value
            assert (error.phase, error.sent, error.received) == (phase, True, bool(last_words))
            assert (client.stale_retries, len(upstream.requests)) == (0, 2)

    run(main())


def test_a_fresh_connection_that_dies_is_an_error(run) -> None:
    """Only a kept connection can be stale: a new one that is closed unanswered fails at once, after one request."""

    async def main() -> None:
        upstream = once(b"")
        error = await failure(upstream)
        assert (error.phase, error.sent, error.received) == ("send", True, False)
        assert len(upstream.requests) == 1

    run(main())


def test_connections_are_bounded_and_waiters_served_in_order(run) -> None:
    """No more connections than allowed, whatever the number of callers, and first come, first served."""

    async def main() -> None:
        for allowed in (1, 3):
            upstream = Upstream()
            async with upstream.listen() as origin, closing(HttpClient(max_connections=allowed)) as client:
                await asyncio.gather(*(client.send(post(origin, b"%d" % k)) for k in range(20)))
                assert upstream.most_at_once == upstream.connections == allowed
                order = [int(request.rpartition(b"\r\n")[2]) for request in upstream.requests]
                assert sorted(order) == [*range(20)]
                assert allowed > 1 or order == [*range(20)]

    run(main())


def test_a_place_is_never_lost(run) -> None:
    """Callers that give up while they wait, and connections that die, leave their place to the next."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await upstream.request(reader)
            if upstream.connections % 2:
                writer.write(OK)
                await upstream.request(reader)

        upstream = Upstream(serve)
        async with (
            upstream.listen() as origin,
            closing(HttpClient(max_connections=1, stale_window=0.0)) as client,
        ):
            for _ in range(5):
                calls = [asyncio.create_task(client.send(post(origin))) for _ in range(12)]
                late = post(origin, deadline=asyncio.get_running_loop().time())
                with pytest.raises(TransportError, match="deadline") as caught:
                    await client.send(late)
                assert (caught.value.phase, caught.value.sent) == ("total", False)
                for call in calls[::3]:
                    call.cancel()
                results = await asyncio.gather(*calls, return_exceptions=True)
                assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 4
                assert 0 < sum(getattr(result, "phase", "") == "send" for result in results) < 8
            assert upstream.most_at_once == 1

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_after_any_mix_of_faults_every_place_is_free_again(run, seed: int) -> None:
    """Whatever upstreams and callers did to the connections before, as many requests as allowed can be in hand at once."""
    chance = random.Random(seed)
    answers = [OK, OK, OK + b"more", b"", b"garbage\r\n", CHUNKED + b"5\r\nab", b"HTTP/1.0 200 OK\r\n\r\nx"]

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            while True:
                await upstream.request(reader)
                if calm:
                    waiting += 1
                    if waiting == 8:
                        all_here.set()
                    await all_here.wait()
                    writer.write(OK)
                elif chance.random() < 0.1:
                    await reader.readexactly(1)
                elif chance.random() < 0.1:
                    writer.transport.abort()
                else:
                    writer.write(answer := chance.choice(answers))
                    if answer is not OK:
                        return

        async def call(client: HttpClient, origin: Origin) -> None:
            stream = chance.random() < 0.5
            response = await client.send(post(origin, b"x" * 10, stream=stream, first_byte_timeout=SOON))
            if chance.random() < 0.8:
                await response.read()
            await response.close()

        calm, waiting, all_here = False, 0, asyncio.Event()
        upstream = Upstream(serve)
        async with upstream.listen() as origin, closing(HttpClient(max_connections=8)) as client:
            for _ in range(10):
                calls = [asyncio.create_task(call(client, origin)) for _ in range(30)]
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                for one in chance.sample(calls, 10):
                    one.cancel()
                for result in await asyncio.gather(*calls, return_exceptions=True):
                    assert result is None or isinstance(result, TransportError | asyncio.CancelledError)
            calm = True
            results = await asyncio.gather(*(client.send(post(origin)) for _ in range(8)))
            assert [response.status for response in results] == [200] * 8

    run(main())


def test_a_closed_client_refuses_and_ends_what_it_holds(run) -> None:
    """Closing ends exchanges in hand and requests that wait for a connection; later ones are refused."""

    async def main() -> None:
        upstream = silent_after(b"")
        async with upstream.listen() as origin:
            client = HttpClient(max_connections=1)
            calls = [asyncio.create_task(client.send(post(origin))) for _ in range(3)]
            while not upstream.requests:
                await asyncio.sleep(0)
            await client.close()
            results = [*await asyncio.gather(*calls, return_exceptions=True)]
            results += await asyncio.gather(client.send(post(origin)), return_exceptions=True)
            assert [(type(result), getattr(result, "phase", "")) for result in results] == [
                (TransportError, "closed")
            ] * 4
            await upstream.left.wait()

    run(main())


# -------------------------------------------------------------------------------- faults


def test_refused_connections_and_missing_sockets(run, tmp_path: Path) -> None:
    """Where nobody listens, the error says `connect` and that nothing was sent."""

    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            closed_port = parse_url(f"http://127.0.0.1:{taken.getsockname()[1]}")[0]
            for origin in (
                closed_port,
                parse_url(f"unix:{tmp_path}/none.sock")[0],
                parse_url("unix:/" + "x" * 200)[0],
            ):
                async with closing(HttpClient()) as client:
                    with pytest.raises(TransportError) as caught:
                        await client.send(post(origin))
                    assert (caught.value.phase, caught.value.sent) == ("connect", False)
                    assert str(caught.value).startswith(origin.key)

    run(main())


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "protocol"),
        (CHUNKED + b"zz\r\n", "protocol"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD, "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD + b"\r\nContent-Length: 2\r\n\r\nok", "protocol"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 4000 + OK, "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "closed"),
        (CHUNKED + b"5\r\nab", "closed"),
        (CHUNKED + b"2\r\nab\r\n", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, "body_limit"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70000, "body_limit"),
    ],
)
def test_answers_that_are_wrong(run, answer: bytes, phase: str) -> None:
    """Garbage, ambiguous framing, compression, oversize and cut answers are errors that name their kind, never answers."""

    async def main() -> None:
        error = await failure(once(answer), body_limit=65536)
        assert (error.phase, error.sent, error.received) == (phase, True, True)

    run(main())


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n\r\nhalf"], ids=["unanswered", "half-answered"])
def test_a_reset_is_an_error(run, words: bytes) -> None:
    """A connection that is reset, before or inside the answer, is an error, also where a close would end the body."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await upstream.request(reader)
            writer.write(words)
            await go_on.wait()
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()

        upstream, go_on = Upstream(serve), asyncio.Event()
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            call = asyncio.create_task(client.send(post(origin, stream=True)))
            waiting: Awaitable[object] = call
            if words:
                assert await (await call).next() == b"half"
                waiting = call.result().next()
            go_on.set()
            with pytest.raises(TransportError) as caught:
                await waiting
            assert (caught.value.phase, caught.value.received) == ("closed" if words else "send", bool(words))

    run(main())


def test_a_stream_that_breaks_hands_over_what_came_before(run) -> None:
    """The pieces before a cut are readable; the end is an error and stays one."""

    async def main() -> None:
        async with once(CHUNKED + b"3\r\nabc\r\n").listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin, stream=True))
            assert await response.next() == b"abc"
            for _ in range(2):
                with pytest.raises(TransportError, match="inside its answer"):
                    await response.next()

    run(main())


@pytest.mark.parametrize(
    ("answer", "limit", "phase"),
    [
        (b"", "first_byte_timeout", "first_byte"),
        (b"HTTP/1.1 200 OK\r\n", "idle_timeout", "idle"),
        (CHUNKED + b"1\r\na\r\n", "idle_timeout", "idle"),
    ],
    ids=["silent", "in-head", "in-body"],
)
def test_silence_ends_and_names_its_phase(run, answer: bytes, limit: str, phase: str) -> None:
    """A stall before or inside the answer ends, and the upstream sees the close."""

    async def main() -> None:
        upstream = silent_after(answer)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            with pytest.raises(TransportError) as caught:
                await client.send(post(origin, **{limit: SOON}))
            assert (caught.value.phase, caught.value.sent, caught.value.received) == (
                phase,
                True,
                bool(answer),
            )
            await upstream.left.wait()

    run(main())


def test_names_that_do_not_resolve_are_remembered_for_a_while(run) -> None:
    """Many callers share one look-up, a failure is not looked up again within the time given, and it is no sent request."""

    async def main() -> None:
        asked: list[str] = []

        async def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, object]]:
            asked.append(host)
            await asyncio.sleep(0)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        origin = parse_url("http://name.invalid")[0]
        for negative, looked_up in ((60.0, 1), (-1.0, 2)):
            asked.clear()
            async with closing(HttpClient(resolve=resolve, dns_negative=negative)) as client:
                for _ in range(2):
                    results = await asyncio.gather(
                        *(client.send(post(origin)) for _ in range(5)), return_exceptions=True
                    )
                    assert {(type(result), getattr(result, "phase", "")) for result in results} == {
                        (TransportError, "connect")
                    }
                    assert "does not resolve" in str(results[0])
            assert len(asked) == looked_up

    run(main())


def test_the_next_address_is_tried(run) -> None:
    """A name with several addresses is reached by the first that answers."""

    async def main() -> None:
        upstream = Upstream()
        async with upstream.listen() as origin:

            async def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, object]]:
                return [(socket.AF_INET, ("127.0.0.1", unused)), (socket.AF_INET, ("127.0.0.1", port))]

            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                unused = taken.getsockname()[1]
                async with closing(HttpClient(resolve=resolve)) as client:
                    named = parse_url(f"http://upstream.test:{origin.port}")[0]
                    assert await (await client.send(post(named))).read() == b"ok"

    run(main())


def test_connecting_takes_bounded_time(run) -> None:
    """A name server or a TLS peer that never answers ends in a `connect` error."""

    async def main() -> None:
        async def never(host: str, port: int) -> list[tuple[socket.AddressFamily, object]]:
            await asyncio.get_running_loop().create_future()
            return []

        async with closing(HttpClient(connect_timeout=SOON, resolve=never)) as client:
            with pytest.raises(TransportError, match="within") as caught:
                await client.send(post(parse_url("http://name.invalid")[0]))
            assert caught.value.phase == "connect"

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with Upstream(mute).listen() as origin, closing(HttpClient(connect_timeout=SOON)) as client:
            with pytest.raises(TransportError) as caught:
                await client.send(post(parse_url(f"https://127.0.0.1:{origin.port}")[0]))
            assert (caught.value.phase, caught.value.sent) == ("connect", False)

    run(main())


def test_an_answer_before_the_whole_request_was_read(run) -> None:
    """An upstream that refuses a large request early is heard, and its connection is not used again."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            await gone.wait()

        gone = asyncio.Event()
        upstream = Upstream(serve)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            for count in (1, 2):
                response = await client.send(post(origin, b"x" * 30_000_000))
                assert (response.status, await response.read()) == (413, b"big")
                assert upstream.connections == count
            gone.set()

    run(main())


# -------------------------------------------------------------------------------- leaving early


@pytest.mark.parametrize("answer", [b"", CHUNKED + b"1\r\na\r\n"], ids=["before-the-answer", "inside-it"])
def test_cancelling_the_caller_closes_the_connection(run, answer: bytes) -> None:
    """When the task that waits is cancelled, the upstream sees the connection close, and the next request gets a new one."""

    async def main() -> None:
        upstream = silent_after(answer)
        async with upstream.listen() as origin, closing(HttpClient()) as client:

            async def call() -> None:
                response = await client.send(post(origin, stream=True, deadline=None))
                while True:
                    await response.next()

            task = asyncio.create_task(call())
            while not upstream.requests:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(30):
                await upstream.left.wait()

    run(main())


def test_closing_an_answer(run) -> None:
    """An unfinished answer takes its connection with it; a finished one has given it back; closing twice is harmless."""

    async def main() -> None:
        upstream = silent_after(CHUNKED + b"1\r\na\r\n")
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin, stream=True))
            await response.close()
            await response.close()
            await upstream.left.wait()
            with pytest.raises(TransportError, match="caller closed"):
                await response.next()
        upstream = Upstream()
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            for _ in range(3):
                response = await client.send(post(origin, stream=True))
                assert await response.read() == b"ok"
                await response.close()
            assert upstream.connections == 1

    run(main())


def test_a_slow_reader_holds_the_upstream_back(run) -> None:
    """While nobody reads, a bounded part of a large answer is taken from the upstream; all of it comes once somebody does."""
    total = 64 * 1024 * 1024

    async def main() -> None:
        sent = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await upstream.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            while sent < total:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()

        upstream = Upstream(serve)
        async with upstream.listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin, stream=True))
            quiet, before = 0, -1
            while quiet < 1000:
                await asyncio.sleep(0)
                quiet, before = (quiet + 1, before) if sent == before else (0, sent)
            assert sent < total / 2
            got = largest = 0
            while piece := await response.next():
                got += len(piece)
                largest = max(largest, len(piece))
            assert (got, sent) == (total, total)
            assert largest < 1024 * 1024

    run(main())


def test_a_stream_may_be_read_whole_within_a_limit(run) -> None:
    """`read` gives the rest of a stream, also after pieces of it, and stops at its limit."""

    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000
        async with Upstream(answer=answer).listen() as origin, closing(HttpClient()) as client:
            response = await client.send(post(origin, stream=True))
            first = await response.next()
            assert len(first) + len(await response.read()) == 2_000_000
            for stream in (True, False):
                response = await client.send(post(origin, stream=stream))
                with pytest.raises(TransportError, match="longer than 1000 bytes") as caught:
                    await response.read(1000)
                assert caught.value.phase == "body_limit"

    run(main())


# -------------------------------------------------------------------------------- TLS, Unix sockets, names


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority, a certificate of it for `localhost`, and a self-signed one."""
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test authority",
        "-days",
        "2",
    )
    openssl("req", *key, "-keyout", "good.key", "-out", "good.csr", "-subj", "/CN=upstream")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    openssl(
        "x509",
        "-req",
        "-in",
        "good.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "good.pem",
    )
    openssl(
        "req", "-x509", *key, "-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=x", "-days", "2",
        "-addext", "subjectAltName=DNS:localhost",
    )  # fmt: skip
    return folder


def server_side(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def test_https_with_a_verified_certificate(run, authority: Path) -> None:
    """Over TLS answers and streams work, the connection is kept, and the server is told the name that is meant."""

    async def main() -> None:
        names: list[str | None] = []
        context = server_side(authority, "good")
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        upstream = Upstream(answer=CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n")
        async with (
            upstream.listen(context) as origin,
            closing(HttpClient(ca_file=str(authority / "ca.pem"))) as client,
        ):
            for stream in (False, True, True):
                response = await client.send(post(origin, b"y" * 100_000, stream=stream))
                assert len(b"".join([piece async for piece in response.chunks()])) == 100_000
            assert (upstream.connections, names) == (1, ["localhost"])

    run(main())


@pytest.mark.parametrize(
    ("certificate", "trusted", "host"),
    [("good", True, "127.0.0.1"), ("good", False, "localhost"), ("self", True, "localhost")],
    ids=["wrong-name", "unknown-authority", "self-signed"],
)
def test_certificates_that_do_not_verify_are_refused(
    run, authority: Path, certificate: str, trusted: bool, host: str
) -> None:
    """A wrong name, an unknown authority or a self-signed certificate ends in a `tls` error before a byte of the request."""

    async def main() -> None:
        upstream = Upstream()
        async with upstream.listen(server_side(authority, certificate)) as origin:
            async with closing(HttpClient(ca_file=str(authority / "ca.pem") if trusted else None)) as client:
                with pytest.raises(TransportError, match="certificate") as caught:
                    await client.send(post(parse_url(f"https://{host}:{origin.port}")[0]))
            assert (caught.value.phase, caught.value.sent, upstream.requests) == ("tls", False, [])

    run(main())


def test_tls_where_there_is_none(run, tmp_path: Path) -> None:
    """A server that speaks no TLS, or a CA file that cannot be read, is a `tls` error, and never a plain request."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream.requests.append(await reader.readexactly(5))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        upstream = Upstream(serve)
        async with upstream.listen() as plain:
            origin = parse_url(f"https://127.0.0.1:{plain.port}")[0]
            for ca_file in (None, str(tmp_path / "none.pem")):
                async with closing(HttpClient(ca_file=ca_file)) as client:
                    with pytest.raises(TransportError) as caught:
                        await client.send(post(origin))
                    assert (caught.value.phase, caught.value.sent) == ("tls", False)
            assert b"POST " not in upstream.requests

    run(main())


def test_unix_sockets(run, tmp_path: Path) -> None:
    """A Unix socket is an origin like any other, kept connections included."""

    async def main() -> None:
        upstream = Upstream()
        server = await asyncio.start_unix_server(upstream, tmp_path / "s")
        async with closing(HttpClient()) as client:
            origin, base = parse_url(f"unix:{tmp_path}/s")
            for _ in range(3):
                assert await (await client.send(post(origin, b"z" * 100_000))).read() == b"ok"
            assert (upstream.connections, base) == (1, b"")
            assert b"host: localhost\r\n" in upstream.requests[0]
        server.close()

    run(main())


@pytest.mark.parametrize(
    ("url", "key", "authority", "path"),
    [
        ("http://Example.com", "http://example.com:80", b"example.com", b""),
        ("https://api.example.com/v1/", "https://api.example.com:443", b"api.example.com", b"/v1"),
        (
            "http://127.0.0.1:8080/a b".replace(" ", "%20"),
            "http://127.0.0.1:8080",
            b"127.0.0.1:8080",
            b"/a%20b",
        ),
        ("http://[::1]:8080", "http://[::1]:8080", b"[::1]:8080", b""),
        ("https://bücher.example", "https://xn--bcher-kva.example:443", b"xn--bcher-kva.example", b""),
        ("unix:/run/a.sock", "unix:/run/a.sock", b"localhost", b""),
        ("unix:///run/a.sock", "unix:/run/a.sock", b"localhost", b""),
    ],
)
def test_urls_are_split_once(url: str, key: str, authority: bytes, path: bytes) -> None:
    """A base URL becomes an origin, which is one key per place, and a path to append to."""
    origin, base = parse_url(url)
    assert (origin.key, origin.authority, base) == (key, authority, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http://:80",
        "http://a b",
        "http://a\r\nx: y",
        "http://example.com:99999",
        "http://example.com:0",
        "http://example.com:x",
        "http://user:secret@example.com",
        "http://example.com/?q=1",
        "http://example.com/#f",
        "http://a..b",
        "http://" + "a" * 64,
        "http://[::1",
        "unix:relative.sock",
        "unix:",
    ],
)
def test_urls_that_name_no_place_are_refused(url: str) -> None:
    """What is no base URL is refused with a reason, and a password in it is not repeated."""
    with pytest.raises(ValueError, match=r"URL|absolute|host|[Pp]ort") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_header_blocks() -> None:
    """Header fields become bytes once; what could forge a field, or is the client's to write, is refused without its value."""
    assert (
        header_block([("Authorization", "Bearer k"), ("x-a", "ü")])
        == b"Authorization: Bearer k\r\nx-a: \xfc\r\n"
    )
    for name, value in [
        ("x-a", "secret\r\nx-b: c"),
        ("x-a", "secret\0"),
        ("x-a", " secret"),
        ("x-a", "secret€"),
        ("x a", "secret"),
        ("", "secret"),
        ("x-a:", "secret"),
        ("Host", "secret"),
        ("Content-Length", "secret"),
        ("Transfer-Encoding", "secret"),
    ]:
        with pytest.raises(ValueError, match="header") as caught:
            header_block([(name, value)])
        assert "secret" not in str(caught.value)
