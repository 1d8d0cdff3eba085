"""The child program's decisions, without llama.cpp."""

from pathlib import Path

import pytest

from stretto.pool.gguf import read_gguf_header
from stretto.pool.llama import KV_BUDGET, Order, reason_in, shape
from tests.tiny_gguf import CONTEXT, tiny_gguf


def test_context_is_the_models_own_up_to_the_bound(tmp_path: Path) -> None:
    """A request may use as much context as the model knows, and no more than was allowed."""
    info = read_gguf_header(tiny_gguf(tmp_path / "m.gguf"))
    assert shape(info, Order(info.path, "text", 10**6, 16, None)) == (CONTEXT, 16, 1)
    assert shape(info, Order(info.path, "text", 100, 16, 3)) == (100, 16, 3)


def test_slots_fit_the_memory(tmp_path: Path) -> None:
    """A model with heavy attention memory gets the slots that fit the budget, and at least one."""
    heavy = {"llama.block_count": 32, "llama.embedding_length": 4096, "llama.context_length": 8192}
    info = read_gguf_header(tiny_gguf(tmp_path / "m.gguf", fields=heavy))
    _, slots, _ = shape(info, Order(info.path, "text", 1024, 16, None))
    assert slots == KV_BUDGET // (1024 * info.kv_bytes) == 2
    assert shape(info, Order(info.path, "text", 8192, 16, None))[1] == 1


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        ("0.00.001.000 I srv  init: listening", ""),
        (
            "0.00.003.910 E llama_model_load: error loading model: key not found in model: llama.block_count\n"
            "0.00.003.932 E cmn  common_init_: failed to load model '/m.gguf'\n",
            "key not found in model: llama.block_count",
        ),
        (
            "0.00.003.663 E srv          init: couldn't bind HTTP server socket",
            "couldn't bind HTTP server socket",
        ),
        (
            "/llama.cpp/src/llama-model.cpp:1356: GGML_ASSERT(n > 0) failed",
            "/llama.cpp/src/llama-model.cpp:1356: GGML_ASSERT(n > 0) failed",
        ),
    ],
)
def test_the_reason_is_found_in_what_llama_cpp_wrote(log: str, reason: str) -> None:
    """The message to the user is llama.cpp's own reason, without its prefixes and consequences."""
    assert reason_in(log) == reason
