"""Streams of every format through the gateway: how each is asked for, and how its bytes are read."""

import json
from typing import Any

from tests.asgi import Exchange
from tests.gateway_world import CHAT, World

ROUTES = {
    "chat": CHAT,
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
}
ASKS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hello"}]},
    "responses": {"input": "hello", "reasoning": {"summary": "auto"}},
    "messages": {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    },
    "completions": {"prompt": "hello"},
}
"""A request in each format; where reasoning is shown on demand only, it is demanded."""

ENDS = {
    "chat": b"[DONE]",
    "responses": b"response.completed",
    "messages": b"message_stop",
    "completions": b"[DONE]",
}
FORMATS = list(ROUTES)


def asking(world: World, form: str, model: str = "a", headers: Any = (), **fields: Any) -> Exchange:
    """A streaming call, not yet begun."""
    body = {"model": model, "stream": True, **ASKS[form], **fields}
    return Exchange(world.app, "POST", ROUTES[form], json.dumps(body).encode(), headers)


def events(raw: bytes) -> list[dict[str, Any]]:
    """The data of the events, `[DONE]` left out."""
    blocks = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(block) for block in blocks if block != b"[DONE]"]


def text_of(form: str, raw: bytes) -> str:
    """The answer's text."""
    said = []
    for event in events(raw):
        if form in ("chat", "completions"):
            for choice in event.get("choices", ()):
                said.append(choice["delta"].get("content") if form == "chat" else choice["text"])
        elif form == "responses" and event["type"] == "response.output_text.delta":
            said.append(event["delta"])
        elif form == "messages" and event.get("delta", {}).get("type") == "text_delta":
            said.append(event["delta"]["text"])
    return "".join(piece or "" for piece in said)


def reasoning_of(form: str, raw: bytes) -> str:
    """What is shown as reasoning."""
    said = []
    for event in events(raw):
        if form == "chat":
            said += [choice["delta"].get("reasoning_content", "") for choice in event.get("choices", ())]
        elif event.get("type") == "response.reasoning_summary_text.delta":
            said.append(event["delta"])
        elif form == "messages" and event.get("delta", {}).get("type") == "thinking_delta":
            said.append(event["delta"]["thinking"])
    return "".join(said)
