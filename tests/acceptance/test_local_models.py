"""Local models for real: llama.cpp in its child process, several gateway processes, kills, broken files."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stretto.errors import LocalModelError
from stretto.pool.local import LlamaRuntime
from tests.tiny_gguf import WIDTH, tiny_gguf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for the end of processes by pidfd")

GATEWAY = """
import asyncio, sys
from pathlib import Path
from stretto.pool.local import LlamaRuntime

async def main():
    runtime = LlamaRuntime(Path(sys.argv[1]))
    await runtime.socket_for(sys.argv[2])
    print((await runtime.status()).pid, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runtime.close()

asyncio.run(main())
"""
"""Another gateway process: it needs the model, prints the id of the child, and stays until its input ends."""


def run(test: Callable[[LlamaRuntime], Coroutine[Any, Any, None]], data: Path) -> None:
    """Run a test over a fresh runtime, which is closed at the end; half a minute at most."""

    async def whole() -> None:
        runtime = LlamaRuntime(data)
        try:
            async with asyncio.timeout(30):
                await test(runtime)
        finally:
            await runtime.close()

    asyncio.run(whole())


@asynccontextmanager
async def exchange(address: str, path: str, body: object = None) -> AsyncIterator[asyncio.StreamReader]:
    """Send one request over a Unix socket; gives the reader, at the head of the answer."""
    reader, writer = await asyncio.open_unix_connection(address, limit=1 << 24)
    content = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: local\r\nconnection: close\r\ncontent-type: application/json\r\n"
    )
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    try:
        yield reader
    finally:
        writer.close()


async def answer(address: str, path: str, body: object = None) -> Any:
    """The JSON of an answer that must be a success."""
    async with exchange(address, path, body) as reader:
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), (head, content)
    return content.decode() if path == "/metrics" else json.loads(content)


def question(text: str = "hi", **more: object) -> dict[str, object]:
    """A chat request, greedy and short."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12, **more}


async def chat(runtime: LlamaRuntime, path: Path, **more: object) -> Any:
    """Ask the model once, as the pool does: a socket that refuses is forgotten and asked for again."""
    while True:
        try:
            return await answer(await runtime.socket_for(path), "/v1/chat/completions", question(**more))
        except OSError:
            runtime.forget(path)


async def child_of(runtime: LlamaRuntime) -> int:
    """The process id of the child that runs."""
    found = await runtime.status()
    assert found is not None
    return found.pid


@asynccontextmanager
async def ending(pid: int) -> AsyncIterator[Awaitable[None]]:
    """Something to await that is over when the process is; ask for it while the process lives."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, over.set)
    try:
        yield asyncio.ensure_future(over.wait())
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def gateway(data: Path, model: Path) -> tuple[asyncio.subprocess.Process, int]:
    """Another gateway process that has the model, and the id of its child."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, str(data), str(model)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def leave(process: asyncio.subprocess.Process) -> None:
    """End another gateway process in good order."""
    await process.communicate(b"")
    assert process.returncode == 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model file."""
    return tiny_gguf(tmp_path / "tiny.gguf")


def test_answers_with_everything_the_chat_wire_has(tmp_path: Path, model: Path) -> None:
    """A GGUF file answers chat with usage and log-probabilities, obeys a schema, and its prompt can be counted."""

    async def test(runtime: LlamaRuntime) -> None:
        found = await chat(runtime, model, logprobs=True, top_logprobs=2)

        choice, usage = found["choices"][0], found["usage"]
        assert choice["message"]["role"] == "assistant"
        assert usage["completion_tokens"] == len(choice["logprobs"]["content"]) == 12
        assert choice["finish_reason"] == "length"
        assert all(len(token["top_logprobs"]) == 2 for token in choice["logprobs"]["content"])
        assert found["model"] == "tiny.gguf"

        schema = {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        found = await chat(runtime, model, response_format=form, max_tokens=200)
        assert json.loads(found["choices"][0]["message"]["content"])["ok"] in (True, False)

        address = await runtime.socket_for(model)
        assert len((await answer(address, "/tokenize", {"content": "abc"}))["tokens"]) == 3
        prompt = (await answer(address, "/apply-template", question("hi")))["prompt"]
        assert prompt == "user: hi\nassistant: "

    run(test, tmp_path / "data")


def test_streams_token_by_token(tmp_path: Path, model: Path) -> None:
    """A stream brings the answer in as many deltas as tokens, then the usage, then the end."""

    async def test(runtime: LlamaRuntime) -> None:
        whole = (await chat(runtime, model))["choices"][0]["message"]["content"]
        address = await runtime.socket_for(model)
        body = question(stream=True, stream_options={"include_usage": True}, ignore_eos=True)
        async with exchange(address, "/v1/chat/completions", body) as reader:
            lines = [
                line for line in (await reader.read()).decode().splitlines() if line.startswith("data: ")
            ]

        assert lines[-1] == "data: [DONE]"
        events = [json.loads(line[6:]) for line in lines[:-1]]
        deltas = [choice["delta"].get("content") for event in events for choice in event["choices"]]
        assert "".join(filter(None, deltas)) == whole
        assert len([delta for delta in deltas if delta]) == 12
        assert events[-1]["usage"]["completion_tokens"] == 12

    run(test, tmp_path / "data")


def test_embeds_on_a_server_of_its_own(tmp_path: Path, model: Path) -> None:
    """The same file gives hidden states for the purpose `embedding`, while its text server stays as it is."""

    async def test(runtime: LlamaRuntime) -> None:
        text = await runtime.socket_for(model)
        address = await runtime.socket_for(model, purpose="embedding")
        found = await answer(address, "/v1/embeddings", {"input": ["abc", "abd"]})

        first, second = (item["embedding"] for item in found["data"])
        assert len(first) == len(second) == WIDTH
        assert first != second
        assert text != address == await runtime.socket_for(model, purpose="embedding")

    run(test, tmp_path / "data")


def test_sixteen_callers_get_the_answer_of_one(tmp_path: Path, model: Path) -> None:
    """Under load a greedy answer is the same as alone."""

    async def test(runtime: LlamaRuntime) -> None:
        texts = ("one", "two", "three", "four")
        alone = [
            (await chat(runtime, model, text=text))["choices"][0]["message"]["content"] for text in texts
        ]
        found = await asyncio.gather(*(chat(runtime, model, text=text) for text in texts * 4))
        assert [item["choices"][0]["message"]["content"] for item in found] == alone * 4

    run(test, tmp_path / "data")


def test_idle_connections_hold_nobody_up(tmp_path: Path, model: Path) -> None:
    """Connections that gateways keep open do not keep a call waiting until one of them closes."""

    async def test(runtime: LlamaRuntime) -> None:
        address = await runtime.socket_for(model)
        kept = [await asyncio.open_unix_connection(address) for _ in range(64)]
        for _, writer in kept:
            writer.write(b"GET /health HTTP/1.1\r\nhost: local\r\n\r\n")
        for reader, _ in kept:
            await reader.readuntil(b"}")
        await chat(runtime, model)
        assert not any(reader.at_eof() for reader, _ in kept)
        for _, writer in kept:
            writer.close()

    run(test, tmp_path / "data")


def test_caller_who_leaves_ends_the_generation(tmp_path: Path, model: Path) -> None:
    """When a stream's reader hangs up, llama.cpp stops writing and the slot is free."""

    async def test(runtime: LlamaRuntime) -> None:
        address = await runtime.socket_for(model)
        wanted = 1900
        body = question(stream=True, max_tokens=wanted, ignore_eos=True)
        async with exchange(address, "/v1/chat/completions", body) as reader:
            await reader.readuntil(b"\ndata: ")
        while True:
            slots = await answer(address, "/slots")
            if not any(slot["is_processing"] for slot in slots):
                break
        metrics = (await answer(address, "/metrics")).splitlines()
        written = next(
            float(line.split()[1]) for line in metrics if line.startswith("llamacpp:tokens_predicted_total ")
        )
        assert written < wanted

    run(test, tmp_path / "data")


def test_gateways_of_one_data_folder_share_one_child(tmp_path: Path, model: Path) -> None:
    """A second process uses the first one's child, and its going away does no harm."""

    async def test(runtime: LlamaRuntime) -> None:
        other, its_child = await gateway(tmp_path / "data", model)
        await chat(runtime, model)
        assert await child_of(runtime) == its_child

        async with ending(its_child) as end:
            await leave(other)
            await end
        await chat(runtime, model)
        mine = await child_of(runtime)
        assert mine != its_child

        third, its_child = await gateway(tmp_path / "data", model)
        assert its_child == mine
        await leave(third)
        assert await child_of(runtime) == mine

    run(test, tmp_path / "data")


def test_killed_child_is_replaced(tmp_path: Path, model: Path) -> None:
    """After kill -9 of the child the next call is answered, by a new one."""

    async def test(runtime: LlamaRuntime) -> None:
        before = await chat(runtime, model)
        first = await child_of(runtime)
        os.kill(first, signal.SIGKILL)
        after = await chat(runtime, model)
        assert after["choices"] == before["choices"]
        assert await child_of(runtime) != first

    run(test, tmp_path / "data")


def test_killed_owner_takes_the_child_along_and_another_takes_over(tmp_path: Path, model: Path) -> None:
    """After kill -9 of the owning gateway its child ends, and another gateway starts its own at the next need."""

    async def test(runtime: LlamaRuntime) -> None:
        owner, its_child = await gateway(tmp_path / "data", model)
        await chat(runtime, model)
        async with ending(its_child) as end:
            owner.kill()
            await end
        await owner.communicate()
        await chat(runtime, model)
        assert await child_of(runtime) != its_child

    run(test, tmp_path / "data")


def test_closing_leaves_nothing_behind(tmp_path: Path, model: Path) -> None:
    """When the owner closes, the child is gone and no socket is left."""

    async def test(runtime: LlamaRuntime) -> None:
        await chat(runtime, model)
        async with ending(await child_of(runtime)) as end:
            await runtime.close()
            await end
        assert list((tmp_path / "data" / "local").glob("*.sock")) == []

    run(test, tmp_path / "data")


def test_file_that_llama_cpp_refuses_is_an_error(tmp_path: Path, model: Path) -> None:
    """A well-formed file that is no working model is refused with llama.cpp's own reason, and the child lives on."""
    bad = tiny_gguf(tmp_path / "bad.gguf", fields={"llama.feed_forward_length": 99})

    async def test(runtime: LlamaRuntime) -> None:
        await chat(runtime, model)
        child = await child_of(runtime)
        for _ in range(2):
            with pytest.raises(LocalModelError, match=r"bad\.gguf cannot be loaded by llama\.cpp: .*ffn_"):
                await runtime.socket_for(bad)
        await chat(runtime, model)
        assert await child_of(runtime) == child

    run(test, tmp_path / "data")


def test_file_that_kills_llama_cpp_is_an_error(tmp_path: Path, model: Path) -> None:
    """A file over which llama.cpp dies costs one child; it is then refused, the others go on, and a repaired one works."""
    deadly = tiny_gguf(tmp_path / "deadly.gguf", fields={"llama.block_count": 0})

    async def test(runtime: LlamaRuntime) -> None:
        await chat(runtime, model)
        first = await child_of(runtime)
        with pytest.raises(LocalModelError, match=r"deadly\.gguf is not served: llama\.cpp dies of SIGABRT"):
            await runtime.socket_for(deadly)
        await chat(runtime, model)
        second = await child_of(runtime)
        assert second != first

        another = LlamaRuntime(tmp_path / "data")  # another process would not know it from memory either
        with pytest.raises(LocalModelError, match="dies of SIGABRT"):
            await another.socket_for(deadly)
        await another.close()
        assert await child_of(runtime) == second

        tiny_gguf(deadly)
        await chat(runtime, deadly)
        assert await child_of(runtime) == second

    run(test, tmp_path / "data")


def test_replaced_file_is_loaded_anew(tmp_path: Path, model: Path) -> None:
    """A model file that another takes the place of is served as it now is."""

    async def test(runtime: LlamaRuntime) -> None:
        before = await chat(runtime, model)
        tiny_gguf(tmp_path / "new.gguf", seed=8).replace(model)
        after = await chat(runtime, model)
        assert after["choices"] != before["choices"]

    run(test, tmp_path / "data")


def test_deadline_is_kept_and_the_load_goes_on(tmp_path: Path, model: Path) -> None:
    """Who cannot wait gets a TimeoutError; the load it began is there for the next one."""

    async def test(runtime: LlamaRuntime) -> None:
        with pytest.raises(TimeoutError, match="still being loaded"):
            await runtime.socket_for(model, deadline=asyncio.get_running_loop().time())
        await chat(runtime, model)

    run(test, tmp_path / "data")


def test_path_too_long_for_sockets(tmp_path: Path, model: Path) -> None:
    """A data folder too deep for Unix sockets works, for every gateway process."""
    data = tmp_path / ("deep" * 30) / "data"

    async def test(runtime: LlamaRuntime) -> None:
        await chat(runtime, model)
        other, its_child = await gateway(data, model)
        assert its_child == await child_of(runtime)
        await leave(other)

    run(test, data)


def test_engine_that_cannot_start_is_an_error(tmp_path: Path, model: Path) -> None:
    """When the data folder cannot be used, the caller is told, in one sentence."""
    (tmp_path / "data").write_text("not a folder")

    async def test(runtime: LlamaRuntime) -> None:
        with pytest.raises(LocalModelError, match=r"the llama\.cpp process cannot be started"):
            await runtime.socket_for(model)

    run(test, tmp_path / "data")
