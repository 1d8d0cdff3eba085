"""Streams as Stretto sends them, recorded from a real gateway: text, then a tool call, the end. For those who cut them up."""

import asyncio
from typing import Any

from stretto.steps import Outcome
from stretto.types import Delta, Message, ToolCall, Usage
from tests.gateway_world import World
from tests.unit.gateway.streams import asking

SAYS = "Let me look."
ARGUMENTS = '{"at":"map"}'
TOOL = {"name": "look", "description": "looks", "parameters": {"type": "object", "properties": {}}}
TOOLS: dict[str, dict[str, Any]] = {
    "chat": {"tools": [{"type": "function", "function": TOOL}], "stream_options": {"include_usage": True}},
    "responses": {"tools": [{"type": "function", **TOOL}], "store": False},
    "messages": {"tools": [{"name": "look", "input_schema": {"type": "object"}}]},
    "completions": {},
}
LAST = {
    "chat": b'"finish_reason":"tool_calls"',
    "responses": b'"type":"response.completed"',
    "messages": b'"type":"message_stop"',
}
"""What stands in the event by which a client knows that it has all."""


async def _looks(ask: Any, emit: Any, tally: Any) -> Outcome:
    tally.emitted = True
    await emit([Delta(reasoning="Where is it?")])
    for piece in ("Let me", " look."):
        await emit([Delta(piece)])
    await emit([Delta(tool_calls=((0, "call_1", "look", ""),))])
    await emit(
        [Delta(tool_calls=((0, "", "", ARGUMENTS[:5]),)), Delta(tool_calls=((0, "", "", ARGUMENTS[5:]),))]
    )
    calls = (ToolCall("call_1", "look", ARGUMENTS),)
    return Outcome(Message("assistant", SAYS, calls, reasoning="Where is it?"), "tool_calls", Usage(12, 7))


def recorded(form: str) -> bytes:
    """The whole body of a stream in that format."""
    return asyncio.run(asking(World(_looks), form, **TOOLS[form]).run()).body


def end_of(form: str, raw: bytes) -> int:
    """How much of the body has to be there until the event that ends it is whole."""
    return raw.index(b"\n\n", raw.index(LAST[form])) + 2
