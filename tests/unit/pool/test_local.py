"""The gateway's side of local models, as far as no child is needed."""

import asyncio
from pathlib import Path

import pytest

from stretto.errors import LocalModelError
from stretto.pool.local import LlamaRuntime
from tests.tiny_gguf import tiny_gguf


def test_nothing_happens_before_a_model_is_needed(tmp_path: Path) -> None:
    """Making a runtime, asking for its state and closing it touches neither disk nor processes."""

    async def use() -> None:
        runtime = LlamaRuntime(tmp_path / "data")
        assert await runtime.status() is None
        await runtime.close()
        await runtime.close()

    asyncio.run(use())

    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [None, b"hello"])
def test_file_that_is_no_model_starts_nothing(tmp_path: Path, content: bytes | None) -> None:
    """A missing file or one of another format is refused before any process is started."""
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)

    async def use() -> None:
        runtime = LlamaRuntime(tmp_path / "data")
        with pytest.raises(LocalModelError, match="no such file" if content is None else "not a GGUF file"):
            await runtime.socket_for(path)
        await runtime.close()

    asyncio.run(use())

    assert not (tmp_path / "data").exists()


def test_closed_runtime_refuses(tmp_path: Path) -> None:
    """After `close` no model is loaded any more."""

    async def use() -> None:
        runtime = LlamaRuntime(tmp_path / "data")
        await runtime.close()
        with pytest.raises(LocalModelError, match="closed"):
            await runtime.socket_for(tiny_gguf(tmp_path / "m.gguf"))

    asyncio.run(use())


def test_describe_reads_the_header(tmp_path: Path) -> None:
    """A file can be described without a child."""
    info = asyncio.run(LlamaRuntime(tmp_path).describe(tiny_gguf(tmp_path / "m.gguf")))
    assert (info.name, info.architecture) == ("tiny", "llama")
