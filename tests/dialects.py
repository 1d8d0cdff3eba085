"""One conversation in three tongues: requests and answers as everybody means them, spoken and heard in each format.

Written from the formats' own specifications, and by nothing of `stretto`, so that what a translation loses shows.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

Piece = tuple[str, ...]
"""("user", "text", ...), ("user", "image", address), ("assistant", "text", ...), ("call", id, name, arguments) or
("result", id, text)."""


@dataclass(frozen=True)
class Talk:
    """A request: what is asked, by whom, with which tools. `choice` is "", auto, none, required or the name of a tool."""

    pieces: tuple[Piece, ...]
    instructions: tuple[str, ...] = ()
    tools: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()
    choice: str = ""
    parallel: bool = True
    schema: Mapping[str, Any] | None = None
    cap: int = 99


@dataclass(frozen=True)
class Told:
    """An answer. `usage` is input, output, cached, reasoning; `finish` in the words of Chat Completions."""

    text: str = ""
    reasoning: str = ""
    seal: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    finish: str = "stop"
    usage: tuple[int, int, int, int] = (9, 5, 4, 2)
    logprobs: tuple[tuple[str, float], ...] = field(default=())


def turns(pieces: Iterable[Piece]) -> list[tuple[str, list[Piece]]]:
    """Pieces by who speaks."""
    who = {"call": "assistant", "result": "result"}
    return [(role, list(each)) for role, each in groupby(pieces, lambda p: who.get(p[0], p[0]))]


def same(arguments: str) -> str:
    """JSON in one spelling."""
    return json.dumps(json.loads(arguments), sort_keys=True)


def source(url: str) -> dict[str, Any]:
    """An address as Messages has it."""
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": kind, "data": data}


def address(of: Mapping[str, Any]) -> str:
    """And back."""
    return of["url"] if of["type"] == "url" else f"data:{of['media_type']};base64,{of['data']}"


# --- requests: Chat Completions ----------------------------------------------------------------------------------


def speak_chat(talk: Talk, cap: str = "max_completion_tokens") -> dict[str, Any]:
    """The request of a chat client."""
    messages: list[dict[str, Any]] = [
        {"role": role, "content": text}
        for role, text in zip(("system", "developer"), talk.instructions, strict=False)
    ]
    for who, pieces in turns(talk.pieces):
        if who == "user":
            parts = [
                {"type": "text", "text": p[2]}
                if p[1] == "text"
                else {"type": "image_url", "image_url": {"url": p[2]}}
                for p in pieces
            ]
            messages.append({"role": "user", "content": parts})
        elif who == "assistant":
            calls = [
                {"id": p[1], "type": "function", "function": {"name": p[2], "arguments": p[3]}}
                for p in pieces
                if p[0] == "call"
            ]
            text = "".join(p[2] for p in pieces if p[0] != "call")
            said: dict[str, Any] = {"role": "assistant", "content": text or None}
            messages.append({**said, "tool_calls": calls} if calls else said)
        else:
            messages += [{"role": "tool", "tool_call_id": p[1], "content": p[2]} for p in pieces]
    body: dict[str, Any] = {"model": "w", "messages": messages, cap: talk.cap}
    if talk.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": n, "description": d, "parameters": p}}
            for n, d, p in talk.tools
        ]
        if talk.choice:
            named = {"type": "function", "function": {"name": talk.choice}}
            body["tool_choice"] = talk.choice if talk.choice in MODES else named
        if not talk.parallel:
            body["parallel_tool_calls"] = False
    if talk.schema is not None:
        named = {"name": "answer", "schema": talk.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


MODES = ("auto", "none", "required")


def hear_chat(body: Mapping[str, Any]) -> Talk:
    """What a chat request says."""
    pieces: list[Piece] = []
    instructions: list[str] = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if message["role"] in ("system", "developer"):
            instructions += [part["text"] for part in parts]
        elif message["role"] == "tool":
            pieces.append(("result", message["tool_call_id"], "".join(part["text"] for part in parts)))
        else:
            for part in parts:
                image = part["type"] == "image_url"
                said = ("image", part["image_url"]["url"]) if image else ("text", part["text"])
                pieces.append((message["role"], *said))
            for call in message.get("tool_calls", ()):
                function = call["function"]
                pieces.append(("call", call["id"], function["name"], same(function["arguments"])))
    choice = body.get("tool_choice", "")
    form = body.get("response_format")
    functions = [tool["function"] for tool in body.get("tools", ())]
    return Talk(
        tuple(pieces),
        tuple(instructions),
        tuple((f["name"], f.get("description", ""), f["parameters"]) for f in functions),
        choice if isinstance(choice, str) else choice["function"]["name"],
        body.get("parallel_tool_calls", True),
        form["json_schema"]["schema"] if form else None,
        body.get("max_completion_tokens") or body.get("max_tokens", 0),
    )


# --- requests: Responses -----------------------------------------------------------------------------------------


def speak_responses(talk: Talk) -> dict[str, Any]:
    """The request of a Responses client."""
    items: list[dict[str, Any]] = [{"role": "developer", "content": text} for text in talk.instructions[1:]]
    for who, pieces in turns(talk.pieces):
        if who == "user":
            parts = [
                {"type": "input_text", "text": p[2]}
                if p[1] == "text"
                else {"type": "input_image", "image_url": p[2]}
                for p in pieces
            ]
            items.append({"type": "message", "role": "user", "content": parts})
            continue
        for p in pieces:
            if p[0] == "assistant":
                part = {"type": "output_text", "text": p[2], "annotations": []}
                items.append({"type": "message", "role": "assistant", "content": [part]})
            elif p[0] == "call":
                items.append({"type": "function_call", "call_id": p[1], "name": p[2], "arguments": p[3]})
            else:
                items.append({"type": "function_call_output", "call_id": p[1], "output": p[2]})
    body: dict[str, Any] = {"model": "w", "input": items, "max_output_tokens": talk.cap, "store": False}
    if talk.instructions:
        body["instructions"] = talk.instructions[0]
    if talk.tools:
        body["tools"] = [
            {"type": "function", "name": n, "description": d, "parameters": p, "strict": None}
            for n, d, p in talk.tools
        ]
        if talk.choice:
            body["tool_choice"] = (
                talk.choice if talk.choice in MODES else {"type": "function", "name": talk.choice}
            )
        if not talk.parallel:
            body["parallel_tool_calls"] = False
    if talk.schema is not None:
        body["text"] = {
            "format": {"type": "json_schema", "name": "answer", "schema": talk.schema, "strict": True}
        }
    return body


def hear_responses(body: Mapping[str, Any]) -> Talk:
    """What a Responses request says."""
    pieces: list[Piece] = []
    instructions = [body["instructions"]] if "instructions" in body else []
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call":
            pieces.append(("call", item["call_id"], item["name"], same(item["arguments"])))
        elif kind == "function_call_output":
            pieces.append(("result", item["call_id"], _plain(item["output"])))
        elif item["role"] in ("system", "developer"):
            content = item["content"]
            instructions += [content] if isinstance(content, str) else [part["text"] for part in content]
        elif isinstance(item["content"], str):
            pieces.append((item["role"], "text", item["content"]))
        else:
            for part in item["content"]:
                image = part["type"] == "input_image"
                pieces.append(
                    (item["role"], *(("image", part["image_url"]) if image else ("text", part["text"])))
                )
    choice = body.get("tool_choice", "")
    form = body.get("text", {}).get("format")
    return Talk(
        tuple(pieces),
        tuple(instructions),
        tuple((t["name"], t.get("description") or "", t["parameters"]) for t in body.get("tools", ())),
        choice if isinstance(choice, str) else choice["name"],
        body.get("parallel_tool_calls", True),
        form["schema"] if form else None,
        body.get("max_output_tokens", 0),
    )


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


# --- requests: Messages ------------------------------------------------------------------------------------------


def speak_messages(talk: Talk) -> dict[str, Any]:
    """The request of a Messages client."""
    messages: list[dict[str, Any]] = []
    for who, pieces in turns(talk.pieces):
        blocks = [_block(piece) for piece in pieces]
        role = "assistant" if who == "assistant" else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    body: dict[str, Any] = {"model": "w", "messages": messages, "max_tokens": talk.cap}
    if talk.instructions:
        body["system"] = [{"type": "text", "text": text} for text in talk.instructions]
    if talk.tools:
        body["tools"] = [{"name": n, "description": d, "input_schema": p} for n, d, p in talk.tools]
        names = {"": "auto", "auto": "auto", "none": "none", "required": "any"}
        choice = (
            {"type": names[talk.choice]} if talk.choice in names else {"type": "tool", "name": talk.choice}
        )
        if talk.choice or not talk.parallel:
            body["tool_choice"] = {**choice, **({} if talk.parallel else {"disable_parallel_tool_use": True})}
    if talk.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": talk.schema}}
    return body


def _block(piece: Piece) -> dict[str, Any]:
    if piece[0] == "call":
        return {"type": "tool_use", "id": piece[1], "name": piece[2], "input": json.loads(piece[3])}
    if piece[0] == "result":
        return {"type": "tool_result", "tool_use_id": piece[1], "content": piece[2]}
    if piece[1] == "image":
        return {"type": "image", "source": source(piece[2])}
    return {"type": "text", "text": piece[2]}


def hear_messages(body: Mapping[str, Any]) -> Talk:
    """What a Messages request says."""
    pieces: list[Piece] = []
    system = body.get("system", [])
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "tool_use":
                pieces.append(("call", block["id"], block["name"], same(json.dumps(block["input"]))))
            elif block["type"] == "tool_result":
                pieces.append(("result", block["tool_use_id"], _plain(block.get("content", ""))))
            elif block["type"] == "image":
                pieces.append((message["role"], "image", address(block["source"])))
            elif block["type"] == "text":
                pieces.append((message["role"], "text", block["text"]))
    choice = body.get("tool_choice", {"type": ""})
    form = body.get("output_config", {}).get("format")
    names = {"any": "required", "tool": choice.get("name")}
    return Talk(
        tuple(pieces),
        (system,) if isinstance(system, str) else tuple(block["text"] for block in system),
        tuple((t["name"], t.get("description", ""), t["input_schema"]) for t in body.get("tools", ())),
        names.get(choice["type"], choice["type"]),
        not choice.get("disable_parallel_tool_use", False),
        form["schema"] if form else None,
        body["max_tokens"],
    )


SPEAK: Mapping[str, Callable[[Talk], dict[str, Any]]] = {
    "chat": speak_chat,
    "responses": speak_responses,
    "messages": speak_messages,
}
HEAR: Mapping[str, Callable[[Mapping[str, Any]], Talk]] = {
    "chat": hear_chat,
    "responses": hear_responses,
    "messages": hear_messages,
}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
ALL: Sequence[str] = tuple(SPEAK)
