"""OpenAI Chat Completions towards workers: asks out, answers and streams in.

Upstreams are trusted with nothing: what they send is parsed leniently, checked, and rebuilt. A stream is complete only when it
has said why it finished; `[DONE]` or the end of the connection alone means that it was cut.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.types import Card, Delta, Failure, Message, Part, TokenLogprob, ToolCall, Usage
from stretto.wire.base import Completion, Question, Rendered, bounded_json, cause_of_status, redact
from stretto.wire.chat_parts import (
    arguments_of,
    finish_reason,
    logprobs_of,
    render_message,
    said_by_upstream,
    text_of_parts,
    usage_of,
)
from stretto.wire.lengths import too_long
from stretto.wire.reader import EventReader
from stretto.wire.tools import portable

__all__ = ["ChatReader", "failure_inside", "parse_failure", "parse_reply", "reader", "render_ask"]

# --- asks --------------------------------------------------------------------------------------------------------

_NO_NAMES: Final[Mapping[str, str]] = {}
_LOGPROBS: Final = frozenset({"logprobs", "top_logprobs"})
_LARGEST_SEED: Final = 2**31 - 1
_PORTABLE: Final = frozenset({"function", "custom", "namespace"})


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

    Dropped and named: parameters in `lacks`, and tools, response formats and log-probabilities that the card's abilities do
    not list; of a caller who speaks another format also its extra fields, and the effort where the worker does not reason. What
    a model thought earlier is sent back only to workers with the ability `reasoning`. Custom tools go out as functions.
    """
    if ask.want not in ("text", "logprobs"):
        raise ValueError(f"{ask.want} cannot be had over Chat Completions")
    able = card.abilities
    thoughts, own = "reasoning" in able, ask.wire == "chat"
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": message.role, "content": message.content}
            if type(message.content) is str and message.role != "assistant" and _bare(message)
            else render_message(message, reasoning=thoughts, own=own)
            for message in (ask.messages if own else _fitting_results(ask.messages or ())) or ()
        ],
    }
    dropped: list[str] = []
    custom: frozenset[str] = frozenset()
    wanted = dict(ask.params)
    if ask.want == "logprobs":
        wanted["logprobs"] = True
        wanted.setdefault("top_logprobs", 1)  # llama.cpp sends 20 alternatives a token where nothing is said
    if ask.max_tokens is not None:
        wanted["max_tokens"] = ask.max_tokens
    if ask.tools:
        if "tools" in able:
            custom = _put_tools(wanted, ask, dropped)
        else:
            dropped.append("tools")
            wanted.pop("parallel_tool_calls", None)
    if ask.response_format is not None:
        wanted["response_format"] = ask.response_format
    for name, value in wanted.items():
        if name in lacks or _beyond(name, able, own):
            dropped.append(name)
        else:
            body[renames.get(name, name)] = _fitting(name, value)
    for name, value in ask.extra.items():
        if name in lacks or not own:
            dropped.append(name)
        elif name not in body:
            body[name] = value
    if stream:
        body["stream"] = True
        if "stream_options" not in lacks:
            body["stream_options"] = {"include_usage": True}
    try:
        return Rendered("/chat/completions", orjson.dumps(body), tuple(dropped), custom)
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


def _bare(message: Message) -> bool:
    return message.tool_call_id is None and message.name is None and not message.extra


def _put_tools(wanted: dict[str, Any], ask: Question, dropped: list[str]) -> frozenset[str]:
    """The tools and the choice among them; returns the names of functions that stand for custom tools."""
    own = ask.wire == "chat"
    if own and not any(tool.get("type") == "custom" for tool in ask.tools):
        tools, choice, custom = ask.tools, ask.tool_choice, frozenset[str]()
    else:
        hosted = [tool for tool in ask.tools if own and tool.get("type") not in _PORTABLE]
        found = portable([tool for tool in ask.tools if tool not in hosted], ask.tool_choice)
        tools, choice, custom = (*found.tools, *hosted), found.choice, found.custom
        dropped += found.dropped
    if tools:
        wanted["tools"] = tools
        if choice is not None:
            wanted["tool_choice"] = choice
    else:
        wanted.pop("parallel_tool_calls", None)
    return custom


def _fitting_results(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages whose tool results are texts: pictures in them go into a user's message after the results."""
    found: list[Message] = []
    moved: list[Part] = []
    for message in messages:
        if message.role == "tool" and isinstance(message.content, tuple):
            moved += [part for part in message.content if part.kind != "text"]
            message = Message("tool", message.text, tool_call_id=message.tool_call_id)
        elif moved and message.role != "tool":
            found.append(Message("user", tuple(moved)))
            moved = []
        found.append(message)
    return [*found, Message("user", tuple(moved))] if moved else found


def _beyond(name: str, able: frozenset[str], own: bool) -> bool:
    if name in _LOGPROBS:
        return "logprobs" not in able
    if name == "reasoning_effort" and not own:  # agents of other formats send one always
        return "reasoning" not in able
    return name == "response_format" and "json" not in able


def _fitting(name: str, value: Any) -> Any:
    # servers differ in how wide a seed they take; 31 bits are accepted by all
    if name == "seed" and type(value) is int and not 0 <= value <= _LARGEST_SEED:
        return value & _LARGEST_SEED
    return value


# --- whole answers -----------------------------------------------------------------------------------------------


def parse_reply(body: bytes, want: str = "text") -> Completion:
    """The body of an answer with status 200. Never raises: what is wrong is the completion's `error`."""
    try:
        raw = bounded_json(body)
    except ValueError as error:
        return _unusable("protocol", f"the answer is {error}")
    if type(raw) is not dict:
        return _unusable("protocol", "the answer is not a JSON object")
    if raw.get("error"):
        failure, retryable = failure_inside(raw["error"])
        return Completion(usage=usage_of(raw.get("usage")), error=failure, retryable=retryable)
    model = raw.get("model")
    usage = usage_of(raw.get("usage"))
    found = Completion(usage=usage, model=model if type(model) is str else "")
    choices = raw.get("choices")
    if type(choices) is not list or not choices:
        return _with_error(found, "empty", "the answer has no choices")
    choice = choices[0]
    message = choice.get("message") if type(choice) is dict else None
    if type(message) is not dict:
        return _with_error(found, "protocol", "the answer's choice has no message")
    found.message = said_by_upstream(message)
    if choice.get("logprobs") is not None:
        found.logprobs = logprobs_of(choice["logprobs"])
    finish = choice.get("finish_reason")
    return _finished(found, finish if type(finish) is str else "stop")


def _finished(found: Completion, finish: str) -> Completion:
    """Check that what has ended is an answer, and say how it ended."""
    message = found.message
    if finish == "error":
        return _with_error(found, "upstream_error", "the upstream failed while it answered")
    found.finish = finish_reason(finish, message)
    if message.content or message.tool_calls or message.refusal or message.extra:
        return found
    if found.finish != "content_filter":
        # Not retryable: the model has said its nothing. Whether somebody else is asked is for the policy to decide.
        _with_error(found, "empty", "the answer is complete and has no content")
        found.retryable = False
    return found


def _unusable(kind: Any, text: str) -> Completion:
    return Completion(error=Failure(kind, text), retryable=True)


def _with_error(found: Completion, kind: Any, text: str) -> Completion:
    found.error, found.retryable = Failure(kind, text), True
    return found


def failure_inside(error: Any) -> tuple[Failure, bool]:
    """An error object inside an answer or a stream whose HTTP status was 200, and whether the same may succeed elsewhere."""
    failure, retryable = _failure_inside(error)
    overlong = too_long(failure, orjson.dumps(error, default=repr).decode())
    return (failure, retryable) if overlong is None else (overlong, False)


def _failure_inside(error: Any) -> tuple[Failure, bool]:
    code = error.get("code") if isinstance(error, dict) else None
    text = _text_of_error(error)
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if type(code) is int and 400 <= code < 600:
        kind, retryable = cause_of_status(code)
        return Failure(kind, text, status=code), retryable
    name = " ".join(str(error.get(part, "")) for part in ("type", "code")) if isinstance(error, dict) else ""
    if "rate_limit" in name:
        return Failure("rate_limited", text), True
    if "overloaded" in name:
        return Failure("overloaded", text), True
    if "invalid_request" in name:
        return Failure("bad_request", text), False
    return Failure("upstream_error", text), True


def _text_of_error(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message")
    return redact(error) if isinstance(error, str) and error else "the upstream reported an error"


def parse_failure(body: bytes) -> str:
    """What the body of an HTTP error says: one short line without secrets, or "" if it says nothing that can be read."""
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""  # an HTML page or plain text: nothing that is worth showing, and much that may not be shown
    if not isinstance(raw, dict):
        return ""
    for text in (raw.get("error"), raw.get("message"), raw.get("detail")):
        said = text.get("message") if isinstance(text, dict) else text
        if isinstance(said, str) and said:
            return redact(said)
    return ""


# --- streams -----------------------------------------------------------------------------------------------------


def reader() -> "ChatReader":
    """A reader for one streamed answer."""
    return ChatReader()


class ChatReader(EventReader):
    """Puts `chat.completion.chunk` events together.

    Its deltas are canonical, whatever the upstream's habits: tool calls are numbered from 0 in the order in which they first
    appear, each with its id and name once, and with `{}` for arguments that never came.
    """

    __slots__ = (
        "_calls",
        "_finish",
        "_id",
        "_indices",
        "_logprobs",
        "_model",
        "_reasoning",
        "_refusal",
        "_text",
        "usage",
    )

    def __init__(self) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._finish = ""
        self._model = ""
        self._id = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls: list[_Call] = []
        self._indices: dict[int, _Call] = {}

    def take(self, chunk: dict[str, Any], into: list[Delta]) -> None:
        """See `EventReader.take`."""
        if chunk.get("error"):
            self.error, self._retryable = failure_inside(chunk["error"])
            self.done = True
            return
        if not self._model:
            model, id_ = chunk.get("model"), chunk.get("id")
            self._model = model if type(model) is str else ""
            self._id = id_ if type(id_) is str else ""
        if chunk.get("usage") is not None:
            self.usage = usage_of(chunk["usage"]) or self.usage
        choices = chunk.get("choices")
        if type(choices) is list and choices and type(choices[0]) is dict:
            self._take(choices[0], into)

    def _take(self, choice: dict[str, Any], into: list[Delta]) -> None:
        raw, logprobs = choice.get("delta"), choice.get("logprobs")
        if type(raw) is dict and (raw or logprobs is not None):
            text = raw.get("content")
            if len(raw) == 1 and type(text) is str and logprobs is None:
                if text:
                    self._text.append(text)
                    into.append(Delta(text))
            else:
                self._take_all(raw, text, logprobs, into)
        finish = choice.get("finish_reason")
        if type(finish) is str and finish and not self.finished:
            if finish == "error":
                return self._stop("upstream_error", "the upstream failed while it answered")
            self.finished, self._finish = True, finish
            missing = tuple(call.begun() for call in self._calls if not call.told)
            missing += tuple((call.index, "", "", "{}") for call in self._calls if not call.arguments)
            for call in self._calls:
                call.arguments = call.arguments or ["{}"]
            if missing:
                into.append(Delta(tool_calls=missing))
        return None

    def _take_all(self, raw: dict[str, Any], text: Any, logprobs: Any, into: list[Delta]) -> None:
        thought = raw.get("reasoning_content") or raw.get("reasoning")
        thought = thought if type(thought) is str else ""
        if type(text) is list:
            text, thinking = text_of_parts(text)
            thought += thinking
        elif type(text) is not str:
            text = ""
        refusal = raw.get("refusal")
        refusal = refusal if type(refusal) is str else ""
        tokens = logprobs_of(logprobs) if logprobs is not None else ()
        given = raw.get("tool_calls")
        calls = tuple(
            fragment
            for call in (given if type(given) is list else ())
            if type(call) is dict and (fragment := self._fragment(call)) is not None
        )
        if text or thought or refusal or tokens or calls:
            self._text.append(text)
            self._reasoning.append(thought)
            self._refusal.append(refusal)
            self._logprobs.extend(tokens)
            into.append(Delta(text, thought, calls, refusal, tokens))

    def _fragment(self, raw: dict[str, Any]) -> tuple[int, str, str, str] | None:
        function = raw.get("function")
        function = function if type(function) is dict else {}
        id_, name = raw.get("id"), function.get("name")
        id_ = id_ if type(id_) is str else ""
        name = name if type(name) is str else ""
        arguments = arguments_of(function.get("arguments"))
        call = self._call(raw.get("index"), id_, name)
        if call is None:
            call = _Call(len(self._calls), id_ or self._made_up_id(len(self._calls)), name)
            self._calls.append(call)
            if type(raw.get("index")) is int:
                self._indices[raw["index"]] = call
            if arguments:
                call.arguments.append(arguments)
            return call.begun() if name else None  # its name may come later; nobody can use it before
        if arguments:
            call.arguments.append(arguments)
        if not call.told:
            call.name = name
            return call.begun() if name else None
        return (call.index, "", "", arguments) if arguments else None

    def _call(self, index: Any, id_: str, name: str) -> "_Call | None":
        """The call that a fragment goes on with, or `None` for a new one.

        Indices may be missing, or be the same for several calls; ids may change from fragment to fragment. Only a new id
        together with a name begins a call under an index that is taken.
        """
        if type(index) is int:
            known = self._indices.get(index)
            if known is None or not (id_ and name) or id_ == known.given_id:
                return known
            return self._by_id(id_)
        if id_:
            return self._by_id(id_)
        return self._calls[-1] if self._calls else None

    def _by_id(self, id_: str) -> "_Call | None":
        return next((call for call in self._calls if call.given_id == id_), None)

    def _made_up_id(self, index: int) -> str:
        return "call_" + hashlib.blake2b(f"{self._id}/{index}".encode(), digest_size=12).hexdigest()

    def result(self) -> Completion:
        """The answer as far as it came. Its `error` is set unless the stream said that the answer is complete."""
        calls = tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls)
        text = "".join(self._text)
        message = Message(
            "assistant",
            text if text or not calls else None,
            calls,
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
        )
        found = Completion(message, "", self.usage, self._model, tuple(self._logprobs))
        if self.error is not None:
            found.error, found.retryable = self.error, self._retryable
            return found
        if not self.finished:
            return _with_error(found, "cut", "the stream ended without saying that the answer is complete")
        return _finished(found, self._finish)


class _Call:
    __slots__ = ("arguments", "given_id", "id", "index", "name", "told")

    def __init__(self, index: int, id_: str, name: str) -> None:
        self.index = index
        self.id = self.given_id = id_
        self.name = name
        self.arguments: list[str] = []
        self.told = False

    def begun(self) -> tuple[int, str, str, str]:
        """The fragment that tells of the call for the first time, with what has come of its arguments."""
        self.told = True
        return self.index, self.id, self.name, "".join(self.arguments)
