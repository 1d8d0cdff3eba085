"""What a llama.cpp server does beside the OpenAI routes: it tells how its model sees a prompt, token by token."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from stretto.pool.http import HttpResponse

__all__ = ["Send", "prompt_ids", "state_body"]

Send = Callable[[bytes, bytes], Awaitable[HttpResponse]]
"""Sends a body to a path of the server. Raises `TransportError`."""

_UNUSABLE: Final = "llama.cpp does not tell the tokens of this prompt"


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
