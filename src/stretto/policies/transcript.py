"""Conversations as other models may see them: without tool calls for those who hold no tools, as text for those who judge."""

import json
from collections.abc import Sequence
from dataclasses import replace

from stretto.types import Message, Part, ToolCall

__all__ = ["asked", "canonical", "flat", "shown", "with_system"]

_LEADING = ("system", "developer")


def canonical(call: ToolCall) -> str:
    """A tool call as a value: its name and its arguments, JSON with sorted keys. Equal calls give equal texts."""
    try:
        arguments = json.dumps(
            json.loads(call.arguments or "{}"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
    except ValueError:
        arguments = call.arguments.strip()
    return f"{call.name}({arguments})"


def shown(message: Message) -> str:
    """What a message says, as plain text: its text, its refusal, what it calls, and what it holds that is not text."""
    pieces = [message.text, message.refusal]
    if isinstance(message.content, tuple):
        pieces += [f"[{part.kind}]" for part in message.content if part.kind != "text"]
    pieces += [f"[calls {canonical(call)}]" for call in message.tool_calls]
    return "\n".join(piece for piece in pieces if piece)


def flat(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same conversation for a worker that holds no tools: calls and their results become text, thoughts are left out.

    (Upstreams refuse tool messages in a request that offers no tools.) Messages without tools stay as they are.
    """
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    found: list[Message] = []
    for message in messages:
        if message.role in ("tool", "function"):
            name = message.name or names.get(message.tool_call_id or "", "a tool")
            text = f"[result of {name}]\n{shown(message)}"
            if found and found[-1].role == "user" and found[-1].name == "tools":
                found[-1] = Message("user", f"{found[-1].text}\n\n{text}", name="tools")
            else:
                found.append(Message("user", text, name="tools"))
        elif message.tool_calls:
            found.append(Message(message.role, shown(message)))
        else:
            found.append(message)
    return tuple(replace(m, name=None) if m.name == "tools" and m.role == "user" else m for m in found)


def with_system(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The conversation with `text` at the end of its first system message; there is one afterwards, and it stands first."""
    if not messages or messages[0].role not in _LEADING:
        return (Message("system", text), *messages)
    first = messages[0]
    if isinstance(first.content, tuple):
        joined = replace(first, content=(*first.content, Part("text", f"\n\n{text}")))
    else:
        joined = replace(first, content=f"{first.content or ''}\n\n{text}")
    return (joined, *messages[1:])


def asked(messages: Sequence[Message], most: int) -> str:
    """The question of a conversation, for those who judge answers to it: the last `most` characters of what was said.

    A single message stands alone; of several, each says whose it is. System messages are left out.
    """
    turns = [message for message in messages if message.role not in _LEADING]
    several = (f"{turn.role}: {shown(turn)}" for turn in turns)
    text = shown(turns[0]) if len(turns) == 1 else "\n\n".join(several)
    return text if len(text) <= most else "[cut] " + text[len(text) - most :]
