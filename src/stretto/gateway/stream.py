"""One streamed answer on its way to a caller: its pieces, lines about what is being done before there are any, and keep-alives.

What is rendered is sent in that order: writers number their events.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from stretto.gateway.call import Call, Send
from stretto.gateway.errors import Problem
from stretto.gateway.settings import Settings
from stretto.types import Delta, TokenLogprob
from stretto.wire.base import StreamWriter
from stretto.wire.progress import line_of

__all__ = ["Relay", "Stream", "shown"]

_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_LIVE: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class _Lines:
    """Lines of progress that have not gone out yet. Once the answer has begun there are no more."""

    __slots__ = ("_over", "_waiting", "_writer")

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self._waiting: list[str] = []
        self._over = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, text: str) -> None:
        if not self._over:
            self._waiting.append(line_of(text))

    def taken(self) -> bytes:
        """The lines that wait, rendered; nothing if the format or the caller wants none."""
        lines, self._waiting = self._waiting, []
        return b"".join([self._writer.progress(line) for line in lines])

    def end(self) -> None:
        self._over = True
        self._waiting.clear()


class Stream:
    """One streamed answer to a call. `emit` and `tell` are the engine's; the end and failures come from the route."""

    __slots__ = (
        "_beat",
        "_call",
        "_early",
        "_first_word",
        "_last",
        "_lines",
        "_pulse",
        "_send",
        "_sending",
        "_timer",
        "_top",
        "_writer",
    )

    def __init__(
        self,
        call: Call,
        writer: StreamWriter,
        early: Sequence[tuple[bytes, bytes]],
        settings: Settings,
        top: int,
    ) -> None:
        self._call = call
        self._writer = writer
        self._early = early
        self._send: Send = call.send
        self._top = top
        self._beat = settings.beat
        self._first_word = settings.first_word
        self._lines = _Lines(writer)
        self._sending = False
        self._last = 0.0
        self._pulse: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(settings.first_beat, self._due)

    async def emit(self, deltas: Sequence[Delta]) -> None:
        """Send pieces of the answer; returns when the client's connection can take more."""
        self._sending = True
        if self._pulse is not None:
            await self.still()
        if body := self._writer.deltas(_cut(deltas, self._top)):
            self._last = asyncio.get_running_loop().time()
            self._lines.end()
            if not self._call.started:
                # uvloop puts both writes into one segment: nothing is awaited in between while the client keeps up
                await self._start(self._early)
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending = False

    def tell(self, text: str, live: bool) -> None:
        """A line about what is being done. It leaves at once if the head has left; otherwise it lets the head leave soon, unless
        the answer itself may be next (`live`): then an early failure can still be an HTTP error.
        """
        self._lines.add(text)
        if self._call.started:
            self._breathe()
        elif not live:
            loop = asyncio.get_running_loop()
            soon = loop.time() + self._first_word
            if not self._timer.cancelled() and self._timer.when() > soon:
                self._timer.cancel()
                self._timer = loop.call_at(soon, self._due)

    async def end(self, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send what completes the answer, with `headers` if the head has not left yet. `body` is rendered after `still`."""
        if not self._call.started:
            await self._start(headers)
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, problem: Problem) -> None:
        """Send the error event and end the body: nothing that a client could take for a whole answer."""
        self.quiet()
        await self.still()
        event = self._writer.error(problem.message, problem.type, problem.code, problem.param)
        await self.end(event, self._early)

    def quiet(self) -> None:
        """No more keep-alives, no more lines."""
        self._timer.cancel()
        self._lines.end()

    async def still(self) -> None:
        """Wait until what is on its way by itself is out: sends must not overtake each other."""
        pulse = self._pulse
        if pulse is not None:
            await asyncio.wait((pulse,))
            self._pulse = None
            pulse.result()

    async def _start(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._call.started = True
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": [_EVENTS, *_LIVE, *headers]}
        )

    def _due(self) -> None:
        """Time for a sign of life, unless pieces are on their way anyway."""
        loop = asyncio.get_running_loop()
        silent = self._beat if not self._call.started else loop.time() - self._last
        if silent >= self._beat:
            self._last, silent = loop.time(), 0.0
            self._breathe(alive=True)
        self._timer = loop.call_later(self._beat - silent, self._due)

    def _breathe(self, *, alive: bool = False) -> None:
        """Send the lines that wait; `alive`: a keep-alive if there are none."""
        if not self._sending and (self._pulse is None or self._pulse.done()):
            first, self._call.started = not self._call.started, True
            self._pulse = asyncio.get_running_loop().create_task(self._breath(first, alive))

    async def _breath(self, first: bool, alive: bool) -> None:
        if first:
            await self._start(self._early)
        while self._lines or alive:
            body = self._lines.taken()
            if alive and not body:
                body = self._writer.keep_alive()
            alive = False
            if body:
                self._last = asyncio.get_running_loop().time()
                await self._send({"type": "http.response.body", "body": body, "more_body": True})


class Relay:
    """One streamed answer to whoever takes its bytes: `emit` and `tell` for the engine, without head and keep-alives."""

    def __init__(self, writer: StreamWriter, send: Callable[[bytes], Awaitable[None]], top: int) -> None:
        self._writer = writer
        self._send = send
        self._top = top
        self._lines = _Lines(writer)
        self._telling: asyncio.Task[None] | None = None

    async def emit(self, deltas: Sequence[Delta]) -> None:
        """Send pieces of the answer."""
        await self.still()
        if body := self._writer.deltas(_cut(deltas, self._top)):
            await self._send(body)

    def tell(self, text: str, live: bool) -> None:
        """A line about what is being done."""
        self._lines.add(text)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._told())

    async def still(self) -> None:
        """Let lines that are on their way go out, and take no more."""
        self._lines.end()
        telling, self._telling = self._telling, None
        if telling is not None:
            await asyncio.wait((telling,))
            telling.result()

    async def _told(self) -> None:
        while self._lines:
            if body := self._lines.taken():
                await self._send(body)


def shown(logprobs: tuple[TokenLogprob, ...], top: int) -> tuple[TokenLogprob, ...]:
    """Log-probabilities with the `top` alternatives that a caller wants to see; -1: none of it."""
    if top < 0 or not logprobs:
        return ()
    return tuple(t if len(t.top) <= top else TokenLogprob(t.token, t.logprob, t.top[:top]) for t in logprobs)


def _cut(deltas: Sequence[Delta], top: int) -> Sequence[Delta]:
    """Pieces with the log-probabilities that the caller wants."""
    for delta in deltas:
        if delta.logprobs:
            return [replace(d, logprobs=shown(d.logprobs, top)) for d in deltas]
    return deltas
