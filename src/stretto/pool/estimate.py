"""How many tokens a text may come to, without its tokeniser.

Money is set aside by `most_tokens`, so it errs high: half a token for a letter or space, one for any other ASCII character, two
thirds for each byte of what is not ASCII. English prose has about 0.24 tokens a character with current tokenisers, code and
arithmetic 0.3 to 0.8, Chinese and Japanese 0.7 to 1.5 (of three bytes), Cyrillic 0.3 to 0.6 (of two). It is not a proof: a text
of random letters can have more. For byte-level or character-level tokenisers (`dense`) the number of bytes is one.

What a call without known usage is charged with is `likely`: three fifths of that, still above the truth for prose.
"""

import string
from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.steps import Ask
from stretto.types import Message, Part

__all__ = ["input_tokens", "likely", "most_tokens"]

_LETTERS: Final = (string.ascii_letters + " ").encode()
_BEYOND_ASCII: Final = bytes(range(128, 256))
_PER_REQUEST: Final = 8
_PER_MESSAGE: Final = 8
_PER_IMAGE: Final = 2000
"""Vendors charge between 85 and about 1,600 tokens for an image; a few small models more."""
_BYTES_PER_MEDIA_TOKEN: Final = 4


def most_tokens(text: str, dense: bool = False) -> int:
    """At most about how many tokens `text` is."""
    raw = text.encode(errors="replace")
    if dense:
        return len(raw)
    rest = raw.translate(None, _LETTERS)
    words = (len(raw) - len(rest) + 1) // 2
    if text.isascii():
        return words + len(rest)
    signs = len(rest.translate(None, _BEYOND_ASCII))
    return words + signs + (2 * (len(rest) - signs) + 2) // 3


def likely(most: int, dense: bool = False) -> int:
    """About how many tokens there are where there are at most `most`."""
    return most if dense else (3 * most + 4) // 5


def input_tokens(ask: Ask, dense: bool = False) -> int:
    """At most about how many tokens a bound ask puts in: messages with their framing, tools, and the answer's schema."""
    total = _PER_REQUEST
    for message in ask.messages or ():
        total += _PER_MESSAGE
        content = message.content
        if isinstance(content, str):
            total += most_tokens(content, dense)
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
        return most_tokens(part.text, dense)
    if "image" in part.kind:
        return _PER_IMAGE
    if part.kind == "tokens" and part.data is not None:
        return len(part.data["tokens"])
    return len(orjson.dumps(part.data, default=repr)) // _BYTES_PER_MEDIA_TOKEN


def _rest(message: Message, dense: bool) -> int:
    total = most_tokens(message.reasoning, dense) if message.reasoning else 0
    for call in message.tool_calls:
        total += _PER_MESSAGE + most_tokens(call.name, dense) + most_tokens(call.arguments, dense)
    return total + (_json(message.extra, dense) if message.extra else 0)


def _json(value: list[Mapping[str, Any]] | Mapping[str, Any], dense: bool) -> int:
    return most_tokens(orjson.dumps(value, default=repr).decode(), dense)
