"""Real `stretto serve` processes for acceptance tests, and callers that cost next to nothing."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools
import orjson

__all__ = [
    "COMMAND",
    "Caller",
    "Lost",
    "Reply",
    "Served",
    "command",
    "free_port",
    "make_key",
    "refused",
    "served",
]

COMMAND = [sys.executable, "-c", "from stretto.cli import main; main()"]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "NO_COLOR": "1"}


class Served:
    """A gateway with a home and a data folder of its own; killed and started again at will, always on the same port."""

    def __init__(self, home: Path, config: str, *, name: str = "gateway", port: int = 0) -> None:
        self.home = home
        self.port = port or free_port()
        self.data = home / "data"
        self.config = home / f"{name}.toml"
        self.log = home / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.config.write_text(f'[server]\ndata = "data"\ngrace = 5\n\n{config}')

    @property
    def base_url(self) -> str:
        """For an OpenAI client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--config", str(self.config), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=_environ(self.home),
            )

    async def ready(self) -> float:
        """Wait until it says that it is ready; returns the seconds of waiting."""
        assert self.process is not None
        begun = time.monotonic()
        while True:
            caller = Caller(self.port)
            try:
                if (await caller.call("GET", "/health")).status == 200:
                    return time.monotonic() - begun
            except Lost:
                pass
            finally:
                caller.close()
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.told()}")
            await asyncio.sleep(0.01)

    async def started(self) -> float:
        """Start it; returns the seconds until it is ready."""
        self.start()
        return await self.ready()

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=30)

    def told(self) -> str:
        """All that it has printed, over all its lives."""
        return self.log.read_text() if self.log.exists() else ""


@contextlib.contextmanager
def served(home: Path, config: str, *, name: str = "gateway") -> Iterator[Served]:
    """A gateway that is not started yet, and is gone at the end."""
    it = Served(home, config, name=name)
    try:
        yield it
    finally:
        if it.process is not None and it.process.poll() is None:
            try:
                it.stop()
            except subprocess.TimeoutExpired:
                it.kill()
                raise


def command(gateway: Served, *arguments: str) -> Any:
    """What a `stretto` command prints as JSON about the gateway's data; it may end with 0 or 1."""
    done = _run(gateway, *arguments)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def refused(gateway: Served, *arguments: str) -> str:
    """What a `stretto` command says that cannot do what it is told."""
    done = _run(gateway, *arguments)
    assert done.returncode == 2
    return done.stderr


def _run(gateway: Served, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, *arguments, "--config", str(gateway.config), "--json"],
        capture_output=True,
        text=True,
        cwd=gateway.home,
        env=_environ(gateway.home),
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def make_key(gateway: Served, name: str, *options: str) -> tuple[str, str]:
    """A new virtual key: its id and its secret."""
    made = command(gateway, "keys", "create", name, *options)
    return made["id"], made["key"]


class Lost(Exception):
    """The connection ended before the answer did: nothing has been acknowledged."""


@dataclass(slots=True)
class Reply:
    """A whole answer over HTTP."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body, if it is one object."""
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The body, if it is a stream of server-sent events, without its `[DONE]`."""
        data = (line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: "))
        return [orjson.loads(line) for line in data if line != b"[DONE]"]

    @property
    def done(self) -> bool:
        """Whether a stream says that it is whole."""
        return b"data: [DONE]" in self.body


class Caller:
    """One caller with one connection, which it keeps."""

    def __init__(self, port: int, key: str = "") -> None:
        self.port = port
        self._key = f"authorization: Bearer {key}\r\n".encode() if key else b""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, leave_after: int | None = None
    ) -> Reply:
        """One call. With `leave_after` it hangs up after so many pieces of the stream. Raises `Lost`."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self._streams
            payload = b"" if body is None else orjson.dumps(body)
            writer.write(
                b"%b %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
                % (method.encode(), path.encode(), self._key, len(payload), payload)
            )
            answer = _Parser()
            while not answer.complete:
                if leave_after is not None and answer.pieces >= leave_after:
                    self.close()
                    return answer.reply()
                data = await reader.read(65536)
                if not data:
                    raise Lost(f"after {len(answer.body)} bytes")
                answer.feed(data)
        except OSError as error:
            self.close()
            raise Lost(str(error)) from error
        except Lost:
            self.close()
            raise
        return answer.reply()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class _Parser:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data

    @property
    def pieces(self) -> int:
        """Pieces of a stream that hold text."""
        return b"".join(self.body).count(b'"content":"drop ')

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def reply(self) -> Reply:
        """What has come."""
        status = self._parser.get_status_code() if self.headers else 0
        return Reply(status, self.headers, b"".join(self.body))
