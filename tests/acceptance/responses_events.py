"""A checker of Responses streams: fields by the Open Responses specification, and the order that its events must keep.

The specification itself is not in this repository. `tests/golden/responses_events.json` holds what its schemas require, by name:
`python -m tests.acceptance.responses_events openresponses-openapi.json > tests/golden/responses_events.json` derives it. Custom
tools are not in that specification; what is said of them here follows OpenAI's own (MIT).
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stretto.wire.sse import SseParser

__all__ = ["derive", "events_of", "faults", "object_faults"]

TABLE = Path(__file__).parents[1] / "golden" / "responses_events.json"
ROOTS = ("CompactResource", "WebSocketErrorEvent")
"""Objects that no event holds."""
TERMINAL = ("response.completed", "response.incomplete", "response.failed")

CUSTOM = {
    "response.custom_tool_call_input.delta": {
        "type": "'response.custom_tool_call_input.delta'",
        "sequence_number": "integer",
        "item_id": "string",
        "output_index": "integer",
        "delta": "string",
    },
    "response.custom_tool_call_input.done": {
        "type": "'response.custom_tool_call_input.done'",
        "sequence_number": "integer",
        "item_id": "string",
        "output_index": "integer",
        "input": "string",
    },
}
CUSTOM_CALL = {
    "type": "'custom_tool_call'",
    "id": "string",
    "call_id": "string",
    "name": "string",
    "input": "string",
}


# --- the table ---------------------------------------------------------------------------------------------------


def derive(specification: Mapping[str, Any]) -> dict[str, Any]:
    """What the schemas of the streaming events require: names of fields and the kinds of their values, nothing else."""
    schemas = specification["components"]["schemas"]
    required = {
        name: {field: _kind(schema["properties"][field], schemas) for field in schema.get("required", ())}
        for name, schema in schemas.items()
        if "properties" in schema
    }
    events = {
        wanted["type"].strip("'"): wanted
        for name, wanted in required.items()
        if name.endswith("StreamingEvent")
    }
    objects: dict[str, dict[str, str]] = {name: required[name] for name in ROOTS}
    waiting = [*events.values(), *objects.values()]
    while waiting:
        for name in re.findall(r"@(\w+)", " ".join(waiting.pop().values())):
            if name not in objects:
                objects[name] = required[name]
                waiting.append(required[name])
    info = specification["info"]
    return {
        "about": "Field names that the schemas require, and the kinds of their values; derived, see responses_events.py",
        "source": f"{info['title']} {info['version']} (Apache-2.0)",
        "events": events,
        "objects": objects,
    }


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A kind in short: 'word' (that string), string, [kind], @Name, several with | between them, any."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"@{name}" if "properties" in schemas[name] else _kind(schemas[name], schemas)
    if "enum" in schema:
        return "|".join(f"'{value}'" for value in schema["enum"])
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            kinds = [_kind(one, schemas) for one in schema[several]]
            if several == "allOf":
                kinds = [kind for kind in kinds if kind != "any"]
            if kinds == ["null"]:  # where the specification says no more than that it may be null
                return "any"
            return "any" if "any" in kinds or not kinds else "|".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"[{_kind(schema['items'], schemas)}]"
    return str(schema.get("type", "any"))


# --- fields ------------------------------------------------------------------------------------------------------


def object_faults(value: Any, name: str) -> list[str]:
    """What is wrong with an object by the schema of that name (`ResponseResource` is a response)."""
    table = json.loads(TABLE.read_text())
    return list(_object(value, table["objects"][name], table["objects"], name))


def _object(value: Any, wanted: Mapping[str, str], objects: Mapping[str, Any], at: str) -> Iterable[str]:
    if not isinstance(value, dict):
        yield f"{at}: is no object"
        return
    for field, kind in wanted.items():
        if field not in value:
            yield f"{at}.{field}: is missing"
        elif not _fits(value[field], kind, objects):
            deeper = list(_deeper(value[field], kind, objects, f"{at}.{field}"))
            yield from deeper or [f"{at}.{field}: {value[field]!r:.80} is not {kind:.80}"]


def _deeper(value: Any, kind: str, objects: Mapping[str, Any], at: str) -> Iterable[str]:
    """The faults inside a value of which only one kind can be meant."""
    if kind.startswith("[") and isinstance(value, list):
        for index, item in enumerate(value):
            if not _fits(item, kind[1:-1], objects):
                yield from _deeper(item, kind[1:-1], objects, f"{at}[{index}]") or ()
    elif isinstance(value, dict):
        for name in (one[1:] for one in kind.split("|") if one.startswith("@")):
            if _type_of(value, objects[name]):
                yield from _object(value, objects[name], objects, at)


def _type_of(value: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return "type" not in wanted or f"'{value.get('type')}'" in wanted["type"].split("|")


def _fits(value: Any, kind: str, objects: Mapping[str, Any]) -> bool:
    if kind.startswith("[") and kind.endswith("]"):
        return isinstance(value, list) and all(_fits(item, kind[1:-1], objects) for item in value)
    kinds = _split(kind)
    if len(kinds) > 1:
        return any(_fits(value, one, objects) for one in kinds) or _foreign(value, kinds, objects)
    if kind.startswith("@"):
        return not list(_object(value, objects[kind[1:]], objects, "")) or _foreign(value, kinds, objects)
    if kind.startswith("'"):
        return value == kind.strip("'")
    whole = isinstance(value, int) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "integer": whole,
        "number": whole or isinstance(value, float),
        "boolean": isinstance(value, bool),
        "object": isinstance(value, dict),
        "null": value is None,
        "any": True,
    }[kind]


def _split(kind: str) -> list[str]:
    """The kinds between the bars outside brackets."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(kind):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and not depth:
            found.append(kind[start:at])
            start = at + 1
    return [*found, kind[start:]]


def _foreign(value: Any, kinds: Sequence[str], objects: Mapping[str, Any]) -> bool:
    """Whether a typed thing (item, tool, choice) is of a type that the specification leaves to others."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    typed = [objects[one[1:]] for one in kinds if one.startswith("@") and "type" in objects[one[1:]]]
    if not typed or any(_type_of(value, wanted) for wanted in typed):
        return False
    return value["type"] != "custom_tool_call" or not list(_object(value, CUSTOM_CALL, objects, ""))


# --- order -------------------------------------------------------------------------------------------------------


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a recorded stream; the name of each is its type."""
    events = []
    for event in SseParser().feed(stream):
        data = json.loads(event.data)
        assert event.name is None or event.name.decode() == data["type"], event
        events.append(data)
    return events


def faults(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with a recorded stream; nothing for one that keeps to the specification from its first event to its last."""
    table = json.loads(TABLE.read_text())
    known = {**table["events"], **CUSTOM}
    found: list[str] = []
    for number, event in enumerate(events):
        kind = event.get("type")
        if not isinstance(kind, str) or kind not in known:
            found.append(f"{number}: {kind!r} is no event of the specification")
            continue
        found += _object(event, known[kind], table["objects"], f"{number} {kind}")
        if event.get("sequence_number") != number:
            found.append(f"{number}: has the number {event.get('sequence_number')}")
    if found:
        return found
    kinds = [event["type"] for event in events]
    if kinds[:2] != ["response.created", "response.in_progress"]:
        found.append(f"begins with {kinds[:2]}")
    ends = [at for at, kind in enumerate(kinds) if kind in TERMINAL]
    if ends != [len(events) - 1]:
        found.append(f"{len(ends)} terminal events at {ends} of {len(events)}")
    if len({event["response"]["id"] for event in events if "response" in event}) != 1:
        found.append("the response's id changes")
    order = _Order()
    for event in events:
        order.take(event)
    return found + order.faults


class _Order:
    """Follows items and parts from their first event to their last."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._items: list[dict[str, Any]] = []
        self._done: dict[int, Any] = {}
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}
        self._pieces: dict[tuple[int, int], list[str]] = {}
        self._closed: set[tuple[int, int]] = set()
        self._told: set[tuple[int, int]] = set()

    def _wrong(self, event: Mapping[str, Any], text: str) -> None:
        self.faults.append(f"{event['sequence_number']} {event['type']}: {text}")

    def take(self, event: Mapping[str, Any]) -> None:
        """The next event."""
        kind: str = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            if event["output_index"] != len(self._items):
                self._wrong(event, f"item {event['output_index']} comes after {len(self._items)} items")
            if event["item"].get("id") in [item.get("id") for item in self._items]:
                self._wrong(event, "the id has been there before")
            self._items.append(event["item"])
        elif kind == "output_item.done":
            self._item_done(event)
        elif "item_id" in event:
            self._inside(kind, event)
        elif kind in ("completed", "incomplete", "failed"):
            self._end(kind, event)

    def _item_done(self, event: Mapping[str, Any]) -> None:
        index, item = event["output_index"], event["item"]
        if not 0 <= index < len(self._items) or index in self._done:
            return self._wrong(event, "no such item is open")
        added = self._items[index]
        if (added["type"], added.get("id")) != (item["type"], item.get("id")):
            self._wrong(event, "the item is not the one that was added")
        if item.get("status") == "in_progress":
            self._wrong(event, "the item is done and in progress")
        open_ = [at for at in self._parts if at[0] == index and at not in self._closed]
        if open_:
            self._wrong(event, f"parts {open_} are not done")
        whole = item.get("content" if item["type"] == "message" else "summary")
        if item["type"] in ("message", "reasoning") and whole != [
            self._parts[at] for at in sorted(self._parts) if at[0] == index
        ]:
            self._wrong(event, "the item does not hold the parts that were told")
        if item["type"] in ("function_call", "custom_tool_call"):
            if (index, 0) not in self._told:
                self._wrong(event, "what the call says has not been told")
            self._same(event, (index, 0), item.get("arguments", item.get("input")))
        self._done[index] = item
        return None

    def _inside(self, kind: str, event: Mapping[str, Any]) -> None:
        index = event["output_index"]
        if not 0 <= index < len(self._items) or index in self._done:
            return self._wrong(event, "no such item is open")
        if self._items[index]["id"] != event["item_id"]:
            self._wrong(event, "the item has another id")
        at = (index, event.get("content_index", event.get("summary_index", 0)))
        if kind.endswith("part.added"):
            if at in self._parts:
                self._wrong(event, "the part has been added before")
            self._parts[at] = event["part"]
        elif kind.endswith("part.done"):
            if at not in self._parts or at in self._closed or at not in self._told:
                self._wrong(event, "no such part is open, or its text has not been told")
            if (text := event["part"].get("text", event["part"].get("refusal"))) is not None:
                self._same(event, at, text)
            self._parts[at] = event["part"]
            self._closed.add(at)
        elif kind.endswith(".delta"):
            if at in self._closed or ("call" not in kind and at not in self._parts):
                self._wrong(event, "no such part is open")
            self._pieces.setdefault(at, []).append(event["delta"])
        elif kind.endswith(".done"):
            if at in self._told or at in self._closed:
                self._wrong(event, "has been told before")
            self._told.add(at)
            given = ("text", "refusal", "arguments", "input")
            self._same(event, at, next(event[name] for name in given if name in event))
        return None

    def _same(self, event: Mapping[str, Any], at: tuple[int, int], text: str) -> None:
        told = "".join(self._pieces.get(at, ()))
        if told != text:
            self._wrong(event, f"{text!r:.60} was told as {told!r:.60}")

    def _end(self, kind: str, event: Mapping[str, Any]) -> None:
        response = event["response"]
        if response["status"] != kind:
            self._wrong(event, f"the response's status is {response['status']}")
        if kind == "failed":
            if not response["error"]:
                self._wrong(event, "a failed response says why")
            return
        if sorted(self._done) != list(range(len(self._items))):
            self._wrong(event, f"{len(self._items)} items, done are {sorted(self._done)}")
        elif response["output"] != [self._done[index] for index in sorted(self._done)]:
            self._wrong(event, "the output is not what the items were")
        if (response["incomplete_details"] is None) != (kind == "completed"):
            self._wrong(event, "incomplete_details belong to what is incomplete")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(json.dumps(derive(json.load(file)), indent=1))
