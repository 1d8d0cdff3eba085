"""The pieces that Anthropic Messages uses in both directions: messages and their content blocks, usage, stop reasons.

What only this format understands of a message stands in `Message.extra["messages"]`: the `order` of blocks that are not in the
usual one, fields of tool calls (`calls`, by their place), of tool results and of the message itself (`fields`),
`stop_sequence`, `stop_reason`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import orjson

from stretto.errors import RequestError
from stretto.types import Message, Part, Thought, ToolCall, Usage
from stretto.wire.base import bounded_json, expect_list, expect_object, expect_text
from stretto.wire.chat_parts import finish_reason
from stretto.wire.seals import closed, opened

__all__ = [
    "ANSWERED",
    "OWN",
    "PROGRESS",
    "REASONING",
    "Showing",
    "answer_blocks",
    "finish_of",
    "message_of_answer",
    "own_fields",
    "parse_messages",
    "parse_system",
    "render_conversation",
    "render_part",
    "render_thought",
    "render_usage",
    "shows",
    "stop_of",
    "usage_of",
]

OWN: Final = "messages"
"""The key of `Message.extra` under which this format keeps what no other understands."""

PROGRESS: Final = "stretto-progress"
"""The signature of thinking that tells of orchestration; it is left out when it comes back."""
REASONING: Final = "stretto-reasoning"
"""The signature of thinking that no provider has sealed; only its text counts when it comes back."""

ANSWERED: Final = re.compile(
    r"server_tool_use|mcp_tool_use|container_upload|compaction|fallback|[a-z_]+_tool_result"
)
"""Kinds of blocks that an answer may hold beside text, thinking and tool calls."""

_USUAL: Final = re.compile("r*p*c*")
_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
_DATA_URL: Final = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,(.*)", re.DOTALL)
_NOT_GIVEN: Final[Mapping[str, Any]] = {}


# --- thinking ------------------------------------------------------------------------------------------------------

Showing = Literal["no", "omitted", "yes"]
"""What a caller has asked to see of thinking. Those who have not asked take the first block of an answer for the answer."""


def _parse_thought(block: Mapping[str, Any], where: str) -> tuple[Thought | None, str]:
    """A thinking block: what must go back to the model that wrote it, and what may be read of it."""
    if block["type"] == "redacted_thinking":
        sealed = expect_text(block.get("data"), f"{where}.data")
        return opened(sealed) or Thought(sealed=sealed, wire=OWN), ""
    text = expect_text(block.get("thinking", ""), f"{where}.thinking")
    signature = expect_text(block.get("signature") or "", f"{where}.signature")
    if signature == PROGRESS:
        return None, ""
    if signature in ("", REASONING):
        return None, text
    return opened(signature, text) or Thought(text, signature, wire=OWN), text


def shows(thought: Thought, showing: Showing) -> bool:
    """Whether a sealed thought goes out: this format's own always, since it has to come back; others if thinking is wanted."""
    return thought.wire == OWN or (showing != "no" and bool(thought.sealed or thought.signature))


def render_thought(thought: Thought, seal: str, text: bool = True) -> dict[str, Any]:
    """A sealed thought as a block; `text`: with what may be read of it."""
    if thought.sealed and not thought.text:
        return {"type": "redacted_thinking", "data": seal}
    return {"type": "thinking", "thinking": thought.text if text else "", "signature": seal}


# --- content blocks ------------------------------------------------------------------------------------------------


def _part_of(block: Mapping[str, Any], where: str) -> Part:
    """A content block of a user, of the system or of a tool's result. Raises `RequestError` with the path of what is wrong."""
    kind = block["type"]
    if kind == "text":
        return Part("text", expect_text(block.get("text"), f"{where}.text"), None, _rest(block, "text"))
    if kind == "image":
        source = _source(block, where)
        if source["type"] in ("base64", "url"):
            image = {"type": "image_url", "image_url": {"url": _address(source, f"{where}.source")}}
            return Part("image_url", "", image, _rest(block, "source"))
    if kind == "document":
        source = _source(block, where)
        if source["type"] == "base64":
            name = block.get("title")
            file = {
                "filename": name if isinstance(name, str) and name else "document.pdf",
                "file_data": _address(source, f"{where}.source"),
            }
            return Part("file", "", {"type": "file", "file": file}, _rest(block, "source"))
        if source["type"] == "text":
            text = expect_text(source.get("data"), f"{where}.source.data")
            return Part("text", text, None, {"block": block})
        if source["type"] == "content":
            return Part(
                "text", _readable(source.get("content"), f"{where}.source.content"), None, {"block": block}
            )
    if kind == "search_result":
        return Part("text", _readable(block.get("content"), f"{where}.content"), None, {"block": block})
    return Part(kind, "", block)


def _rest(block: Mapping[str, Any], *taken: str) -> Mapping[str, Any]:
    if len(block) == 1 + len(taken):
        return _NOT_GIVEN
    return {
        name: value
        for name, value in block.items()
        if name != "type" and name not in taken and value is not None
    }


def _source(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    source = expect_object(block.get("source"), f"{where}.source")
    expect_text(source.get("type"), f"{where}.source.type")
    return source


def _address(source: Mapping[str, Any], where: str) -> str:
    """An image or document as an address: a URL, or its bytes as a data URL."""
    if source["type"] == "url":
        return expect_text(source.get("url"), f"{where}.url")
    kind = expect_text(source.get("media_type"), f"{where}.media_type")
    return f"data:{kind};base64,{expect_text(source.get('data'), f'{where}.data')}"


def _readable(content: Any, where: str) -> str:
    """The text of a block's own content, for models behind another format."""
    if isinstance(content, str):
        return content
    given = [] if content is None else expect_list(content, where)
    found = [each.get("text") for each in given if isinstance(each, dict)]
    return "\n".join(text for text in found if isinstance(text, str))


def own_fields(message: Message) -> Mapping[str, Any]:
    """What this format keeps of a message that no other understands."""
    own = message.extra.get(OWN)
    return own if isinstance(own, dict) else _NOT_GIVEN


def render_part(part: Part, same: bool) -> dict[str, Any] | None:
    """A part as a content block; `None` for empty text. `same`: its `extra` is this format's.

    Raises `ValueError` for what cannot be said.
    """
    more = part.extra if same else _NOT_GIVEN
    data = part.data or _NOT_GIVEN
    match part.kind:
        case "text":
            if "block" in more:
                return dict(more["block"])
            return {"type": "text", "text": part.text, **more} if part.text else None
        case "image_url":
            image = data.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            return {"type": "image", "source": _source_of(url), **more}
        case "file":
            file = data.get("file")
            file = file if isinstance(file, dict) else {}
            source = _source_of(file.get("file_data"))
            if source.get("media_type", "").startswith("image/"):
                return {"type": "image", "source": source, **more}
            title = {"title": file["filename"]} if file.get("filename") and not same else {}
            return {"type": "document", "source": source, **title, **more}
    if not same:
        raise ValueError(f"Messages cannot say a content part of type {part.kind[:40]!r}")
    return dict(data)


def _source_of(url: Any) -> dict[str, Any]:
    if not isinstance(url, str) or not url:
        raise ValueError("Messages takes images and files as addresses or data URLs only")
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise ValueError("Messages takes data URLs in base64 only")
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _content(parts: Sequence[Part]) -> str | tuple[Part, ...]:
    """Content as short as it can be said: one plain text is a string."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].kind == "text" and not parts[0].extra:
        return parts[0].text
    return tuple(parts)


# --- callers' messages ---------------------------------------------------------------------------------------------


def parse_system(value: Any, where: str = "system") -> Message:
    """The system prompt, a string or blocks. Raises `RequestError`."""
    if isinstance(value, str):
        return Message("system", value)
    return Message("system", _content([_part_of(block, here) for block, here in _blocks(value, where)]))


def parse_messages(value: Any) -> tuple[Message, ...]:
    """The conversation of a caller. Raises `RequestError` with the path of the field that is wrong.

    A user's message with tool results becomes one message for each of them, and one of what else it holds.
    """
    given = expect_list(value, "messages")
    if not given:
        raise RequestError("`messages` must hold at least one message.", param="messages")
    found: list[Message] = []
    for index, item in enumerate(given):
        where = f"messages[{index}]"
        raw = expect_object(item, where)
        role = expect_text(raw.get("role"), f"{where}.role")
        if role not in ("user", "assistant", "system"):
            raise RequestError(
                f"`{where}.role` must be user or assistant, not {role[:40]!r}.", param=f"{where}.role"
            )
        content = raw.get("content")
        more = {
            name: each for name, each in raw.items() if name not in ("role", "content") and each is not None
        }
        own = {"fields": more} if more else {}
        if isinstance(content, str):
            found.append(Message(role, content, extra={OWN: own} if own else {}))
            continue
        blocks = _blocks(content, f"{where}.content")
        if role == "assistant":
            found.append(_assistant(blocks, own))
        else:
            found += _results_and_rest(role, blocks, own)
    return tuple(found)


def _blocks(value: Any, where: str) -> list[tuple[dict[str, Any], str]]:
    if not isinstance(value, list):
        raise RequestError(f"`{where}` must be a string or an array of content blocks.", param=where)
    found = []
    for index, raw in enumerate(value):
        here = f"{where}[{index}]"
        block = expect_object(raw, here)
        expect_text(block.get("type"), f"{here}.type")
        found.append((block, here))
    return found


def _results_and_rest(
    role: str, blocks: Sequence[tuple[dict[str, Any], str]], own: Mapping[str, Any]
) -> list[Message]:
    results: list[Message] = []
    parts: list[Part] = []
    for block, where in blocks:
        if block["type"] != "tool_result" or role != "user":
            parts.append(_part_of(block, where))
            continue
        call = expect_text(block.get("tool_use_id"), f"{where}.tool_use_id")
        content = block.get("content")
        if not isinstance(content, str):
            inner = _blocks(content if content is not None else [], f"{where}.content")
            content = _content([_part_of(each, here) for each, here in inner])
        more = _rest(block, "tool_use_id", "content")
        results.append(Message("tool", content, (), call, extra={OWN: {"fields": more}} if more else {}))
    if parts or not results:
        results.append(Message(role, _content(parts), extra={OWN: own} if own else {}))
    return results


def _assistant(blocks: Sequence[tuple[dict[str, Any], str]], own: dict[str, Any]) -> Message:
    """What a model has said, as it stands in a history or an answer."""
    thoughts: list[Thought] = []
    parts: list[Part] = []
    calls: list[ToolCall] = []
    reasoning: list[str] = []
    order: list[str] = []
    fields: dict[str, Any] = {}
    for block, where in blocks:
        kind = block["type"]
        if kind in ("thinking", "redacted_thinking"):
            thought, text = _parse_thought(block, where)
            reasoning.append(text)
            if thought is not None:
                thoughts.append(thought)
                order.append("r")
        elif kind == "tool_use":
            id_ = expect_text(block.get("id"), f"{where}.id")
            name = expect_text(block.get("name"), f"{where}.name")
            given = expect_object(block.get("input") or {}, f"{where}.input")
            calls.append(ToolCall(id_, name, orjson.dumps(given).decode()))
            order.append("c")
            if more := _rest(block, "id", "name", "input"):
                fields[str(len(calls) - 1)] = more  # by its place, since ids change on the way
        else:
            part = _part_of(block, where)
            if part.text or part.kind != "text" or part.extra:  # empty text may not be sent back
                parts.append(part)
                order.append("p")
    sequence = "".join(order)
    if _USUAL.fullmatch(sequence) is None:
        own["order"] = sequence
    if fields:
        own["calls"] = fields
    content = _content(parts) if parts or not calls else None
    return Message(
        "assistant",
        content,
        tuple(calls),
        reasoning="".join(reasoning),
        extra={OWN: own} if own else {},
        thoughts=tuple(thoughts),
    )


def message_of_answer(content: Sequence[Any]) -> Message:
    """An upstream's `content`; blocks that are not as the protocol says are left out."""
    fit: list[tuple[dict[str, Any], str]] = []
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            continue
        if block["type"] == "tool_use" and not isinstance(block.get("input"), dict):
            block = {**block, "input": {}}
        try:
            _assistant([(block, "")], {})
        except RequestError:
            continue
        fit.append((block, ""))
    message = _assistant(fit, {})
    parts = message.content
    plain = isinstance(parts, tuple) and all(part.kind == "text" and not part.extra for part in parts)
    if plain and "order" not in own_fields(message):
        parts = message.text
    return Message(
        "assistant",
        parts,
        message.tool_calls,
        reasoning=message.reasoning,
        extra=message.extra,
        thoughts=message.thoughts,
    )


# --- messages as blocks ----------------------------------------------------------------------------------------------


def render_conversation(
    messages: Sequence[Message], same: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """The system prompt's blocks, the messages, and whether system messages were moved up from among the others.

    `same`: the caller spoke this format, too. Neighbours of one role become one message; tool results come first in theirs.
    Raises `ValueError` for what cannot be said.
    """
    system: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    moved = False
    for message in messages:
        role = {"developer": "system", "tool": "user", "function": "user"}.get(message.role, message.role)
        own = own_fields(message) if same else _NOT_GIVEN
        if message.role in ("tool", "function"):
            blocks = [_result(message, own, same)]
        elif role == "assistant":
            blocks = _spoken(message, own, same)
        else:
            blocks = _rendered(message.content, same)
        if role == "system" and not (same and found):
            system += blocks
            moved = moved or bool(found and blocks)
            continue
        if not blocks:
            continue
        if found and found[-1]["role"] == role:
            last = found[-1]["content"]
            at = len(last) if message.role not in ("tool", "function") else _results(last)
            last[at:at] = blocks
        else:
            found.append({"role": role, "content": blocks})
        found[-1] |= own.get("fields", _NOT_GIVEN) if message.role not in ("tool", "function") else _NOT_GIVEN
    if not found and system:
        system, found = [], [{"role": "user", "content": system}]
    for each in found:
        each["content"] = _shortened(each["content"])
    return system, found, moved


def _results(blocks: Sequence[Mapping[str, Any]]) -> int:
    """How many tool results there are at the beginning."""
    return next((index for index, block in enumerate(blocks) if block["type"] != "tool_result"), len(blocks))


def _shortened(blocks: list[dict[str, Any]]) -> Any:
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def _rendered(content: str | tuple[Part, ...] | None, same: bool) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for part in content or () if (block := render_part(part, same)) is not None]


def _said(content: str | tuple[Part, ...] | None, same: bool) -> list[dict[str, Any]]:
    """What a model said; pieces that only another format has words for are left out."""
    if not same and isinstance(content, tuple):
        content = tuple(part for part in content if part.kind in ("text", "image_url", "file"))
    return _rendered(content, same)


def _result(message: Message, own: Mapping[str, Any], same: bool) -> dict[str, Any]:
    content = message.content
    block = {"type": "tool_result", "tool_use_id": _safe(message.tool_call_id or message.name or "")}
    if content:
        return {
            **block,
            "content": content if isinstance(content, str) else _rendered(content, same),
            **own.get("fields", {}),
        }
    return {**block, **own.get("fields", {})}


def _safe(id_: str) -> str:
    """A call's id in the characters that Anthropic allows."""
    return _ID.sub("_", id_) or "_"


def _spoken(message: Message, own: Mapping[str, Any], same: bool) -> list[dict[str, Any]]:
    """What a model said earlier, as its history goes to an upstream: seals as they came, reasoning without one left out."""
    thoughts = [
        render_thought(thought, thought.signature or thought.sealed)
        for thought in message.thoughts
        if thought.wire == OWN
    ]
    parts = _said(message.content, same)
    if message.refusal:
        parts.append({"type": "text", "text": message.refusal})
    return _in_order(own.get("order", ""), thoughts, parts, _uses(message, own, _safe))


def _uses(message: Message, own: Mapping[str, Any], named: Any) -> list[dict[str, Any]]:
    fields = own.get("calls", _NOT_GIVEN)
    return [
        {
            "type": "tool_use",
            "id": named(call.id),
            "name": call.name,
            "input": _input(call),
            **fields.get(str(index), _NOT_GIVEN),
        }
        for index, call in enumerate(message.tool_calls)
    ]


def _input(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as the object they have to be here. (Anthropic's own advice for text that is none is this key.)"""
    if call.kind == "custom":
        return {"input": call.arguments}
    try:
        found = bounded_json((call.arguments or "{}").encode())
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": call.arguments}


def _in_order(order: str, *groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thoughts, parts and calls in the order they had, the usual one where none is known."""
    waiting = dict(zip("rpc", map(iter, groups), strict=True))
    found = [
        block for letter in order if letter in waiting and (block := next(waiting[letter], None)) is not None
    ]
    for letter in "rpc":
        found += waiting[letter]
    return found


# --- answers ---------------------------------------------------------------------------------------------------------


def answer_blocks(message: Message, showing: Showing) -> list[dict[str, Any]]:
    """The content of an answer, with as much of its thinking as its caller wants to see."""
    own = own_fields(message)
    thoughts = [
        render_thought(each, closed(each, OWN), each.wire == OWN or showing == "yes")
        for each in message.thoughts
        if shows(each, showing)
    ]
    if not thoughts and showing == "yes" and message.reasoning:
        thoughts = [{"type": "thinking", "thinking": message.reasoning, "signature": REASONING}]
    parts = []
    for part in message.content if isinstance(message.content, tuple) else (Part("text", message.text),):
        if part.kind == "text" or ANSWERED.fullmatch(part.kind):
            parts += [block] if (block := render_part(part, True)) is not None else []
    if message.refusal:
        parts.append({"type": "text", "text": message.refusal})
    return _in_order(own.get("order", ""), thoughts, parts, _uses(message, own, str))


_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOP: Final = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def finish_of(reason: str, message: Message) -> str:
    """How an upstream's answer ended, in the words of `Answer.finish`, derived from what it holds."""
    return finish_reason(_FINISH.get(reason, "stop"), message)


def stop_of(finish: str, message: Message) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence` of an answer, derived from what it holds."""
    found = finish_reason(finish, message)
    own = own_fields(message)
    if found != "stop":
        return _STOP.get(found, "end_turn"), None
    if message.refusal:
        return "refusal", None
    if own.get("stop_sequence") is not None:
        return "stop_sequence", own["stop_sequence"]
    return own.get("stop_reason", "end_turn"), None


# --- usage -----------------------------------------------------------------------------------------------------------


def usage_of(raw: Any) -> Usage | None:
    """An upstream's `usage`; `None` if it tells nothing. Tokens read from a cache and written to one are input, too."""
    if type(raw) is not dict:
        return None
    cached = _count(raw.get("cache_read_input_tokens"))
    given = _count(raw.get("input_tokens")) + cached + _count(raw.get("cache_creation_input_tokens"))
    written = _count(raw.get("output_tokens"))
    if not given and not written:
        return None
    details = raw.get("output_tokens_details")
    thought = _count(details.get("thinking_tokens")) if type(details) is dict else 0
    return Usage(given, written, cached, min(thought, written))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 1 << 40 else 0


def render_usage(usage: Usage, served: Usage) -> dict[str, Any]:
    """The `usage` object: true totals, and what of them orchestration took (all attempts but the one that answered)."""
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "orchestration_input_tokens": usage.input - served.input,
        "orchestration_input_cached_tokens": usage.cached - served.cached,
        "orchestration_output_tokens": usage.output - served.output,
    }
