"""Training a coordinator over a backbone of the user's own: a GGUF file through llama.cpp, or a folder with a model."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("cmaes")

from stretto import artifacts  # noqa: E402
from stretto.errors import ConfigError  # noqa: E402
from stretto.learning.replies import Replies  # noqa: E402
from stretto.learning.trinity.reference_backbone import bake  # noqa: E402
from stretto.learning.trinity.source import OBSERVATION, General, Sparring  # noqa: E402
from stretto.learning.trinity.training import Recipe, mixed, train  # noqa: E402
from stretto.policies.coordinator import TRINITY_SCHEMA  # noqa: E402
from stretto.policies.episode import advanced, observed, opening  # noqa: E402
from stretto.policies.trinity import Trinity  # noqa: E402
from stretto.sparring import entries  # noqa: E402
from tests.tiny_gguf import WIDTH, tiny_gguf  # noqa: E402
from tests.unit.learning.simulated_pool import Simulated  # noqa: E402

POOL = entries()


def read(texts: Sequence[str]) -> list[list[float]]:
    """A state of its own for each text, always the same."""
    return [[random.Random(f"{text}/{i}").gauss(0, 1) for i in range(WIDTH)] for text in texts]


def test_a_coordinator_is_trained_on_the_states_of_a_file_of_the_users(tmp_path: Path) -> None:
    """What the backbone reads is a raw transcript; the artefact brings the file along as it was, and serves."""
    file = tiny_gguf(tmp_path / "own.gguf")
    recipe = Recipe(problems=10, held=4, backbone=str(file), method="stage-1", scales=False)
    hashes = {entry.id: entry.sha256 for entry in POOL}
    seen: list[str] = []

    def watched(texts: Sequence[str]) -> list[list[float]]:
        seen.extend(texts)
        return read(texts)

    asked = [*mixed("train", 10, 61), *mixed("calibration", 4, 62)]
    book = Replies(tmp_path / "replies.jsonl", hashes, Simulated(POOL, asked))
    train(recipe, POOL, book, tmp_path / "out", read=watched)

    assert (tmp_path / "out" / "coordinator.gguf").read_bytes() == file.read_bytes()
    assert len(seen) == len(set(seen))
    assert all(text.startswith("system: You are the dispatcher of 9 ") for text in seen)
    policy = Trinity.of(artifacts.read(tmp_path / "out" / "trinity.json", TRINITY_SCHEMA))
    assert policy.coordinator.width == WIDTH
    assert policy.temperature == 0
    first = opening(asked[0].prompt)
    assert observed(policy.coordinator.observes, policy.rules, first) in seen
    thought = advanced(policy.rules, first, 1, 7, "reverse it.")
    assert observed(policy.coordinator.observes, policy.rules, thought).count("<suggestion_1>") == 1


def test_what_cannot_be_a_backbone_is_refused(tmp_path: Path) -> None:
    """A name that nothing has, a folder without the file that would be served, scales over a file alone."""
    with pytest.raises(ConfigError, match="no sparring model"):
        General(tmp_path / "absent.gguf", "penultimate", read, workers=3)
    with pytest.raises(ConfigError, match="convert_hf_to_gguf"):
        General(tmp_path, "penultimate", read, workers=3)
    own = General(tiny_gguf(tmp_path / "own.gguf"), "penultimate", read, workers=3)
    with pytest.raises(ConfigError, match="--no-scales"):
        own.space(6, WIDTH, "linear", scales=True)
    assert own.space(6, WIDTH, "linear", scales=False).size == 6 * WIDTH


def test_scales_go_into_the_file_that_is_served(tmp_path: Path) -> None:
    """Of a sparring model those of its last layer; of others the paper's matrices."""
    entry = next(entry for entry in POOL if entry.id == "thinker-north")
    base, source = entry.path, Sparring(entry, "penultimate", tmp_path)
    assert source.observation == OBSERVATION
    assert source.labels["region"] == entry.card.labels["region"]
    assert "role" not in source.labels
    space = source.space(12, 129, "linear", scales=True)
    genome = 0.1 * np.ones(space.size)
    genome[-1] = -0.5
    source.bake(space.deltas(genome), tmp_path / "scaled.gguf")
    assert (tmp_path / "scaled.gguf").read_bytes() != base.read_bytes()
    source.bake({}, tmp_path / "same.gguf")
    assert (tmp_path / "same.gguf").read_bytes() == base.read_bytes()

    own = General(base, "penultimate", read, workers=3)
    delta = 0.1 * np.arange(128)
    own.bake({"layers.1.mlp.up_proj.weight": delta}, tmp_path / "own.gguf")
    expected = bake(base, {"layers.1.mlp.up_proj.weight": delta}, tmp_path / "expected.gguf")
    assert (tmp_path / "own.gguf").read_bytes() == expected.read_bytes()


def test_a_folder_needs_the_file_that_is_served_beside_its_weights(tmp_path: Path) -> None:
    """Then its states are torch's, and its space has the scales of nine matrices."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    more = {"head_dim": 16, "intermediate_size": 32, "vocab_size": 50}
    transformers.Qwen3Model(transformers.Qwen3Config(**sizes, **more)).save_pretrained(tmp_path)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "hi": 1}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)
    tiny_gguf(tmp_path / "model.gguf")

    own = General(tmp_path, "penultimate", None, workers=3)
    assert own.states.rows(["hi hi", "hi there hi"]).shape == (2, 32)
    assert own.space(6, 32, "linear", scales=True).size == 6 * 32 + 9 * 32


def test_equal_recipes_differ_by_their_backbone() -> None:
    """A checkpoint of one is not gone on from with another."""
    one = Recipe()
    assert one.digest != replace(one, backbone="general-small").digest
