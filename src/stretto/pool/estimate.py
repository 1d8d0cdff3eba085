"""How many tokens a text may come to, without its tokeniser.

Money is set aside by `most_tokens`, so it errs high. It counts characters by what they cost in the worst usual case: 0.6 for a
small ASCII letter, 0.25 for a space (one before a digit is a token of its own), one for any other ASCII character, and by script
beyond: two for an ideograph, a byte each for scripts that few tokenisers know. Measured on texts of 20 kinds with four
real tokenisers it is below the truth for fewer than one in a hundred (docs/reference/token-counts.md). It is not a proof. For
byte-level or character-level tokenisers (`dense`) the number of bytes is one.

What a call without known usage is charged with is `likely`: three fifths of that, still above the truth for English and for code.
"""

import string
from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.steps import Ask
from stretto.types import Message, Part

__all__ = ["input_tokens", "likely", "most_tokens", "usual_tokens"]

_SMALL: Final = string.ascii_lowercase.encode()
_DIGITS: Final = string.digits.encode()
_NO_LEADS: Final = bytes(range(192))
_BEYOND_ASCII: Final = bytes(range(128, 256))
_KNOWN_OF_E0: Final = (b"\xe0\xa4", b"\xe0\xa5", b"\xe0\xb8", b"\xe0\xb9")
"""How Devanagari and Thai begin, which tokenisers know, unlike the other scripts that begin with E0."""


def _thirds() -> bytes:
    """Thirds of a token that a character may cost, by the first byte of its UTF-8."""
    weights = bytearray(256)
    weights[0xC2:0xE0] = bytes([4]) * (0xE0 - 0xC2)  # Latin, Greek, Cyrillic, Hebrew, Arabic
    weights[0xD4:0xD7] = bytes([6]) * 3  # Armenian
    weights[0xE0:0xF0] = bytes([6]) * 16  # ideographs, kana, Hangul, signs
    weights[0xE0:0xE2] = bytes([9]) * 2  # scripts of India and South-East Asia, Georgian, Ethiopic
    weights[0xF0:0xF5] = bytes([12]) * 5  # emoji and the rest
    return bytes(weights)


_THIRDS: Final = _thirds()
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
    rest = raw.translate(None, _SMALL)
    signs = rest.translate(None, b" ")
    spaces = len(rest) - len(signs)
    twentieths = 12 * (len(raw) - len(rest)) + 5 * spaces
    if spaces:
        twentieths += 15 * min(spaces, len(signs) - len(signs.translate(None, _DIGITS)))
    if text.isascii():
        return len(signs) + -(-twentieths // 20)
    thirds = sum(signs.translate(_THIRDS, _NO_LEADS)) - 3 * sum([raw.count(start) for start in _KNOWN_OF_E0])
    twentieths += 5 * spaces
    return len(signs.translate(None, _BEYOND_ASCII)) + -(-twentieths // 20) + -(-thirds // 3)


def likely(most: int, dense: bool = False) -> int:
    """About how many tokens there are where there are at most `most`."""
    return most if dense else (3 * most + 4) // 5


def usual_tokens(most: int, dense: bool = False) -> int:
    """As many tokens as there usually are where there are at most `most`: what an expectation rests on, never a charge.

    The median of prose and code is 0.42 of it, of JSON 0.5 (docs/reference/token-counts.md), of dense tokenisers a third.
    """
    return -(-most // 3) if dense else (9 * most + 10) // 20


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
