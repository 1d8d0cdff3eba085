"""The reference backbone, Qwen3-0.6B: nine matrices, 19,456 numbers for seven workers, its states, and scales on the fly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("gguf")
pytest.importorskip("cmaes")

from stretto.errors import ConfigError  # noqa: E402
from stretto.learning.trinity.reference_backbone import (  # noqa: E402
    AskedStates,
    ScaledSpace,
    TorchStates,
    bake,
    shape_of_config,
    shape_of_gguf,
)
from stretto.sparring.pool import entries  # noqa: E402
from tests.tiny_gguf import WIDTH, tiny_gguf  # noqa: E402
from tests.unit.learning.llama_by_hand import read_tensors  # noqa: E402

QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000,
}
"""The shape of Qwen3-0.6B, as its `config.json` tells it."""


def small(**changed: Any) -> dict[str, Any]:
    """The same kind, small enough to compute with."""
    size = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    rest = {"head_dim": 16, "intermediate_size": 96, "vocab_size": 200, "max_position_embeddings": 64}
    return QWEN3 | size | rest | changed


def model_of(config: dict[str, Any], *, seed: int = 1, device: str = "cpu", dtype: Any = None) -> Any:
    """A randomly initialised Qwen3 without its output matrix, made here. Skips where torch is absent."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    kind = transformers.Qwen3Config(**{k: v for k, v in config.items() if k != "model_type"})
    with torch.device(device):
        model = transformers.Qwen3Model(kind)
    return model.to(dtype) if dtype is not None else model


def letters(text: str) -> list[int]:
    """A tokeniser."""
    return [ord(c) % 200 for c in text]


def test_seven_workers_over_qwen3_make_the_papers_19456_parameters() -> None:
    """10,240 of the head and 1,024 scales for each of nine matrices, in the order of the state dict."""
    shape = shape_of_config(QWEN3)
    assert [(m.name, m.scales) for m in shape.matrices] == [
        ("embed_tokens.weight", 1024),
        *((f"layers.26.self_attn.{p}_proj.weight", 1024) for p in "qkvo"),
        *((f"layers.26.mlp.{p}_proj.weight", 1024) for p in ("gate", "up", "down")),
        ("lm_head.weight", 1024),
    ]
    assert (shape.scales, shape.parameters(7) - shape.scales, shape.parameters(7)) == (9216, 10240, 19456)
    space = ScaledSpace(7 + 3, shape.width, shape.matrices)
    assert (space.head_size, space.size) == (10240, 19456)


def test_a_configuration_that_tells_too_little_is_refused() -> None:
    """By what is missing."""
    with pytest.raises(ConfigError, match="hidden_size"):
        shape_of_config({"model_type": "bert"})


def test_the_names_and_sizes_are_those_of_a_real_qwen3() -> None:
    """Against the modules that transformers makes of this shape (without memory for their weights)."""
    model = model_of(QWEN3, device="meta")
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    shape = shape_of_config(QWEN3)
    for matrix in shape.matrices[:-1]:
        assert own[matrix.name] == (matrix.rows, matrix.columns)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(596e6, rel=0.001)


def test_a_random_qwen3_of_the_real_size_gives_states_and_takes_scales() -> None:
    """0.6 billion random weights in 16 bits: a state of 1,024 numbers, that of the last token but one, moved by the scales."""
    torch = pytest.importorskip("torch")
    states = TorchStates.of(model_of(QWEN3, dtype=torch.bfloat16), letters, QWEN3)
    rows = states.rows(["user: hello", "user: hell!"])
    assert rows.shape == (2, 1024)
    assert np.isfinite(rows).all()
    assert np.abs(rows[0] - rows[1]).max() == 0  # they differ in the last token alone, which is not read
    delta = 0.5 * np.random.default_rng(1).standard_normal(1024)
    moved = states.scaled(["user: hello"], {"layers.26.mlp.up_proj.weight": delta})
    assert np.linalg.norm(moved[0] - rows[0]) > 0.01 * np.linalg.norm(rows[0])


@pytest.mark.parametrize(("pooling", "place"), [("penultimate", -2), ("last", -1), ("mean", None)])
def test_states_are_those_of_the_final_layer(pooling: str, place: int | None) -> None:
    """After the final norm, at the token that the pooling names, or the mean of all."""
    torch = pytest.importorskip("torch")
    model = model_of(small())
    states = TorchStates.of(model, letters, small(), pooling)
    with torch.no_grad():
        whole = model(torch.tensor([letters("user: hi")])).last_hidden_state[0].numpy()
    expected = whole.mean(0) if place is None else whole[place]
    assert states.rows(["user: hi"])[0] == pytest.approx(expected, abs=1e-5)


def test_scales_of_nothing_change_nothing_and_the_model_stays_as_it_was() -> None:
    """All nine matrices; the output matrix has scales, and no state passes it."""
    pytest.importorskip("torch")
    states = TorchStates.of(model_of(small()), letters, small())
    before = states.rows(["user: hi"])
    zero = {m.name: np.zeros(m.scales) for m in states.shape.matrices}
    assert states.scaled(["user: hi"], zero) == pytest.approx(before, abs=1e-4)
    draw = np.random.default_rng(2)
    for matrix in states.shape.matrices:
        moved = states.scaled(["user: hi"], {matrix.name: 0.5 * draw.standard_normal(matrix.scales)})
        assert (np.abs(moved - before).max() > 1e-3) == (matrix.name != "lm_head.weight")
    states._rows.clear()
    assert states.rows(["user: hi"]) == pytest.approx(before)


def test_a_folder_is_read_without_any_download(tmp_path: Path) -> None:
    """Configuration, weights and tokeniser from disk; the states are those of the model that was saved."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    model = model_of(small())
    model.save_pretrained(tmp_path)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"user:": 1, "hi": 2, "?": 0}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)

    read = TorchStates(tmp_path, device="cpu")
    assert read.shape == shape_of_config(json.loads((tmp_path / "config.json").read_text()))
    own = TorchStates.of(model, lambda text: [1, 2, 2], small())
    assert read.rows(["user: hi hi"]) == pytest.approx(own.rows(["x"]), abs=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """By its name."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        TorchStates(tmp_path)


def test_a_candidate_of_the_scaled_space_holds_scales_by_name() -> None:
    """The head as in any space; the scales go to whoever holds the matrices."""
    shape = shape_of_config(small())
    space = ScaledSpace(5, 48, shape.matrices, shape="low-rank", rank=2)
    genome = np.arange(float(space.size)) / space.size
    candidate = space.candidate(genome)
    assert candidate.head.shape == (5, 48)
    assert np.linalg.matrix_rank(candidate.head) == 2
    assert list(candidate.matrices) == [m.name for m in shape.matrices]
    assert np.concatenate(list(candidate.matrices.values())) == pytest.approx(genome[space.head_size :])


# --- a GGUF file ---


def test_the_shape_of_a_gguf_file_is_read_off_its_tensors(tmp_path: Path) -> None:
    """The last layer but one, or the only one."""
    shape = shape_of_gguf(tiny_gguf(tmp_path / "tiny.gguf"))
    assert (shape.width, shape.layers, len(shape.matrices)) == (WIDTH, 1, 9)
    file = next(entry.path for entry in entries() if entry.id == "thinker-north")
    found = shape_of_gguf(file)
    assert found.matrices[1].tensor == "blk.1.attn_q.weight"
    assert found.layers == 3


def test_baking_puts_the_scales_of_named_matrices_into_a_file(tmp_path: Path) -> None:
    """By the names of the state dict; the output matrix, which no state passes, is left out."""
    file = next(entry.path for entry in entries() if entry.id == "thinker-north")
    shape = shape_of_gguf(file)
    scales = {m.name: np.full(m.scales, 0.0) for m in shape.matrices}
    scales["layers.1.mlp.up_proj.weight"] = 0.3 * np.random.default_rng(1).standard_normal(128)
    before, after = read_tensors(file), read_tensors(bake(file, scales, tmp_path / "new.gguf"))
    assert [n for n in before if not np.array_equal(before[n], after[n])] == ["blk.1.ffn_up.weight"]


def test_states_through_llama_cpp_are_asked_once_a_text(tmp_path: Path) -> None:
    """And scales are refused there, since a file's matrices do not change between two texts."""
    asked: list[list[str]] = []

    def ask() -> Callable[[Any], Any]:
        def states(texts: Any) -> Any:
            asked.append(list(texts))
            return [[float(len(t))] * WIDTH for t in texts]

        return states

    states = AskedStates(tiny_gguf(tmp_path / "tiny.gguf"), ask())
    assert states.rows(["a", "bb", "a"]).tolist() == [[n] * WIDTH for n in (1.0, 2.0, 1.0)]
    assert states.rows(["bb", "ccc"]).tolist() == [[n] * WIDTH for n in (2.0, 3.0)]
    assert asked == [["a", "bb"], ["ccc"]]
    with pytest.raises(ConfigError, match="GGUF"):
        states.scaled(["a"], {})
