"""Cheap features of a prompt's text, from an artefact: hashed TF-IDF pressed into a few dimensions, and seven counts.

Numpy only, imported late. The fit is `learning.evidence.features`; this reads its result, so both see the same words.
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import unpacked

__all__ = ["BUCKETS", "COUNTS", "TextFeatures", "buckets", "counts"]

BUCKETS: Final = 1 << 17
"""Words and pairs of words fall into so many buckets."""

COUNTS: Final = ("characters", "words", "digits", "lines", "mathematical signs", "brackets", "option marks")
"""The counts, each as log(1 + n)."""

_LONGEST: Final = 6000
_WORD: Final = re.compile(r"[a-z]+|\d|[^\sa-z\d]", re.IGNORECASE)
_BLANK: Final = r"\t-\r\x1c-\x20"
_ASCII_WORD: Final = re.compile(rf"[a-z]+|[0-9]|[^{_BLANK}a-z0-9]".encode())
_SIGNS: Final = "+-*/=<>^\\$"
_BRACKETS: Final = "()[]{}"
_KINDS: Final = bytes.maketrans(
    ("0123456789" + _SIGNS + _BRACKETS).encode(), b"0" * 10 + b"+" * len(_SIGNS) + b"(" * len(_BRACKETS)
)
"""Digits, signs and brackets, each kind as one byte."""

_FIRST: Final = 2654435761
_SECOND: Final = 40503
"""What the words of a pair are multiplied by; only the lowest 24 bits of the sum count, so it may overflow."""

_OPTION: Final = re.compile(r"[A-J][.):]")


def buckets(text: str) -> Any:
    """The buckets of the words and pairs of words of a text, as often as they come. Of long texts: both ends."""
    import numpy as np

    if len(text) > _LONGEST:
        text = text[: _LONGEST // 2] + text[-_LONGEST // 2 :]
    if text.isascii():  # the same words, several times as fast
        found = _ASCII_WORD.findall(text.lower().encode())
    else:
        found = [w.encode("utf-8", "replace") for w in _WORD.findall(text.casefold())]
    words = np.fromiter(map(zlib.crc32, found), np.int64, len(found))
    pairs = (words[:-1] * _FIRST + words[1:] * _SECOND) >> 7
    return np.concatenate((words, pairs)) & (BUCKETS - 1)


def counts(text: str) -> list[float]:
    """The seven counts of `COUNTS`."""
    start = text[:_LONGEST]
    if text.isascii():
        plain = text.encode().translate(_KINDS)
        digits, signs, brackets = plain.count(b"0", 0, _LONGEST), plain.count(b"+"), plain.count(b"(")
    else:
        digits = sum(map(str.isdigit, start))
        signs, brackets = (sum(map(text.count, kind)) for kind in (_SIGNS, _BRACKETS))
    marks = sum(_begins(start, found.start()) for found in _OPTION.finditer(start))
    raw = len(text), text.count(" ") + 1, digits, text.count("\n"), signs, brackets, marks
    return list(map(math.log1p, raw))


def _begins(text: str, at: int) -> bool:
    """Whether an option mark at this place begins a word; a bracket may stand before it."""
    if at and text[at - 1] == "(":
        at -= 1
    return at == 0 or text[at - 1].isspace()


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """From a prompt to numbers with mean 0 and deviation 1 over the prompts that this was learned on."""

    rows: Any
    weights: Any
    projection: Any
    mean: Any
    deviation: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "TextFeatures":
        """From an artefact's data: `kept` (the known buckets, rising), `weights` (idf), `projection`, `mean`, `deviation`.

        In the place of `kept` there may be `rows` (bucket -> row, -1: not known).
        """
        import numpy as np

        if "rows" in data:
            rows = unpacked(data["rows"])
        else:
            kept = unpacked(data["kept"])
            rows = np.full(BUCKETS, -1, dtype=np.int32)
            rows[kept] = np.arange(len(kept), dtype=np.int32)
        return cls(
            rows,
            unpacked(data["weights"]).astype(np.float32),
            unpacked(data["projection"]).astype(np.float32),
            unpacked(data["mean"]).astype(np.float32).astype(np.float64),
            unpacked(data["deviation"]).astype(np.float32).astype(np.float64),
        )

    def raw(self, text: str) -> Any:
        """The features before they are standardised."""
        import numpy as np

        known = self.rows[buckets(text)]
        known = known[known >= 0]
        known.sort()
        fresh = np.ones(len(known) + 1, dtype=bool)  # where another row begins, and the end
        np.not_equal(known[1:], known[:-1], out=fresh[1:-1])
        starts = fresh.nonzero()[0]
        found, times = known[starts[:-1]], starts[1:] - starts[:-1]
        values = (1.0 + np.log(times)) * self.weights[found]
        norm = math.sqrt(float(values @ values)) or 1.0
        return np.concatenate([(values / norm).astype(np.float32) @ self.projection[found], counts(text)])

    def vector(self, text: str) -> Any:
        """The features of one prompt."""
        return (self.raw(text) - self.mean) / self.deviation

    def matrix(self, texts: Sequence[str]) -> Any:
        """The features of many prompts, a row each."""
        import numpy as np

        return np.stack([self.vector(text) for text in texts])
