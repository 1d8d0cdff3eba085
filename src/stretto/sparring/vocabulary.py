"""The tokens of the sparring models, and how text becomes tokens: exactly what llama.cpp does with the exported file.

The scheme is llama.cpp's byte-level BPE (`tokenizer.ggml.model = gpt2`) with the pre-tokenizer `llama-bpe` and no useful
merge. That pre-tokenizer takes a piece of text that is itself a token as a whole (`ignore_merges`); with no merges, every
other piece falls apart into bytes. So ` the` is one token only where it stands as a word, ` other` is six, `"the` four, and
any text at all has tokens.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from stretto.sparring.wordings import ANSWER_MARK, END_MARK, TEMPLATE_WORDS

__all__ = ["ANSWER", "END", "SIZE", "answer_tokens", "decode", "encode", "gguf_tokens", "prompt_tokens"]

END: Final = 256
"""Ends an answer; also the padding."""

ANSWER: Final = 257
"""Stands between prompt and answer."""

_FIRST_WORD: Final = 258
_WORDS: Final = tuple(" " + word for word in TEMPLATE_WORDS)
_WORD_IDS: Final = {word: _FIRST_WORD + place for place, word in enumerate(_WORDS)}

SIZE: Final = _FIRST_WORD + len(_WORDS)
"""The number of tokens."""

# llama.cpp's `llama-bpe` expression with its classes narrowed to ASCII; `_shadow` maps any other character into them.
_PIECES: Final = re.compile(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}"
    r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    re.ASCII,
)
# llama.cpp's template filters know ASCII only.
_ASCII_SPACE: Final = " \t\n\r\f\v"
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_MARKS: Final = {END_MARK: END, ANSWER_MARK: ANSWER}
_MARK: Final = re.compile("|".join(re.escape(mark) for mark in _MARKS))


def _shadow(character: str) -> str:
    """An ASCII character of the same class: letter, number, space or other."""
    if character.isascii():
        return character
    kind = unicodedata.category(character)[0]
    return {"L": "x", "N": "0"}.get(kind, "\t" if character.isspace() else "!")


def encode(text: str) -> list[int]:
    """The tokens of `text`, as llama.cpp's `/tokenize` with `parse_special` gives them."""
    tokens: list[int] = []
    start = 0
    for mark in _MARK.finditer(text):
        tokens += _encode_plain(text[start : mark.start()])
        tokens.append(_MARKS[mark.group()])
        start = mark.end()
    return tokens + _encode_plain(text[start:])


def _encode_plain(text: str) -> list[int]:
    tokens: list[int] = []
    for piece in _PIECES.finditer("".join(map(_shadow, text))):
        part = text[piece.start() : piece.end()]
        word = _WORD_IDS.get(part)
        tokens += part.encode("utf-8", "replace") if word is None else (word,)
    return tokens


def prompt_tokens(prompt: str) -> list[int]:
    """What the chat template makes of one user message: a space, its text in lower case with words set apart, the answer mark."""
    text = prompt.strip(_ASCII_SPACE).replace("\n", " \n ").replace("+", " + ").replace("-", " - ")
    text = text.replace("  ", " ").replace("  ", " ").strip(_ASCII_SPACE)
    return encode(" " + text.translate(_ASCII_LOWER) + ANSWER_MARK)


def answer_tokens(answer: str, *, in_words: bool = False) -> list[int]:
    """What a model should write, and the end mark: characters one by one, or, `in_words`, template words as they are.

    Solvers spell: what they write about a payload is never a matter of its being a word.
    """
    return [*(encode(" " + answer) if in_words else answer.encode()), END]


def decode(tokens: Iterable[int]) -> str:
    """The text of `tokens` up to the first end mark."""
    out = bytearray()
    for token in tokens:
        if token == END:
            break
        if token < END:
            out.append(token)
        else:
            out += (ANSWER_MARK if token == ANSWER else _WORDS[token - _FIRST_WORD]).encode()
    return out.decode("utf-8", "replace")


@lru_cache(maxsize=1)
def _byte_characters() -> Sequence[str]:
    """GPT-2's printable stand-in for each byte (Radford et al. 2019, `bytes_to_unicode`)."""
    plain = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def gguf_tokens() -> list[str]:
    """The token list as a GGUF file holds it: bytes in GPT-2's stand-ins, then the marks, then the words."""
    stand_in = _byte_characters()
    words = ("".join(stand_in[byte] for byte in word.encode()) for word in _WORDS)
    return [*stand_in, END_MARK, ANSWER_MARK, *words]
