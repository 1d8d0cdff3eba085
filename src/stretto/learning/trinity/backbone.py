"""A small Llama from its GGUF file, forward in numpy: the hidden states that TRINITY's head reads, and its last layer anew.

The training of a coordinator needs what llama.cpp does not give: the states before the last layer, so that this layer can
be run again with other singular values, for thousands of texts and dozens of candidates a second. Everything else is as
llama.cpp computes it: measured, the two differ by 1.1e-3 to 1.9e-3 of the largest entry (llama.cpp reckons in halves). Text by
text, so that a state never depends on what else is computed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stretto.errors import ConfigError
from stretto.learning.replies import file_hash

__all__ = ["SCALED", "Backbone", "Before", "States", "spectra"]

SCALED: Final = ("attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The matrices of the last layer whose singular values are scaled, in the order of the genome. Those for queries and keys
are not among them: where the last token looks would then have to be found anew for each text and candidate, at fifty times
the cost."""

Array = Any


@dataclass(frozen=True, slots=True)
class Before:
    """What the last layer makes its state of, at the last token of a text: the `state` it is given there, and what each of
    its heads looks at (`seen`, head x width), which the scaled matrices do not change."""

    state: Array
    seen: Array


class Backbone:
    """The weights of a Llama (no biases, heads of one size) in 32 bits. Raises `ConfigError` for another architecture."""

    def __init__(self, path: Path) -> None:
        import gguf

        self.path, self.sha256 = path, file_hash(path)
        reader = gguf.GGUFReader(path)

        def field(name: str) -> Any:
            found = reader.get_field(name)
            return None if found is None else found.contents()

        if field("general.architecture") != "llama":
            raise ConfigError(
                f"{path}: is a {field('general.architecture')}; the training reads a llama file only"
            )
        self.tensors: dict[str, Array] = {
            t.name: np.array(t.data, dtype=np.float32) for t in reader.tensors if t.name.endswith(".weight")
        }
        self.layers = int(field("llama.block_count"))
        self.width = int(field("llama.embedding_length"))
        self.heads = int(field("llama.attention.head_count"))
        self._epsilon = float(field("llama.attention.layer_norm_rms_epsilon"))
        size = self.width // self.heads
        base = float(field("llama.rope.freq_base") or 10000.0)
        longest = int(field("llama.context_length"))
        angles = np.outer(np.arange(longest), base ** (-np.arange(0, size, 2) / size))
        self._cos, self._sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def weight(self, name: str, layer: int | None = None) -> Array:
        """A matrix (a row an output) or norm, by its GGUF name without `.weight`; of a layer, or of the whole model."""
        return self.tensors[f"{name}.weight" if layer is None else f"blk.{layer}.{name}.weight"]

    def before(self, ids: Sequence[int]) -> Before:
        """The last token before the last layer has made its values."""
        x, last = self._lower(ids), self.layers - 1
        size, at = self.width // self.heads, np.arange(len(ids))
        h = self._normed(x, self.weight("attn_norm", last))
        q = (h[-1:] @ self.weight("attn_q", last).T).reshape(1, self.heads, size)
        k = (h @ self.weight("attn_k", last).T).reshape(len(ids), self.heads, size)
        scores = np.einsum("hd,thd->ht", self._turned(q, at[-1:])[0], self._turned(k, at))
        return Before(x[-1], _soft(scores / np.float32(np.sqrt(size))) @ h)

    def states(self, ids: Sequence[int]) -> Array:
        """The states after the whole model, normed, a row a token."""
        return self._normed(self._layer(self._lower(ids), self.layers - 1), self.weight("output_norm"))

    def after(self, texts: Sequence[Before], scaled: Mapping[str, Array] | None = None) -> Array:
        """The states after the last token of each text, with these matrices in the last layer in place of its own."""
        last, own, size = self.layers - 1, scaled or {}, self.width // self.heads

        def matrix(name: str) -> Array:
            return own.get(name, self.weight(name, last)).T

        seen, value = np.stack([text.seen for text in texts]), matrix("attn_v")
        mixed = [seen[:, h] @ value[:, h * size : (h + 1) * size] for h in range(self.heads)]
        y = np.stack([text.state for text in texts]) + np.concatenate(mixed, 1) @ matrix("attn_output")
        g = self._normed(y, self.weight("ffn_norm", last))
        y = y + (_silu(g @ matrix("ffn_gate")) * (g @ matrix("ffn_up"))) @ matrix("ffn_down")
        return self._normed(y, self.weight("output_norm"))

    def _lower(self, ids: Sequence[int]) -> Array:
        """The states that the last layer is given, a row a token."""
        x = self.weight("token_embd")[np.array(ids)]
        for layer in range(self.layers - 1):
            x = self._layer(x, layer)
        return x

    def _layer(self, x: Array, layer: int) -> Array:
        count, size = len(x), self.width // self.heads
        at = np.arange(count)
        h = self._normed(x, self.weight("attn_norm", layer))
        q, k = (
            self._turned((h @ self.weight(name, layer).T).reshape(count, self.heads, size), at)
            for name in ("attn_q", "attn_k")
        )
        v = (h @ self.weight("attn_v", layer).T).reshape(count, self.heads, size)
        scores = q.transpose(1, 0, 2) @ k.transpose(1, 2, 0) / np.float32(np.sqrt(size))
        scores = np.where(at[None, :] <= at[:, None], scores, -np.inf)
        mixed = (_soft(scores) @ v.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(count, self.width)
        x = x + mixed @ self.weight("attn_output", layer).T
        g = self._normed(x, self.weight("ffn_norm", layer))
        gate, up = g @ self.weight("ffn_gate", layer).T, g @ self.weight("ffn_up", layer).T
        return x + (_silu(gate) * up) @ self.weight("ffn_down", layer).T

    def _normed(self, x: Array, weight: Array) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self._epsilon)) * weight

    def _turned(self, x: Array, places: Array) -> Array:
        """Rotary positions, in llama.cpp's order: neighbours are pairs. `x` is ..., token, head, size."""
        cos, sin = self._cos[places][:, None, :], self._sin[places][:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = even * cos - odd * sin, even * sin + odd * cos
        return out


def _soft(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def spectra(backbone: Backbone) -> dict[str, tuple[Array, Array, Array]]:
    """The singular value decompositions `u, s, vt` of the matrices `SCALED` of the last layer."""
    found = {}
    for name in SCALED:
        u, s, vt = np.linalg.svd(
            backbone.weight(name, backbone.layers - 1).astype(np.float64), full_matrices=False
        )
        found[name] = (u, s, vt)
    return found


class States:
    """The states of texts under one pooling, each computed once, and kept in `folder` if there is one. `tokens` makes a text's
    ids, as llama.cpp would."""

    def __init__(
        self,
        backbone: Backbone,
        pooling: str,
        tokens: Callable[[str], list[int]],
        folder: Path | None = None,
    ) -> None:
        self.backbone, self.pooling, self._tokens = backbone, pooling, tokens
        self._before: dict[str, Before] = {}
        self._rows: dict[str, Array] = {}
        self._kept = folder / f"states-{backbone.sha256[:12]}-{pooling}.npz" if folder else None
        if self._kept is not None and self._kept.is_file():
            with np.load(self._kept) as kept:
                texts = kept["texts"].tolist()
                self._rows = dict(zip(texts, kept["rows"], strict=True))
                if "seen" in kept:
                    pairs = zip(kept["states"], kept["seen"], strict=True)
                    self._before = {text: Before(*pair) for text, pair in zip(texts, pairs, strict=True)}
        self._fresh = len(self._rows)

    def keep(self) -> None:
        """Write what is known beside the replies, for the next training, if that is more than before; whole or not at all."""
        if self._kept is None or len(self._rows) <= self._fresh:
            return
        texts = list(self._rows)
        told: dict[str, Any] = {"texts": np.array(texts), "rows": np.stack(list(self._rows.values()))}
        if self.pooling != "mean":
            before = [self._before_of(text) for text in texts]
            told["states"], told["seen"] = (
                np.stack([b.state for b in before]),
                np.stack([b.seen for b in before]),
            )
        part = self._kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, **told)
        part.replace(self._kept)
        self._fresh = len(self._rows)

    def rows(self, texts: Sequence[str]) -> Array:
        """A row a text, by the backbone as it is."""
        for text in texts:
            if text not in self._rows:
                self._rows[text] = self._row(text)
        return np.stack([self._rows[text] for text in texts])

    def scaled(self, texts: Sequence[str], matrices: Mapping[str, Array]) -> Array:
        """A row a text, with these matrices in the last layer. Not for pooling `mean`."""
        return self.backbone.after([self._before_of(text) for text in texts], matrices)

    def _row(self, text: str) -> Array:
        if self.pooling == "mean":
            return self.backbone.states(self._tokens(text)).mean(0)
        return self.backbone.after([self._before_of(text)])[0]

    def _before_of(self, text: str) -> Before:
        if text not in self._before:
            ids = self._tokens(text)
            self._before[text] = self.backbone.before(
                (ids[:-1] or ids) if self.pooling == "penultimate" else ids
            )
        return self._before[text]
