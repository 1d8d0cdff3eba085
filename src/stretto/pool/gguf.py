"""What a GGUF file says about itself, read with the standard library: nothing is loaded and nothing is executed.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

import math
import os
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from stretto.errors import LocalModelError

__all__ = ["FileIdentity", "GgufInfo", "file_identity", "read_gguf_header"]

FileIdentity = tuple[int, int, int, int]
"""Device, inode, size and modification time (ns): equal for the same bytes, different once a file is replaced or rewritten."""

Value = int | float | bool | str | tuple["Value", ...] | None

_SCALARS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING: Final = 8
_ARRAY: Final = 9
_KEPT_ITEMS: Final = 1024  # per-layer values fit; a vocabulary does not and is only counted
_MAX_NESTING: Final = 4

# ggml type: name, weights in a block, bytes of a block
_TENSOR_TYPES: Final = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}

_LOOKS_LIKE: Final = (
    (b"version https://git-lfs", "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (
        b"PK\x03\x04",
        "it is a zip archive, as PyTorch checkpoints are; convert it with llama.cpp's convert_hf_to_gguf.py",
    ),
    (b"<", "it looks like an HTML page, so the download went wrong"),
    (b"FUGG", "it is a big-endian file, which llama.cpp does not read here"),
)


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """The header of one model file. Text fields are empty and numbers 0 where the file does not say."""

    path: str
    size: int
    """Bytes on disk, of this file."""
    architecture: str
    name: str
    licence: str
    parameters: int
    """Weights in this file's tensors."""
    quantization: str
    """The tensor type that holds most bytes, such as `F16` or `Q4_K`."""
    context: int
    """Tokens the model was trained to attend to."""
    layers: int
    width: int
    """Length of a hidden state, and of an embedding."""
    vocabulary: int
    kv_bytes: int
    """Bytes of attention memory for one token, keys and values as 16-bit floats; an upper bound for hybrid models."""
    pooling: int | None
    """llama.cpp's pooling type when the model was made for embeddings."""
    causal: bool
    """False for an encoder, which embeds but cannot write."""
    template: bool
    """Whether the file brings its own chat template."""


def file_identity(path: str | os.PathLike[str]) -> FileIdentity:
    """What identifies the present content of a file, in one system call. LocalModelError when it cannot be a model file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise LocalModelError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise LocalModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise LocalModelError(f"{path} is {what}; a local model is one .gguf file")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_gguf_header(path: str | os.PathLike[str]) -> GgufInfo:
    """The header of a model file, checked against its size.

    Raises LocalModelError, naming the file and what is wrong, when it is missing, not GGUF, damaged, cut short, or no language
    model. Reads the header only: about 40 ms for a vocabulary of 150,000.
    """
    size = file_identity(path)[2]
    try:
        with open(path, "rb") as file:
            return _describe(Path(path), size, _Cursor(str(path), size, file))
    except OSError as error:
        raise LocalModelError(f"{path} cannot be read: {error.strerror}") from None


class _Cursor:
    """A forward reader over the header; every length is checked against the file before it is believed."""

    def __init__(self, path: str, size: int, file: BinaryIO) -> None:
        self.path, self.size, self.position = path, size, 0
        self._file, self._held = file, bytearray()

    def damaged(self, what: str) -> LocalModelError:
        return LocalModelError(f"{self.path} is a damaged GGUF file: {what}")

    def take(self, count: int) -> int:
        """The offset in the buffer of the next `count` bytes, which are then consumed."""
        start, end = self.position, self.position + count
        if end > self.size:
            raise self.damaged(
                f"its header runs past the end of the file ({self.size} bytes); is the download complete?"
            )
        while len(self._held) < end:
            chunk = self._file.read(max(1 << 20, end - len(self._held)))
            if not chunk:
                raise self.damaged("it became shorter while it was read")
            self._held += chunk
        self.position = end
        return start

    def unpack(self, form: str) -> int:
        start = self.take(struct.calcsize(form))
        value: int = struct.unpack_from(form, self._held, start)[0]
        return value

    def raw(self, count: int) -> bytes:
        start = self.take(count)
        return bytes(self._held[start : start + count])

    def string(self) -> str:
        return self.raw(self.unpack("<Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Value:
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < _MAX_NESTING:
            return self._array(depth)
        raise self.damaged(f"it holds a value of unknown type {kind}")

    def _array(self, depth: int) -> Value:
        kind, count = self.unpack("<I"), self.unpack("<Q")
        if count <= _KEPT_ITEMS:
            return tuple(self.value(kind, depth + 1) for _ in range(count))
        if kind in _SCALARS:
            self.take(count * struct.calcsize(_SCALARS[kind]))
        else:
            for _ in range(count):
                if kind == _STRING:
                    self.take(self.unpack("<Q"))
                else:
                    self.value(kind, depth + 1)
        return count  # too long to keep: its length stands for it


def _describe(path: Path, size: int, cursor: _Cursor) -> GgufInfo:
    fields, tensors = _read(cursor)
    architecture = _text(fields, "general.architecture")
    kind = _text(fields, "general.type")
    if kind == "adapter" or architecture == "clip":
        what = "a LoRA adapter" if kind == "adapter" else "a vision projector"
        raise LocalModelError(f"{path} is {what}, not a language model; name the model's own .gguf file")
    if not architecture:
        raise cursor.damaged("it does not name its architecture (general.architecture)")

    def number(key: str) -> int:
        found = fields.get(f"{architecture}.{key}")
        if isinstance(found, tuple):  # one value for each layer
            found = max((item for item in found if isinstance(item, int)), default=0)
        return int(found) if isinstance(found, int) else 0

    layers, width, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    head = width // heads if heads > 0 else 0
    kv_heads = number("attention.head_count_kv") or heads
    kv_width = kv_heads * (
        (number("attention.key_length") or head) + (number("attention.value_length") or head)
    )
    tokens = fields.get("tokenizer.ggml.tokens")
    pooling = fields.get(f"{architecture}.pooling_type")
    weight_bytes: Counter[str] = Counter()
    for name, _, count in tensors:
        weight_bytes[name] += count
    return GgufInfo(
        path=str(path),
        size=size,
        architecture=architecture,
        name=_text(fields, "general.name") or path.stem,
        licence=_text(fields, "general.license"),
        parameters=sum(count for _, count, _ in tensors),
        quantization=weight_bytes.most_common(1)[0][0] if weight_bytes else "",
        context=number("context_length"),
        layers=layers,
        width=width,
        vocabulary=len(tokens) if isinstance(tokens, tuple) else tokens if isinstance(tokens, int) else 0,
        kv_bytes=layers * kv_width * 2,
        pooling=pooling if isinstance(pooling, int) else None,
        causal=fields.get(f"{architecture}.attention.causal") is not False,
        template="tokenizer.chat_template" in fields,
    )


def _text(fields: dict[str, Value], key: str) -> str:
    found = fields.get(key)
    return found if isinstance(found, str) else ""


def _read(cursor: _Cursor) -> tuple[dict[str, Value], list[tuple[str, int, int]]]:
    """The metadata, and of each tensor its type's name, its weights and its bytes."""
    start = cursor.raw(min(32, cursor.size))
    if start[:4] != b"GGUF":
        hint = next((text for prefix, text in _LOOKS_LIKE if start.startswith(prefix)), "")
        what = f"its magic bytes are {start[:4]!r}, expected b'GGUF'" if start else "it is empty"
        raise LocalModelError(f"{cursor.path} is not a GGUF file: {what}{'; ' if hint else ''}{hint}")
    cursor.position = 4
    version = cursor.unpack("<I")
    if version not in (2, 3):
        raise LocalModelError(f"{cursor.path} has GGUF version {version}; versions 2 and 3 can be read")
    tensor_count, field_count = cursor.unpack("<Q"), cursor.unpack("<Q")
    fields: dict[str, Value] = {}
    for _ in range(field_count):
        key = cursor.string()
        fields[key] = cursor.value(cursor.unpack("<I"))
    tensors, reach = [], 0
    for _ in range(tensor_count):
        name = cursor.string()
        dimensions = cursor.unpack("<I")
        if dimensions > _MAX_NESTING:
            raise cursor.damaged(f"tensor {name!r} has {dimensions} dimensions")
        count = math.prod(cursor.unpack("<Q") for _ in range(dimensions))
        kind, offset = cursor.unpack("<I"), cursor.unpack("<Q")
        type_name, block, block_bytes = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        length = count // block * block_bytes
        tensors.append((type_name, count, length))
        reach = max(reach, offset + length)
    alignment = fields.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) and alignment > 0 else 32
    needed = (cursor.position + step - 1) // step * step + reach
    if tensors and needed > cursor.size:
        raise LocalModelError(
            f"{cursor.path} is cut short: it has {cursor.size} of at least {needed} bytes; is the download complete?"
        )
    return fields, tensors
