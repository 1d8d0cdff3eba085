"""Responses in the background: runs that go on when their caller has left, and whose events can be read at any time.

The process that took a response on works on it, keeps its events in chunks beside it, and gives signs of life. Other processes on
the same data folder read those; a response without signs of life was lost with its process, and says so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from stretto.errors import LedgerError, RequestError, StrettoError
from stretto.gateway.errors import CLOSING, INTERNAL, Problem, of_exception
from stretto.gateway.retold import ends, last_event
from stretto.gateway.shelf import ENDED, Kept, Shelf
from stretto.wire.responses_output import unsealed
from stretto.wire.responses_stream import ResponsesStream

__all__ = ["EACH", "Background", "Play"]

_log = logging.getLogger("stretto.gateway")

Play = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[Problem | None]]
"""Plays a run to a sink, which gets the bytes of its stream; a problem if it failed."""

_AT_ONCE: Final = 64
EACH: Final = 256
"""Responses that one owner may have under way."""
_BEAT_TICKS: Final = 5
_LOST_TICKS: Final = 3 * _BEAT_TICKS
_CANCELLED: Final = Problem(409, "server_error", "cancelled", "The response was cancelled.")
_STOPPED: Final = "The gateway stopped before this response was complete."


class _Live:
    """A response that this process works on. `events` are all so far; `grown` wakes whoever reads them."""

    def __init__(self, id: str, owner: str, kept: Kept) -> None:
        self.id = id
        self.owner = owner
        self.kept = kept
        self.events: list[bytes] = []
        self.flushed = 0
        self.chunks = 0
        self.cancelled = False
        self.stopping = False
        self.ended = False
        self.grown = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def add(self, data: bytes) -> None:
        """More of the stream."""
        self.events.extend(event + b"\n\n" for event in data.split(b"\n\n") if event)
        self.wake()

    def wake(self) -> None:
        """Something has changed."""
        self.grown.set()
        self.grown = asyncio.Event()

    def cancel(self) -> None:
        """Stop it, on its owner's wish."""
        if not self.stopping:
            self.cancelled = True
        self.stop()

    def stop(self) -> None:
        """Stop it, once: what it does at its end is not to be cut short by whoever else wants it to stop."""
        if not self.stopping and self.task is not None:
            self.stopping = True
            self.task.cancel()


class Background:
    """The responses in the background of one gateway. `tick`: seconds between looks at what other processes want."""

    def __init__(self, shelf: Shelf, tick: float = 1.0) -> None:
        self._shelf = shelf
        self._tick = tick
        self._live: dict[str, _Live] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    @property
    def full(self) -> bool:
        """Whether a new response would have to wait for others."""
        return len(self._live) >= _AT_ONCE

    async def start(self, kept: Kept, owner: str, writer: Callable[[], ResponsesStream], play: Play) -> None:
        """Keep the response, and begin to work on it. `writer` gives the writer of its stream, also when there was no run.

        Raises `RequestError` (429) when its owner has enough of them under way.
        """
        if sum(live.owner == owner for live in self._live.values()) >= EACH:
            raise _Enough(f"{EACH} responses of yours are under way in the background; wait for one of them.")
        id = str(kept.response["id"])
        await self._shelf.beat(id, owner, _LOST_TICKS * self._tick)
        await self._shelf.put(kept, owner)
        live = self._live[id] = _Live(id, owner, kept)
        live.task = asyncio.create_task(self._work(live, writer, play))

    async def close(self) -> None:
        """Stop all work; what was under way has failed, and says so."""
        for live in self._live.values():
            live.stop()
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    # --- work ---

    async def _work(self, live: _Live, writer: Callable[[], ResponsesStream], play: Play) -> None:
        watch = asyncio.create_task(self._watch(live))

        async def send(data: bytes) -> None:
            live.add(data)

        problem: Problem | None = None
        try:
            async with self._room:
                if live.kept.response["status"] == "queued":
                    await self._set(live, {"status": "in_progress"})
                problem = await play(send)
        except asyncio.CancelledError:
            problem = _CANCELLED if live.cancelled else CLOSING
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
        except StrettoError as error:
            problem = of_exception(error)
        except Exception:
            # the boundary of a task that nobody awaits
            _log.exception("a response in the background failed")
            problem = INTERNAL
        live.stopping = True
        watch.cancel()
        try:
            if problem is not None:
                await self._failed(live, writer(), problem)
            await self._flush(live)
            await self._shelf.still(live.id, live.owner)
        except LedgerError as error:
            _log.error("the end of a response in the background cannot be kept: %s", error)
        finally:
            live.ended = True
            self._live.pop(live.id, None)
            live.wake()

    async def _failed(self, live: _Live, writer: ResponsesStream, problem: Problem) -> None:
        kept = await self._shelf.find(live.id, live.owner)
        if kept is not None and kept.response["status"] in ENDED:
            return  # it was complete before it was stopped
        if writer.final is None or writer.final["status"] not in ENDED:
            live.add(writer.error(problem.message, problem.type, problem.code, problem.param))
        final: Mapping[str, Any] = writer.final or {}
        changes: dict[str, Any] = {"status": "failed", "error": final.get("error"), "output": writer.kept}
        if live.cancelled:
            changes |= {"status": "cancelled", "error": None}
        await self._set(live, changes)

    async def _set(self, live: _Live, changes: Mapping[str, Any]) -> None:
        if await self._shelf.find(live.id, live.owner) is None:
            return  # it was deleted meanwhile
        kept = live.kept
        live.kept = Kept({**kept.response, **changes}, kept.input, kept.context, kept.logged)
        await self._shelf.put(live.kept, live.owner)

    async def _watch(self, live: _Live) -> None:
        """Keep what has been said, give signs of life, and look whether another process was asked to cancel."""
        ticks = 0
        while True:
            await asyncio.sleep(self._tick)
            ticks += 1
            try:
                await self._flush(live)
                if ticks % _BEAT_TICKS == 0:
                    await self._shelf.beat(live.id, live.owner, _LOST_TICKS * self._tick)
                if await self._shelf.cancel_wished(live.id, live.owner):
                    live.cancel()
                    return
            except LedgerError as error:
                _log.error("a response in the background cannot be looked after: %s", error)

    async def _flush(self, live: _Live) -> None:
        fresh = live.events[live.flushed :]
        if fresh:
            await self._shelf.log(live.id, live.owner, live.chunks, fresh)
            live.flushed += len(fresh)
            live.chunks += 1

    # --- what others ask ---

    async def look(self, id: str, owner: str) -> Kept:
        """The response as it stands. One whose process is gone has failed. Raises `ResponseNotFound`."""
        kept = await self._shelf.get(id, owner)
        if kept.response["status"] in ENDED or id in self._live or await self._shelf.lives(id, owner):
            return kept
        kept = await self._shelf.get(id, owner)  # it may have ended just now
        if kept.response["status"] in ENDED:
            return kept
        error = {"code": "server_error", "message": _STOPPED}
        lost = Kept(
            {**kept.response, "status": "failed", "error": error}, kept.input, kept.context, kept.logged
        )
        await self._shelf.put(lost, owner)
        return lost

    async def cancel(self, id: str, owner: str) -> Kept:
        """Stop the work on a response, wherever it is done, and wait until it has stopped or some ticks have passed."""
        live = self._live.get(id)
        if live is not None and live.owner == owner and live.task is not None:
            live.cancel()
            await asyncio.wait((live.task,))
            return await self.look(id, owner)
        await self._shelf.wish_cancelled(id, owner)
        for _ in range(_BEAT_TICKS):
            kept = await self.look(id, owner)
            if kept.response["status"] in ENDED:
                return kept
            await asyncio.sleep(self._tick)
        return await self.look(id, owner)

    async def forget(self, id: str, owner: str) -> None:
        """Stop the work on a response that is to be deleted."""
        if (await self.look(id, owner)).response["status"] not in ENDED:
            await self.cancel(id, owner)

    async def events(self, id: str, owner: str) -> AsyncIterator[bytes]:
        """The events of a response from its first on, until it has ended; b"" when there was none for a tick.

        One whose process died, or that was cancelled on its last step, still gets an event that ends it.
        """
        number, over = 0, False
        async for event in self._told(id, owner):
            yield event
            number += bool(event)
            over = over or ends(event)
        if not over and (kept := await self._shelf.find(id, owner)) is not None:
            shown = [unsealed(item) for item in kept.response["output"]]
            yield last_event({**kept.response, "output": shown}, number)

    async def _told(self, id: str, owner: str) -> AsyncIterator[bytes]:
        """The events that are there."""
        live = self._live.get(id)
        if live is not None and live.owner == owner:
            number = 0
            while True:
                grown = live.grown
                while number < len(live.events):
                    yield live.events[number]
                    number += 1
                if live.ended:
                    return
                try:
                    async with asyncio.timeout(self._tick):
                        await grown.wait()
                except TimeoutError:
                    yield b""
        chunk, last = 0, False
        while True:
            ended = (await self.look(id, owner)).response["status"] in ENDED
            while found := await self._shelf.logged(id, owner, chunk):
                chunk += 1
                for event in found:
                    yield event
            if ended and last:
                return
            last = ended  # its last chunk may have been on its way
            if not ended:
                await asyncio.sleep(self._tick)
                yield b""


class _Enough(RequestError):
    """This owner has its share of work in the background."""

    status = 429
    code = "background_limit_reached"
