"""Anthropic Messages towards workers: asks out, answers and streams in.

Upstreams are trusted with nothing: what they send is parsed leniently, checked, and rebuilt. A stream is complete only when it
has said why it stopped and sent `message_stop`; anything less means that it was cut.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.types import Card, Delta, Failure, FailureKind, Message, Usage
from stretto.wire.base import Completion, Question, Rendered, bounded_json, redact
from stretto.wire.chat_upstream import parse_failure
from stretto.wire.lengths import too_long
from stretto.wire.messages_parts import (
    OWN,
    finish_of,
    message_of_answer,
    own_fields,
    render_conversation,
    usage_of,
)
from stretto.wire.reader import EventReader
from stretto.wire.tools import portable

__all__ = ["MessagesReader", "credentials", "parse_failure", "parse_reply", "reader", "render_ask"]

VERSION: Final = "2023-06-01"
DEFAULT_CAP: Final = 4096
"""Output tokens where neither the ask nor the card bounds them; this format cannot leave it open."""


def credentials(key: str) -> Mapping[str, str]:
    """The headers that carry a key, and the version of the format, which goes with every request."""
    return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}


# --- asks --------------------------------------------------------------------------------------------------------

_NO_NAMES: Final[Mapping[str, str]] = {}
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_UNSAID: Final = frozenset({"parallel_tool_calls", "reasoning_effort", "stop", *_SAMPLING})
"""Parameters that this format has a word for; all others are dropped."""
_BETA: Final = re.compile(r"(?!oauth-)[A-Za-z0-9._-]{1,100}")
_OWN_FIELDS: Final = frozenset({"thinking", "output_config", "tool_fields", "betas"})

_ADAPTIVE: Final = re.compile(
    r"claude-(?:[a-z]+-)?(?:4-[6-9]|4-[1-9]\d(?!\d)|[5-9](?!\d))|claude-(?:fable|mythos)"
)
"""Models that decide by themselves how long they think. Others are given a budget."""
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768}
_LEAST_BUDGET: Final = 1024


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

    Dropped and named: parameters in `lacks` and those without a word here, tools and response formats that the card's abilities
    do not list, and `messages.system` where system messages among the others were joined with the first. Fields of the caller's
    format go out only if it was this one.
    """
    if ask.want in ("embedding", "state"):
        raise ValueError(
            f"{'embeddings' if ask.want == 'embedding' else 'hidden states'} cannot be had over Messages"
        )
    same = ask.wire == OWN
    system, messages, moved = render_conversation(ask.messages or (), same)
    if not messages:
        raise ValueError("Messages needs a message that is not empty")
    cap = ask.max_tokens or card.max_output or DEFAULT_CAP
    body: dict[str, Any] = {
        "model": model,
        renames.get("max_tokens", "max_tokens"): cap,
        "messages": messages,
    }
    dropped = ["messages.system"] if moved else []
    if system:
        body["system"] = system[0]["text"] if len(system) == 1 and len(system[0]) == 2 else system
    if ask.want == "logprobs":
        dropped.append("logprobs")
    for name, value in ask.extra.items():
        if name in lacks or not same:
            dropped.append(name)
        elif name not in body and name not in _OWN_FIELDS:
            body[name] = value
    _put_sampling(body, ask, lacks, renames, dropped)
    custom = _put_tools(body, ask, card, lacks, dropped)
    _put_thinking(body, ask, model, card, lacks, dropped)
    _put_format(body, ask, card, lacks, dropped)
    if stream:
        body["stream"] = True
    betas = ask.extra.get("betas", ()) if same else ()
    named = ",".join(each for each in betas if _BETA.fullmatch(each))
    try:
        raw = orjson.dumps(body)
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None
    headers = (("anthropic-beta", named),) if named else ()
    return Rendered("/v1/messages", raw, tuple(dropped), custom, headers)


def _put_sampling(
    body: dict[str, Any], ask: Question, lacks: frozenset[str], renames: Mapping[str, str], dropped: list[str]
) -> None:
    for name, value in ask.params.items():
        if name not in _UNSAID or name in lacks:
            dropped.append(name)
        elif name in _SAMPLING:
            # Anthropic's scale ends at 1
            body[renames.get(name, name)] = min(value, 1) if name == "temperature" else value
        elif name == "stop":
            stops = [value] if isinstance(value, str) else list(value)
            said = [stop for stop in stops if stop.strip()]  # stops of white space alone are refused
            if said:
                body[renames.get("stop", "stop_sequences")] = said
            if len(said) < len(stops):
                dropped.append(name)


def _put_tools(
    body: dict[str, Any], ask: Question, card: Card, lacks: frozenset[str], dropped: list[str]
) -> frozenset[str]:
    """Tools and the choice among them; returns the names of functions that stand for custom tools."""
    if not ask.tools:
        return frozenset()
    if "tools" not in card.abilities or "tools" in lacks:
        dropped.append("tools")
        return frozenset()
    same = ask.wire == OWN
    hosted = [tool for tool in ask.tools if same and tool.get("type") not in ("function", "custom")]
    found = portable([tool for tool in ask.tools if tool not in hosted], ask.tool_choice)
    dropped += [name for name in found.dropped if not (hosted and name == "tool_choice")]
    fields = ask.extra.get("tool_fields", {}) if same else {}
    tools = [*(_tool(tool["function"], fields) for tool in found.tools), *map(dict, hosted)]
    if not tools:
        return frozenset()
    body["tools"] = tools
    choice = _choice(ask.tool_choice if hosted and found.choice is None else found.choice)
    if ask.params.get("parallel_tool_calls") is False and "parallel_tool_calls" not in lacks:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        body["tool_choice"] = choice
    return found.custom


def _tool(function: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        found["description"] = function["description"]
    found["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict") is not None:
        found["strict"] = function["strict"]
    return {**found, **fields.get(found["name"], {})}


def _choice(choice: Any) -> dict[str, Any] | None:
    """The tool choice in this format's words."""
    if isinstance(choice, str):
        kind = {"auto": "auto", "required": "any", "any": "any", "none": "none"}.get(choice)
        return {"type": kind} if kind else None
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return {"type": "tool", "name": name} if name else None


def _put_thinking(
    body: dict[str, Any], ask: Question, model: str, card: Card, lacks: frozenset[str], dropped: list[str]
) -> None:
    """How long to think: as the caller of this format said it, else as `reasoning_effort` implies it."""
    if ask.wire == OWN:
        for name in ("thinking", "output_config"):
            value = ask.extra.get(name)
            unwanted = name == "thinking" and value and value.get("type") == "enabled" and _unsealed(body)
            if value and (name in lacks or unwanted):
                dropped.append(name)
            elif value:
                body[name] = value
        return
    effort = ask.params.get("reasoning_effort")
    if effort is None or "reasoning_effort" in lacks or effort == "none":
        return
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    if "reasoning" not in card.abilities or effort not in _BUDGETS or forced:
        dropped.append("reasoning_effort")  # thinking and a forced call exclude each other
        return
    cap = body.get("max_tokens", 0)
    if _ADAPTIVE.match(model.rpartition("/")[2]):
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": "low" if effort == "minimal" else effort}
    elif cap <= _LEAST_BUDGET or _unsealed(body):
        dropped.append("reasoning_effort")
        return
    else:
        body["thinking"] = {
            "type": "enabled",
            "budget_tokens": max(_LEAST_BUDGET, min(_BUDGETS[effort], cap // 2)),
        }
    for name in ("temperature", "top_k"):  # neither may be set while a model thinks
        if body.pop(name, None) is not None:
            dropped.append(name)


def _unsealed(body: Mapping[str, Any]) -> bool:
    """Whether a tool loop is under way that did not begin with a sealed thought: then thinking with a budget is refused.

    So it is when another worker began the loop, or the caller has not sent the thinking back.
    """
    messages = body["messages"]
    at = len(messages)
    while at > 1 and _kind(messages[at - 1]) == "tool_result" and messages[at - 2]["role"] == "assistant":
        at -= 2
    return at < len(messages) and _kind(messages[at]) not in ("thinking", "redacted_thinking")


def _kind(message: Mapping[str, Any]) -> str:
    """The type of a message's first block."""
    content = message["content"]
    return str(content[0]["type"]) if isinstance(content, list) and content else "text"


def _put_format(
    body: dict[str, Any], ask: Question, card: Card, lacks: frozenset[str], dropped: list[str]
) -> None:
    form = ask.response_format
    if form is None or form.get("type") == "text":
        return
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if schema is None or "json" not in card.abilities or "response_format" in lacks:
        dropped.append("response_format")
        return
    body["output_config"] = {
        **body.get("output_config", {}),
        "format": {"type": "json_schema", "schema": schema},
    }


# --- whole answers -----------------------------------------------------------------------------------------------


def parse_reply(body: bytes, want: str = "text") -> Completion:
    """The body of an answer with status 200. Never raises: what is wrong is the completion's `error`."""
    try:
        raw = bounded_json(body)
    except ValueError as error:
        return Completion(error=Failure("protocol", f"the answer is {error}"), retryable=True)
    if type(raw) is not dict:
        return Completion(error=Failure("protocol", "the answer is not a JSON object"), retryable=True)
    usage = usage_of(raw.get("usage"))
    if raw.get("error"):
        failure, retryable = _inside(raw["error"])
        return Completion(usage=usage, error=failure, retryable=retryable)
    model = raw.get("model")
    found = Completion(usage=usage, model=model if type(model) is str else "")
    content = raw.get("content")
    if type(content) is not list:
        found.error, found.retryable = Failure("protocol", "the answer has no content"), True
        return found
    found.message = message_of_answer(content)
    return _finished(found, raw.get("stop_reason"), raw.get("stop_sequence"))


def _finished(found: Completion, reason: Any, sequence: Any) -> Completion:
    """Check that what has ended is an answer, and say how it ended."""
    message = found.message
    found.finish = finish_of(reason if type(reason) is str else "", message)
    more: dict[str, Any] = {}
    if reason == "stop_sequence" and type(sequence) is str:
        more["stop_sequence"] = sequence
    elif reason == "pause_turn":
        more["stop_reason"] = reason
    if more:
        found.message = message = _with_own(message, more)
    if message.content or message.tool_calls or found.finish == "content_filter":
        return found
    # Not retryable: the model has said its nothing. Whether somebody else is asked is for the policy to decide.
    found.error = Failure("empty", "the answer is complete and has no content")
    return found


def _with_own(message: Message, more: Mapping[str, Any]) -> Message:
    return Message(
        "assistant",
        message.content,
        message.tool_calls,
        reasoning=message.reasoning,
        extra={**message.extra, OWN: {**own_fields(message), **more}},
        thoughts=message.thoughts,
    )


_CAUSES: Final[Mapping[str, tuple[FailureKind, bool]]] = {
    "overloaded_error": ("overloaded", True),
    "rate_limit_error": ("rate_limited", True),
    "timeout_error": ("timeout", True),
    "api_error": ("upstream_error", True),
    "authentication_error": ("upstream_auth", False),
    "permission_error": ("upstream_auth", False),
    "billing_error": ("upstream_auth", False),
    "not_found_error": ("upstream_error", False),
    "invalid_request_error": ("bad_request", False),
    "request_too_large": ("bad_request", False),
}


def _inside(error: Any) -> tuple[Failure, bool]:
    """An error object inside an answer or a stream whose HTTP status was 200, and whether the same may succeed elsewhere."""
    kind = error.get("type") if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    said = redact(text) if isinstance(text, str) and text else "the upstream reported an error"
    cause, retryable = _CAUSES.get(kind if isinstance(kind, str) else "", ("upstream_error", True))
    overlong = too_long(Failure(cause, said), f"{kind} {text}")
    return (Failure(cause, said), retryable) if overlong is None else (overlong, False)


# --- streams -----------------------------------------------------------------------------------------------------


def reader() -> "MessagesReader":
    """A reader for one streamed answer."""
    return MessagesReader()


class MessagesReader(EventReader):
    """Puts Messages events together. Pings, and events that it does not know, are passed over.

    Its deltas are canonical: tool calls numbered from 0, each with its id and name once, and with `{}` for arguments that never
    came; a block of reasoning ends with its `thoughts`.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_model",
        "_reason",
        "_sequence",
        "_usage",
    )

    def __init__(self) -> None:
        super().__init__()
        self._model = ""
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._sequence: str | None = None
        self._blocks: dict[int, _Block] = {}
        self._calls = 0

    def take(self, event: dict[str, Any], into: list[Delta]) -> None:
        """See `EventReader.take`."""
        match event.get("type"):
            case "content_block_delta":
                self._delta(event, into)
            case "content_block_start":
                self._begin(event, into)
            case "content_block_stop":
                self._end(event.get("index"), into)
            case "message_start":
                self._head(event.get("message"))
            case "message_delta":
                self._tail(event)
            case "message_stop":
                self._last(into)
            case _ if event.get("error"):
                self.error, self._retryable = _inside(event["error"])
                self.done = True

    def _head(self, message: Any) -> None:
        if type(message) is dict:
            model = message.get("model")
            self._model = model if type(model) is str else ""
            self._count(message.get("usage"))

    def _count(self, usage: Any) -> None:
        """Take the counts of a `usage`; later ones are cumulative, and may leave out what has not changed or be 0 for it."""
        if type(usage) is dict:
            self._usage |= {name: value for name, value in usage.items() if value}

    def _tail(self, event: Mapping[str, Any]) -> None:
        self._count(event.get("usage"))
        delta = event.get("delta")
        if type(delta) is dict and type(delta.get("stop_reason")) is str:
            self._reason = delta["stop_reason"]
            sequence = delta.get("stop_sequence")
            self._sequence = sequence if type(sequence) is str else None

    def _last(self, into: list[Delta]) -> None:
        for index in self._blocks:
            self._end(index, into)
        self.done = True
        self.finished = self._reason is not None

    # --- blocks ---

    def _begin(self, event: Mapping[str, Any], into: list[Delta]) -> None:
        raw, index = event.get("content_block"), event.get("index")
        if type(raw) is not dict or type(raw.get("type")) is not str or type(index) is not int:
            return None
        if index in self._blocks:
            return self._stop("protocol", "a block of the stream begins twice")
        block = self._blocks[index] = _Block(raw)
        if block.kind == "tool_use":
            block.number = self._calls
            self._calls += 1
            name = raw.get("name")
            block.fields["id"] = id_ = (
                raw["id"] if raw.get("id") and type(raw["id"]) is str else f"toolu_{index}"
            )
            block.fields["name"] = name if type(name) is str else ""
            into.append(Delta(tool_calls=((block.number, id_, block.fields["name"], ""),)))
        for field in ("text", "thinking"):
            if block.kind == field and type(raw.get(field)) is str and raw[field]:
                self._say(block, field, raw[field], into)
        return None

    def _delta(self, event: Mapping[str, Any], into: list[Delta]) -> None:
        delta, index = event.get("delta"), event.get("index")
        block = self._blocks.get(index) if type(index) is int else None
        if type(delta) is not dict or block is None or block.ended:
            return
        for kind, field in _PIECES.items():
            piece = delta.get(field)
            if delta.get("type") == kind and type(piece) is str:
                self._say(block, field, piece, into)
        if delta.get("type") == "citations_delta" and type(delta.get("citation")) is dict:
            block.citations.append(delta["citation"])

    def _say(self, block: "_Block", field: str, piece: str, into: list[Delta]) -> None:
        block.pieces.setdefault(field, []).append(piece)
        if not piece:
            return
        if field == "text":
            into.append(Delta(piece))
        elif field == "thinking":
            into.append(Delta(reasoning=piece))
        elif field == "partial_json" and block.kind == "tool_use":
            into.append(Delta(tool_calls=((block.number, "", "", piece),)))

    def _end(self, index: Any, into: list[Delta]) -> None:
        block = self._blocks.get(index) if type(index) is int else None
        if block is None or block.ended:
            return
        block.ended = True
        if block.kind == "tool_use":
            if not block.arguments:
                block.pieces["partial_json"] = [orjson.dumps(block.given).decode()]
                into.append(Delta(tool_calls=((block.number, "", "", block.arguments),)))
            return
        message = message_of_answer([block.whole()])
        if message.thoughts:
            into.append(Delta(thoughts=message.thoughts))
        elif isinstance(message.content, tuple):
            parts = tuple(part for part in message.content if part.kind != "text")
            if parts:
                into.append(Delta(parts=parts))

    def result(self) -> Completion:
        """The answer as far as it came. Its `error` is set unless the stream said that the answer is complete."""
        blocks: Sequence[_Block] = tuple(self._blocks.values())
        message = message_of_answer([block.whole() for block in blocks])
        calls = tuple(
            call if call.arguments == block.arguments else type(call)(call.id, call.name, block.arguments)
            for call, block in zip(
                message.tool_calls, (block for block in blocks if block.kind == "tool_use"), strict=True
            )
        )
        message = Message(
            "assistant",
            message.content,
            calls,
            reasoning=message.reasoning,
            extra=message.extra,
            thoughts=message.thoughts,
        )
        usage: Usage | None = usage_of(self._usage)
        if self._reason is None:
            usage = None  # what was counted at the start does not hold what has been written since
        found = Completion(message, "", usage, self._model)
        if self.error is not None:
            found.error, found.retryable = self.error, self._retryable
            return found
        if not self.finished:
            text = "the stream ended without saying that the answer is complete"
            found.error, found.retryable = Failure("cut", text), True
            return found
        return _finished(found, self._reason, self._sequence)


_PIECES: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class _Block:
    """A content block on its way: what its start said, and the pieces that came since, by field."""

    __slots__ = ("citations", "ended", "fields", "kind", "number", "pieces")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.kind: str = raw["type"]
        self.fields = dict(raw)
        self.pieces: dict[str, list[str]] = {}
        self.citations: list[dict[str, Any]] = []
        self.number = -1
        self.ended = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces.get("partial_json", ()))

    @property
    def given(self) -> dict[str, Any]:
        """The input that stood in the block's start; some servers send it there whole."""
        given = self.fields.get("input")
        return given if isinstance(given, dict) else {}

    def whole(self) -> dict[str, Any]:
        """The block as an answer in one piece has it, as far as it came."""
        found = dict(self.fields)
        for field, pieces in self.pieces.items():
            if field != "partial_json":
                found[field] = "".join(pieces)
        if self.arguments:
            try:
                found["input"] = bounded_json(self.arguments.encode())
            except ValueError:
                found["input"] = {}
        if self.citations:
            given = found.get("citations")
            found["citations"] = [*(given if isinstance(given, list) else ()), *self.citations]
        return found
