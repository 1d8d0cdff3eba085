"""A small language model with random weights, written by hand: a real file for the real llama.cpp, 80 kB, in milliseconds."""

import random
import struct
from array import array
from collections.abc import Mapping
from pathlib import Path

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 32, 1, 2, 32, 2048
TOKENS = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(32, 127)))
KINDS = (2, 3, 3, *[6] * 256, *[1] * 95)  # unknown, control, control, bytes, normal
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


def field(key: str, value: object) -> bytes:
    """One entry of the metadata."""
    return text(key) + kind_of(value) + encoded(value)


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def kind_of(value: object) -> bytes:
    """The type of a value, as its number."""
    numbers = {bool: 7, int: 4, float: 6, str: 8, tuple: 9}
    return struct.pack("<I", numbers[type(value)])


def encoded(value: object) -> bytes:
    """A value without its type."""
    if isinstance(value, tuple):
        if isinstance(value[0], int):
            return struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)  # llama.cpp wants these signed
        return kind_of(value[0]) + struct.pack("<Q", len(value)) + b"".join(encoded(item) for item in value)
    if isinstance(value, str):
        return text(value)
    return struct.pack({bool: "<?", int: "<I", float: "<f"}[type(value)], value)


def tiny_gguf(path: Path, *, seed: int = 7, fields: Mapping[str, object] | None = None) -> Path:
    """Write the model; `fields` replaces metadata. Equal seeds give equal files."""
    draw = random.Random(seed)
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.license": "apache-2.0",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.scores": (0.0,) * len(TOKENS),
        "tokenizer.ggml.token_type": KINDS,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": TEMPLATE,
        **(fields or {}),
    }
    shapes = {
        "token_embd.weight": (WIDTH, len(TOKENS)),
        "output.weight": (WIDTH, len(TOKENS)),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {f"{block}attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {f"{block}ffn_{name}.weight": (WIDTH, INNER) for name in ("gate", "up")}
        shapes |= {f"{block}ffn_down.weight": (INNER, WIDTH)}
        shapes |= {f"{block}{name}_norm.weight": (WIDTH,) for name in ("attn", "ffn")}
    infos, data = b"", b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        weights = array("f", (1.0 if len(shape) == 1 else draw.gauss(0, 0.3) for _ in range(count)))
        if name == "output.weight":  # no weight on what cannot be read: greedy answers are printable
            silent = (3 + 256) * WIDTH
            weights[:silent] = array("f", bytes(4 * silent))
        data += weights.tobytes()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(metadata))
    head += b"".join(field(key, value) for key, value in metadata.items()) + infos
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path
