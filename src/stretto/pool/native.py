"""What is llama.cpp's own: how it tells the tokens of a prompt, and what its chat route lacks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.pool.http import HttpResponse
from stretto.steps import Ask

__all__ = ["Send", "prompt_ids", "state_body", "suited"]

Send = Callable[[bytes, bytes], Awaitable[HttpResponse]]
"""Sends a body to a path of the server. Raises `TransportError`."""

_UNUSABLE: Final = "llama.cpp does not tell the tokens of this prompt"


def suited(ask: Ask, most: int | None) -> Ask:
    """An ask that means the same to llama.cpp, which ignores a choice of one tool by name, and writes on until it is stopped.

    The named tool is the only one offered, and one is required; `most` tokens are written where the ask leaves it open.
    """
    choice = ask.tool_choice
    if isinstance(choice, Mapping):
        wanted = _named(choice)
        tools = tuple(tool for tool in ask.tools if wanted is not None and _named(tool) == wanted)
        if tools:
            ask = replace(ask, tools=tools, tool_choice="required")
    return replace(ask, max_tokens=most) if ask.max_tokens is None and most is not None else ask


def _named(tool: Mapping[str, Any]) -> Any:
    inner = tool.get(str(tool.get("type")))
    return inner.get("name") if isinstance(inner, Mapping) else None


async def prompt_ids(send: Send, chat: bytes) -> list[int]:
    """The token ids of a chat request (`chat`, its body), its template applied: what the model is given before it writes.

    Raises `ValueError` when the server does not say, `TransportError` when it cannot be reached.
    """
    prompt = await _field(send, b"/apply-template", chat, "prompt")
    if type(prompt) is not str:
        raise ValueError(_UNUSABLE)
    # as llama.cpp itself reads a prompt: with its beginning token, and special tokens in the text taken for what they are
    body = orjson.dumps({"content": prompt, "add_special": True, "parse_special": True})
    ids = await _field(send, b"/tokenize", body, "tokens")
    if type(ids) is not list or any(type(token) is not int for token in ids):
        raise ValueError(_UNUSABLE)
    return ids


def state_body(ids: list[int]) -> bytes:
    """The body of an embedding request that brings the raw state after the last token but one of a prompt.

    With pooling `last` over all tokens but the last that is the penultimate state (ORCHESTRATION.md 2.1).
    """
    return orjson.dumps({"input": ids[:-1] or ids, "embd_normalize": -1, "encoding_format": "base64"})


async def _field(send: Send, path: bytes, body: bytes, name: str) -> Any:
    response = await send(path, body)
    try:
        if response.status != 200:
            raise ValueError(f"{path.decode()} of llama.cpp answered {response.status}")
        raw = orjson.loads(await response.read())
    except orjson.JSONDecodeError:
        raise ValueError(_UNUSABLE) from None
    finally:
        response.cancel()
    return raw.get(name) if type(raw) is dict else None
