"""The static embedding: its tokeniser, and the artefact's way from learning to serving."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.learning.embedding import Encoder, distil, press  # noqa: E402
from stretto.policies import embedding  # noqa: E402
from stretto.policies.embedding import StaticEmbedding, WordPieces, shipped  # noqa: E402

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
    static = StaticEmbedding(press(pieces, vectors, {}, dimensions=8, top=0))
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    mine = np.stack([static.vector(p) for p in ("the", "cat", "dog", "sat")])
    assert np.allclose(mine @ mine.T, (unit @ unit.T)[:4, :4], atol=0.03)
    assert static.vector("zebra").tolist() == [0.0] * 8
    assert np.linalg.norm(static.vector("The cats sat.")) == pytest.approx(1.0)


NEAR = [
    ("How do I sort a list in Python?", "Ordering the elements of an array in a program"),
    ("The patient has a fever and a cough.", "symptoms of an infection seen by a doctor"),
    ("What is the derivative of x squared?", "calculus: differentiate a polynomial"),
    ("Who won the battle of Waterloo?", "Napoleon's army was defeated in the war"),
    ("Which court decides on appeals?", "the judge ruled in favour of the plaintiff"),
]


def test_the_shipped_embedding_knows_near_from_far() -> None:
    """Each sentence is nearer to the one of its topic, which shares no telling word with it, than to those of the others."""
    found = shipped()
    assert found.dimensions == 128
    left, right = (np.stack([found.vector(pair[side]) for pair in NEAR]) for side in (0, 1))
    assert np.allclose(np.linalg.norm(left, axis=1), 1.0, atol=1e-5)
    assert (left @ right.T).argmax(1).tolist() == list(range(len(NEAR)))


def test_the_shipped_file_is_what_its_note_says() -> None:
    """At most 6 MB, and the SHA-256 in the text beside it is its own."""
    folder = Path(embedding.__file__).parent / "shipped"
    body = (folder / "static-embedding.json").read_bytes()
    assert len(body) <= 6_000_000
    assert hashlib.sha256(body).hexdigest() in (folder / "static-embedding.txt").read_text()
