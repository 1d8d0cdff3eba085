"""A static sentence embedding: the mean of its words' vectors, from an artefact distilled from a real encoder.

Numpy only, imported late. Microseconds instead of a model call; the order of words is lost. `learning.embedding` makes it.
"""

import re
import unicodedata
from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any, Final

from stretto.artifacts import Artifact, read, unpacked

__all__ = ["EMBEDDING_SCHEMA", "StaticEmbedding", "WordPieces", "shipped"]

EMBEDDING_SCHEMA: Final = "stretto.static-embedding/1"

_LONGEST: Final = 4000
_KEPT: Final = 50_000
_WORDS: Final = re.compile(r"[^\W_]+|[^\w\s]|_")


class WordPieces:
    """The tokeniser of lower-case BERT models: words, split by the longest pieces that the vocabulary has. No special tokens."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """The pieces of a text; a word that cannot be put together gives nothing."""
        text = text[:_LONGEST].lower()
        if not text.isascii():
            text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        found: list[int] = []
        known = self._known
        for word in _WORDS.findall(text):
            pieces = known.get(word)
            if pieces is None:
                pieces = self._split(word)
                if len(known) < _KEPT:
                    known[word] = pieces
            found += pieces
        return found

    def _split(self, word: str) -> tuple[int, ...]:
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else f"##{word[start:end]}"
                if (number := self._vocabulary.get(piece)) is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return ()
        return tuple(found)


class StaticEmbedding:
    """Texts as unit vectors.

    Data of schema `EMBEDDING_SCHEMA`: `vocabulary` (pieces, in the order of the rows), `rows` (int8), `scales` (one a row).
    """

    def __init__(self, artifact: Artifact) -> None:
        import numpy as np

        if artifact.schema != EMBEDDING_SCHEMA:
            raise ValueError(f"an embedding needs schema {EMBEDDING_SCHEMA}, not {artifact.schema}")
        self.name = f"static-embedding {artifact.hash}"
        pieces = artifact.data["vocabulary"].split("\n")
        self._pieces = WordPieces({piece: row for row, piece in enumerate(pieces)})
        self._rows = unpacked(artifact.data["rows"])
        self._scales = unpacked(artifact.data["scales"]).astype(np.float32)

    @property
    def dimensions(self) -> int:
        """The length of its vectors."""
        return int(self._rows.shape[1])

    def vector(self, text: str) -> Any:
        """The unit vector of a text; zeros where no piece of it is known."""
        import numpy as np

        ids = np.array(self._pieces.ids(text), dtype=np.int64)
        if not len(ids):
            return np.zeros(self.dimensions, dtype=np.float32)
        total = self._scales[ids] @ self._rows[ids].astype(np.float32)
        return total / (float(np.sqrt(total @ total)) or 1.0)


def shipped() -> StaticEmbedding:
    """The embedding that comes with Stretto; where it is from: `policies/shipped/static-embedding.txt`."""
    with as_file(files("stretto.policies") / "shipped" / "static-embedding.json") as path:
        return StaticEmbedding(read(path, EMBEDDING_SCHEMA))
