"""Anthropic Messages: requests in, answers out. (`messages_stream` writes streams, `messages_upstream` asks workers.)"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Answer, Card, Request, Usage
from stretto.wire.base import (
    Incoming,
    expect_bool,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    parse_options,
)
from stretto.wire.fields import Check, model_name, number, read_body, sorted_out, whole
from stretto.wire.messages_parts import (
    Showing,
    answer_blocks,
    parse_messages,
    parse_system,
    render_usage,
    stop_of,
)
from stretto.wire.messages_stream import MessagesStream, render_error
from stretto.wire.messages_upstream import credentials, parse_failure, parse_reply, reader, render_ask

__all__ = [
    "NAME",
    "ROUTE",
    "credentials",
    "message_id",
    "parse_failure",
    "parse_reply",
    "parse_request",
    "reader",
    "render_ask",
    "render_error",
    "render_model",
    "render_models",
    "render_response",
    "showing",
    "stream",
    "with_betas",
]

NAME: Final = "messages"
ROUTE: Final = "/v1/messages"

# --- requests ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Incoming:
    """A `POST /v1/messages` body, or one of its `/count_tokens`. Raises `RequestError`; `param` is the path of the wrong field.

    `null` means not given. What Stretto does not know goes to `extra`, and so do `thinking`, `output_config` and what tools say
    beside name, description and schema (`tool_fields`, by name), since models of this format are to get them as they came.
    """
    given = read_body(body)
    if "messages" not in given:
        raise RequestError("`messages` is missing.", param="messages")
    params, rest, extra, ignored = sorted_out(given, _PARAMS, _FIELDS)
    ignored += tuple(name for name in _OURS if extra.pop(name, None) is not None)
    params = {_NAMES.get(name, name): value for name, value in params.items()}
    if (effort := _effort(rest)) is not None:
        params["reasoning_effort"] = effort
    config = {name: each for name, each in rest.get("output_config", {}).items() if name != "format"}
    extra |= {
        name: each for name, each in (("thinking", rest.get("thinking")), ("output_config", config)) if each
    }
    tools, fields = _tools(rest["tools"]) if "tools" in rest else ((), {})
    if fields:
        extra["tool_fields"] = fields
    choice = None
    if "tool_choice" in rest:
        choice, parallel = _tool_choice(rest["tool_choice"])
        if not parallel:
            params["parallel_tool_calls"] = False
    messages = parse_messages(given["messages"])
    if "system" in rest:
        messages = (parse_system(rest["system"]), *messages)
    cap = rest.get("max_tokens")
    if cap is not None:
        cap = expect_number(cap, "max_tokens", least=1, most=2**31 - 1, whole=True)
    options = parse_options(rest.get("stretto"))
    streaming = "stream" in rest and expect_bool(rest["stream"], "stream")
    request = Request(
        messages=messages,
        model=model_name(given["model"]),
        params=params,
        max_tokens=cap,
        tools=tools,
        tool_choice=choice,
        response_format=_response_format(rest),
        extra=extra,
        seed=options.seed,
        dial=0.5 if options.dial is None else options.dial,
        limits=options.limits,
        require=options.require,
        exclude=options.exclude,
        wire=NAME,
    )
    return Incoming(request, streaming, True, options, ignored)


def _stops(value: Any, where: str) -> Any:
    return [expect_text(item, f"{where}[{index}]") for index, item in enumerate(expect_list(value, where))]


_PARAMS: Final[Mapping[str, Check]] = {
    "temperature": number(0, 1),
    "top_p": number(0, 1),
    "top_k": whole(-1, 2**31 - 1),
    "stop_sequences": _stops,
}
_NAMES: Final = {"stop_sequences": "stop"}
_FIELDS: Final = frozenset(
    {
        "messages",
        "model",
        "system",
        "stream",
        "max_tokens",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "stretto",
    }
)

_OURS: Final = ("betas", "tool_fields")
"""Names in `extra` under which we keep what came elsewhere; a field of that name would be taken for it."""

_EFFORTS: Final = {"xhigh": "high", "max": "high"}
"""Efforts that servers behind other formats rarely know, and what stands for them there."""


def _effort(rest: Mapping[str, Any]) -> str | None:
    """`reasoning_effort` as the request's `thinking` and `output_config.effort` imply it; `None` if they say nothing.

    A budget up to 2,048 tokens is low, up to 8,192 medium, above it high.
    """
    thinking = expect_object(rest.get("thinking", {}), "thinking")
    kind = expect_text(thinking.get("type", ""), "thinking.type")
    config = expect_object(rest.get("output_config", {}), "output_config")
    if kind == "disabled":
        return None
    if config.get("effort") is not None:
        effort = expect_text(config["effort"], "output_config.effort")
        return _EFFORTS.get(effort, effort)
    if kind != "enabled":
        return None
    budget = expect_number(thinking.get("budget_tokens"), "thinking.budget_tokens", least=1, whole=True)
    return "low" if budget <= 2048 else "medium" if budget <= 8192 else "high"


def _response_format(rest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the answer has to follow: `output_config.format`, or `output_format` as it was called before."""
    where, form = "output_config.format", rest.get("output_config", {}).get("format")
    if form is None:
        where, form = "output_format", rest.get("output_format")
    if form is None:
        return None
    form = expect_object(form, where)
    if expect_text(form.get("type"), f"{where}.type") != "json_schema":
        raise RequestError(f"`{where}.type` must be json_schema.", param=f"{where}.type")
    schema = expect_object(form.get("schema"), f"{where}.schema")
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _tools(value: Any) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Any]]:
    """The tools, and what they say that only this format knows. Tools that Anthropic's servers run are kept as they are."""
    found: list[Mapping[str, Any]] = []
    fields: dict[str, Any] = {}
    for index, raw in enumerate(expect_list(value, "tools")):
        where = f"tools[{index}]"
        tool = expect_object(raw, where)
        if tool.get("type") not in (None, "custom"):
            expect_text(tool["type"], f"{where}.type")
            found.append(tool)
            continue
        name = expect_text(tool.get("name"), f"{where}.name")
        function: dict[str, Any] = {"name": name}
        if tool.get("description") is not None:
            function["description"] = expect_text(tool["description"], f"{where}.description")
        function["parameters"] = expect_object(tool.get("input_schema"), f"{where}.input_schema")
        if tool.get("strict") is not None:
            function["strict"] = expect_bool(tool["strict"], f"{where}.strict")
        found.append({"type": "function", "function": function})
        more = {key: each for key, each in tool.items() if key not in _TOOL and each is not None}
        if more:
            fields[name] = more
    return tuple(found), fields


_TOOL: Final = frozenset({"name", "description", "input_schema", "strict"})


def _tool_choice(value: Any) -> tuple[Any, bool]:
    """The choice in Chat Completions' words, and whether several calls at once are wanted."""
    choice = expect_object(value, "tool_choice")
    kind = expect_text(choice.get("type"), "tool_choice.type")
    single = choice.get("disable_parallel_tool_use")
    parallel = single is None or not expect_bool(single, "tool_choice.disable_parallel_tool_use")
    if kind == "tool":
        name = expect_text(choice.get("name"), "tool_choice.name")
        return {"type": "function", "function": {"name": name}}, parallel
    known = {"auto": "auto", "any": "required", "none": "none"}
    if kind not in known:
        raise RequestError(
            f"`tool_choice.type` must be auto, any, tool or none, not {kind[:40]!r}.",
            param="tool_choice.type",
        )
    return known[kind], parallel


def with_betas(request: Request, header: str) -> Request:
    """The request with the features that its `anthropic-beta` header names: an upstream of this format has to know them."""
    named = [each.strip() for each in header.split(",")]
    return replace(request, extra={**request.extra, "betas": [each for each in named if each]})


# --- answers -----------------------------------------------------------------------------------------------------


def message_id(id: str) -> str:
    """The id of an answer, by that of its run."""
    return "msg_" + id.removeprefix("run_")


def showing(request: Request) -> Showing:
    """What a caller has asked to see of thinking."""
    thinking = request.extra.get("thinking", {})
    if thinking.get("type", "disabled") == "disabled":
        return "no"
    return "omitted" if thinking.get("display") == "omitted" else "yes"


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
    reason, sequence = stop_of(answer.finish, answer.message)
    body: dict[str, Any] = {
        "id": message_id(id),
        "type": "message",
        "role": "assistant",
        "model": incoming.request.model,
        "content": answer_blocks(answer.message, showing(incoming.request)),
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": render_usage(usage, served),
    }
    if stretto is not None:
        body["stretto"] = stretto
    return orjson.dumps(body)


def stream(id: str, created: int, incoming: Incoming) -> MessagesStream:
    """A writer for one streamed answer to `incoming`."""
    shown, tells = showing(incoming.request), incoming.options.progress
    return MessagesStream(
        message_id(id), incoming.request.model, shown, shown == "yes" if tells is None else tells
    )


def render_model(card: Card) -> dict[str, Any]:
    """One entry of the model list. When a model was made is not known, which Anthropic's shape writes as the epoch."""
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.id,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": card.context,
        "max_tokens": card.max_output,
    }


def render_models(cards: list[Card]) -> bytes:
    """The body of `GET /v1/models` for callers who speak this format."""
    entries = [render_model(card) for card in cards]
    ends = {"first_id": cards[0].id if cards else None, "last_id": cards[-1].id if cards else None}
    return orjson.dumps({"data": entries, "has_more": False, **ends})
