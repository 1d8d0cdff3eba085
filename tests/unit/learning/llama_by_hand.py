"""A Llama forward pass in numpy over a GGUF file's tensors: what llama.cpp's hidden states are compared with."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize


def read_tensors(path: Path) -> dict[str, Any]:
    """Every tensor by its name, as float32 matrices (rows: outputs)."""
    return {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in GGUFReader(path).tensors}


def hidden_states(tensors: dict[str, Any], ids: list[int], *, heads: int, base: float = 10000.0) -> Any:
    """The final, normed hidden state after each token: a row a token."""
    x = tensors["token_embd.weight"][ids]
    layer = 0
    while f"blk.{layer}.attn_q.weight" in tensors:

        def matrix(name: str, at: int = layer) -> Any:
            return tensors[f"blk.{at}.{name}.weight"]

        h = _normed(x, matrix("attn_norm"))
        q, k, v = ((h @ matrix(f"attn_{n}").T).reshape(len(ids), heads, -1).transpose(1, 0, 2) for n in "qkv")
        scores = _turned(q, base) @ _turned(k, base).transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        scores[:, ~np.tri(len(ids), dtype=bool)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + mixed.transpose(1, 0, 2).reshape(len(ids), -1) @ matrix("attn_output").T
        h = _normed(x, matrix("ffn_norm"))
        gate = h @ matrix("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ matrix("ffn_up").T)) @ matrix("ffn_down").T
        layer += 1
    return _normed(x, tensors["output_norm.weight"])


def _normed(x: Any, weight: Any, epsilon: float = 1e-5) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def _turned(x: Any, base: float) -> Any:
    """Rotary positions in llama.cpp's layout: neighbours are a pair."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * base ** (-np.arange(half) / half)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return turned
