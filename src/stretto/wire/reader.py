"""What the readers of every upstream's stream have in common: events until one of them is the end, or an error."""

from typing import Any

from stretto.types import Delta, Failure, FailureKind
from stretto.wire.base import bounded_json

__all__ = ["EventReader"]


class EventReader:
    """Reads the events of one stream. A format says in `take` what an event means.

    `finished`: the upstream said that the answer is complete. `done`: nothing more is taken. `error`: why it is not complete.
    """

    __slots__ = ("_retryable", "done", "error", "finished")

    def __init__(self) -> None:
        self.finished = False
        self.done = False
        self.error: Failure | None = None
        self._retryable = False

    def feed(self, data: bytes, into: list[Delta]) -> None:
        """Take one event's data; add the deltas it brings to `into`. After `done`, and after an error, nothing is taken."""
        if self.done:
            return
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = bounded_json(data)
        except ValueError as error:
            self._stop("protocol", f"an event of the stream is {error}")
            return
        if type(event) is not dict:
            self._stop("protocol", "an event of the stream is not a JSON object")
            return
        self.take(event, into)

    def take(self, event: dict[str, Any], into: list[Delta]) -> None:
        """Take one event; it may end the stream."""
        raise NotImplementedError

    def _stop(self, kind: FailureKind, text: str) -> None:
        self.error, self._retryable, self.done = Failure(kind, text), True, True
