"""A small upstream on loopback that answers as it is told, faults included."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Then = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True)
class Says:
    """What it sends for one request, and what it does then."""

    data: bytes
    then: Then = "keep"


def answer(
    body: bytes | dict[str, Any], status: int = 200, kind: str = "application/json", **headers: str
) -> Says:
    """A whole answer."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(payload)}\r\n{more}\r\n"
    return Says(head.encode() + payload)


def completion(content: str | None = "four", finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream-model",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        **fields,
    }


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    """One event of a stream."""
    raw = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "upstream-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }
    return b"data: " + json.dumps(raw).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}\n\n'
DONE = b"data: [DONE]\n\n"
PIECES = chunk({"role": "assistant", "content": ""}) + chunk({"content": "fo"}) + chunk({"content": "ur"})
WHOLE = PIECES + chunk({}, "stop") + USAGE + DONE


def stream(
    events: bytes, then: Then = "keep", *, ended: bool = True, kind: str = "text/event-stream"
) -> Says:
    """A streamed answer in chunked encoding; `ended=False` leaves out the last, empty chunk."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    body = b"%x\r\n%b\r\n" % (len(events), events) if events else b""
    return Says(head + body + (b"0\r\n\r\n" if ended else b""), then)


@dataclass
class Upstream:
    """Answers requests with `script` in turn, the last one for ever."""

    script: Sequence[Says]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    open: dict[asyncio.StreamWriter, Any] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open[writer] = asyncio.current_task()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.lower().split(b"content-length:")
                length = int(fields[1].split(b"\r\n")[0]) if len(fields) > 1 else 0
                self.requests.append(head + await reader.readexactly(length))
                self.asked.set()
                says = self.script[min(len(self.requests), len(self.script)) - 1]
                writer.write(says.data)
                await writer.drain()
                if says.then == "hang":
                    await reader.read()
                if says.then == "reset":
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if says.then != "keep":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def upstream(*script: Says) -> AsyncIterator[Upstream]:
    """A running upstream."""
    it = Upstream(script)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for writer in it.open:
            writer.close()
        if it.open:
            await asyncio.wait(it.open.values(), timeout=5)
