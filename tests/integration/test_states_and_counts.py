"""Hidden states and token counts from the real llama.cpp, through the real pool and the one engine."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stretto.engine.run import Engine
from stretto.ledger.memory import MemoryStore
from stretto.policies.solo import Solo
from stretto.pool.http import HttpClient
from stretto.pool.local import LlamaRuntime
from stretto.pool.worker import Place, WorkerPool, describe
from stretto.steps import Ask, Plan
from stretto.types import Answer, Message, Reply, Request
from tests.tiny_gguf import WIDTH, tiny_gguf

ASKED = (Message("system", "Be brief."), Message("user", "What is two and two?"))


class Looks:
    """A plan that takes the hidden state of its request at a worker, and remembers the reply."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.seen: list[Reply] = []

    def plan(self, request: Request) -> Plan:
        """One ask for a state, then an answer of its own."""
        self.seen.append((yield Ask(self.worker, role="router", want="state")))
        return Answer(Message("assistant", "seen"))


Test = Callable[[Engine, WorkerPool, LlamaRuntime], Awaitable[None]]


def run(tmp_path: Path, test: Test, *more: Any) -> None:
    """A pool with the worker `tiny` from a file, and others; half a minute at most."""

    async def whole() -> None:
        local, client = LlamaRuntime(tmp_path / "data"), HttpClient()
        tiny = describe("tiny", "tiny", [Place("tiny/local", gguf=tiny_gguf(tmp_path / "tiny.gguf"))])
        pool = WorkerPool([tiny, *more], client, local=local)
        try:
            async with asyncio.timeout(30):
                await test(Engine(pool, MemoryStore()), pool, local)
        finally:
            await client.close()
            await local.close()

    asyncio.run(whole())


async def post(address: str, path: str, body: Any) -> Any:
    """One request to llama.cpp itself."""
    reader, writer = await asyncio.open_unix_connection(address, limit=1 << 24)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: l\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_state_is_that_after_the_last_token_but_one(tmp_path: Path) -> None:
    """An ask for a state brings the raw state of the templated prompt at its penultimate token, recorded and replayed."""

    async def test(engine: Engine, pool: WorkerPool, local: LlamaRuntime) -> None:
        looks = Looks("tiny")
        done = await engine.run(looks, Request(messages=ASKED))
        (reply,) = looks.seen
        assert reply.error is None
        assert (len(reply.state), reply.embeddings) == (WIDTH, ())

        address = await local.socket_for(tmp_path / "tiny.gguf", purpose="embedding")
        prompt = "system: Be brief.\nuser: What is two and two?\nassistant: "
        body = {"content": prompt, "add_special": True, "parse_special": True}
        ids = (await post(address, "/tokenize", body))["tokens"]
        bare = {"input": ids[:-1], "embd_normalize": -1}
        expected = (await post(address, "/v1/embeddings", bare))["data"][0]["embedding"]
        assert reply.state == pytest.approx(expected, abs=1e-4)
        assert reply.usage.input == len(ids) - 1

        await engine.replay(done.id, looks)
        assert looks.seen[1].state == reply.state

    run(tmp_path, test)


def test_who_shows_no_state_is_not_asked(tmp_path: Path) -> None:
    """A worker without the ability is denied at the door; one that is elsewhere fails without a call, whatever it claims."""
    far = describe("far", "m", [Place("far", "http://127.0.0.1:9/v1")])
    liar = describe(
        "liar", "m", [Place("liar", "http://127.0.0.1:9/v1")], abilities=frozenset({"text", "state"})
    )

    async def test(engine: Engine, pool: WorkerPool, local: LlamaRuntime) -> None:
        for worker, kind, says in (
            ("far", "denied", "cannot do state"),
            ("liar", "bad_request", "local models"),
        ):
            looks = Looks(worker)
            await engine.run(looks, Request(messages=ASKED))
            error = looks.seen[0].error
            assert error is not None
            assert error.kind == kind
            assert says in error.message

    run(tmp_path, test, far, liar)


def test_a_local_count_is_what_the_model_reads(tmp_path: Path) -> None:
    """The count of a request is exactly the input tokens that llama.cpp bills for it."""

    async def test(engine: Engine, pool: WorkerPool, local: LlamaRuntime) -> None:
        request = Request(messages=ASKED, max_tokens=1)
        done = await engine.run(Solo("tiny"), request)  # loads it, too: a count does not wait long for that
        counted = await engine.count(Solo("tiny"), request)
        assert counted.exact
        assert counted.tokens == done.usage.input > 0

    run(tmp_path, test)


def test_a_count_that_nobody_tells_is_an_estimate(tmp_path: Path) -> None:
    """Where there is no tokeniser, or none that answers, the count errs high and says that it is an estimate."""
    far = describe("far", "m", [Place("far", "http://127.0.0.1:9/v1")])
    dead = describe("dead", "m", [Place("dead", "http://127.0.0.1:9/v1")], labels={"vendor": "llamacpp"})

    async def test(engine: Engine, pool: WorkerPool, local: LlamaRuntime) -> None:
        for worker in ("far", "dead", "nobody"):
            counted = await pool.count(Ask(worker, ASKED))
            assert not counted.exact
            assert counted.tokens == (
                0 if worker == "nobody" else pool.quote(Ask(worker, ASKED)).input_tokens
            )

    run(tmp_path, test, far, dead)


def test_abilities_follow_from_the_file(tmp_path: Path) -> None:
    """A model file that was made for embeddings embeds, any other writes text and shows its states."""
    text = describe("t", "t", [Place("t", gguf=tiny_gguf(tmp_path / "t.gguf"))])
    made = tiny_gguf(tmp_path / "e.gguf", fields={"llama.pooling_type": 1})
    vectors = describe("e", "e", [Place("e", gguf=made)])
    missing = describe("m", "m", [Place("m", gguf=tmp_path / "none.gguf")])
    assert {"text", "state", "tokens"} <= text.card.abilities
    assert "embedding" not in text.card.abilities
    assert vectors.card.abilities == {"embedding", "tokens"}
    assert "text" in missing.card.abilities


def test_room_is_a_matter_of_the_models_own_count(tmp_path: Path) -> None:
    """One word of many tokens. A model that is loaded counts, and is not asked; one that is not is not loaded for a count;
    what llama.cpp itself refuses is the same failure, with its numbers.
    """
    file = tmp_path / "tiny.gguf"
    short = describe("short", "tiny", [Place("short/local", gguf=file)], context=64)

    async def test(engine: Engine, pool: WorkerPool, local: LlamaRuntime) -> None:
        long = Request(messages=(Message("user", "x" * 100),), max_tokens=4)
        ask = Ask("short", speaks=True).bound(long, "")
        assert not (await pool.count(ask, warm=True)).exact
        assert (await engine.run(Solo("short"), Request(messages=ASKED, max_tokens=4))).answer.error is None
        assert (await pool.count(ask, warm=True)).exact
        done = await engine.run(Solo("short"), long)
        assert (done.answer.error is not None, done.calls) == (True, 0)
        assert "123 tokens > 64 maximum" in str(done.answer.error)
        done = await engine.run(
            Solo("tiny"), Request(messages=(Message("user", "x" * 20_000),), max_tokens=4)
        )
        assert (done.answer.error is not None, done.calls) == (True, 1)
        assert "too_long" in str(done.answer.error)
        assert "20023 tokens > 2048 maximum" in str(done.answer.error)

    run(tmp_path, test, short)
