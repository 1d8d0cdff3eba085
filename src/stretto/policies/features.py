"""Cheap features of a prompt's text, from an artefact: hashed TF-IDF pressed into a few dimensions, and seven counts.

Numpy only, imported late. The fit is `learning.features`; this reads its result, so both see the same words.
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
_OPTION: Final = re.compile(r"(?:^|\s)\(?[A-J][.):]", re.MULTILINE)


def buckets(text: str) -> Any:
    """The buckets of the words and pairs of words of a text, as often as they come. Of long texts: both ends."""
    import numpy as np

    if len(text) > _LONGEST:
        text = text[: _LONGEST // 2] + text[-_LONGEST // 2 :]
    found = [zlib.crc32(w.encode("utf-8", "replace")) for w in _WORD.findall(text.casefold())]
    words = np.array(found, dtype=np.uint64)
    pairs = (words[:-1] * np.uint64(2654435761) + words[1:] * np.uint64(40503)) >> np.uint64(7)
    return (np.concatenate([words, pairs]) % np.uint64(BUCKETS)).astype(np.int64)


def counts(text: str) -> list[float]:
    """The seven counts of `COUNTS`."""
    raw = (
        len(text),
        text.count(" ") + 1,
        sum(map(str.isdigit, text)) if len(text) < _LONGEST else sum(map(str.isdigit, text[:_LONGEST])),
        text.count("\n"),
        sum(text.count(c) for c in "+-*/=<>^\\$"),
        sum(text.count(c) for c in "()[]{}"),
        len(_OPTION.findall(text[:_LONGEST])),
    )
    return [math.log1p(n) for n in raw]


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
        """From an artefact's data: `rows` (bucket -> row, -1: not known), `weights` (idf), `projection`, `mean`, `deviation`."""
        import numpy as np

        return cls(
            unpacked(data["rows"]),
            unpacked(data["weights"]).astype(np.float32),
            unpacked(data["projection"]).astype(np.float32),
            unpacked(data["mean"]).astype(np.float32),
            unpacked(data["deviation"]).astype(np.float32),
        )

    def raw(self, text: str) -> Any:
        """The features before they are standardised."""
        import numpy as np

        known = self.rows[buckets(text)]
        found, times = np.unique(known[known >= 0], return_counts=True)
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
