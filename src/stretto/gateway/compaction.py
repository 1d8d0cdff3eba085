"""Compaction: a long conversation becomes a summary that a worker writes, without a black box.

The summary is a run like any other, with a receipt. It stands in the item's `encrypted_content` as base64url of JSON: nothing is
hidden in it, nothing is kept for it, and whoever holds the item can go on from it at any gateway. Compaction items of other
providers are left as they are.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.gateway.shelf import Item
from stretto.types import Message, Request, record
from stretto.wire.base import expect_list, expect_number, expect_object, expect_text
from stretto.wire.responses_items import parse_items

__all__ = ["Split", "compaction_item", "expanded", "question", "said_by_caller", "split", "threshold"]

_OURS: Final = "stretto.compaction."
_LEAST: Final = 1000
_VERBATIM: Final = 64 * 1024
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})

_TASK: Final = (
    "You compact conversations. Write a summary of the conversation below, so that somebody who sees nothing but your summary "
    "can go on with it at once. Keep: what the user wants and has laid down, what was decided and why, what was done and found "
    "out (names, numbers, paths, code that still matters, word for word), what is still open, and the next step. Leave out "
    "pleasantries and what is settled and no longer needed. Write in the conversation's language. Answer with the summary alone."
)
_LEAD: Final = "The conversation so far was compacted. This is a summary of it; go on from here.\n\n"


@record
class Split:
    """A conversation cut in two: `head` is to be summarised, `before` and `after` stay word for word around the summary."""

    head: tuple[Item, ...]
    before: tuple[Item, ...]
    after: tuple[Item, ...]


# --- items -------------------------------------------------------------------------------------------------------


def compaction_item(id: str, summary: str, run: str) -> dict[str, Any]:
    """The item that carries a summary; `run` is the run that wrote it."""
    body = orjson.dumps({"summary": summary, "run": run})
    return {
        "id": id,
        "type": "compaction",
        "encrypted_content": _OURS + base64.urlsafe_b64encode(body).decode(),
    }


def expanded(items: Sequence[Item]) -> list[Item]:
    """Items as a worker is to see them: our summaries as text, everything else as it is."""
    return [
        item if item.get("type") != "compaction" or (summary := _summary(item)) is None else _told(summary)
        for item in items
    ]


def _summary(item: Item) -> str | None:
    sealed = item.get("encrypted_content")
    if not isinstance(sealed, str) or not sealed.startswith(_OURS):
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(sealed[len(_OURS) :]))["summary"]
    except (ValueError, KeyError, TypeError):
        raise RequestError("A compaction item is damaged.", param="input") from None
    return expect_text(found, "summary")


def _told(summary: str) -> Item:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _LEAD + summary}]}


# --- what is summarised ------------------------------------------------------------------------------------------


def split(items: Sequence[Item]) -> Split:
    """Where to cut: the last words of the user stay, a tool loop keeps its last round and the words that it serves.

    Instructions (system, developer) stay, too. `head` is empty where there is nothing to gain.
    """
    cut = len(items)
    while cut and items[cut - 1].get("type") in _OUTPUTS:
        cut -= 1
    if cut < len(items):
        while cut and _role(items[cut - 1]) == "assistant":
            cut -= 1
    else:
        while cut and _role(items[cut - 1]) == "user":
            cut -= 1
    cut = _with_calls(items, cut)
    head = [item for item in items[:cut] if _role(item) not in ("system", "developer")]
    before = [item for item in items[:cut] if _role(item) in ("system", "developer")]
    after = list(items[cut:])
    if not any(_role(item) == "user" for item in after):
        asked = next((item for item in reversed(head) if _role(item) == "user"), None)
        after[:0] = [] if asked is None else [asked]
    if all(_role(item) == "user" for item in head):
        return Split((), (), tuple(items))
    return Split(tuple(head), tuple(before), tuple(after))


def _with_calls(items: Sequence[Item], cut: int) -> int:
    """A place at or before `cut` that parts no result from its call."""
    called = {item.get("call_id"): at for at, item in enumerate(items) if item.get("type") not in _OUTPUTS}
    at = len(items)
    while at > cut:
        at -= 1
        if items[at].get("type") in _OUTPUTS:
            cut = min(cut, called.get(items[at].get("call_id"), cut))
    return cut


def _role(item: Item) -> str:
    """Who an item is from; of outputs of tools, nobody."""
    if "role" in item:
        return str(item["role"])
    return "" if item.get("type") in _OUTPUTS or item.get("type") == "compaction" else "assistant"


def said_by_caller(items: Sequence[Item]) -> list[Item]:
    """The caller's own messages, which a compacted conversation keeps: of the user's the last 64 KiB, instructions all."""
    kept: list[Item] = []
    room = _VERBATIM
    for item in reversed(items):
        role = _role(item)
        if role in ("system", "developer"):
            kept.append(item)
        elif role == "user" and room > 0:
            room -= len(orjson.dumps(item))
            if room > 0:
                kept.append(item)
    return kept[::-1]


def question(request: Request, items: Sequence[Item]) -> Request:
    """The request for a summary of these items, under the limits and constraints of `request`."""
    told = "\n\n".join(_line(message) for message in parse_items(expanded(items)))
    return Request(
        messages=(Message("system", _TASK), Message("user", f"<conversation>\n{told}\n</conversation>")),
        model=request.model,
        limits=request.limits,
        require=request.require,
        exclude=request.exclude,
        dial=request.dial,
        seed=request.seed,
    )


def _line(message: Message) -> str:
    lines = [message.text] if message.text else []
    if isinstance(message.content, tuple):
        lines += [f"[{part.kind}]" for part in message.content if part.kind != "text"]
    lines += [f"calls {call.name} as {call.id}: {call.arguments}" for call in message.tool_calls]
    who = f"result of {message.tool_call_id}" if message.role == "tool" else message.role
    return f"{who}: " + "\n".join(lines)


# --- when --------------------------------------------------------------------------------------------------------


def threshold(extra: Mapping[str, Any]) -> int | None:
    """From how many tokens on a request wants its conversation compacted; `None` if it does not. Raises `RequestError`."""
    given = extra.get("context_management")
    if given is None:
        return None
    found: int | None = None
    for index, raw in enumerate(expect_list(given, "context_management")):
        where = f"context_management[{index}]"
        entry = expect_object(raw, where)
        if expect_text(entry.get("type"), f"{where}.type") != "compaction":
            raise RequestError(f"`{where}.type` must be `compaction`.", param=f"{where}.type")
        if (wanted := entry.get("compact_threshold")) is not None:
            found = expect_number(wanted, f"{where}.compact_threshold", least=_LEAST, whole=True)
    return found
