"""The pieces that Chat Completions uses in both directions: messages, tool calls, log-probabilities, usage."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Message, Part, TokenLogprob, ToolCall, Usage
from stretto.wire.base import expect_list, expect_object, expect_text
from stretto.wire.progress import without_progress, without_shown_progress
from stretto.wire.tools import wrapped_input

__all__ = [
    "arguments_of",
    "finish_reason",
    "logprobs_of",
    "parse_messages",
    "render_answer",
    "render_logprobs",
    "render_message",
    "said_by_upstream",
    "text_of_parts",
    "usage_of",
]

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_SPEAKERS: Final = frozenset({"system", "developer", "user", "assistant"})
_KNOWN: Final = frozenset(
    {"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "refusal"}
)
_PLAIN: Final = frozenset({"role", "content"})
_RESERVED: Final = frozenset({"chat", "messages", "responses"})
"""Keys of `Message.extra` under which the formats keep what they alone understand."""

# --- callers' messages ---------------------------------------------------------------------------------------------


def parse_messages(value: Any) -> tuple[Message, ...]:
    """The conversation of a caller. Raises `RequestError` with the path of the field that is wrong."""
    messages = expect_list(value, "messages")
    if not messages:
        raise RequestError("`messages` must hold at least one message.", param="messages")
    return tuple([_parse_message(raw, index) for index, raw in enumerate(messages)])


def _parse_message(raw: Any, index: int) -> Message:
    if type(raw) is dict and raw.keys() == _PLAIN:
        role, content = raw["role"], raw["content"]
        if type(content) is str and type(role) is str and role in _SPEAKERS:
            return Message(role, without_shown_progress(content) if role == "assistant" else content)
    where = f"messages[{index}]"
    given = {name: item for name, item in expect_object(raw, where).items() if item is not None}
    role = given.get("role")
    if role is None:
        raise RequestError(f"`{where}.role` is missing.", param=f"{where}.role")
    if expect_text(role, f"{where}.role") not in _ROLES:
        known = ", ".join(sorted(_ROLES))
        raise RequestError(
            f"`{where}.role` must be one of {known}, not {role[:40]!r}.", param=f"{where}.role"
        )
    if "content" not in given and role not in ("assistant", "tool", "function"):
        raise RequestError(f"`{where}.content` is missing.", param=f"{where}.content")
    if role == "tool" and "tool_call_id" not in given:
        raise RequestError(
            f"`{where}.tool_call_id` is missing: a tool's result names the call it answers.",
            param=f"{where}.tool_call_id",
        )
    extra = {name: item for name, item in given.items() if name not in _KNOWN}
    calls = _parse_calls(given.get("tool_calls"), f"{where}.tool_calls", extra)
    reasoning = expect_text(
        given.get("reasoning_content", given.get("reasoning", "")), f"{where}.reasoning_content"
    )
    content = _parse_content(given.get("content"), f"{where}.content")
    if role == "assistant" and isinstance(content, str):
        content = without_shown_progress(content)
    return Message(
        role,
        content,
        calls,
        _text_or(given, "tool_call_id", where, None),
        _text_or(given, "name", where, None),
        without_progress(reasoning),
        _text_or(given, "refusal", where, "") or "",
        extra,
    )


def _text_or(given: Mapping[str, Any], name: str, where: str, otherwise: str | None) -> str | None:
    return expect_text(given[name], f"{where}.{name}") if name in given else otherwise


def _parse_content(value: Any, where: str) -> str | tuple[Part, ...] | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"`{where}` must be a string or an array of parts.", param=where)
    return tuple([_parse_part(raw, f"{where}[{index}]") for index, raw in enumerate(value)])


def _parse_part(raw: Any, where: str) -> Part:
    part = expect_object(raw, where)
    kind = expect_text(part.get("type"), f"{where}.type")
    if kind == "text":
        text = expect_text(part.get("text"), f"{where}.text")
        return Part("text", text, None if len(part) == 2 else part)
    return Part(kind, "", part)


def _parse_calls(value: Any, where: str, extra: dict[str, Any]) -> tuple[ToolCall, ...]:
    """Calls of functions and custom tools. A list that holds other kinds of calls too is kept whole in `extra`."""
    if value is None:
        return ()
    raws = [expect_object(raw, f"{where}[{index}]") for index, raw in enumerate(expect_list(value, where))]
    if any(raw.get("type", "function") not in ("function", "custom") or len(raw) > 3 for raw in raws):
        extra["tool_calls"] = raws
        return ()
    calls = []
    for index, raw in enumerate(raws):
        here = f"{where}[{index}]"
        id_ = expect_text(raw.get("id"), f"{here}.id")
        if raw.get("type") == "custom":
            custom = expect_object(raw.get("custom"), f"{here}.custom")
            name = expect_text(custom.get("name"), f"{here}.custom.name")
            given = expect_text(custom.get("input", ""), f"{here}.custom.input")
            calls.append(ToolCall(id_, name, given, "custom"))
            continue
        function = expect_object(raw.get("function"), f"{here}.function")
        calls.append(
            ToolCall(
                id_,
                expect_text(function.get("name"), f"{here}.function.name"),
                expect_text(function.get("arguments", ""), f"{here}.function.arguments"),
            )
        )
    return tuple(calls)


def render_message(message: Message, *, reasoning: bool = True, own: bool = True) -> dict[str, Any]:
    """A message of a request. `reasoning`: whether the reader takes back what a model thought.

    `own`: its extra fields are this format's. Those of another are left out, and so is what a model said that only that other
    format has words for. Raises `ValueError` for what a caller said and this format cannot say.
    """
    content = message.content
    raw: dict[str, Any] = {"role": message.role}
    if isinstance(content, tuple):
        parts = [_render_part(part, own, message.role) for part in content]
        raw["content"] = [part for part in parts if part is not None] or ("" if parts else [])
    else:
        raw["content"] = content
    if message.tool_calls:
        raw["tool_calls"] = [_render_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        raw["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        raw["name"] = message.name
    if message.refusal:
        raw["refusal"] = message.refusal
    if message.reasoning and reasoning:
        raw["reasoning_content"] = message.reasoning
    if message.extra and own:
        raw |= message.extra
    return raw


def render_answer(message: Message) -> dict[str, Any]:
    """The message of an answer. What only another format has words for (pieces of content, extra fields) is left out."""
    raw: dict[str, Any] = {
        "role": "assistant",
        "content": message.text if isinstance(message.content, tuple) else message.content,
    }
    if message.tool_calls:
        raw["tool_calls"] = [_render_answered(call) for call in message.tool_calls]
    raw["refusal"] = message.refusal or None
    if message.reasoning:
        raw["reasoning_content"] = message.reasoning
    if message.extra:
        raw |= {name: value for name, value in message.extra.items() if name not in _RESERVED}
    return raw


def _render_part(part: Part, own: bool, role: str) -> Mapping[str, Any] | None:
    if part.kind == "text":
        return part.data if own and part.data is not None else {"type": "text", "text": part.text}
    if own or part.kind in ("image_url", "input_audio", "file"):
        return part.data
    if role == "assistant":
        return None
    raise ValueError(f"Chat Completions cannot say a content part of type {part.kind[:40]!r}")


def _render_call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if call.kind == "function" else wrapped_input(call.arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _render_answered(call: ToolCall) -> dict[str, Any]:
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return _render_call(call)


# --- what upstreams say ------------------------------------------------------------------------------------------


def said_by_upstream(raw: Mapping[str, Any]) -> Message:
    """An upstream's `choices[0].message`; what is not as the protocol says is left out."""
    content = raw.get("content")
    reasoning = raw.get("reasoning_content") or raw.get("reasoning")
    thought = reasoning if isinstance(reasoning, str) else ""
    if isinstance(content, list):
        content, thinking = text_of_parts(content)
        thought += thinking
    elif not isinstance(content, str):
        content = None
    if len(raw) == 2:
        return Message("assistant", content, reasoning=thought)
    calls: list[ToolCall] = []
    given = raw.get("tool_calls")
    for index, call in enumerate(given if isinstance(given, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            id_, name = call.get("id"), function.get("name")
            calls.append(
                ToolCall(
                    id_ if isinstance(id_, str) and id_ else f"call_{index}",
                    name if isinstance(name, str) else "",
                    arguments_of(function.get("arguments")) or "{}",
                )
            )
    refusal = raw.get("refusal")
    extra = {
        name: item
        for name, item in raw.items()
        if item is not None and item != [] and name not in _KNOWN and name not in _RESERVED
    }
    return Message(
        "assistant",
        content if content or not calls else None,
        tuple(calls),
        reasoning=thought,
        refusal=refusal if isinstance(refusal, str) else "",
        extra=extra,
    )


def text_of_parts(parts: list[Any]) -> tuple[str, str]:
    """Text and reasoning of an answer that comes as an array of parts (Mistral's reasoning models)."""
    text: list[str] = []
    thought: list[str] = []
    for part in parts:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking" and isinstance(part.get("thinking"), list):
            thought.append(text_of_parts(part["thinking"])[0])
        elif isinstance(part.get("text"), str):
            text.append(part["text"])
    return "".join(text), "".join(thought)


def arguments_of(value: Any) -> str:
    """A call's arguments as JSON text; some servers send an object."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else ""


def logprobs_of(raw: Any) -> tuple[TokenLogprob, ...]:
    """`choices[0].logprobs`, as far as it is well formed."""
    content = raw.get("content") if isinstance(raw, dict) else None
    if not isinstance(content, list):
        return ()
    found = []
    for item in content:
        pair = _token(item)
        if pair is not None:
            top = item.get("top_logprobs")
            others = [_token(other) for other in top] if isinstance(top, list) else []
            found.append(
                TokenLogprob(pair[0], pair[1], tuple(other for other in others if other is not None))
            )
    return tuple(found)


def _token(raw: Any) -> tuple[str, float] | None:
    if not isinstance(raw, dict):
        return None
    token, logprob = raw.get("token"), raw.get("logprob")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    return token, float(logprob)


def render_logprobs(logprobs: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    """The `logprobs` object of a choice."""
    return {
        "content": [
            {
                "token": item.token,
                "logprob": item.logprob,
                "bytes": list(item.token.encode()),
                "top_logprobs": [
                    {"token": token, "logprob": logprob, "bytes": list(token.encode())}
                    for token, logprob in item.top
                ],
            }
            for item in logprobs
        ],
        "refusal": None,
    }


def usage_of(raw: Any) -> Usage | None:
    """An upstream's `usage`. Where its total is more than its parts, the rest is output.

    (Some vendors leave reasoning tokens out of `completion_tokens`, but bill them.)
    """
    if type(raw) is not dict:
        return None
    given, written = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    written = max(written, _count(raw.get("total_tokens")) - given)
    if not given and not written:
        return None
    cached = reasoning = 0
    details = raw.get("prompt_tokens_details")
    if type(details) is dict:
        cached = _count(details.get("cached_tokens"))
    elif "prompt_cache_hit_tokens" in raw:
        cached = _count(raw["prompt_cache_hit_tokens"])
    details = raw.get("completion_tokens_details")
    if type(details) is dict:
        reasoning = _count(details.get("reasoning_tokens"))
    return Usage(given, written, min(cached, given), min(reasoning, written))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 1 << 40 else 0


_FINISH: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
}


def finish_reason(given: str, message: Message) -> str:
    """How an answer ended, in Chat Completions' words.

    Derived from what the answer holds: `tool_calls` exactly if it makes some and was not cut short.
    """
    finish = _FINISH.get(given.lower(), "stop")
    if message.tool_calls:
        return finish if finish in ("length", "content_filter") else "tool_calls"
    return "stop" if finish == "tool_calls" and "tool_calls" not in message.extra else finish
