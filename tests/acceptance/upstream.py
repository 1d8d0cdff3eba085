"""An upstream on loopback whose every answer, fault and delay is decided by a function of the test."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.unit.pool.upstream import DONE, chunk, completion

__all__ = ["Does", "Upstream", "upstream"]

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Does:
    """What it does with one request.

    `answer`: whole, with this usage. `refuse`: `status`. `cut`: half an answer, then the connection ends. `drip`: one token
    every `beat` seconds until the caller leaves. `hang`: nothing, until then. `delay` seconds pass before the first byte,
    `beat` between a stream's pieces. `message` replaces the message of a whole answer.
    """

    kind: Literal["answer", "refuse", "cut", "drip", "hang"] = "answer"
    text: str = "four"
    input: int = 7
    output: int = 3
    delay: float = 0.0
    beat: float = 0.0
    status: int = 503
    message: Mapping[str, Any] | None = None

    @property
    def usage(self) -> dict[str, int]:
        """As it is told."""
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
        }


@dataclass
class Upstream:
    """`script` says what to do with a request. `told`: what it has answered in full. `left`: when callers left drips."""

    script: Callable[[Body], Does]
    keep: bool = False
    bodies: list[Body] = field(default_factory=list)
    asked: int = 0
    told: list[Does] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    connections: dict[asyncio.StreamWriter, Any] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """For the configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections[writer] = asyncio.current_task()
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self.connections[writer]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.asked += 1
        if self.keep:
            self.bodies.append(body)
        does = self.script(body)
        if does.kind == "hang":
            await reader.read(1)
            return False
        if does.delay:
            await asyncio.sleep(does.delay)
        if does.kind == "refuse":
            refusal = json.dumps({"error": {"message": "not now", "type": "server_error"}}).encode()
            writer.write(_head(does.status, "application/json", len(refusal)) + refusal)
        elif does.kind == "drip":
            return await self._drip(reader, writer, does)
        elif body.get("stream"):
            if not await self._stream(writer, does):
                return False
        else:
            fields: dict[str, Any] = {"usage": does.usage}
            whole = completion(does.text, **fields)
            if does.message is not None:
                whole["choices"][0]["message"] = {"role": "assistant", "content": None, **does.message}
                if "tool_calls" in does.message:
                    whole["choices"][0]["finish_reason"] = "tool_calls"
            payload = json.dumps(whole).encode()
            if does.kind == "cut":
                writer.write((_head(200, "application/json", len(payload)) + payload)[: -len(payload) // 2])
                return False
            self.told.append(does)
            writer.write(_head(200, "application/json", len(payload)) + payload)
        await writer.drain()
        return True

    async def _stream(self, writer: asyncio.StreamWriter, does: Does) -> bool:
        writer.write(_head(200, "text/event-stream"))
        pieces = [chunk({"role": "assistant", "content": ""})]
        pieces += [chunk({"content": piece}) for piece in does.text.split(" ")]
        cut = len(pieces) // 2 if does.kind == "cut" else len(pieces)
        for piece in pieces[:cut]:
            if writer.is_closing():
                return False
            writer.write(_chunked(piece))
            if does.beat:
                await writer.drain()
                await asyncio.sleep(does.beat)
        if does.kind == "cut":
            return False
        self.told.append(does)
        usage = b"data: " + json.dumps({"choices": [], "usage": does.usage}).encode() + b"\n\n"
        writer.write(_chunked(chunk({}, "stop") + usage + DONE) + b"0\r\n\r\n")
        return True

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, does: Does) -> bool:
        writer.write(_head(200, "text/event-stream") + _chunked(chunk({"role": "assistant", "content": ""})))
        leaves = asyncio.ensure_future(reader.read(1))
        try:
            while not leaves.done():
                writer.write(_chunked(chunk({"content": "drop "})))
                await writer.drain()
                await asyncio.wait((leaves,), timeout=does.beat)
        finally:
            leaves.cancel()
            self.left.append(time.monotonic())
            self.leaving.set()
        return False


def _head(status: int, kind: str, length: int | None = None) -> bytes:
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{size}\r\n\r\n".encode()


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def upstream(script: Callable[[Body], Does], *, keep: bool = False) -> AsyncIterator[Upstream]:
    """A running upstream. `keep`: `bodies` holds what it was asked."""
    it = Upstream(script, keep)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, backlog=1024)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for writer in it.connections:
            writer.close()
        if it.connections:
            await asyncio.wait(it.connections.values(), timeout=5)
