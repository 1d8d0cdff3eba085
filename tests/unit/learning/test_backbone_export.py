"""Singular-value scales in a GGUF file: what is kept, what changes, and that llama.cpp computes with them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")

from stretto.errors import ConfigError  # noqa: E402
from stretto.learning.trinity.backbone_export import rescaled, scaled, spectrum  # noqa: E402
from stretto.pool.http import HttpClient  # noqa: E402
from stretto.pool.local import LlamaRuntime  # noqa: E402
from stretto.pool.worker import Place, WorkerPool, describe  # noqa: E402
from stretto.sparring.pool import entries  # noqa: E402
from stretto.sparring.vocabulary import prompt_tokens  # noqa: E402
from stretto.steps import Ask, Tally  # noqa: E402
from stretto.types import Message  # noqa: E402
from tests.unit.learning.llama_by_hand import hidden_states, read_tensors  # noqa: E402

FILE = next(entry.path for entry in entries() if entry.id == "thinker-north")
NAMED = (
    "token_embd.weight",
    *(f"blk.1.attn_{n}.weight" for n in ("q", "k", "v", "output")),
    *(f"blk.1.ffn_{n}.weight" for n in ("gate", "up", "down")),
)
CHAT = "Task: reverse tip and then count the vowels of it.\nNext step?"


def deltas(seed: int = 5, size: float = 0.3) -> dict[str, Any]:
    """Scales for the named matrices."""
    draw, tensors = np.random.default_rng(seed), read_tensors(FILE)
    return {name: size * draw.standard_normal(min(tensors[name].shape)) for name in NAMED}


def nuclear(matrix: Any) -> float:
    return float(np.linalg.svd(matrix.astype(np.float64), compute_uv=False).sum())


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (20, 20)])
def test_a_matrix_keeps_its_nuclear_norm_and_its_singular_vectors(shape: tuple[int, int]) -> None:
    """As the formula says: U diag((1 + delta) s) V', brought back to the sum of s. Tall, wide and square."""
    draw = np.random.default_rng(1)
    matrix, delta = draw.standard_normal(shape), 0.2 * draw.standard_normal(20)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    expected = (u * ((1 + delta) * s)) @ vt * (s.sum() / ((1 + delta) * s).sum())

    found = rescaled(matrix, delta)
    assert found == pytest.approx(expected, abs=1e-5)
    assert nuclear(found) == pytest.approx(s.sum(), rel=1e-6)
    assert rescaled(matrix, delta, spectrum(matrix)) == pytest.approx(found)
    assert rescaled(matrix, np.zeros(20)) == pytest.approx(matrix, abs=1e-6)


def test_a_large_matrix_is_taken_in_pieces() -> None:
    """A vocabulary's embedding: the spectrum from the Gram matrix is the same."""
    matrix = np.random.default_rng(2).standard_normal((400_000, 48)).astype(np.float32)
    values, vectors = spectrum(matrix)
    assert values == pytest.approx(np.linalg.svd(matrix, compute_uv=False), rel=1e-4)
    assert vectors.T @ vectors == pytest.approx(np.eye(48), abs=1e-6)
    wide_values, wide_vectors = spectrum(matrix.T)
    assert wide_values == pytest.approx(values)
    assert np.abs(wide_vectors) == pytest.approx(np.abs(vectors), abs=1e-5)


def test_scales_that_cannot_be_meant_are_refused() -> None:
    """Another number of them, or none of the matrix left."""
    with pytest.raises(ValueError, match="3 singular values, not 4"):
        rescaled(np.eye(3), np.zeros(4))
    with pytest.raises(ValueError, match="nothing"):
        rescaled(np.eye(3), np.full(3, -1.0))


def test_without_a_change_the_file_stays_the_same(tmp_path: Path) -> None:
    """Byte for byte, so the same logits."""
    zero = {name: np.zeros_like(delta) for name, delta in deltas().items()}
    assert scaled(FILE, zero, tmp_path / "same.gguf").read_bytes() == FILE.read_bytes()


def test_only_the_named_matrices_change_and_keep_their_norms(tmp_path: Path) -> None:
    """Everything else, metadata included, is copied; equal scales give equal files."""
    target = scaled(FILE, deltas(), tmp_path / "out" / "new.gguf")
    before, after = read_tensors(FILE), read_tensors(target)
    assert list(before) == list(after)
    for name in before:
        if name in NAMED:
            assert np.abs(after[name] - before[name]).max() > 0.01 * np.abs(before[name]).max()
            assert nuclear(after[name]) == pytest.approx(nuclear(before[name]), rel=1e-3)
        else:
            assert np.array_equal(after[name], before[name])
    fields = [{k: f.contents() for k, f in gguf.GGUFReader(p).fields.items()} for p in (FILE, target)]
    assert fields[0] == fields[1]
    assert scaled(FILE, deltas(), tmp_path / "again.gguf").read_bytes() == target.read_bytes()


def test_llama_cpp_computes_with_the_scales(tmp_path: Path) -> None:
    """The state that it gives of the new file is the forward pass by hand over the rescaled matrices, and another than before."""
    target = scaled(FILE, deltas(), tmp_path / "new.gguf")
    tensors = read_tensors(FILE)
    before = hidden_states(tensors, ids := prompt_tokens(CHAT), heads=4)[-2]
    expected = hidden_states(
        tensors | {name: rescaled(tensors[name], delta) for name, delta in deltas().items()}, ids, heads=4
    )[-2]

    async def state() -> Any:
        local, client = LlamaRuntime(tmp_path / "data"), HttpClient()
        pool = WorkerPool([describe("w", "w", [Place("w/local", gguf=target)])], client, local=local)
        try:
            async with asyncio.timeout(60):
                ask = Ask("w", (Message("user", CHAT),), want="state")
                place = pool.candidates(ask).endpoints[0]
                return await pool.attempt(ask, place, deadline=None, tally=Tally(), emit=None)
        finally:
            await client.close()
            await local.close()

    outcome = asyncio.run(state())
    assert outcome.error is None
    found = np.array(outcome.state)
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    assert np.linalg.norm(found - before) > 0.1 * np.linalg.norm(before)


def test_quantised_tensors_are_written_where_that_can_be_done(tmp_path: Path) -> None:
    """Q8_0 stays Q8_0 and BF16 stays BF16; a K-quant is refused, and no file is left behind."""
    kinds, matrix = gguf.GGMLQuantizationType, np.random.default_rng(3).standard_normal((64, 256))

    def file(kind: Any) -> Path:
        path = tmp_path / f"{kind.name}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        if kind == kinds.Q4_K:
            writer.add_tensor("m", np.ones((64, 144), dtype=np.uint8), raw_dtype=kind)
        else:
            writer.add_tensor("m", gguf.quantize(matrix.astype(np.float32), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    delta = 0.2 * np.random.default_rng(4).standard_normal(64)
    expected = rescaled(matrix, delta)
    for kind in (kinds.Q8_0, kinds.BF16):
        target = scaled(file(kind), {"m": delta}, tmp_path / "new.gguf")
        assert gguf.GGUFReader(target).tensors[0].tensor_type == kind
        found = read_tensors(target)["m"]
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
    (tmp_path / "new.gguf").unlink()
    with pytest.raises(ConfigError, match="Q4_K"):
        scaled(file(kinds.Q4_K), {"m": delta}, tmp_path / "new.gguf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["BF16.gguf", "Q4_K.gguf", "Q8_0.gguf"]


@pytest.mark.parametrize("name", ["blk.99.attn_q.weight", "output_norm.weight"])
def test_a_tensor_that_is_not_there_or_is_no_matrix_is_named(tmp_path: Path, name: str) -> None:
    """And nothing is written."""
    with pytest.raises(ConfigError, match=name):
        scaled(FILE, {name: np.zeros(3)}, tmp_path / "new.gguf")
    assert list(tmp_path.iterdir()) == []
