"""One attempt against a real socket: every fault of the table, streaming or not, becomes the failure it is."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stretto.errors import LocalModelError
from stretto.pool.attempt import Timeouts
from stretto.pool.http import HttpClient
from stretto.pool.worker import Place, Worker, WorkerPool
from stretto.steps import Ask, Outcome, Tally
from stretto.types import Card, Delta, Message, Price, Usage
from tests.unit.pool.upstream import (
    DONE,
    PIECES,
    USAGE,
    WHOLE,
    Says,
    Upstream,
    answer,
    chunk,
    completion,
    stream,
    upstream,
)

ASK = Ask("w", (Message("user", "What is two and two?"),), speaks=True, max_tokens=64)
KEY = "top-secret-value-1234"
SOON = Timeouts(first_byte=0.08, idle=0.08, whole=0.08)


def worker(*places: Place, **fields: Any) -> Worker:
    abilities = frozenset({"text", "tools", "json", "logprobs"})
    return Worker("w", "up-1", places, Card("w", Price.per_million(1, 2), abilities=abilities), **fields)


@contextlib.asynccontextmanager
async def pool_at(
    base_url: str, clock: Callable[[], float] = time.monotonic, **fields: Any
) -> AsyncIterator[WorkerPool]:
    client = HttpClient()
    try:
        yield WorkerPool([worker(Place("here", base_url, KEY), **fields)], client, clock=clock)
    finally:
        await client.close()


async def attempt(
    pool: WorkerPool, ask: Ask = ASK, *, live: bool = False, deadline: float | None = None
) -> tuple[Outcome, str, Tally]:
    """The outcome of one attempt, the text that was emitted, and the tally."""
    tally, seen = Tally(), list[Delta]()

    async def emit(deltas: Sequence[Delta]) -> None:
        seen.extend(deltas)

    endpoint = pool.candidates(ask).endpoints[0]
    outcome = await pool.attempt(ask, endpoint, deadline=deadline, tally=tally, emit=emit if live else None)
    return outcome, "".join(delta.text for delta in seen), tally


def once(
    says: Says, *, live: bool = False, ask: Ask = ASK, **fields: Any
) -> tuple[Outcome, str, Tally, Upstream]:
    """One attempt at an upstream that says this."""

    async def run() -> tuple[Outcome, str, Tally, Upstream]:
        async with upstream(says) as server, pool_at(server.base_url, **fields) as pool:
            return *await attempt(pool, ask, live=live), server

    return asyncio.run(run())


def test_whole_answer() -> None:
    """A whole answer brings message, finish, true usage and the upstream's model name."""
    outcome, _, tally, server = once(answer(completion()))
    assert outcome.error is None
    assert (outcome.message.text, outcome.finish, outcome.model) == ("four", "stop", "upstream-model")
    assert outcome.usage == tally.usage == Usage(7, 3)
    assert not tally.emitted
    head = server.requests[0].split(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert b"authorization: bearer " + KEY.encode() in head
    assert server.bodies[0] == {
        "model": "up-1",
        "messages": [{"role": "user", "content": "What is two and two?"}],
        "max_tokens": 64,
    }


def test_streamed_answer() -> None:
    """A streamed answer is passed on piece by piece and comes to the same message, with the usage of its last event."""
    outcome, text, tally, server = once(stream(WHOLE), live=True)
    assert outcome.error is None
    assert (text, outcome.message.text, outcome.finish) == ("four", "four", "stop")
    assert outcome.usage == tally.usage == Usage(7, 2)
    assert tally.emitted
    assert outcome.first_byte is not None
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


def test_connection_is_used_again() -> None:
    """Whole and streamed answers leave their connection open for the next call."""

    async def run() -> int:
        script = (answer(completion()), stream(WHOLE), answer(completion()))
        async with upstream(*script) as server, pool_at(server.base_url) as pool:
            for live in (False, True, False):
                outcome, _, _ = await attempt(pool, live=live)
                assert outcome.error is None
            return server.connections

    assert asyncio.run(run()) == 1


def test_server_that_does_not_stream() -> None:
    """A server that answers whole although it was asked to stream is understood."""
    outcome, text, _, _ = once(answer(completion()), live=True)
    assert outcome.error is None
    assert text == "four"


HTML = b"<!doctype html><title>Welcome</title>"
PLAIN_500 = answer(b"oops", 500, "text/plain")
REFUSED = {"error": {"message": f"bad key {KEY}", "type": "invalid_request_error"}}
LONG = {"error": {"message": "prompt is too long: 9 tokens > 8 maximum", "code": "context_length_exceeded"}}
OVER = {"error": {"message": "slow down", "code": 429}}

# what the upstream says, what it is, whether to try again, whether it counts as used
FAULTS: dict[str, tuple[Says, str, bool, bool]] = {
    "429": (answer({"error": {"message": "slow down"}}, 429), "rate_limited", True, False),
    "500": (PLAIN_500, "upstream_error", True, False),
    "502": (answer(HTML, 502, "text/html"), "upstream_error", True, False),
    "503": (answer({}, 503), "overloaded", True, False),
    "504": (answer({}, 504), "timeout", True, False),
    "529": (answer({}, 529), "overloaded", True, False),
    "400": (answer({"error": {"message": "no such parameter"}}, 400), "bad_request", False, False),
    "too-long": (answer(LONG, 400), "too_long", False, False),
    "too-long-500": (answer(LONG, 500), "too_long", False, False),
    "too-long-inside": (answer(LONG), "too_long", False, True),
    "401": (answer(REFUSED, 401), "upstream_auth", False, False),
    "403": (answer(REFUSED, 403), "upstream_auth", False, False),
    "404": (answer({"error": {"message": "no such model"}}, 404), "upstream_error", False, False),
    "422": (answer({"detail": [1]}, 422), "bad_request", False, False),
    "redirect": (answer(b"", 302, location="http://127.0.0.1:1/"), "protocol", False, False),
    "html": (answer(HTML, 200, "text/html; charset=utf-8"), "protocol", True, False),
    "bad-json": (answer(b'{"choices": [{"mess'), "protocol", True, True),
    "json-list": (answer(b"[1]"), "protocol", True, True),
    "deep-json": (answer(b"[" * 5000 + b"]" * 5000), "protocol", True, True),
    "huge": (answer(b" " * (64 * 1024 * 1024 + 1)), "protocol", True, True),
    "no-choices": (answer(completion(choices=[])), "empty", True, True),
    "null-choices": (answer(completion(choices=None)), "empty", True, True),
    "no-content": (answer(completion("")), "empty", False, True),
    "no-content-for-length": (answer(completion("", "length")), "empty", False, True),
    "error-inside": (answer({"error": {"message": "broke"}}), "upstream_error", True, True),
    "rate-limit-inside": (answer(OVER), "rate_limited", True, True),
    "body-cut": (Says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "close"), "cut", True, True),
    "reset": (Says(b"", "reset"), "unavailable", True, False),
    "garbage": (Says(b"SMTP ready\r\n\r\n", "close"), "protocol", True, True),
    "silent": (Says(b"", "hang"), "timeout", True, True),
    "stall-in-body": (
        Says(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "hang"),
        "timeout",
        True,
        True,
    ),
}
STREAM_FAULTS: dict[str, tuple[Says, str, bool, bool]] = {
    **{
        name: FAULTS[name]
        for name in ("429", "500", "401", "400", "redirect", "reset", "silent", "no-choices")
    },
    "html": (answer(HTML, 200, "text/html"), "protocol", True, False),
    "clean-end": (stream(PIECES), "cut", False, True),
    "clean-end-at-once": (stream(b""), "cut", True, True),
    "done-without-finish": (stream(PIECES + DONE), "cut", False, True),
    "truncated": (stream(PIECES, "close", ended=False), "cut", False, True),
    "reset-midway": (stream(PIECES, "reset", ended=False), "cut", False, True),
    "stall": (stream(PIECES, "hang", ended=False), "timeout", False, True),
    "stall-at-once": (stream(b"", "hang", ended=False), "timeout", True, True),
    "error-event": (stream(b'data: {"error": {"message": "broke"}}\n\n'), "upstream_error", True, True),
    "error-event-429": (
        stream(b'data: {"error": {"code": 429, "message": "x"}}\n\n'),
        "rate_limited",
        True,
        True,
    ),
    "finish-error": (stream(chunk({}, "error")), "upstream_error", True, True),
    "bad-event": (stream(b"data: {nonsense\n\n"), "protocol", True, True),
    "huge-event": (stream(b"data: " + b"x" * 1_200_000 + b"\n\n"), "protocol", True, True),
    "nothing-said": (stream(chunk({}, "stop") + DONE), "empty", False, True),
    "no-events": (stream(DONE), "cut", True, True),
}


def check(case: tuple[Says, str, bool, bool], live: bool) -> Outcome:
    says, kind, retryable, used = case
    outcome, text, tally, _ = once(says, live=live, timeouts=SOON)
    assert outcome.error is not None
    assert outcome.error.kind == kind, outcome.error
    assert outcome.retryable == retryable
    assert tally.usage == outcome.usage
    assert (outcome.usage.input > 0) == used
    assert tally.emitted == bool(text)
    assert not live or outcome.message.text in (text, "four")
    for secret in (KEY, "<title>", "127.0.0.1"):
        assert secret not in outcome.error.message
    assert outcome.error.message.startswith("here: ")
    assert len(outcome.error.message) < 400
    return outcome


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    """A fault of a whole answer has its kind, its verdict on retrying, and is counted as used only if work was done."""
    outcome = check(FAULTS[name], live=False)
    if name.isdecimal():
        assert outcome.error is not None
        assert outcome.error.status == int(name)


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_fault_of_a_stream(name: str) -> None:
    """A fault of a stream is told apart from its end, and is not retried once something was passed on."""
    check(STREAM_FAULTS[name], live=True)


def test_error_after_text_in_one_read() -> None:
    """When text and an error arrive together, the text is held back so that another endpoint can still answer."""
    says = stream(PIECES + b'data: {"error": {"message": "broke"}}\n\n')
    outcome, text, tally, _ = once(says, live=True)
    assert (text, tally.emitted, outcome.retryable) == ("", False, True)


def test_refused_connection() -> None:
    """A closed port is unavailable, worth a try elsewhere, and costs nothing."""

    async def run() -> tuple[Outcome, str, Tally]:
        async with upstream(answer(completion())) as server:
            url = server.base_url
        async with pool_at(url) as pool:
            return await attempt(pool)

    outcome, _, tally = asyncio.run(run())
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable, tally.usage) == ("unavailable", True, Usage())
    assert "127.0.0.1" not in outcome.error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "Fri, 20 Nov 2026 12:00:09 GMT", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 9.0),
        ({"retry_after": "Fri, 20 Nov 2026 11:00:00 GMT", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "9" * 400}, 86400.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """`Retry-After` is read as seconds or as a date, which counts from the answer's own date."""
    outcome, _, _, _ = once(answer({}, 429, **headers))
    assert outcome.error is not None
    assert outcome.error.retry_after == seconds


def test_usage_that_the_stream_did_not_tell() -> None:
    """Without usage it is estimated from the text, and says so; never above what was allowed."""
    says = stream(PIECES + chunk({}, "stop") + DONE)
    outcome, _, _, _ = once(says, live=True, ask=Ask("w", ASK.messages, max_tokens=2))
    assert outcome.error is None
    assert outcome.usage.estimated
    assert outcome.usage.output == 2
    assert outcome.usage.input >= 7


def test_finish_makes_it_complete() -> None:
    """A stream that said why it finished is complete, even if the connection breaks before the usage comes."""
    outcome, text, _, _ = once(stream(PIECES + chunk({}, "stop"), "reset", ended=False), live=True)
    assert outcome.error is None
    assert (text, outcome.finish, outcome.usage.estimated) == ("four", "stop", True)


@pytest.mark.parametrize("then", ["hang", "close"])
def test_upstream_that_lingers_after_done(then: Any) -> None:
    """An upstream that does not end its body after `[DONE]` does not keep the answer back."""
    outcome, _, _, server = once(stream(WHOLE, then, ended=False), live=True)
    assert outcome.error is None
    assert server.gone.is_set() or then == "hang"


def test_content_filter_is_final() -> None:
    """An answer that a content filter stopped is no failure, even without text."""
    outcome, _, _, _ = once(answer(completion("", "content_filter")))
    assert outcome.error is None
    assert outcome.finish == "content_filter"


def test_deadline() -> None:
    """The deadline of the run ends the attempt; there is no use in trying again."""

    async def run() -> Outcome:
        async with upstream(Says(b"", "hang")) as server, pool_at(server.base_url) as pool:
            outcome, _, _ = await attempt(pool, deadline=asyncio.get_running_loop().time() + 0.05)
            return outcome

    outcome = asyncio.run(run())
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable) == ("timeout", False)


@pytest.mark.parametrize("live", [False, True])
def test_cancelled(live: bool) -> None:
    """A cancelled attempt closes its connection at once and leaves a true tally behind."""

    async def run() -> Tally:
        says = stream(PIECES, "hang", ended=False) if live else Says(b"", "hang")
        tally, began = Tally(), asyncio.Event()

        async def emit(deltas: Sequence[Delta]) -> None:
            began.set()

        async with upstream(says) as server, pool_at(server.base_url, clock=lambda: 7.0) as pool:
            endpoint = pool.candidates(ASK).endpoints[0]
            coroutine = pool.attempt(ASK, endpoint, deadline=None, tally=tally, emit=emit if live else None)
            task = asyncio.create_task(coroutine)
            await (began if live else server.asked).wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.gone.wait(), 5)
        return tally

    tally = asyncio.run(run())
    assert tally.usage.estimated
    assert tally.usage.input > 0
    assert tally.emitted == live
    assert (tally.usage.output > 0) == live


@pytest.mark.parametrize("how", ["leaves", "deadline"])
def test_an_answer_that_was_not_waited_for_is_not_free(how: str) -> None:
    """Whoever leaves a whole answer, or has too little time for it, pays what the worker usually writes in that time."""

    async def run() -> Usage:
        slow = answer(completion())
        async with upstream(slow, Says(b"", "hang")) as server, pool_at(server.base_url) as pool:
            await attempt(pool)
            lane = pool._lanes["w"][0]
            lane.pace.seconds, lane.pace.output = 0.001, 40.0
            tally, endpoint = Tally(), pool.candidates(ASK).endpoints[0]
            deadline = asyncio.get_running_loop().time() + 0.25
            coroutine = pool.attempt(ASK, endpoint, deadline=deadline, tally=tally, emit=None)
            if how == "deadline":
                assert (await coroutine).usage == tally.usage
                return tally.usage
            task = asyncio.create_task(coroutine)
            while len(server.requests) < 2:
                await asyncio.sleep(0)
            await asyncio.wait((task,), timeout=0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return tally.usage

    usage = asyncio.run(run())
    assert usage.estimated
    assert usage.output == ASK.max_tokens  # at most what was allowed


def test_slow_caller_slows_the_upstream() -> None:
    """Nothing more is read from an upstream while the caller has not taken what came."""

    async def run() -> tuple[int, str]:
        events = b"".join(chunk({"content": "x" * 1000}) for _ in range(1000)) + chunk({}, "stop") + DONE
        taken = 0
        gate = asyncio.Event()

        async def emit(deltas: Sequence[Delta]) -> None:
            nonlocal taken
            taken += sum(len(delta.text) for delta in deltas)
            await gate.wait()

        async with upstream(stream(events)) as server, pool_at(server.base_url) as pool:
            coroutine = pool.attempt(
                ASK, pool.candidates(ASK).endpoints[0], deadline=None, tally=Tally(), emit=emit
            )
            task = asyncio.create_task(coroutine)
            while not taken:
                await asyncio.sleep(0)
            early = taken
            gate.set()
            outcome = await task
            assert outcome.error is None
            return early, outcome.message.text

    early, text = asyncio.run(run())
    assert early < len(text) == 1_000_000


def test_embedding() -> None:
    """An ask for an embedding goes to `/embeddings` and brings a vector."""
    body = {"data": [{"embedding": [0.5, -1]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    ask = Ask("w", ASK.messages, role="embedder", want="embedding")
    outcome, _, _, server = once(answer(body), ask=ask, live=True)
    assert outcome.error is None
    assert (outcome.embeddings, outcome.usage) == (((0.5, -1.0),), Usage(5))
    assert server.requests[0].startswith(b"POST /v1/embeddings ")


def test_what_a_format_cannot_say() -> None:
    """An ask for hidden states over Chat Completions fails without a call."""
    outcome, _, _, server = once(answer(completion()), ask=Ask("w", ASK.messages, want="state"))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable, server.requests) == ("bad_request", False, [])


def test_dropped_parameters_are_named() -> None:
    """A parameter that the worker lacks is not sent, and the outcome says so."""
    ask = Ask("w", ASK.messages, params={"temperature": 0.2, "top_p": 0.5})
    outcome, _, _, server = once(answer(completion()), ask=ask, lacks=frozenset({"temperature"}))
    assert outcome.dropped == ("temperature",)
    assert server.bodies[0].keys() == {"model", "messages", "top_p"}


def test_at_most_so_many_at_once() -> None:
    """A place with a bound takes that many calls at a time; others wait, and give up at their deadline."""

    async def run() -> tuple[Outcome, Outcome, int]:
        client = HttpClient()
        async with upstream(Says(b"", "hang"), answer(completion())) as server:
            pool = WorkerPool([worker(Place("here", server.base_url, most=1))], client)
            first = asyncio.create_task(attempt(pool))
            await server.asked.wait()
            late, _, _ = await attempt(pool, deadline=asyncio.get_running_loop().time() + 0.03)
            second = asyncio.create_task(attempt(pool))
            await asyncio.sleep(0)
            seen = len(server.requests)
            first.cancel()
            outcome, _, _ = await second
            await client.close()
            return late, outcome, seen

    late, outcome, seen = asyncio.run(run())
    assert late.error is not None
    assert late.error.kind == "overloaded"
    assert outcome.error is None
    assert seen == 1


class Local:
    """Stands in for the runtime that serves local files."""

    def __init__(self, socket: Callable[[], str]) -> None:
        self.socket = socket
        self.forgotten: list[Path] = []

    async def socket_for(self, path: Path, *, purpose: str = "text", deadline: float | None = None) -> str:
        return self.socket()

    def forget(self, path: Path, *, purpose: str = "text") -> None:
        self.forgotten.append(path)


def at_file(local: Local) -> tuple[Outcome, str, Tally]:
    async def run() -> tuple[Outcome, str, Tally]:
        client = HttpClient()
        pool = WorkerPool([worker(Place("here", gguf=Path("m.gguf")))], client, local=local)
        try:
            return await attempt(pool)
        finally:
            await client.close()

    return asyncio.run(run())


def test_local_file(tmp_path: Path) -> None:
    """A worker at a file is asked over the Unix socket that the runtime names."""

    async def run() -> Outcome:
        it = Upstream((answer(completion()),))
        path = str(tmp_path / "s")
        server = await asyncio.start_unix_server(it.serve, path)
        client = HttpClient()
        pool = WorkerPool([worker(Place("here", gguf=Path("m.gguf")))], client, local=Local(lambda: path))
        outcome, _, _ = await attempt(pool)
        await client.close()
        server.close()
        assert it.requests[0].startswith(b"POST /v1/chat/completions ")
        return outcome

    assert asyncio.run(run()).error is None


def test_local_file_that_cannot_be_served() -> None:
    """A broken file is unavailable with the runtime's own words."""

    def refuse() -> str:
        raise LocalModelError("m.gguf is not a GGUF file")

    outcome, _, _ = at_file(Local(refuse))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.message) == ("unavailable", "m.gguf is not a GGUF file")
    assert not outcome.retryable


def test_local_socket_that_is_gone(tmp_path: Path) -> None:
    """When the socket refuses, the runtime is told to look again, and another attempt is worth it."""
    local = Local(lambda: str(tmp_path / "gone"))
    outcome, _, _ = at_file(local)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable) == ("unavailable", True)
    assert set(local.forgotten) == {Path("m.gguf")}


def test_local_process_that_was_replaced(tmp_path: Path) -> None:
    """A call that met the end of the model's process is sent to the next one, within the same attempt."""

    async def run() -> tuple[Outcome, int]:
        it = Upstream((Says(b"", "close"), answer(completion())))
        path = str(tmp_path / "s")
        server = await asyncio.start_unix_server(it.serve, path)
        client = HttpClient()
        sockets = iter((str(tmp_path / "gone"), path, path))
        local = Local(lambda: next(sockets))
        pool = WorkerPool([worker(Place("here", gguf=Path("m.gguf")))], client, local=local)
        outcome, _, _ = await attempt(pool)
        await client.close()
        server.close()
        return outcome, len(it.requests)

    outcome, asked = asyncio.run(run())
    assert outcome.error is None
    assert outcome.usage == Usage(7, 3)
    assert asked == 2


def test_usage_after_finish_is_waited_for() -> None:
    """Usage that comes with the finish, without `[DONE]`, is taken."""
    outcome, _, _, _ = once(stream(PIECES + chunk({}, "stop") + USAGE), live=True)
    assert outcome.error is None
    assert outcome.usage == Usage(7, 2)
