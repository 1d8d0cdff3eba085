"""What a worker had been asked where that was not the caller's own conversation, kept while it waits for a tool.

A step of a workflow, or a writer, is asked in words of its own. When it calls a tool, the caller sends back its own conversation
with the result: the worker must go on from what it was asked, not from that. Kept is only how the two differ, in texts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from stretto.types import Message, Part

__all__ = ["difference", "restored"]

_LONGEST: Final = 200_000
"""Characters that are kept of one ask; a longer one goes on from the caller's conversation."""


def difference(own: Sequence[Message], asked: Sequence[Message]) -> Mapping[str, Any] | None:
    """How `asked` differs from the caller's `own` messages: other texts in their places, or one more at either end.

    `None` where it does not, or in another way.
    """
    front = back = None
    body = list(asked)
    if len(body) == len(own) + 1:
        if _same(body[:-1], own):
            back = _plain(body.pop())
        elif _same(body[1:], own):
            front = _plain(body.pop(0))
        if front is None and back is None:
            return None
    if len(body) != len(own) or any(a.role != b.role for a, b in zip(own, body, strict=True)):
        return None
    texts = {str(n): b.text for n, (a, b) in enumerate(zip(own, body, strict=True)) if a.text != b.text}
    size = sum(map(len, texts.values())) + sum(len(each[1]) for each in (front, back) if each)
    if size > _LONGEST or not (texts or front or back):
        return None
    return {"count": len(own), "mark": _mark(own), "texts": texts, "front": front, "back": back}


def restored(messages: Sequence[Message], kept: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """The caller's conversation with its beginning as its worker had been asked; `None` where that is not the same any more."""
    count = int(kept["count"])
    own = list(messages[:count])
    if len(messages) <= count or _mark(own) != kept["mark"]:
        return None
    for place, text in kept["texts"].items():
        message = own[int(place)]
        content: str | tuple[Part, ...] = text
        if isinstance(message.content, tuple):
            content = (Part("text", text), *(part for part in message.content if part.kind != "text"))
        own[int(place)] = replace(message, content=content)
    front = [Message(*kept["front"])] if kept["front"] else []
    back = [Message(*kept["back"])] if kept["back"] else []
    return (*front, *own, *back, *messages[count:])


def _same(one: Sequence[Message], other: Sequence[Message]) -> bool:
    return all(a.role == b.role and a.text == b.text for a, b in zip(one, other, strict=True))


def _plain(message: Message) -> tuple[str, str] | None:
    """Role and text of a message that has nothing else."""
    return (message.role, message.content) if isinstance(message.content, str) else None


def _mark(messages: Sequence[Message]) -> str:
    """A digest of what these messages say."""
    told = repr([(m.role, m.text, [(c.name, c.arguments) for c in m.tool_calls]) for m in messages])
    return hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=16).hexdigest()
