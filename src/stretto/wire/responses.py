"""OpenAI Responses: requests in, answers out. (`responses_stream` writes streams, `responses_upstream` speaks to workers.)

What of a request has to be told back, or is for whoever keeps responses, stands in `Incoming.more` under its own name: also
`input` (raw items) and `references` (ids of earlier items). Instructions are the first message, and are no part of `input`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Answer, Message, Request, Usage
from stretto.wire.base import (
    Incoming,
    expect_bool,
    expect_list,
    expect_object,
    expect_text,
    parse_options,
)
from stretto.wire.base import bearer as credentials
from stretto.wire.chat import render_error
from stretto.wire.fields import SAMPLING, Check, model_name, read_body, sorted_out, whole
from stretto.wire.responses_fields import parse_choice, parse_format, parse_tools
from stretto.wire.responses_items import OWN, parse_input, parse_items, references
from stretto.wire.responses_object import fusion_item, hex_of, response_object, shows_seals, status_of
from stretto.wire.responses_output import Output, unsealed
from stretto.wire.responses_stream import ResponsesStream
from stretto.wire.responses_upstream import parse_failure, parse_reply, reader, render_ask

__all__ = [
    "NAME",
    "ROUTE",
    "ResponsesStream",
    "credentials",
    "input_items",
    "output_items",
    "parse_failure",
    "parse_fields",
    "parse_reply",
    "parse_request",
    "reader",
    "render_ask",
    "render_error",
    "render_response",
    "stream",
    "with_history",
]

NAME: Final = OWN
ROUTE: Final = "/v1/responses"
LOGPROBS: Final = "message.output_text.logprobs"

# --- requests ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Incoming:
    """A `POST /v1/responses` body. Raises `RequestError`; `param` is the path of the field that is wrong.

    `null` means not given. What Stretto does not know goes to `extra`. `previous_response_id`, `conversation`, `background` and
    references to earlier items are only named in `more`: what they mean is for the gateway to say.
    """
    return parse_fields(read_body(body))


def parse_fields(given: Mapping[str, Any]) -> Incoming:
    """A request whose body has been read already. See `parse_request`."""
    params, rest, extra, ignored = sorted_out(given, SAMPLING, _FIELDS)
    for name, check in _CHECKS.items():
        if name in rest:
            check(rest[name], name)
    more = {name: rest[name] for name in _TOLD if name in rest} | params
    items = _items(rest)
    instructions = rest.get("instructions")
    messages = _messages(instructions, parse_input(rest["input"]) if "input" in rest else ())
    elsewhere = any(name in rest for name in ("previous_response_id", "conversation", "prompt"))
    if not messages and not elsewhere and not references(items):
        raise RequestError("`input` is missing or empty.", param="input")
    _reasoning(rest, params, extra, more)
    form = _text(rest, params, extra, more)
    _logprobs(rest, params, extra, more)
    if "parallel_tool_calls" in rest:
        params["parallel_tool_calls"] = rest["parallel_tool_calls"]
    extra |= {name: rest[name] for name in _PASSED if name in rest}
    if "tools" in rest:
        more["tools"] = [_told_tool(tool) for tool in expect_list(rest["tools"], "tools") if tool]
    options = parse_options(rest.get("stretto"))
    request = Request(
        messages=messages,
        model=model_name(given["model"]),
        params=params,
        max_tokens=rest.get("max_output_tokens"),
        tools=parse_tools(rest["tools"]) if "tools" in rest else (),
        tool_choice=parse_choice(rest["tool_choice"]) if "tool_choice" in rest else None,
        response_format=form,
        extra=extra,
        seed=options.seed,
        dial=0.5 if options.dial is None else options.dial,
        limits=options.limits,
        require=options.require,
        exclude=options.exclude,
        wire=NAME,
    )
    more |= {"input": items, "references": references(items)}
    if more.get("service_tier") == "auto":
        more["service_tier"] = "default"
    if isinstance(more.get("conversation"), str):
        more["conversation"] = {"id": more["conversation"]}
    return Incoming(request, bool(rest.get("stream")), True, options, ignored, more)


def _items(rest: Mapping[str, Any]) -> list[Any]:
    """The input as raw items."""
    given = rest.get("input", [])
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return expect_list(given, "input")


def _messages(instructions: str | None, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return messages if instructions is None else (Message("system", instructions), *messages)


def _reasoning(
    rest: Mapping[str, Any], params: dict[str, Any], extra: dict[str, Any], more: dict[str, Any]
) -> None:
    given = {name: value for name, value in rest.get("reasoning", {}).items() if value is not None}
    more["reasoning"] = {"effort": None, "summary": None, **given}
    if "effort" in given:
        params["reasoning_effort"] = expect_text(given.pop("effort"), "reasoning.effort")
    if given:
        extra["reasoning"] = given


def _text(
    rest: Mapping[str, Any], params: dict[str, Any], extra: dict[str, Any], more: dict[str, Any]
) -> Mapping[str, Any] | None:
    given = {name: value for name, value in rest.get("text", {}).items() if value is not None}
    told = {"format": {"type": "text"}, **given}
    form = parse_format(given.pop("format")) if "format" in given else None
    if form is not None and form["type"] == "json_schema":
        told["format"] = {"description": None, "strict": False, **told["format"]}
    if "verbosity" in given:
        params["verbosity"] = expect_text(given.pop("verbosity"), "text.verbosity")
    if given:
        extra["text"] = given
    more["text"] = told
    return form


def _logprobs(
    rest: Mapping[str, Any], params: dict[str, Any], extra: dict[str, Any], more: dict[str, Any]
) -> None:
    """`include` asks for log-probabilities, `top_logprobs` says how many alternatives."""
    wanted = [
        expect_text(name, f"include[{index}]")
        for index, name in enumerate(expect_list(rest.get("include", []), "include"))
    ]
    more["include"] = tuple(wanted)
    if LOGPROBS in wanted:
        params["logprobs"] = True
        if "top_logprobs" in rest:
            params["top_logprobs"] = rest["top_logprobs"]
    others = [name for name in wanted if name != LOGPROBS]
    if others:
        extra["include"] = others


def _told_tool(tool: Any) -> Any:
    """A tool as it is told back: of functions, everything the specification wants."""
    if not isinstance(tool, dict) or tool.get("type") != "function" or "function" in tool:
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def _metadata(value: Any, where: str) -> Any:
    return {name: expect_text(item, f"{where}.{name}") for name, item in expect_object(value, where).items()}


def _conversation(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return value
    return expect_text(expect_object(value, where).get("id"), f"{where}.id")


_CHECKS: Final[Mapping[str, Check]] = {
    "instructions": expect_text,
    "previous_response_id": expect_text,
    "conversation": _conversation,
    "metadata": _metadata,
    "store": expect_bool,
    "background": expect_bool,
    "stream": expect_bool,
    "stream_options": expect_object,
    "truncation": expect_text,
    "service_tier": expect_text,
    "user": expect_text,
    "safety_identifier": expect_text,
    "prompt_cache_key": expect_text,
    "reasoning": expect_object,
    "text": expect_object,
    "parallel_tool_calls": expect_bool,
    "top_logprobs": whole(0, 20),
    "max_output_tokens": whole(1, 2**31 - 1),
    "max_tool_calls": whole(0, 2**31 - 1),
}
"""How fields are checked that are interpreted, or told back."""

_PASSED: Final = (
    "truncation",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "max_tool_calls",
    "prompt",
)
"""Fields that are told back and passed on."""

_TOLD: Final = (
    *_PASSED,
    "instructions",
    "previous_response_id",
    "conversation",
    "metadata",
    "store",
    "background",
    "parallel_tool_calls",
    "top_logprobs",
    "max_output_tokens",
    "tool_choice",
)

_FIELDS: Final = frozenset({*_CHECKS, *_TOLD, "model", "input", "include", "tools", "tool_choice", "stretto"})
"""Fields that are interpreted, besides the parameters."""


# --- what is kept between requests -------------------------------------------------------------------------------


def with_history(
    incoming: Incoming, items: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Incoming:
    """`incoming` as it goes on from earlier raw `items`, references replaced by the items in `found` (by id).

    Instructions of earlier requests are not carried over. Raises `RequestError` for a reference to what is not there.
    """
    own = []
    for index, item in enumerate(incoming.more["input"]):
        named = references([item])
        if named and named[0] not in found:
            raise RequestError(f"Item with id {named[0]!r} not found.", param=f"input[{index}].id")
        own.append(found[named[0]] if named else item)
    messages = _messages(incoming.more.get("instructions"), parse_items([*items, *own]))
    return replace(
        incoming,
        request=replace(incoming.request, messages=messages),
        more={**incoming.more, "input": own, "references": ()},
    )


_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def input_items(id: str, incoming: Incoming) -> list[dict[str, Any]]:
    """The input of the run `id` as full items: each with an id, a type and a status, its content an array."""
    full = []
    for index, raw in enumerate(incoming.more["input"]):
        item = {"type": "message", **raw} if "role" in raw else dict(raw)
        item.setdefault("status", "completed")
        if not isinstance(item.get("id"), str):
            item["id"] = f"{_PREFIXES.get(item.get('type', ''), 'item')}_{hex_of(id)}_in{index}"
        if item.get("type") == "message" and isinstance(item.get("content"), str):
            text = item["content"]
            if item["role"] == "assistant":
                item["content"] = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
            else:
                item["content"] = [{"type": "input_text", "text": text}]
        full.append(item)
    return full


def output_items(id: str, incoming: Incoming, answer: Answer) -> list[dict[str, Any]]:
    """The output of the run `id` as items, seals included, for whoever stores them."""
    output = Output(hex_of(id), incoming.request.tools)
    output.say(answer.message, answer.logprobs)
    output.end(answer.message, status_of(answer)[0] == "incomplete")
    return output.items


# --- answers -----------------------------------------------------------------------------------------------------


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
    items: Sequence[Mapping[str, Any]] = output_items(id, incoming, answer)
    if not shows_seals(incoming):
        items = [unsealed(item) for item in items]
    if (fusion := fusion_item(id, incoming, stretto)) is not None:
        items = [fusion, *items]
    status, details = status_of(answer)
    body = response_object(
        id,
        created,
        incoming,
        status,
        output=items,
        usage=(usage, served),
        details=details,
        completed=created,
        stretto=stretto,
    )
    return orjson.dumps(body)


def stream(id: str, created: int, incoming: Incoming) -> ResponsesStream:
    """A writer for one streamed answer to `incoming`."""
    return ResponsesStream(id, created, incoming)
