"""Streams of OpenAI Responses towards callers: every event with a rising number, and one that ends it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.types import Answer, Delta, Usage
from stretto.wire.base import Incoming
from stretto.wire.responses_items import ITEM, PROGRESS
from stretto.wire.responses_object import (
    failure_of,
    fusion_item,
    hex_of,
    response_object,
    shows_seals,
    status_of,
)
from stretto.wire.responses_output import Output, unsealed

__all__ = ["ResponsesStream"]

_START: Final = ("response.created", "response.in_progress")


class ResponsesStream:
    """Renders one answer as Responses events.

    Calls are closed with the end, when the answer is recorded. `final` is the response as its last event told it, `None` before;
    `kept` are its output items with all seals, for whoever stores them. `clock` gives Unix seconds.
    """

    def __init__(
        self, id: str, created: int, incoming: Incoming, clock: Callable[[], float] = time.time
    ) -> None:
        self.final: Mapping[str, Any] | None = None
        self._id = id
        self._created = created
        self._incoming = incoming
        self._clock = clock
        self._out: list[bytes] = []
        self._number = 0
        self._output = Output(hex_of(id), incoming.request.tools, self._emit, shows_seals(incoming))
        self._opening = b""
        tells, summary = incoming.options.progress, (incoming.more.get("reasoning") or {}).get("summary")
        self._tells = summary is not None if tells is None else tells

    @property
    def kept(self) -> list[Mapping[str, Any]]:
        """The output items, seals included, progress left out: that is no part of the answer."""
        return [item for item in self._output.items if not str(item["id"]).endswith(PROGRESS)]

    def _emit(self, type: str, fields: Mapping[str, Any]) -> None:
        data = orjson.dumps({"type": type, "sequence_number": self._number, **fields})
        self._out.append(b"event: %b\ndata: %b\n\n" % (type.encode(), data))
        self._number += 1

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _respond(self, status: str, **more: Any) -> dict[str, Any]:
        return response_object(self._id, self._created, self._incoming, status, **more)

    def _start(self) -> None:
        """The events that open a stream; the second of them is told again where something must be said and there is nothing."""
        if self._opening:
            return
        self._opening = orjson.dumps(self._respond("in_progress"))
        for type in _START:
            self._repeat(type)

    def _repeat(self, type: str) -> None:
        self._out.append(
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,"response":%b}\n\n'
            % (type.encode(), type.encode(), self._number, self._opening)
        )
        self._number += 1

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """The events of the pieces; nothing for none."""
        if not deltas:
            return b""
        self._start()
        output = self._output
        for delta in deltas:
            whole = bool(delta.thoughts and delta.reasoning) and any(t.text for t in delta.thoughts)
            if delta.reasoning and not whole:
                output.reasoning(delta.reasoning)
            for thought in delta.thoughts:
                output.thought(thought)
            for part in delta.parts:
                if part.kind == ITEM and part.data is not None:
                    output.raw(part.data)
            if delta.text or delta.logprobs:
                output.text(delta.text, delta.logprobs)
            if delta.refusal:
                output.refusal(delta.refusal)
            for fragment in delta.tool_calls:
                output.call(*fragment)
        return self._taken()

    def end(
        self, answer: Answer, usage: Usage, served: Usage, stretto: Mapping[str, Any] | None = None
    ) -> bytes:
        """What closes the items that are open, and `response.completed` or `response.incomplete`."""
        self._start()
        status, details = status_of(answer)
        self._output.end(answer.message, status == "incomplete")
        if (fusion := fusion_item(self._id, self._incoming, stretto)) is not None:
            self._output.raw(fusion)
        self.final = self._respond(
            status,
            output=self._shown(),
            usage=(usage, served),
            details=details,
            completed=max(self._created, int(self._clock())),
            stretto=stretto,
        )
        self._emit(f"response.{status}", {"response": self.final})
        return self._taken()

    def _shown(self) -> list[Mapping[str, Any]]:
        items = self._output.items
        return list(items) if shows_seals(self._incoming) else [unsealed(item) for item in items]

    def error(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """`error`, which SDKs raise, then `response.failed`, which agents wait for. What was under way stays as it stands."""
        self._start()
        told = {"type": type, "code": code, "message": message, "param": param}
        self._emit("error", {"code": code, "message": message, "param": param, "error": told})
        return self._taken() + self.failed(message, type, code, param)

    def failed(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """`response.failed` alone, for where `error` means a request without a response."""
        self._start()
        done = [item for item in self._shown() if item.get("status", "completed") != "in_progress"]
        self.final = self._respond("failed", output=done, error=failure_of(message, type, code, param))
        self._emit("response.failed", {"response": self.final})
        return self._taken()

    def progress(self, text: str) -> bytes:
        """A piece of a reasoning item before the answer; by default only for callers who asked for summaries of reasoning."""
        if not text or not self._tells:
            return b""
        self._start()
        self._output.progress(text)
        return self._taken()

    def keep_alive(self) -> bytes:
        """`response.in_progress` again: comments do not count for clients whose idle timer counts events."""
        if not self._opening:
            self._start()
        else:
            self._repeat(_START[1])
        return self._taken()
