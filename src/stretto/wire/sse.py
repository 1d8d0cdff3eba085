"""Server-sent events, both directions: an incremental parser for what upstreams send, and the bytes of what we send.

The format is the WHATWG HTML standard's, section 9.2 "Server-sent events". Two departures, both because model APIs do not use
what they leave out: an event's `id` is its own and is not carried over to later events, and `retry` is ignored.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DONE", "MAX_EVENT", "SseError", "SseEvent", "SseParser", "comment", "event"]

MAX_EVENT = 1024 * 1024
DONE = b"data: [DONE]\n\n"

_BOM = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The stream holds an event that is larger than the limit."""


class SseEvent(NamedTuple):
    """One event: `data` with its lines joined by a line feed, and the event's own name and id where it has them."""

    data: bytes
    name: bytes | None = None
    id: bytes | None = None


class SseParser:
    """Bytes in, in any pieces; events out, each as soon as the blank line that ends it is there.

    An event larger than `limit` bytes (as sent) raises SseError; the parser is of no use after that. What `pending` holds when
    the stream ends is an event that was cut off: the standard has it thrown away, and so must whoever counts on the end.
    """

    __slots__ = ("_kept", "_kept_size", "_limit", "_start", "_swallow_lf")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._kept: list[
            bytes
        ] = []  # the beginning of an event whose end has not come, lines ended by line feeds
        self._kept_size = 0
        self._start: bytes | None = b""  # what came so far, while that may be a part of a byte order mark
        self._swallow_lf = False  # the last byte was a carriage return, which counted as the end of the line

    @property
    def pending(self) -> bool:
        """Whether a part of an event is held back."""
        return self._kept_size > 0 or bool(self._start)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes of the stream; return the events that are whole now."""
        if self._start is not None:
            data = self._after_mark(data)
        if self._swallow_lf or data.find(b"\r") >= 0:
            data = self._with_line_feeds(data)
        if not data:
            return []
        kept = self._kept
        if kept:
            if data.find(b"\n\n") < 0 and not (data[0] == kept[-1][-1] == 10):
                self._keep(
                    data
                )  # not joined before the event's end is there: many small pieces would cost a square
                return []
            kept.append(data)
            data = b"".join(kept)
            kept.clear()
            self._kept_size = 0
        blocks = data.split(b"\n\n")
        rest = blocks.pop().lstrip(b"\n")
        if rest:
            self._keep(rest)
        events = []
        for block in blocks:
            if len(block) > self._limit and len(block.lstrip(b"\n")) > self._limit:
                raise self._too_large()
            if block.startswith(b"data: ") and block.find(b"\n") < 0:
                events.append(SseEvent(block[6:]))
            elif (event := _parse_block(block)) is not None:
                events.append(event)
        return events

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_size += len(data)
        if self._kept_size > self._limit + 1:  # one for the first line feed of the two that end it
            raise self._too_large()

    def _too_large(self) -> SseError:
        return SseError(f"the stream holds an event of more than {self._limit} bytes")

    def _after_mark(self, data: bytes) -> bytes:
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _with_line_feeds(self, data: bytes) -> bytes:
        if not data:
            return data
        ends_line = data.endswith(b"\r")
        if self._swallow_lf and data[0] == 10:
            data = data[1:]
        self._swallow_lf = ends_line
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse_block(block: bytes) -> SseEvent | None:
    """The event that the lines make; None when they hold no data (comments, an empty event)."""
    data: list[bytes] = []
    name = identity = None
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            identity = value
    return SseEvent(b"\n".join(data), name or None, identity) if data else None


def event(data: bytes, name: bytes | None = None) -> bytes:
    """The bytes of one event. ValueError when `name` holds a line break."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    if name is None:
        return b"data: %b\n\n" % data
    if b"\n" in name or b"\r" in name:
        raise ValueError(f"{name!r} is not an event name")
    return b"event: %b\ndata: %b\n\n" % (name, data)


def comment(text: bytes = b"") -> bytes:
    """The bytes of a comment, which readers skip: a keep-alive. ValueError when `text` holds a line break."""
    if b"\n" in text or b"\r" in text:
        raise ValueError("a comment is one line")
    return b": %b\n\n" % text
