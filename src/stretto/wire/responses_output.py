"""The output of one answer in OpenAI Responses: its items, and the events that tell of them as they grow.

Whole answers and streams are made by the same hands: a whole answer is a stream whose events nobody reads. What an item says is
added piece by piece; an item is closed when the next begins, but calls stay open until the end, since an agent acts on a call
as soon as it is closed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from stretto.types import Message, Part, Thought, TokenLogprob
from stretto.wire.chat_parts import render_logprobs
from stretto.wire.responses_items import ITEM, OWN, PROGRESS
from stretto.wire.seals import closed
from stretto.wire.tools import custom_names, split_names

__all__ = ["Output", "logprobs_shown", "unsealed"]

Emit = Callable[[str, dict[str, Any]], None]
"""Takes an event's type and its fields."""

_TEXT: Final = "output_text"
_REFUSAL: Final = "refusal"


class Output:
    """The items of one answer. `hex` is what their ids share, `emit` takes the events, `sealed`: they show seals of reasoning."""

    def __init__(
        self, hex: str, tools: Iterable[Mapping[str, Any]], emit: Emit | None = None, sealed: bool = True
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self._hex = hex
        self._emit = emit
        self._sealed = sealed
        self._custom: frozenset[str] = frozenset()
        self._spaces: Mapping[str, tuple[str, str]] = {}
        if tools := tuple(tools):
            self._custom, self._spaces = custom_names(tools), split_names(tools)
        self._open: int | None = None
        self._progress = False
        self._begun = False
        self._text: list[str] = []
        self._calls: dict[int, tuple[int, list[str]]] = {}

    # --- events ---

    def _tell(self, type: str, index: int, **fields: Any) -> None:
        if self._emit is not None:
            self._emit(type, {"output_index": index, **fields})

    def _tell_item(self, type: str, index: int) -> None:
        if self._emit is not None:
            item = self.items[index]
            self._emit(type, {"output_index": index, "item": item if self._sealed else unsealed(item)})

    def _begin(self, prefix: str, **fields: Any) -> int:
        index = len(self.items)
        kind = fields.pop("type")
        self.items.append({"type": kind, "id": f"{prefix}_{self._hex}_{index}", **fields})
        return index

    # --- pieces ---

    def progress(self, text: str) -> bool:
        """What orchestration is doing, as reasoning before the answer; `False` when it is too late for that."""
        if self._begun or not text:
            return False
        if not self._progress:
            self._progress = True
            self.items.append({"type": "reasoning", "id": f"rs_{self._hex}{PROGRESS}", "summary": []})
            self._open = 0
            self._tell_item("response.output_item.added", 0)
        self._summary(text)
        return True

    def reasoning(self, text: str) -> None:
        """A piece of a model's readable reasoning."""
        self._reason()
        self._summary(text)

    def thought(self, thought: Thought) -> None:
        """A block of reasoning has ended: its text, if it has not been told yet, and its seal."""
        told = any(self._is_told(item, thought.text) for item in self.items)
        item = self._reason()
        if thought.text and not told and not self._text:
            self._summary(thought.text)
        if thought.sealed or thought.signature:
            item["encrypted_content"] = closed(thought, "")
        self._close()

    @staticmethod
    def _is_told(item: Mapping[str, Any], text: str) -> bool:
        return item["type"] == "reasoning" and any(part.get("text") == text for part in item["summary"])

    def _reason(self) -> dict[str, Any]:
        """The reasoning item that is open, a new one if none is."""
        item = None if self._open is None else self.items[self._open]
        if item is None or item["type"] != "reasoning" or item["id"].endswith(PROGRESS):
            self._start()
            self._open = self._begin("rs", type="reasoning", summary=[])
            item = self.items[self._open]
            self._tell_item("response.output_item.added", self._open)
        return item

    def _summary(self, text: str) -> None:
        index = self._open
        assert index is not None
        where = {"item_id": self.items[index]["id"], "summary_index": 0}
        if not self._text:
            part = {"type": "summary_text", "text": ""}
            self._tell("response.reasoning_summary_part.added", index, **where, part=part)
        self._text.append(text)
        self._tell("response.reasoning_summary_text.delta", index, **where, delta=text)

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """A piece of the answer's text."""
        shown = logprobs_shown(logprobs)
        item, index, at = self._part(_TEXT, {"type": _TEXT, "text": "", "annotations": [], "logprobs": []})
        item["content"][at]["logprobs"].extend(shown)
        self._text.append(text)
        self._tell(
            "response.output_text.delta",
            index,
            item_id=item["id"],
            content_index=at,
            delta=text,
            logprobs=shown,
        )

    def refusal(self, text: str) -> None:
        """A piece of a refusal."""
        item, index, at = self._part(_REFUSAL, {"type": _REFUSAL, "refusal": ""})
        self._text.append(text)
        self._tell("response.refusal.delta", index, item_id=item["id"], content_index=at, delta=text)

    def _part(self, kind: str, fresh: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
        """The message that is open, with a part of that kind at its end."""
        index = self._open
        if index is None or self.items[index]["type"] != "message":
            self._start()
            index = self._begin("msg", type="message", status="in_progress", role="assistant", content=[])
            self._open = index
            self._tell_item("response.output_item.added", index)
        item = self.items[index]
        content = item["content"]
        if not content or content[-1]["type"] != kind:
            self._close_part(index)
            content.append(fresh)
            at = len(content) - 1
            self._tell("response.content_part.added", index, item_id=item["id"], content_index=at, part=fresh)
        return item, index, len(content) - 1

    def call(self, number: int, id: str, name: str, arguments: str) -> None:
        """A piece of a call; `id` and `name` with the first one of each `number`."""
        if number not in self._calls:
            self._start()
            custom = name in self._custom
            space = self._spaces.get(name)
            index = self._begin(
                "ctc" if custom else "fc",
                type="custom_tool_call" if custom else "function_call",
                call_id=id,
                name=space[1] if space is not None else name,
                **({"namespace": space[0]} if space is not None else {}),
                **({"input": ""} if custom else {"arguments": ""}),
                status="in_progress",
            )
            self._calls[number] = (index, [])
            self._tell_item("response.output_item.added", index)
        index, pieces = self._calls[number]
        if arguments:
            pieces.append(arguments)
            item = self.items[index]
            kind = "custom_tool_call_input" if "input" in item else "function_call_arguments"
            self._tell(f"response.{kind}.delta", index, item_id=item["id"], delta=arguments)

    def raw(self, item: Mapping[str, Any]) -> None:
        """A whole item of a kind that only this format knows."""
        self._start()
        index = len(self.items)
        self.items.append({"id": f"item_{self._hex}_{index}", **item})
        self._tell_item("response.output_item.added", index)
        self._tell_item("response.output_item.done", index)

    # --- ends ---

    def _start(self) -> None:
        """Another item of the answer begins."""
        self._begun = True
        self._close()

    def _close_part(self, index: int, annotations: Sequence[Mapping[str, Any]] = ()) -> None:
        item = self.items[index]
        if not item["content"]:
            return
        part, at = item["content"][-1], len(item["content"]) - 1
        text = "".join(self._text)
        self._text.clear()
        where = {"item_id": item["id"], "content_index": at}
        if part["type"] == _TEXT:
            part["text"] = text
            for number, annotation in enumerate(annotations):
                part["annotations"].append(annotation)
                self._tell(
                    "response.output_text.annotation.added",
                    index,
                    **where,
                    annotation_index=number,
                    annotation=annotation,
                )
            self._tell("response.output_text.done", index, **where, text=text, logprobs=part["logprobs"])
        else:
            part["refusal"] = text
            self._tell("response.refusal.done", index, **where, refusal=text)
        self._tell("response.content_part.done", index, **where, part=part)

    def _close(
        self,
        status: str = "completed",
        annotations: Sequence[Mapping[str, Any]] = (),
        phase: str = "",
    ) -> None:
        """Close the message or the reasoning that is open."""
        index = self._open
        if index is None:
            return
        item = self.items[index]
        if item["type"] == "message":
            self._close_part(index, annotations)
            item["status"] = status
            if phase:
                item["phase"] = phase
        elif self._text:
            text = "".join(self._text)
            self._text.clear()
            where = {"item_id": item["id"], "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            item["summary"].append(part)
            self._tell("response.reasoning_summary_text.done", index, **where, text=text)
            self._tell("response.reasoning_summary_part.done", index, **where, part=part)
        self._open = None
        self._tell_item("response.output_item.done", index)

    def end(self, message: Message, incomplete: bool) -> None:
        """The answer is over: close what is open. `message` is what it came to; its annotations and phase are known only now."""
        own = message.extra.get(OWN)
        phase = own.get("phase") if isinstance(own, Mapping) else None
        if not any(item["type"] != "reasoning" for item in self.items):
            self._part(_TEXT, {"type": _TEXT, "text": "", "annotations": [], "logprobs": []})
        status = "incomplete" if incomplete else "completed"
        last = not self._calls
        self._close(
            status if last else "completed", _annotations(message), phase if isinstance(phase, str) else ""
        )
        calls = list(self._calls.values())
        for number, (index, pieces) in enumerate(calls):
            item = self.items[index]
            said = "".join(pieces)
            given = "input" if "input" in item else "arguments"
            item[given] = said
            item["status"] = status if number == len(calls) - 1 else "completed"
            kind = "custom_tool_call_input" if given == "input" else "function_call_arguments"
            fields = {given: said} if given == "input" else {"name": item["name"], given: said}
            self._tell(f"response.{kind}.done", index, item_id=item["id"], **fields)
            self._tell_item("response.output_item.done", index)

    def say(self, message: Message, logprobs: tuple[TokenLogprob, ...]) -> None:
        """A whole message, piece by piece in its own order."""
        if any(thought.text for thought in message.thoughts) or not message.reasoning:
            for thought in message.thoughts:
                self.thought(thought)
        else:
            self.reasoning(message.reasoning)
            for thought in message.thoughts:
                self.thought(thought)
        content = message.content
        for part in (Part("text", content),) if isinstance(content, str) and content else content or ():
            if isinstance(part, str):
                continue
            if part.kind == ITEM and part.data is not None:
                self.raw(part.data)
            elif part.kind == "text" and part.text:
                self.text(part.text, logprobs)
                logprobs = ()
        if message.refusal:
            self.refusal(message.refusal)
        for number, call in enumerate(message.tool_calls):
            self.call(number, call.id, call.name, call.arguments)


def unsealed(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """An item without its encrypted reasoning."""
    if "encrypted_content" not in item or item.get("type") != "reasoning":
        return item
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def logprobs_shown(logprobs: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    """Log-probabilities as this format shows them: Chat Completions' entries."""
    return list(render_logprobs(logprobs)["content"]) if logprobs else []


def _annotations(message: Message) -> list[Mapping[str, Any]]:
    """The annotations of a message's text, their places counted in the whole text."""
    if isinstance(message.content, str) or not message.content:
        return []
    found: list[Mapping[str, Any]] = []
    before = 0
    for part in message.content:
        if part.kind != "text":
            continue
        given = part.extra.get("annotations")
        for raw in given if isinstance(given, list) else ():
            if isinstance(raw, dict):
                moved = {
                    name: raw[name] + before
                    for name in ("start_index", "end_index")
                    if isinstance(raw.get(name), int)
                }
                found.append({**raw, **moved})
        before += len(part.text)
    return found
