"""A tiny ASGI driver: calls an application in process, as a server would, with a client that can be slow or leave."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any


class Exchange:
    """One call under way: what the client sends, what the application answered so far, and the client's own behaviour."""

    def __init__(
        self,
        app: Any,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | list[tuple[str, str]] = (),
        pieces: list[bytes] | None = None,
    ) -> None:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        path, _, query = path.partition("?")
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in pairs],
        }
        if body and not any(k == b"content-length" for k, _ in self.scope["headers"]):
            self.scope["headers"].append((b"content-length", b"%d" % len(body)))
        self._incoming = list(pieces) if pieces is not None else [body]
        self._app = app
        self._left = asyncio.Event()
        self._done = asyncio.Event()
        self.more = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.times: list[float] = []
        self.complete = False
        self.taken = 0
        self.stalls_after = -1
        self.room: asyncio.Event | None = None
        self.blocked = asyncio.Event()

    async def run(self) -> "Exchange":
        """Let the application serve the call to its end."""
        await self._app(self.scope, self._receive, self._send)
        return self

    def leave(self) -> None:
        """The client goes away."""
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if self._left.is_set():
            return {"type": "http.disconnect"}
        if self._incoming and self.taken != self.stalls_after:
            self.taken += 1
            body = self._incoming.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._incoming)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        assert not self.complete, "sent something after the end"
        if self.room is not None and not self.room.is_set():
            self.blocked.set()
            await self.room.wait()
        if message["type"] == "http.response.start":
            assert self.status == 0, "two heads"
            self.status = message["status"]
            self.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            assert self.status != 0, "a body before the head"
            if message.get("body"):
                self.chunks.append(message["body"])
                self.times.append(asyncio.get_running_loop().time())
            self.complete = not message.get("more_body", False)
        self.more.set()

    @property
    def body(self) -> bytes:
        """The whole body so far."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the body."""
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Any]:
        """The data of the body's server-sent events: JSON, or "[DONE]"."""
        found = []
        for block in self.body.decode().split("\n\n"):
            for line in block.split("\n"):
                if line.startswith("data: "):
                    data = line[6:]
                    found.append(data if data == "[DONE]" else json.loads(data))
        return found

    @property
    def text(self) -> str:
        """The content of a streamed answer, put together."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self.events
            if event != "[DONE]"
            for choice in event.get("choices", ())
        )


async def call(app: Any, method: str, path: str, body: Any = None, **headers: str) -> Exchange:
    """One call from beginning to end; `body` is JSON, or bytes. Underscores in header names stand for hyphens."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return await Exchange(
        app, method, path, raw, {name.replace("_", "-"): value for name, value in headers.items()}
    ).run()


async def until(exchange: Exchange, what: bytes) -> None:
    """Wait until the body holds `what`."""
    while what not in exchange.body:
        exchange.more.clear()
        await exchange.more.wait()
