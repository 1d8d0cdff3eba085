"""OpenAI Chat Completions: requests in, answers and streams out. (`chat_upstream` is the same format towards workers.)"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Answer, Card, Delta, Request, Usage, usd
from stretto.wire.base import (
    Incoming,
    expect_bool,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    parse_options,
)
from stretto.wire.base import bearer as credentials
from stretto.wire.chat_parts import finish_reason, parse_messages, render_answer, render_logprobs
from stretto.wire.chat_upstream import parse_failure, parse_reply, reader, render_ask
from stretto.wire.fields import SAMPLING, Check, expect_choice, model_name, read_body, sorted_out, whole
from stretto.wire.tools import custom_names

__all__ = [
    "NAME",
    "ROUTE",
    "ChatStream",
    "credentials",
    "parse_failure",
    "parse_reply",
    "parse_request",
    "reader",
    "render_ask",
    "render_error",
    "render_model",
    "render_models",
    "render_response",
    "render_usage",
    "stream",
]

NAME: Final = "chat"
ROUTE: Final = "/v1/chat/completions"

# --- requests ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Incoming:
    """A `POST /v1/chat/completions` body. Raises `RequestError`; `param` is the path of the field that is wrong.

    `null` means not given. Sampling parameters go to `params`, what Stretto does not know to `extra`.
    """
    given = read_body(body)
    if "messages" not in given:
        raise RequestError("`messages` is missing.", param="messages")
    params, rest, extra, ignored = sorted_out(given, _PARAMS, _FIELDS)
    options = parse_options(rest.get("stretto"))
    streaming = "stream" in rest and expect_bool(rest["stream"], "stream")
    include_usage = False
    if "stream_options" in rest:
        wish = expect_object(rest["stream_options"], "stream_options").get("include_usage")
        include_usage = streaming and wish is not None and expect_bool(wish, "stream_options.include_usage")
    request = Request(
        messages=parse_messages(given["messages"]),
        model=model_name(given["model"]),
        params=params,
        max_tokens=_max_tokens(rest),
        tools=_tools(rest["tools"]) if "tools" in rest else (),
        tool_choice=expect_choice(rest["tool_choice"]) if "tool_choice" in rest else None,
        response_format=_response_format(rest["response_format"]) if "response_format" in rest else None,
        extra=extra,
        seed=options.seed,
        dial=0.5 if options.dial is None else options.dial,
        limits=options.limits,
        require=options.require,
        exclude=options.exclude,
    )
    if "n" in rest and expect_number(rest["n"], "n", least=1, whole=True) > 1:
        raise RequestError("`n` above 1 is not supported: send the request once for each answer.", param="n")
    return Incoming(request, streaming, include_usage, options, ignored)


def _max_tokens(rest: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if name in rest:
            count: int = expect_number(rest[name], name, least=1, most=2**31 - 1, whole=True)
            return count
    return None


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    tools = [expect_object(tool, f"tools[{index}]") for index, tool in enumerate(expect_list(value, "tools"))]
    for index, tool in enumerate(tools):
        expect_text(tool.get("type"), f"tools[{index}].type")
        if tool["type"] == "function":
            function = expect_object(tool.get("function"), f"tools[{index}].function")
            expect_text(function.get("name"), f"tools[{index}].function.name")
            if function.get("parameters") is not None:
                expect_object(function["parameters"], f"tools[{index}].function.parameters")
    return tuple(tools)


def _response_format(value: Any) -> Mapping[str, Any]:
    form = expect_object(value, "response_format")
    if expect_text(form.get("type"), "response_format.type") == "json_schema":
        inner = expect_object(form.get("json_schema"), "response_format.json_schema")
        if inner.get("schema") is not None:
            expect_object(inner["schema"], "response_format.json_schema.schema")
    return form


_PARAMS: Final[Mapping[str, Check]] = {
    **SAMPLING,
    "logprobs": expect_bool,
    "top_logprobs": whole(0, 20),
    "reasoning_effort": expect_text,
    "verbosity": expect_text,
    "parallel_tool_calls": expect_bool,
}
"""Sampling parameters, and how each is checked."""

_FIELDS: Final = frozenset(
    {
        "messages",
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "tool_choice",
        "response_format",
        "stretto",
    }
)
"""Fields that are interpreted, besides the parameters."""


# --- answers -----------------------------------------------------------------------------------------------------


def render_usage(usage: Usage, served: Usage) -> dict[str, Any]:
    """The `usage` object: true totals, and what of them orchestration took (all attempts but the one that answered)."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "orchestration_input_tokens": usage.input - served.input,
            "orchestration_input_cached_tokens": usage.cached - served.cached,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "orchestration_output_tokens": usage.output - served.output,
        },
    }


def render_response(
    id: str,
    created: int,
    incoming: Incoming,
    answer: Answer,
    usage: Usage,
    served: Usage,
    stretto: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of a whole answer."""
    body: dict[str, Any] = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": incoming.request.model,
        "choices": [
            {
                "index": 0,
                "message": render_answer(answer.message),
                "logprobs": render_logprobs(answer.logprobs) if answer.logprobs else None,
                "finish_reason": finish_reason(answer.finish, answer.message),
            }
        ],
        "usage": render_usage(usage, served),
    }
    if stretto is not None:
        body["stretto"] = stretto
    return orjson.dumps(body)


def stream(id: str, created: int, incoming: Incoming) -> "ChatStream":
    """A writer for one streamed answer to `incoming`."""
    custom = custom_names(incoming.request.tools) if incoming.request.tools else frozenset()
    tells = incoming.options.progress is not False
    return ChatStream(id, created, incoming.request.model, incoming.include_usage, custom, tells)


class ChatStream:
    """Renders one answer as `chat.completion.chunk` events: the role in the first chunk, usage only if it was asked for.

    The deltas are taken as `StreamReader` gives them: tool calls numbered from 0, id and name once. `custom` are the names of the
    caller's custom tools. A seal that only another format knows makes no chunk. `tells`: progress is shown, as reasoning; clients
    that do not know this field (it is not OpenAI's) never look at it.
    """

    __slots__ = (
        "_begun",
        "_custom",
        "_custom_calls",
        "_head",
        "_open",
        "_plain_tail",
        "_started",
        "_tells",
        "_with_usage",
    )

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        include_usage: bool = False,
        custom: frozenset[str] = frozenset(),
        tells: bool = True,
    ) -> None:
        base = orjson.dumps({"id": id, "object": "chat.completion.chunk", "created": created, "model": model})
        self._open = b"data: " + base[:-1]
        self._head = self._open + b',"choices":[{"index":0,"delta":'
        self._plain_tail = b',"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            b',"usage":null' if include_usage else b""
        )
        self._with_usage = include_usage
        self._custom = custom
        self._custom_calls: set[int] = set()
        self._tells = tells
        self._started = False
        self._begun = False

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """One chunk for each delta, and for each tool call: clients such as LlamaIndex read only the first of a chunk."""
        self._begun = True
        chunks = []
        for delta in deltas:
            if (
                self._started
                and delta.text
                and not (delta.tool_calls or delta.reasoning or delta.refusal or delta.logprobs)
            ):
                chunks.append(
                    b'%b{"content":%b}%b' % (self._head, orjson.dumps(delta.text), self._plain_tail)
                )
            elif not (delta.thoughts or delta.parts) or _says(delta):
                chunks += map(self._chunk, _apart(delta) if len(delta.tool_calls) > 1 else (delta,))
        return b"".join(chunks)

    def _chunk(self, delta: Delta) -> bytes:
        raw: dict[str, Any] = {}
        if not self._started:
            self._started = True
            raw["role"] = "assistant"
            raw["content"] = delta.text or (None if delta.tool_calls else "")
        elif delta.text:
            raw["content"] = delta.text
        if delta.reasoning:
            raw["reasoning_content"] = delta.reasoning
        if delta.refusal:
            raw["refusal"] = delta.refusal
        if delta.tool_calls:
            raw["tool_calls"] = [self._fragment(*fragment) for fragment in delta.tool_calls]
        tail = self._plain_tail
        if delta.logprobs:
            tail = tail.replace(b"null", orjson.dumps(render_logprobs(delta.logprobs)), 1)
        return self._head + orjson.dumps(raw) + tail

    def _fragment(self, index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
        if id and name in self._custom:
            self._custom_calls.add(index)
        kind, field = ("custom", "input") if index in self._custom_calls else ("function", "arguments")
        said: dict[str, Any] = {field: arguments}
        if not id:
            return {"index": index, kind: said}
        return {"index": index, "id": id, "type": kind, kind: {"name": name, **said}}

    def end(
        self, answer: Answer, usage: Usage, served: Usage, stretto: Mapping[str, Any] | None = None
    ) -> bytes:
        """The chunk with `finish_reason` (and the `stretto` block), the usage chunk if it was asked for, and `[DONE]`."""
        chunks = [] if self._started else [self._chunk(Delta())]
        finish = finish_reason(answer.finish, answer.message)
        tail = b',"usage":null' if self._with_usage else b""
        if stretto is not None:
            tail += b',"stretto":' + orjson.dumps(stretto)
        chunks.append(
            b'%b{},"logprobs":null,"finish_reason":"%b"}]%b}\n\n' % (self._head, finish.encode(), tail)
        )
        if self._with_usage:
            counted = orjson.dumps(render_usage(usage, served))
            chunks.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._open, counted))
        chunks.append(b"data: [DONE]\n\n")
        return b"".join(chunks)

    def error(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """An error event. It is the last thing on its stream: no `[DONE]` follows, so no client takes it for a whole answer."""
        return b"data: " + render_error(message, type, code, param) + b"\n\n"

    def progress(self, text: str) -> bytes:
        """A piece of reasoning: clients show it apart from the answer, or not at all."""
        return self._chunk(Delta(reasoning=text)) if self._tells and not self._begun else b""

    def keep_alive(self) -> bytes:
        """A comment for proxies, and an empty delta for clients that count only data; the first of them names the role."""
        if not self._started:
            return b": keep-alive\n\n" + self._chunk(Delta())
        return b": keep-alive\n\n%b{}%b" % (self._head, self._plain_tail)


def _apart(delta: Delta) -> Sequence[Delta]:
    first, *rest = delta.tool_calls
    return [replace(delta, tool_calls=(first,)), *(Delta(tool_calls=(call,)) for call in rest)]


def _says(delta: Delta) -> bool:
    return bool(delta.text or delta.reasoning or delta.tool_calls or delta.refusal or delta.logprobs)


def render_error(message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
    """The body of an error, in OpenAI's shape."""
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})


# --- models ------------------------------------------------------------------------------------------------------


def render_model(id: str, created: int, owned_by: str, card: Card | None = None) -> dict[str, Any]:
    """One entry of the model list; of a worker (`card`) also what is known of it. Prices in USD per million tokens."""
    entry: dict[str, Any] = {"id": id, "object": "model", "created": created, "owned_by": owned_by}
    if card is None:
        return entry
    price: dict[str, float] | None = None
    if card.priced:
        price = {"input": usd(card.price.input * 10**6), "output": usd(card.price.output * 10**6)}
        if card.price.cached is not None:
            price["cached"] = usd(card.price.cached * 10**6)
    return entry | {
        "context_length": card.context,
        "max_output_tokens": card.max_output,
        "abilities": sorted(card.abilities),
        "labels": dict(card.labels),
        "price": price,
        "description": card.description,
    }


def render_models(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """The body of `GET /v1/models`."""
    return orjson.dumps({"object": "list", "data": list(entries)})
