"""The items of OpenAI Responses: what callers send as `input`, and the same conversation as input for an upstream.

A conversation here is a flat list of items. Those that a model made one after another (reasoning, text, calls) are one
message of ours; items of kinds that nobody else knows are kept raw in a part of kind `item`. What this format alone
understands of a message stands in its `extra["responses"]`: `order` where its pieces do not come as reasoning, content, calls
(one letter each), `phase`, and `custom` for the result of a custom tool whose call is not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from stretto.errors import RequestError
from stretto.types import Message, Part, Thought, ToolCall
from stretto.wire.base import expect_list, expect_object, expect_text
from stretto.wire.progress import without_progress
from stretto.wire.seals import opened
from stretto.wire.tools import joined_name, wrapped_input

__all__ = [
    "FUSION",
    "FUSION_ID",
    "ITEM",
    "OWN",
    "PROGRESS",
    "Turn",
    "parse_input",
    "parse_items",
    "references",
    "render_items",
]

OWN: Final = "responses"
ITEM: Final = "item"
"""The kind of a part that holds a raw item."""
PROGRESS: Final = "_progress"
"""How the id of a reasoning item ends that only told what orchestration was doing: nobody's thoughts."""

FUSION: Final = "openrouter:fusion"
FUSION_ID: Final = "fusion"
"""The kind and the prefix of the id of an item that tells of a fusion, see `responses_object`."""

_SPEAKERS: Final = frozenset({"system", "developer", "user"})
_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_REASONING, _CONTENT, _CALL = "rmc"


# --- what callers send -------------------------------------------------------------------------------------------


def parse_input(value: Any) -> tuple[Message, ...]:
    """The `input` of a request, a text or items. Raises `RequestError` with the path of the field that is wrong."""
    if isinstance(value, str):
        return (Message("user", value),)
    return parse_items(expect_list(value, "input"))


def references(items: Iterable[Any]) -> tuple[str, ...]:
    """The ids that `item_reference` items name."""
    return tuple([str(item["id"]) for item in items if isinstance(item, dict) and _is_reference(item)])


def _is_reference(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    return kind == "item_reference" or (
        kind is None and "role" not in item and isinstance(item.get("id"), str)
    )


def parse_items(items: Sequence[Any], where: str = "input") -> tuple[Message, ...]:
    """Items as messages. References are left out: they mean something only where earlier items are kept.

    Raises `RequestError` with the path of the field that is wrong.
    """
    messages: list[Message] = []
    turn = Turn()
    custom: set[str] = set()
    for index, raw in enumerate(items):
        here = f"{where}[{index}]"
        item = expect_object(raw, here)
        if _is_reference(item):
            expect_text(item.get("id"), f"{here}.id")
            continue
        kind = item.get("type")
        if kind == FUSION and str(item.get("id")).startswith(f"{FUSION_ID}_"):
            continue  # what a fusion of ours told beside its answer
        if kind is None and "role" in item:
            kind = "message"
        if expect_text(kind, f"{here}.type") == "message" and item.get("role") != "assistant":
            turn.end(messages)
            messages.append(_said(item, here))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            turn.end(messages)
            messages.append(_result(item, here, custom))
        elif kind == "message":
            if turn.spoken and not turn.calls:
                turn.end(messages)
            _answered(item, here, turn)
        elif kind == "reasoning":
            if turn.spoken and not turn.calls:
                turn.end(messages)
            turn.think(_thought(item, here))
        elif kind in ("function_call", "custom_tool_call"):
            call = _call(item, here)
            if call.kind == "custom":
                custom.add(call.id)
            turn.call(call)
        else:
            if turn.refusal:
                turn.end(messages)
            turn.add(Part(ITEM, data=item))
    turn.end(messages)
    return tuple(messages)


class Turn:
    """What a model has said in one go, as its items come."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.thoughts: list[Thought] = []
        self.content: list[Part] = []
        self.calls: list[ToolCall] = []
        self.spoken = False
        self.refusal = ""
        self.phase = ""
        self._reasoning: list[str] = []
        self._order: list[str] = []

    def think(self, thought: Thought | None) -> None:
        """A reasoning item. Text that nobody sealed is only to be read."""
        if thought is None:
            return
        if thought.text:
            self._reasoning.append(thought.text)
        if thought.sealed or thought.signature:
            self.thoughts.append(thought)
            self._order.append(_REASONING)

    def add(self, part: Part) -> None:
        """A piece of content."""
        self.content.append(part)
        self._order.append(_CONTENT)

    def call(self, call: ToolCall) -> None:
        """A call of a tool."""
        self.calls.append(call)
        self._order.append(_CALL)

    def message(self) -> Message:
        """All of it as one message."""
        own: dict[str, Any] = {}
        order = "".join(self._order)
        if order != "".join(sorted(order, key=(_REASONING + _CONTENT + _CALL).index)):
            own["order"] = order
        if self.phase:
            own["phase"] = self.phase
        content: str | tuple[Part, ...] | None = tuple(self.content)
        if len(self.content) == 1 and _plain(self.content[0]):
            content = self.content[0].text
        return Message(
            "assistant",
            content or (None if self.calls or self.refusal or self.thoughts or self._reasoning else ""),
            tuple(self.calls),
            reasoning="\n\n".join(self._reasoning),
            refusal=self.refusal,
            extra={OWN: own} if own else {},
            thoughts=tuple(self.thoughts),
        )

    def end(self, messages: list[Message]) -> None:
        """The turn is over: its message goes to `messages`."""
        if self.content or self.calls or self.refusal or self.thoughts or self._reasoning:
            messages.append(self.message())
            self._clear()


def _plain(part: Part) -> bool:
    return part.kind == "text" and not part.extra


def _said(item: Mapping[str, Any], where: str) -> Message:
    role = expect_text(item.get("role"), f"{where}.role")
    if role not in _SPEAKERS:
        known = ", ".join(sorted({*_SPEAKERS, "assistant"}))
        raise RequestError(
            f"`{where}.role` must be one of {known}, not {role[:40]!r}.", param=f"{where}.role"
        )
    return Message(role, _content(item.get("content"), f"{where}.content"))


def _result(item: Mapping[str, Any], where: str, custom: set[str]) -> Message:
    id_ = expect_text(item.get("call_id"), f"{where}.call_id")
    loose = item["type"] == "custom_tool_call_output" and id_ not in custom
    return Message(
        "tool",
        _content(item.get("output"), f"{where}.output"),
        tool_call_id=id_,
        extra={OWN: {"custom": True}} if loose else {},
    )


def _content(value: Any, where: str) -> str | tuple[Part, ...]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"`{where}` must be a string or an array of parts.", param=where)
    return tuple([_part(raw, f"{where}[{index}]") for index, raw in enumerate(value)])


def _part(raw: Any, where: str) -> Part:
    part = expect_object(raw, where)
    kind = expect_text(part.get("type"), f"{where}.type")
    if kind in _TEXTS:
        text = expect_text(part.get("text"), f"{where}.text")
        return Part("text", text, extra=_beside(part, "text"))
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        if isinstance(part.get("detail"), str):
            image["detail"] = part["detail"]
        extra = _beside(part, "image_url", "detail")
        return Part("image_url", data={"type": "image_url", "image_url": image}, extra=extra)
    if kind == "input_file" and part.get("file_url") is None:
        file = {name: part[name] for name in _FILE if part.get(name) is not None}
        if "file_data" in file or "file_id" in file:
            return Part("file", data={"type": "file", "file": file}, extra=_beside(part, *_FILE))
    return Part(kind, data=part)


_FILE: Final = ("filename", "file_data", "file_id")
_EMPTY: Final[tuple[Any, ...]] = (None, [], {})


def _beside(part: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """What a part says beside what we know of it."""
    return {
        name: value
        for name, value in part.items()
        if name != "type" and name not in known and value not in _EMPTY
    }


_NOTHING_SAID: Final = Part("text", "")


def _answered(item: Mapping[str, Any], where: str, turn: Turn) -> None:
    content = _content(item.get("content"), f"{where}.content")
    if isinstance(item.get("phase"), str):
        turn.phase = item["phase"]
    for part in (Part("text", content),) if isinstance(content, str) else content:
        if part.kind == "refusal" and part.data is not None and isinstance(part.data.get("refusal"), str):
            turn.refusal += part.data["refusal"]
        elif part != _NOTHING_SAID:
            turn.add(part)
    turn.spoken = bool(turn.content or turn.refusal)


def _thought(item: Mapping[str, Any], where: str) -> Thought | None:
    """A reasoning item; `None` for one that told of orchestration."""
    id_ = item.get("id")
    id_ = "" if id_ is None else expect_text(id_, f"{where}.id")
    if id_.endswith(PROGRESS):
        return None
    said = _texts(item.get("summary"), f"{where}.summary") or _texts(item.get("content"), f"{where}.content")
    text = without_progress(said)
    seal = item.get("encrypted_content")
    if seal is None:  # agents leave the ids out: then only its text tells what it is
        return Thought(text, id=id_, wire=OWN) if text or not said else None
    seal = expect_text(seal, f"{where}.encrypted_content")
    return opened(seal, text) or Thought(text, sealed=seal, id=id_, wire=OWN)


def _texts(value: Any, where: str) -> str:
    if value is None:
        return ""
    texts = []
    for index, raw in enumerate(expect_list(value, where)):
        part = expect_object(raw, f"{where}[{index}]")
        texts.append(expect_text(part.get("text"), f"{where}[{index}].text"))
    return "\n\n".join(texts)


def _call(item: Mapping[str, Any], where: str) -> ToolCall:
    custom = item["type"] == "custom_tool_call"
    given = "input" if custom else "arguments"
    space = item.get("namespace")
    return ToolCall(
        expect_text(item.get("call_id"), f"{where}.call_id"),
        joined_name(
            "" if space is None else expect_text(space, f"{where}.namespace"),
            expect_text(item.get("name"), f"{where}.name"),
        ),
        expect_text(item.get(given), f"{where}.{given}"),
        "custom" if custom else "function",
    )


# --- what upstreams are sent -------------------------------------------------------------------------------------


def render_items(
    messages: Iterable[Message],
    *,
    raw: bool,
    custom: bool,
    reasoning: bool,
    spaces: Mapping[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """A conversation as input items.

    `raw`: with what only this format knows; `custom`: with custom tools as such (else as the functions that stand for them);
    `reasoning`: with thoughts that nobody sealed; `spaces`: names of namespaces' tools (see `tools.split_names`).
    """
    items: list[dict[str, Any]] = []
    customs: set[str] = set()
    for message in messages:
        own = message.extra.get(OWN) if raw else None
        own = own if isinstance(own, dict) else {}
        if message.role == "assistant":
            customs.update(call.id for call in message.tool_calls if call.kind == "custom")
            items.extend(_assistant(message, own, raw, custom, reasoning, spaces))
        elif message.role in ("tool", "function"):
            free = custom and (message.tool_call_id in customs or "custom" in own)
            items.append(
                {
                    "type": "custom_tool_call_output" if free else "function_call_output",
                    "call_id": message.tool_call_id or message.name or "",
                    "output": "" if message.content is None else _parts(message.content, raw),
                }
            )
        else:
            content = "" if message.content is None else _parts(message.content, raw)
            if content or not message.content:  # else it has only what this format cannot say
                items.append({"type": "message", "role": message.role, "content": content})
    return items


def _assistant(
    message: Message,
    own: Mapping[str, Any],
    raw: bool,
    custom: bool,
    reasoning: bool,
    spaces: Mapping[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    thoughts = [_sealed(thought) for thought in message.thoughts if thought.wire == OWN and thought.sealed]
    if not thoughts and message.reasoning and reasoning:
        text = {"type": "reasoning_text", "text": message.reasoning}
        thoughts = [{"type": "reasoning", "summary": [], "content": [text]}]
    phase = own.get("phase")
    content = message.content
    parts = (Part("text", content),) if isinstance(content, str) and content else content or ()
    pieces: list[Any] = [part for part in parts if not isinstance(part, str)]
    calls = [_rendered_call(call, custom, spaces) for call in message.tool_calls]
    order = own.get("order")
    if not isinstance(order, str) or [order.count(c) for c in (_REASONING, _CONTENT, _CALL)] != [
        len(thoughts),
        len(pieces),
        len(calls),
    ]:
        order = _REASONING * len(thoughts) + _CONTENT * len(pieces) + _CALL * len(calls)
    queues = {_REASONING: iter(thoughts), _CONTENT: iter(pieces), _CALL: iter(calls)}
    items: list[dict[str, Any]] = []
    said: list[dict[str, Any]] | None = None
    for letter in order:
        piece = next(queues[letter])
        if letter != _CONTENT or piece.kind == ITEM:
            said = None
            if letter != _CONTENT:
                items.append(piece)
            elif raw:
                items.append(dict(piece.data or {}))
            continue
        rendered = _output_part(piece, raw)
        if rendered is not None:
            if said is None:
                said = []
                items.append(_spoken(said, phase))
            said.append(rendered)
    if message.refusal:
        if said is None:
            said = []
            items.append(_spoken(said, phase))
        said.append({"type": "refusal", "refusal": message.refusal})
    return items


def _spoken(content: list[dict[str, Any]], phase: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "message", "role": "assistant", "content": content}
    if isinstance(phase, str):
        item["phase"] = phase
    return item


def _sealed(thought: Thought) -> dict[str, Any]:
    item: dict[str, Any] = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": thought.text}] if thought.text else [],
        "encrypted_content": thought.sealed,
    }
    if thought.id:  # what is sealed is bound to it
        item["id"] = thought.id
    return item


def _rendered_call(call: ToolCall, custom: bool, spaces: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "function_call", "call_id": call.id, "name": call.name}
    if custom and call.name in spaces:
        item["namespace"], item["name"] = spaces[call.name]
    if call.kind == "function":
        return item | {"arguments": call.arguments}
    if custom:
        return item | {"type": "custom_tool_call", "input": call.arguments}
    return item | {"arguments": wrapped_input(call.arguments)}


def _parts(content: str | tuple[Part, ...], raw: bool) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    rendered = [_input_part(part, raw) for part in content]
    return [part for part in rendered if part is not None]


def _input_part(part: Part, raw: bool) -> dict[str, Any] | None:
    """A part as input; `None` for one that this format cannot say."""
    extra = part.extra if raw else {}
    data = part.data or {}
    if part.kind == "text":
        return {"type": "input_text", "text": part.text, **extra}
    if part.kind == "image_url":
        image = data.get("image_url")
        if not isinstance(image, dict):
            return None
        found = {"type": "input_image", "image_url": image.get("url")}
        if image.get("detail") is not None:
            found["detail"] = image["detail"]
        return {**found, **extra}
    if part.kind == "file":
        file = data.get("file")
        return {"type": "input_file", **file, **extra} if isinstance(file, dict) else None
    if part.kind == "input_audio" or raw:
        return dict(data)
    return None


def _output_part(part: Part, raw: bool) -> dict[str, Any] | None:
    if part.kind == "text":
        return {"type": "output_text", "text": part.text, "annotations": [], **(part.extra if raw else {})}
    data = part.data or {}
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": data.get("refusal", "")}
    return dict(data) if raw else None
