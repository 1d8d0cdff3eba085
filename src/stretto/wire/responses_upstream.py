"""OpenAI Responses towards workers: asks out, answers and streams in.

Nothing is stored at an upstream: each request holds the whole conversation. Upstreams are trusted with nothing, see
`chat_upstream`; some leave out `output`, `output_index` or `sequence_number`, or send events of their own, which are passed over.
A stream is complete only when `response.completed` or `response.incomplete` has said so.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.types import Card, Delta, Failure, Message, Part, Thought, TokenLogprob, ToolCall, Usage
from stretto.wire.base import Completion, Question, Rendered, bounded_json
from stretto.wire.chat_parts import arguments_of, finish_reason, logprobs_of
from stretto.wire.chat_upstream import failure_inside, parse_failure
from stretto.wire.reader import EventReader
from stretto.wire.responses_fields import render_format, render_tools, usage_of
from stretto.wire.responses_items import ITEM, OWN, Turn, render_items
from stretto.wire.responses_object import SEALS
from stretto.wire.tools import joined_name, split_names

__all__ = ["ResponsesReader", "parse_failure", "parse_reply", "reader", "render_ask"]

# --- asks --------------------------------------------------------------------------------------------------------

_NO_NAMES: Final[Mapping[str, str]] = {}
_LOGPROBS: Final = "message.output_text.logprobs"
_SAMPLING: Final = frozenset({"temperature", "top_p", "top_logprobs", "parallel_tool_calls"})
"""Parameters that the format has; others go out only for callers who spoke it and sent them all the same."""


def render_ask(
    ask: Question,
    model: str,
    card: Card,
    *,
    stream: bool = False,
    lacks: frozenset[str] = frozenset(),
    renames: Mapping[str, str] = _NO_NAMES,
) -> Rendered:
    """A bound ask as the body of a request. Raises `ValueError` for what this format cannot say.

    Dropped and named: parameters in `lacks` (by their Chat Completions names) and those that this format does not have; tools,
    response formats and log-probabilities that the card's abilities do not list. The abilities `custom` (custom tools and
    namespaces), `hosted` (tools that the provider runs) and `reasoning` (takes back unsealed reasoning) are this format's own.
    `renames` are Chat Completions' and mean nothing here.
    """
    if ask.want not in ("text", "logprobs"):
        raise ValueError(f"{ask.want} cannot be had over Responses")
    able, own = card.abilities, ask.wire == OWN
    native = "custom" in able
    messages = ask.messages or ()
    body: dict[str, Any] = {"model": model, "store": False}
    first = messages[0] if messages else None
    if first is not None and first.role == "system" and isinstance(first.content, str):
        body["instructions"] = first.content
        messages = messages[1:]
    body["input"] = render_items(
        messages,
        raw=own,
        custom=native,
        reasoning="reasoning" in able,
        spaces=split_names(ask.tools),
    )
    dropped: list[str] = []
    custom: frozenset[str] = frozenset()
    wanted = dict(ask.params)
    if ask.tools:
        if "tools" in able and "tools" not in lacks:
            offer = render_tools(
                ask.tools, ask.tool_choice, native=native, hosted="hosted" in able and own, own=own
            )
            custom = offer.custom
            dropped.extend(offer.dropped)
            if offer.tools:
                body["tools"] = offer.tools
            if offer.choice is not None:
                wanted["tool_choice"] = offer.choice
        else:
            dropped.append("tools")
        if "tools" not in body:
            wanted.pop("parallel_tool_calls", None)
    if ask.max_tokens is not None:
        wanted["max_tokens"] = ask.max_tokens
    if ask.response_format is not None:
        wanted["response_format"] = ask.response_format
    if ask.want == "logprobs":
        wanted["logprobs"] = True
        wanted.setdefault("top_logprobs", 1)
    _put(body, wanted, dropped, ask, able, lacks)
    if own:
        _put_extra(body, ask.extra, dropped, lacks)
    if stream:
        body["stream"] = True
    try:
        return Rendered("/responses", orjson.dumps(body), tuple(dropped), custom)
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


def _put(
    body: dict[str, Any],
    wanted: Mapping[str, Any],
    dropped: list[str],
    ask: Question,
    able: frozenset[str],
    lacks: frozenset[str],
) -> None:
    """Parameters, each where this format has it."""
    for name, value in wanted.items():
        if (
            name in lacks
            or (name in ("logprobs", "top_logprobs") and "logprobs" not in able)
            or (name == "response_format" and "json" not in able)
            or (name == "reasoning_effort" and ask.wire == "messages" and "reasoning" not in able)
        ):
            dropped.append(name)
        elif name == "max_tokens":
            body["max_output_tokens"] = value
        elif name == "response_format":
            body.setdefault("text", {})["format"] = render_format(value)
        elif name == "verbosity":
            body.setdefault("text", {})["verbosity"] = value
        elif name == "reasoning_effort":
            body["reasoning"] = {"effort": value}
        elif name == "logprobs":
            if value:
                body["include"] = [_LOGPROBS]
        elif name in _SAMPLING or name == "tool_choice" or ask.wire == OWN:
            body[name] = value
        else:
            dropped.append(name)


def _put_extra(
    body: dict[str, Any], extra: Mapping[str, Any], dropped: list[str], lacks: frozenset[str]
) -> None:
    """What the caller said in this format beyond what we interpret."""
    for name, value in extra.items():
        if name in lacks:
            dropped.append(name)
        elif name == "include":
            body[name] = [*value, *body.get(name, ())]
        elif name in ("text", "reasoning") and isinstance(value, dict):
            body[name] = {**value, **body.get(name, {})}
        elif name not in body:
            body[name] = value
    if "reasoning" in lacks or "reasoning_effort" in lacks:
        include = [name for name in body.pop("include", ()) if name != SEALS]
        if include:
            body["include"] = include


# --- whole answers -----------------------------------------------------------------------------------------------


def parse_reply(body: bytes, want: str = "text") -> Completion:
    """The body of an answer with status 200. Never raises: what is wrong is the completion's `error`."""
    try:
        raw = bounded_json(body)
    except ValueError as error:
        return _unusable("protocol", f"the answer is {error}")
    if type(raw) is not dict:
        return _unusable("protocol", "the answer is not a JSON object")
    model = raw.get("model")
    found = Completion(usage=usage_of(raw.get("usage")), model=model if type(model) is str else "")
    status = raw.get("status")
    if raw.get("error") or status in ("failed", "cancelled"):
        return _failed(found, raw.get("error"), status)
    output = raw.get("output")
    if type(output) is not list:
        return _with_error(found, "protocol", "the answer has no output")
    if status in ("in_progress", "queued"):
        return _with_error(found, "protocol", "the answer is not complete, and was not asked for later")
    said = [
        _Item.whole(item, index)
        for index, item in enumerate(output)
        if type(item) is dict and _text(item, "type")
    ]
    return _concluded(found, said, _finish_of(raw))


def _failed(found: Completion, error: Any, status: Any) -> Completion:
    if error:
        found.error, found.retryable = failure_inside(error)
        return found
    return _with_error(found, "upstream_error", f"the upstream says that the answer is {status}")


def _finish_of(response: Mapping[str, Any]) -> str:
    """How a response ended, in Chat Completions' words."""
    if response.get("status") != "incomplete":
        return "stop"
    details = response.get("incomplete_details")
    reason = details.get("reason") if type(details) is dict else None
    return {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}.get(
        str(reason), "length"
    )


def _concluded(found: Completion, items: "list[_Item]", finish: str) -> Completion:
    """The message that the items of an ended answer make, checked."""
    found.message, found.logprobs = _message(items)
    message = found.message
    found.finish = finish_reason(finish, message)
    if message.content or message.tool_calls or message.refusal:
        return found
    if found.finish != "content_filter":
        # Not retryable: the model has said its nothing. Whether somebody else is asked is for the policy to decide.
        _with_error(found, "empty", "the answer is complete and has no content")
        found.retryable = False
    return found


def _message(items: "list[_Item]") -> tuple[Message, tuple[TokenLogprob, ...]]:
    turn = Turn()
    logprobs: list[TokenLogprob] = []
    for item in items:
        if item.kind == "message":
            turn.phase = item.phase or turn.phase
            turn.refusal += "".join(item.refusal)
            text = "".join(item.text)
            if text:
                turn.add(Part("text", text, extra={"annotations": item.notes} if item.notes else {}))
            logprobs.extend(item.logprobs)
        elif item.kind == "reasoning":
            turn.think(Thought("".join(item.text), sealed=item.seal, id=item.id, wire=OWN))
        elif item.kind in _CALLS:
            turn.call(item.call())
        elif item.raw is not None:
            turn.add(Part(ITEM, data=item.raw))
    return turn.message(), tuple(logprobs)


def _unusable(kind: Any, text: str) -> Completion:
    return Completion(error=Failure(kind, text), retryable=True)


def _with_error(found: Completion, kind: Any, text: str) -> Completion:
    found.error, found.retryable = Failure(kind, text), True
    return found


# --- items -------------------------------------------------------------------------------------------------------

_CALLS: Final = ("function_call", "custom_tool_call")
_SPOKEN: Final = frozenset({"message", "reasoning", *_CALLS})


class _Item:
    """One item of an answer, as far as it has come. `raw` is what it was at its end, of kinds that are only kept."""

    __slots__ = (
        "arguments",
        "call_id",
        "id",
        "index",
        "kind",
        "logprobs",
        "name",
        "notes",
        "number",
        "phase",
        "raw",
        "refusal",
        "seal",
        "text",
    )

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.number = -1
        self.id = ""
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.arguments: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.notes: list[Any] = []
        self.call_id = self.name = self.phase = self.seal = ""
        self.raw: Mapping[str, Any] | None = None

    @classmethod
    def whole(cls, raw: Mapping[str, Any], index: int) -> "_Item":
        """An item that came in one piece."""
        item = cls(_text(raw, "type"), index)
        item.open(raw)
        item.close(raw)
        return item

    def open(self, raw: Mapping[str, Any]) -> None:
        """What is known of it from the beginning."""
        self.id = _text(raw, "id") or self.id
        if self.kind in _CALLS:
            self.name = joined_name(_text(raw, "namespace"), _text(raw, "name")) or self.name
            self.call_id = _text(raw, "call_id") or self.call_id
            if not self.call_id:
                made = hashlib.blake2b(f"{self.id}/{self.index}".encode(), digest_size=12).hexdigest()
                self.call_id = self.id or f"call_{made}"

    def close(self, raw: Mapping[str, Any]) -> Delta | None:
        """What it was at its end; the delta is what of it had not been told in pieces."""
        if self.kind == "message":
            return self._close_message(raw)
        if self.kind == "reasoning":
            self.id = _text(raw, "id") or self.id
            self.seal = _text(raw, "encrypted_content")
            new = "" if self.text else _texts(raw.get("summary")) or _texts(raw.get("content"))
            if new:
                self.text.append(new)
            if not (new or self.seal):
                return None
            sealed = Thought("".join(self.text), sealed=self.seal, id=self.id, wire=OWN)
            return Delta(reasoning=new, thoughts=(sealed,) if self.seal else ())
        if self.kind in _CALLS:
            if self.arguments:
                return None
            given = arguments_of(raw.get("input" if self.kind == "custom_tool_call" else "arguments"))
            given = given or ("{}" if self.kind == "function_call" else "")
            self.arguments.append(given)
            return Delta(tool_calls=((self.number, "", "", given),))
        self.raw = raw
        return Delta(parts=(Part(ITEM, data=raw),))

    def _close_message(self, raw: Mapping[str, Any]) -> Delta | None:
        self.phase = _text(raw, "phase")
        content = raw.get("content")
        parts = [part for part in (content if type(content) is list else ()) if type(part) is dict]
        if type(content) is str:
            parts = [{"type": "output_text", "text": content}]
        text = "".join(_text(part, "text") for part in parts if part.get("type") != "refusal")
        refusal = "".join(_text(part, "refusal") for part in parts)
        for part in parts:
            notes = part.get("annotations")
            self.notes.extend(notes if type(notes) is list else ())
        delta = Delta(
            text="" if self.text else text,
            refusal="" if self.refusal else refusal,
            logprobs=()
            if self.text
            else tuple(t for part in parts for t in logprobs_of({"content": part.get("logprobs")})),
        )
        if delta.text:
            self.text.append(delta.text)
            self.logprobs.extend(delta.logprobs)
        if delta.refusal:
            self.refusal.append(delta.refusal)
        return delta if delta.text or delta.refusal else None

    def call(self) -> ToolCall:
        """The call that it is."""
        custom = self.kind == "custom_tool_call"
        arguments = "".join(self.arguments)
        return ToolCall(
            self.call_id,
            self.name,
            arguments if arguments or custom else "{}",
            "custom" if custom else "function",
        )


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if type(value) is str else ""


def _texts(parts: Any) -> str:
    found = [_text(part, "text") for part in (parts if type(parts) is list else ()) if type(part) is dict]
    return "\n\n".join(text for text in found if text)


# --- streamed answers --------------------------------------------------------------------------------------------


def reader() -> "ResponsesReader":
    """A reader for one streamed answer."""
    return ResponsesReader()


class ResponsesReader(EventReader):
    """Puts a stream of Responses events together. Items are found by `output_index`, else by id, else the last one is meant."""

    __slots__ = (
        "_by_id",
        "_by_index",
        "_calls",
        "_finish",
        "_items",
        "_model",
        "usage",
    )

    def __init__(self) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._finish = ""
        self._model = ""
        self._items: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._calls = 0

    def take(self, event: dict[str, Any], into: list[Delta]) -> None:
        """See `EventReader.take`."""
        kind = _text(event, "type")
        if kind == "response.output_text.delta":
            self._text(event, into)
        elif kind == "error" or (not kind and event.get("error")):
            self.error, self._retryable = failure_inside(event.get("error") or event)
            self.done = True
        elif kind.startswith("response."):
            self._told(kind.removeprefix("response."), event, into)

    def _told(self, kind: str, event: dict[str, Any], into: list[Delta]) -> None:
        if kind in ("completed", "incomplete", "failed", "cancelled"):
            response = event.get("response")
            self._end(kind, response if type(response) is dict else {}, into)
        elif kind in ("created", "in_progress", "queued"):
            response = event.get("response")
            if type(response) is dict:
                self._model = self._model or _text(response, "model")
        elif kind == "output_item.added":
            self._add(event, into)
        elif kind == "output_item.done":
            raw = event.get("item")
            if type(raw) is dict:
                item = self._find(event, _text(raw, "id"), _text(raw, "type")) or self._add(event, into)
                if item is not None and (delta := item.close(raw)) is not None:
                    into.append(delta)
        elif kind == "refusal.delta":
            self._piece(event, "message", "refusal", into)
        elif kind in ("reasoning_summary_text.delta", "reasoning_text.delta", "reasoning.delta"):
            self._piece(event, "reasoning", "text", into)
        elif kind == "reasoning_summary_part.added":
            item = self._find(event, _text(event, "item_id"), "reasoning")
            if item is not None and item.text:
                item.text.append("\n\n")
                into.append(Delta(reasoning="\n\n"))
        elif kind == "function_call_arguments.delta":
            self._piece(event, "function_call", "arguments", into)
        elif kind == "custom_tool_call_input.delta":
            self._piece(event, "custom_tool_call", "arguments", into)

    def _find(self, event: Mapping[str, Any], id_: str, kind: str) -> _Item | None:
        """The item that an event tells of."""
        index = event.get("output_index")
        item = self._by_index.get(index) if type(index) is int else None
        item = item or self._by_id.get(id_)
        if item is None and type(index) is not int and not id_ and self._items:
            item = self._items[-1]
        return item if item is not None and item.kind == kind else None

    def _add(self, event: Mapping[str, Any], into: list[Delta]) -> _Item | None:
        raw = event.get("item")
        if type(raw) is not dict or not (kind := _text(raw, "type")):
            return None
        known = self._find(event, _text(raw, "id"), kind)
        if known is not None and (event.get("output_index") is not None or known.id):
            return known
        return self._new(kind, event.get("output_index"), raw, into)

    def _new(self, kind: str, index: Any, raw: Mapping[str, Any], into: list[Delta]) -> _Item:
        item = _Item(kind, len(self._items))
        item.open(raw)
        self._items.append(item)
        if type(index) is int:
            self._by_index[index] = item
        if item.id:
            self._by_id[item.id] = item
        if kind in _CALLS:
            item.number = self._calls
            self._calls += 1
            into.append(Delta(tool_calls=((item.number, item.call_id, item.name, ""),)))
        return item

    def _text(self, event: Mapping[str, Any], into: list[Delta]) -> None:
        text = _text(event, "delta")
        item = self._known(event, "message", into)
        given = event.get("logprobs")
        logprobs = logprobs_of({"content": given}) if given else ()
        if text or logprobs:
            item.text.append(text)
            item.logprobs.extend(logprobs)
            into.append(Delta(text, logprobs=logprobs) if logprobs else Delta(text))

    def _piece(self, event: Mapping[str, Any], kind: str, part: str, into: list[Delta]) -> None:
        piece = _text(event, "delta")
        if not piece:
            return
        item = self._known(event, kind, into)
        if part == "arguments":
            item.arguments.append(piece)
            into.append(Delta(tool_calls=((item.number, "", "", piece),)))
        elif part == "refusal":
            item.refusal.append(piece)
            into.append(Delta(refusal=piece))
        else:
            item.text.append(piece)
            into.append(Delta(reasoning=piece))

    def _known(self, event: Mapping[str, Any], kind: str, into: list[Delta]) -> _Item:
        """The item that a piece belongs to, begun if no event has said that it begins."""
        id_ = _text(event, "item_id")
        return self._find(event, id_, kind) or self._new(kind, event.get("output_index"), {"id": id_}, into)

    def _end(self, kind: str, response: Mapping[str, Any], into: list[Delta]) -> None:
        self.done = True
        self._model = _text(response, "model") or self._model
        self.usage = usage_of(response.get("usage"))
        if kind in ("failed", "cancelled") or response.get("error"):
            found = _failed(Completion(), response.get("error"), kind)
            self.error, self._retryable = found.error, found.retryable
            return
        output = response.get("output")
        if not self._items and type(output) is list:  # everything at once
            for index, raw in enumerate(output):
                if type(raw) is dict and _text(raw, "type"):
                    item = self._new(_text(raw, "type"), index, raw, into)
                    if (delta := item.close(raw)) is not None:
                        into.append(delta)
        missing = []
        for item in self._items:
            if item.kind == "function_call" and not item.arguments:
                item.arguments.append("{}")
                missing.append((item.number, "", "", "{}"))
        if missing:
            into.append(Delta(tool_calls=tuple(missing)))
        self.finished, self._finish = True, _finish_of({"status": kind, **response})

    def result(self) -> Completion:
        """The answer as far as it came. Its `error` is set unless the stream said that the answer is complete."""
        found = Completion(usage=self.usage, model=self._model)
        if self.finished and self.error is None:
            return _concluded(found, self._items, self._finish)
        found.message, found.logprobs = _message(self._items)
        if self.error is not None:
            found.error, found.retryable = self.error, self._retryable
            return found
        return _with_error(found, "cut", "the stream ended without saying that the answer is complete")
