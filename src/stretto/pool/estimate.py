"""How many tokens a text may come to, without its tokeniser.

Estimates err high, since money is set aside by them. English prose has about 4.2 characters a token and code about 3 with
current tokenisers; half a token a character covers both with room to spare. Beyond ASCII a character takes 2 to 4 bytes in
UTF-8, and 0.5 to 2 tokens: three quarters of a token for each byte after a character's first make 1.25 for Cyrillic and 2 for
Chinese. That is not a proof: a text of rare characters or random letters can have more. For byte-level or character-level
tokenisers (`dense`) the number of bytes is one.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.steps import Ask
from stretto.types import Message, Part

__all__ = ["input_tokens", "text_tokens"]

_PER_REQUEST: Final = 8
_PER_MESSAGE: Final = 8
_PER_IMAGE: Final = 2000
"""Vendors charge between 85 and about 1,600 tokens for an image; a few small models more."""
_BYTES_PER_MEDIA_TOKEN: Final = 4


def text_tokens(text: str, dense: bool = False) -> int:
    """At most about how many tokens `text` is."""
    count = len(text)
    if text.isascii():
        return count if dense else (count + 1) // 2
    size = len(text.encode(errors="replace"))
    return size if dense else (2 * count + 3 * (size - count) + 3) // 4


def input_tokens(ask: Ask, dense: bool = False) -> int:
    """At most about how many tokens a bound ask puts in: messages with their framing, tools, and the answer's schema."""
    total = _PER_REQUEST
    for message in ask.messages or ():
        total += _PER_MESSAGE
        content = message.content
        if isinstance(content, str):
            total += text_tokens(content, dense)
        elif content:
            for part in content:
                total += _part(part, dense)
        if message.role != "user" and message.role != "system":
            total += _rest(message, dense)
    if ask.tools:
        total += _json(list(ask.tools), dense)
    if ask.response_format is not None:
        total += _json(ask.response_format, dense)
    return total


def _part(part: Part, dense: bool) -> int:
    if part.kind == "text":
        return text_tokens(part.text, dense)
    if "image" in part.kind:
        return _PER_IMAGE
    return len(orjson.dumps(part.data, default=repr)) // _BYTES_PER_MEDIA_TOKEN


def _rest(message: Message, dense: bool) -> int:
    total = text_tokens(message.reasoning, dense) if message.reasoning else 0
    for call in message.tool_calls:
        total += _PER_MESSAGE + text_tokens(call.name, dense) + text_tokens(call.arguments, dense)
    return total + (_json(message.extra, dense) if message.extra else 0)


def _json(value: list[Mapping[str, Any]] | Mapping[str, Any], dense: bool) -> int:
    return text_tokens(orjson.dumps(value, default=repr).decode(), dense)
