"""The static embedding: its tokeniser, and the artefact's way from learning to serving."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.learning.embedding import Encoder, distil, press  # noqa: E402
from stretto.policies.embedding import StaticEmbedding, WordPieces  # noqa: E402

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sat", "##s", "un", "##seen", "."]


def test_words_are_split_by_the_longest_pieces() -> None:
    """As BERT does it, lower-case and without accents; what cannot be put together gives nothing."""
    pieces = WordPieces({p: k for k, p in enumerate(PIECES)})
    assert pieces.ids("The CATS sat.") == [4, 5, 8, 7, 11]
    assert pieces.ids("únseen  zebra") == [9, 10]
    assert pieces.ids("") == []


def small(folder: Path) -> Encoder:
    """A BERT of two layers and eight dimensions with random weights, on disk as safetensors."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(PIECES), 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for layer in range(2):
        at = f"encoder.layer.{layer}."
        for name, out, into in (
            *((f"attention.self.{n}", 8, 8) for n in ("query", "key", "value")),
            ("attention.output.dense", 8, 8),
            ("intermediate.dense", 16, 8),
            ("output.dense", 8, 16),
        ):
            shapes |= {f"{at}{name}.weight": (out, into), f"{at}{name}.bias": (out,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{name}.weight": (8,), f"{at}{name}.bias": (8,)}
    head: dict[str, Any] = {}
    body = b""
    for name, shape in shapes.items():
        array = rng.normal(0, 0.5, shape).astype(np.float32)
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    about = {"num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(about))
    return Encoder(folder)


def test_padding_does_not_change_an_embedding(tmp_path: Path) -> None:
    """A text alone and beside a longer one has the same states."""
    encoder = small(tmp_path)
    alone, beside = encoder.embed([[4, 5]])[0], encoder.embed([[4, 5], [4, 5, 7, 8, 9]])[0]
    assert np.allclose(alone, beside, atol=1e-5)


def test_a_distilled_embedding_keeps_the_geometry(tmp_path: Path) -> None:
    """All directions kept, eight bits a number: a single piece points where the encoder's does, up to the common mean."""
    encoder = small(tmp_path)
    pieces, vectors = distil(encoder, batch=3)
    assert pieces == PIECES[4:]
    static = StaticEmbedding(press(pieces, vectors, {}, dimensions=8))
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    mine = np.stack([static.vector(p) for p in ("the", "cat", "dog", "sat")])
    assert np.allclose(mine @ mine.T, (unit @ unit.T)[:4, :4], atol=0.03)
    assert static.vector("zebra").tolist() == [0.0] * 8
    assert np.linalg.norm(static.vector("The cats sat.")) == pytest.approx(1.0)
