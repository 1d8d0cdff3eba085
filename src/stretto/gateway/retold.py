"""The events of a stored response, made anew from what it says: for those who ask for its stream when it is over."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

__all__ = ["ends", "last_event", "retold"]

_Event = tuple[str, dict[str, Any]]

_CALLS: Final = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}
_ENDS: Final = {"completed": "response.completed", "incomplete": "response.incomplete"}


def retold(response: Mapping[str, Any]) -> list[bytes]:
    """The stream of a response that has ended, one piece an event; each number is its place."""
    empty = {
        **response,
        "status": "in_progress",
        "completed_at": None,
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
    }
    events: list[_Event] = [
        ("response.created", {"response": empty}),
        ("response.in_progress", {"response": empty}),
    ]
    for index, item in enumerate(response["output"]):
        events.extend((kind, {"output_index": index, **fields}) for kind, fields in _item(item))
    told = [_event(kind, number, fields) for number, (kind, fields) in enumerate(events)]
    return [*told, last_event(response, len(told))]


def last_event(response: Mapping[str, Any], number: int) -> bytes:
    """The event that ends the stream of a response that has ended."""
    return _event(_ENDS.get(response["status"], "response.failed"), number, {"response": response})


def ends(event: bytes) -> bool:
    """Whether an event is the last of its stream."""
    return event.startswith(
        (b"event: response.completed\n", b"event: response.incomplete\n", b"event: response.failed\n")
    )


def _event(kind: str, number: int, fields: Mapping[str, Any]) -> bytes:
    data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _item(item: Mapping[str, Any]) -> Iterator[_Event]:
    kind = item.get("type", "")
    if kind == "message":
        yield "response.output_item.added", {"item": {**item, "status": "in_progress", "content": []}}
        for at, part in enumerate(item["content"]):
            yield from _part({"item_id": item["id"], "content_index": at}, part)
    elif kind in _CALLS:
        field, name = _CALLS[kind]
        where = {"item_id": item["id"]}
        yield "response.output_item.added", {"item": {**item, "status": "in_progress", field: ""}}
        yield f"response.{name}.delta", {**where, "delta": item[field]}
        called = {"name": item["name"]} if kind == "function_call" else {}
        yield f"response.{name}.done", {**where, **called, field: item[field]}
    elif kind == "reasoning":
        yield "response.output_item.added", {"item": {**item, "summary": []}}
        for at, part in enumerate(item.get("summary") or ()):
            where = {"item_id": item["id"], "summary_index": at}
            told = "response.reasoning_summary"
            yield f"{told}_part.added", {**where, "part": {**part, "text": ""}}
            yield f"{told}_text.delta", {**where, "delta": part["text"]}
            yield f"{told}_text.done", {**where, "text": part["text"]}
            yield f"{told}_part.done", {**where, "part": part}
    else:
        yield "response.output_item.added", {"item": item}
    yield "response.output_item.done", {"item": item}


def _part(where: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[_Event]:
    if part["type"] == "output_text":
        shown = part.get("logprobs") or []
        empty = {**part, "text": "", "annotations": [], "logprobs": []}
        yield "response.content_part.added", {**where, "part": empty}
        if part["text"]:
            yield "response.output_text.delta", {**where, "delta": part["text"], "logprobs": shown}
        for number, annotation in enumerate(part.get("annotations") or ()):
            fields = {"annotation_index": number, "annotation": annotation}
            yield "response.output_text.annotation.added", {**where, **fields}
        yield "response.output_text.done", {**where, "text": part["text"], "logprobs": shown}
    else:
        yield "response.content_part.added", {**where, "part": {**part, "refusal": ""}}
        yield "response.refusal.delta", {**where, "delta": part["refusal"]}
        yield "response.refusal.done", {**where, "refusal": part["refusal"]}
    yield "response.content_part.done", {**where, "part": part}
