"""Anthropic Messages towards callers: one streamed answer as events, and errors in this format's words."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.types import NO_USAGE, Answer, Delta, Part, Thought, Usage
from stretto.wire.messages_parts import (
    ANSWERED,
    OWN,
    PROGRESS,
    REASONING,
    Showing,
    render_part,
    render_thought,
    render_usage,
    shows,
    stop_of,
)
from stretto.wire.seals import closed

__all__ = ["MessagesStream", "render_error"]

_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


class MessagesStream:
    """Renders one answer as Messages events: blocks numbered from 0, one open at a time.

    The deltas are taken as `StreamReader` gives them: tool calls numbered from 0, id and name once. `showing`: what the caller
    wants to see of reasoning, `tells`: whether of progress. Calls whose pieces come mixed are sent one after the other.
    """

    __slots__ = (
        "_arguments",
        "_call",
        "_id",
        "_index",
        "_kind",
        "_model",
        "_showing",
        "_shown",
        "_started",
        "_tells",
        "_waiting",
    )

    def __init__(self, id: str, model: str, showing: Showing = "no", tells: bool = False) -> None:
        self._id = id
        self._model = model
        self._showing = showing
        self._tells = tells
        self._started = False
        self._index = -1
        self._kind = ""  # of the open block: text, reasoning, progress, call, or "" for none
        self._shown: list[str] = []  # what the open block of reasoning has said
        self._call = -1  # the number of the open tool call
        self._arguments: list[str] = []
        self._waiting: list[tuple[int, str, str, str]] = []  # pieces of calls whose turn has not come

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """The events that these pieces make."""
        out: list[bytes] = []
        for delta in deltas:
            thoughts = [thought for thought in delta.thoughts if shows(thought, self._showing)]
            if delta.reasoning and not thoughts:
                self._reason(delta.reasoning, out)
            for thought in thoughts:
                self._seal(thought, out)
            for part in delta.parts:
                self._raw(part, out)
            if delta.text or delta.refusal:
                self._open("text", {"type": "text", "text": ""}, out)
                self._piece({"type": "text_delta", "text": delta.text + delta.refusal}, out)
            for fragment in delta.tool_calls:
                self._call_piece(fragment, out)
        return b"".join(out)

    def end(
        self, answer: Answer, usage: Usage, served: Usage, stretto: Mapping[str, Any] | None = None
    ) -> bytes:
        """What closes the open block, `message_delta` with the stop reason, usage and the `stretto` block, and `message_stop`."""
        out: list[bytes] = []
        self._start(out)
        while self._waiting:
            self._next_call(out)
        self._close(out)
        reason, sequence = stop_of(answer.finish, answer.message)
        last: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": render_usage(usage, served),
        }
        if stretto is not None:
            last["stretto"] = stretto
        out.append(_event(last))
        out.append(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        return b"".join(out)

    def error(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """An error event. It is the last thing on its stream: without `message_stop` no client takes it for a whole answer."""
        return b"event: error\ndata: " + render_error(message, type, code, param) + b"\n\n"

    def progress(self, text: str) -> bytes:
        """Thinking ahead of the answer, in a block of its own; by default only for callers who have asked to see thinking."""
        if not self._tells or not (self._kind == "progress" or self._index < 0):
            return b""
        out: list[bytes] = []
        self._open("progress", {"type": "thinking", "thinking": "", "signature": ""}, out)
        self._piece({"type": "thinking_delta", "thinking": text}, out)
        return b"".join(out)

    def keep_alive(self) -> bytes:
        """A ping; the first one after `message_start`."""
        out: list[bytes] = []
        self._start(out)
        out.append(_PING)
        return b"".join(out)

    # --- blocks ---

    def _start(self, out: list[bytes]) -> None:
        if self._started:
            return
        self._started = True
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": render_usage(NO_USAGE, NO_USAGE),
        }
        out.append(_event({"type": "message_start", "message": message}))

    def _open(self, kind: str, block: Mapping[str, Any], out: list[bytes]) -> None:
        """Open a block, unless one of this kind is open."""
        if self._kind == kind:
            return
        self._start(out)
        while self._waiting:
            self._next_call(out)
        self._close(out)
        self._index += 1
        self._kind = kind
        out.append(_event({"type": "content_block_start", "index": self._index, "content_block": block}))

    def _piece(self, delta: Mapping[str, Any], out: list[bytes]) -> None:
        out.append(_event({"type": "content_block_delta", "index": self._index, "delta": delta}))

    def _close(self, out: list[bytes], signature: str = "") -> None:
        if not self._kind:
            return
        if self._kind in ("reasoning", "progress"):
            signature = signature or (PROGRESS if self._kind == "progress" else REASONING)
            self._piece({"type": "signature_delta", "signature": signature}, out)
        self._kind = ""
        self._shown.clear()
        out.append(_event({"type": "content_block_stop", "index": self._index}))

    # --- reasoning ---

    def _reason(self, text: str, out: list[bytes]) -> None:
        """Reasoning on its way. Whether it will be sealed is known at its end only."""
        if self._showing == "yes":
            self._open("reasoning", {"type": "thinking", "thinking": "", "signature": ""}, out)
            self._shown.append(text)
            self._piece({"type": "thinking_delta", "thinking": text}, out)

    def _seal(self, thought: Thought, out: list[bytes]) -> None:
        """The end of a block of reasoning: what of it has not been shown yet, and its seal."""
        seal = closed(thought, OWN)
        block = render_thought(thought, seal, thought.wire == OWN or self._showing == "yes")
        if block["type"] == "redacted_thinking":
            self._open("redacted", block, out)
            self._close(out)
            return
        text, shown = block["thinking"], "".join(self._shown)
        if not text.startswith(shown):
            self._close(out)
            shown = ""
        self._open("reasoning", {"type": "thinking", "thinking": "", "signature": ""}, out)
        if len(text) > len(shown):
            self._piece({"type": "thinking_delta", "thinking": text[len(shown) :]}, out)
        self._close(out, seal)

    def _raw(self, part: Part, out: list[bytes]) -> None:
        """A block that is sent in one piece."""
        if ANSWERED.fullmatch(part.kind) and (block := render_part(part, True)) is not None:
            self._open("raw", block, out)
            self._close(out)

    # --- tool calls ---

    def _call_piece(self, fragment: tuple[int, str, str, str], out: list[bytes]) -> None:
        index, id_, _, arguments = fragment
        if self._kind == "call" and index == self._call:
            if arguments:
                self._arguments.append(arguments)
                self._piece({"type": "input_json_delta", "partial_json": arguments}, out)
        elif id_ or any(each[0] == index for each in self._waiting):
            self._waiting.append(fragment)
        while self._waiting and (self._kind != "call" or _whole("".join(self._arguments))):
            self._next_call(out)

    def _begin_call(self, fragment: tuple[int, str, str, str], out: list[bytes]) -> None:
        index, id_, name, arguments = fragment
        self._start(out)
        self._close(out)
        self._index += 1
        self._kind, self._call = "call", index
        self._arguments = [arguments]
        block = {"type": "tool_use", "id": id_, "name": name, "input": {}}
        out.append(_event({"type": "content_block_start", "index": self._index, "content_block": block}))
        if arguments:
            self._piece({"type": "input_json_delta", "partial_json": arguments}, out)

    def _next_call(self, out: list[bytes]) -> None:
        """The call that has waited longest, as far as it has come."""
        index, id_, name, _ = self._waiting[0]
        whole = "".join(arguments for each, _, _, arguments in self._waiting if each == index)
        self._waiting = [fragment for fragment in self._waiting if fragment[0] != index]
        self._begin_call((index, id_, name, whole), out)


def _whole(arguments: str) -> bool:
    """Whether a call's arguments are complete: then no piece of it can follow."""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _event(value: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), orjson.dumps(value))


# --- errors ------------------------------------------------------------------------------------------------------

_BY_CODE: Final = {
    "model_not_found": "not_found_error",
    "unknown_url": "not_found_error",
    "run_not_found": "not_found_error",
    "request_too_large": "request_too_large",
    "upstream_overloaded": "overloaded_error",
    "upstream_unavailable": "overloaded_error",
    "ledger_unavailable": "overloaded_error",
    "shutting_down": "overloaded_error",
    "timeout": "timeout_error",
}
_BY_TYPE: Final = {"server_error": "api_error", "insufficient_quota": "rate_limit_error"}


def render_error(message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
    """The body of an error, in Anthropic's shape; our own `code` and `param` beside."""
    kind = _BY_CODE.get(code or "") or _BY_TYPE.get(type, type)
    error = {"type": kind, "message": message, "code": code, "param": param}
    return orjson.dumps({"type": "error", "error": error})
