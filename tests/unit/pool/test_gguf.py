"""Reading the header of a model file."""

import re
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import LocalModelError
from stretto.pool.gguf import file_identity, read_gguf_header
from tests.tiny_gguf import CONTEXT, TOKENS, WIDTH, tiny_gguf


def refusal(path: Path) -> str:
    """Why the file is refused; the message names it."""
    with pytest.raises(LocalModelError, match=re.escape(str(path))) as caught:
        read_gguf_header(path)
    return str(caught.value)


def test_header_tells_what_the_model_is(tmp_path: Path) -> None:
    """Name, architecture, licence, size, context and the memory of a token come from the file's own metadata."""
    info = read_gguf_header(tiny_gguf(tmp_path / "model.gguf"))

    assert (info.architecture, info.name, info.licence) == ("llama", "tiny", "apache-2.0")
    assert (info.context, info.width, info.layers, info.vocabulary) == (CONTEXT, WIDTH, 1, len(TOKENS))
    assert info.parameters == 2 * WIDTH * len(TOKENS) + 7 * WIDTH * WIDTH + 3 * WIDTH
    assert info.quantization == "F32"
    assert info.kv_bytes == 2 * WIDTH * 2
    assert (info.causal, info.template, info.pooling) == (True, True, None)
    assert info.size == (tmp_path / "model.gguf").stat().st_size


def test_name_falls_back_to_the_file(tmp_path: Path) -> None:
    """A model without a name is called like its file."""
    assert read_gguf_header(tiny_gguf(tmp_path / "mine.gguf", fields={"general.name": ""})).name == "mine"


def test_per_layer_values_are_bounded_from_above(tmp_path: Path) -> None:
    """Where layers differ in their heads, the memory of a token is an upper bound."""
    fields = {"llama.block_count": 3, "llama.attention.head_count_kv": (1, 2, 1)}
    assert read_gguf_header(tiny_gguf(tmp_path / "m.gguf", fields=fields)).kv_bytes == 3 * 2 * WIDTH * 2


def test_long_vocabulary_is_counted(tmp_path: Path) -> None:
    """A vocabulary too long to keep is counted all the same."""
    fields = {"tokenizer.ggml.tokens": tuple(map(str, range(5000)))}
    assert read_gguf_header(tiny_gguf(tmp_path / "m.gguf", fields=fields)).vocabulary == 5000


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path with nothing there says so."""
    assert "there is no such file" in refusal(tmp_path / "x.gguf")


def test_folder_is_no_model(tmp_path: Path) -> None:
    """A folder is refused by what it is."""
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"hello", "its magic bytes are b'hell', expected b'GGUF'"),
        (b"version https://git-lfs.github.com/spec/v1\noid ...", "git lfs pull"),
        (b"<!DOCTYPE html><html>not found</html>", "the download went wrong"),
        (b"PK\x03\x04...", "convert_hf_to_gguf"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(32), "GGUF version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "past the end of the file"),
    ],
)
def test_what_is_not_a_model_is_refused_with_the_reason(tmp_path: Path, content: bytes, said: str) -> None:
    """Files that are commonly mistaken for models are refused with what they are and what to do."""
    (tmp_path / "x.gguf").write_bytes(content)
    assert said in refusal(tmp_path / "x.gguf")


def test_unfinished_download_is_recognised(tmp_path: Path) -> None:
    """A file that lacks the end of its weights is called cut short, with both sizes."""
    whole = tiny_gguf(tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[:-1])
    assert f"it has {len(whole) - 1} of at least {len(whole)} bytes" in refusal(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"general.type": "adapter"}, "a LoRA adapter"),
        ({"general.architecture": "clip"}, "a vision projector"),
        ({"general.architecture": ""}, "does not name its architecture"),
    ],
)
def test_gguf_of_another_kind_is_refused(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    """A GGUF file that is no language model is refused by its kind."""
    assert said in refusal(tiny_gguf(tmp_path / "x.gguf", fields=fields))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a sound model."""
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@given(data=st.data())
def test_any_damage_is_an_error_or_harmless(whole: bytes, data: st.DataObject) -> None:
    """Whatever byte of the header is changed and wherever the file is cut, the only error is LocalModelError."""
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)), label="cut")])
    for _ in range(data.draw(st.integers(0, 4), label="changes")):
        if damaged:
            place = data.draw(st.integers(0, min(len(damaged), 9000) - 1), label="place")
            damaged[place] = data.draw(st.integers(0, 255), label="byte")
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(damaged)
        file.flush()
        with suppress(LocalModelError):
            read_gguf_header(file.name)


def test_replaced_file_has_another_identity(tmp_path: Path) -> None:
    """A file that takes another's place is told from it, even with the same size and time."""
    first, second = tiny_gguf(tmp_path / "a.gguf"), tiny_gguf(tmp_path / "b.gguf", seed=8)
    before = file_identity(first)
    second.replace(first)
    assert file_identity(first) != before
