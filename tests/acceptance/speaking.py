"""How the tame upstream writes its answers: Chat Completions, Messages and Responses, whole and streamed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Turn", "render", "stream"]

_CHAT_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_ITEM_USAGE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A text, or calls: id, name, arguments."""

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()


def render(wire: str, model: str, turn: Turn) -> Mapping[str, Any]:
    """A whole answer."""
    if wire == "completions":
        message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
        if turn.calls:
            message["tool_calls"] = [_function(*call) for call in turn.calls]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "tool_calls" if turn.calls else "stop",
        }
        head = {"id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": model}
        return {**head, "choices": [choice], "usage": _CHAT_USAGE}
    if wire == "messages":
        return {
            **_message(model),
            "content": [_block(*call) for call in turn.calls] or [{"type": "text", "text": turn.text}],
            "stop_reason": "tool_use" if turn.calls else "end_turn",
            "usage": {"input_tokens": 11, "output_tokens": 7},
        }
    return _response(model, _items(turn))


def stream(wire: str, model: str, turn: Turn, usage: bool) -> bytes:
    """All events of a streamed answer."""
    if wire == "completions":
        events = [f"data: {json.dumps(event)}\n\n" for event in _chat_chunks(model, turn, usage)]
        return "".join([*events, "data: [DONE]\n\n"]).encode()
    found = _message_events(model, turn) if wire == "messages" else _response_events(model, turn)
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in found).encode()


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _function(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _chat_chunks(model: str, turn: Turn, usage: bool) -> Iterator[Mapping[str, Any]]:
    head = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> Mapping[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if not turn.calls:
        for half in _halves(turn.text):
            yield chunk({"content": half})
    for index, (id, name, arguments) in enumerate(turn.calls):
        one, two = _halves(arguments)
        yield chunk({"tool_calls": [{"index": index, **_function(id, name, one)}]})
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": two}}]})
    yield chunk({}, "tool_calls" if turn.calls else "stop")
    if usage:
        yield {**head, "choices": [], "usage": _CHAT_USAGE}


def _message(model: str) -> dict[str, Any]:
    head = {"id": "msg_up", "type": "message", "role": "assistant", "model": model}
    return {**head, "stop_sequence": None}


def _block(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}


def _message_events(model: str, turn: Turn) -> Iterator[Mapping[str, Any]]:
    usage = {"input_tokens": 11, "output_tokens": 1}
    begun = {**_message(model), "content": [], "stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": begun}
    blocks: list[tuple[Mapping[str, Any], str, str, str]] = [
        ({**_block(*call), "input": {}}, "input_json_delta", "partial_json", call[2]) for call in turn.calls
    ] or [({"type": "text", "text": ""}, "text_delta", "text", turn.text)]
    for index, (block, kind, key, whole) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for half in _halves(whole):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: half}}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": "tool_use" if turn.calls else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}
    yield {"type": "message_stop"}


def _items(turn: Turn) -> list[dict[str, Any]]:
    if not turn.calls:
        part = {"type": "output_text", "text": turn.text, "annotations": []}
        message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
        return [{**message, "content": [part]}]
    kind = {"type": "function_call", "status": "completed"}
    return [
        {**kind, "id": f"fc_{index}", "call_id": id, "name": name, "arguments": arguments}
        for index, (id, name, arguments) in enumerate(turn.calls)
    ]


def _response(model: str, items: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "output": items,
        "usage": _ITEM_USAGE if status == "completed" else None,
    }


def _response_events(model: str, turn: Turn) -> Iterator[Mapping[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(model, [], "in_progress")}
    ]
    for index, item in enumerate(_items(turn)):
        at = {"item_id": item["id"], "output_index": index}
        call = item["type"] == "function_call"
        begun = {**item, "status": "in_progress", **({"arguments": ""} if call else {"content": []})}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        if call:
            for half in _halves(item["arguments"]):
                events.append({"type": "response.function_call_arguments.delta", **at, "delta": half})
            done = {"type": "response.function_call_arguments.done", **at}
            events.append({**done, "arguments": item["arguments"], "name": item["name"]})
        else:
            at["content_index"] = 0
            part = item["content"][0]
            events.append({"type": "response.content_part.added", **at, "part": {**part, "text": ""}})
            for half in _halves(part["text"]):
                events.append({"type": "response.output_text.delta", **at, "delta": half, "logprobs": []})
            events.append({"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []})
            events.append({"type": "response.content_part.done", **at, "part": part})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": _response(model, _items(turn))})
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}
