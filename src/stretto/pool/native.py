"""What is llama.cpp's own: how it tells the tokens of a prompt and its states, and what its chat route lacks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import orjson

from stretto.pool.http import HttpResponse
from stretto.steps import Ask
from stretto.wire.base import Rendered

__all__ = ["Send", "as_chat", "prompt_ids", "purpose_of", "raw_text", "state_body", "suited"]

Send = Callable[[bytes, bytes], Awaitable[HttpResponse]]
"""Sends a body to a path of the server. Raises `TransportError`."""

_POOLINGS: Final = ("penultimate", "last", "mean")
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


def as_chat(ask: Ask) -> Ask:
    """An ask for a state as one for text, whose prompt is the text whose state is meant. Raises `ValueError`."""
    if (pooling := ask.params.get("pooling", _POOLINGS[0])) not in _POOLINGS:
        raise ValueError(f"a state is {', '.join(_POOLINGS)}, not {pooling!r}")
    own = {name: value for name, value in ask.params.items() if name not in ("pooling", "raw")}
    return replace(ask, want="text", params=own)


def raw_text(ask: Ask) -> Rendered | None:
    """The request for the tokens of a `raw` ask for a state: its messages are one text, without a template. Else `None`."""
    if not ask.params.get("raw"):
        return None
    return Rendered("/tokenize", _to_tokenize("".join(message.text for message in ask.messages or ())))


def purpose_of(ask: Ask) -> Literal["text", "embedding", "mean"]:
    """What a local model has to be loaded for to answer this."""
    if ask.want not in ("embedding", "state"):
        return "text"
    return "mean" if ask.want == "state" and ask.params.get("pooling") == "mean" else "embedding"


async def prompt_ids(send: Send, request: Rendered) -> list[int]:
    """The token ids of a chat request, its template applied: what the model is given before it writes; or of a `raw_text`.

    Raises `ValueError` when the server does not say, `TransportError` when it cannot be reached.
    """
    body = request.body
    if request.path != "/tokenize":
        prompt = await _field(send, b"/apply-template", body, "prompt")
        if type(prompt) is not str:
            raise ValueError(_UNUSABLE)
        body = _to_tokenize(prompt)
    ids = await _field(send, b"/tokenize", body, "tokens")
    if type(ids) is not list or any(type(token) is not int for token in ids):
        raise ValueError(_UNUSABLE)
    return ids


def _to_tokenize(text: str) -> bytes:
    # as llama.cpp itself reads a prompt: with its beginning token, and special tokens in the text taken for what they are
    return orjson.dumps({"content": text, "add_special": True, "parse_special": True})


def state_body(ids: list[int], ask: Ask) -> bytes:
    """The body of an embedding request that brings the raw, unnormalised state of a prompt that the ask means.

    By default that after the last token but one: the state of pooling `last` over all tokens but the last (ORCHESTRATION.md
    2.1).
    """
    read = ids[:-1] or ids if ask.params.get("pooling", _POOLINGS[0]) == _POOLINGS[0] else ids
    return orjson.dumps({"input": read, "embd_normalize": -1, "encoding_format": "base64"})


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
