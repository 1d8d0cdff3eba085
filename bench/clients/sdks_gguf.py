"""A language model written by hand for the real llama.cpp: it calls a tool when it is offered one, else it says `Ready.`

Its attention is zero and its embeddings are one-hot, so the next token follows from the last one alone, by a table. The chat
template ends a prompt with one of two marks, and the table leads on from there. What stands inside a call or a schema is
llama.cpp's own grammar at work: the model only likes to close what is open. 3 MB, from nothing but this file.
"""

import struct
from array import array
from pathlib import Path
from typing import Final

from tests.tiny_gguf import field, text

__all__ = ["SAYS", "TEMPLATE", "handmade_gguf"]

SAYS: Final = "Ready."
"""What it answers where nothing forces it into a schema or a call."""

_MARKS: Final = ("<unk>", "<s>", "</s>", "<|say|>", "<|tool|>", "<tool_call>", "</tool_call>", "Ready")
_KINDS: Final = (2, 3, 3, 3, 3, 4, 4, 1)  # unknown, control x 4, written by the user x 2, normal
TOKENS: Final = (*_MARKS, *(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(32, 127)))
WIDTH, INNER, CONTEXT = 384, 32, 8192
_EOS, _SAY, _CALL, _BEGIN, _END, _READY = 2, 3, 4, 5, 6, 7

TEMPLATE: Final = """{% if tools %}system:
You can call these tools:
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
Answer with <tool_call>
{"name": <name>, "arguments": <object>}
</tool_call>
{% endif %}{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls %}assistant:
{{ m.content or '' }}{% for c in m.tool_calls %}{% if c.function %}{% set c = c.function %}{% endif %}<tool_call>
{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}
</tool_call>{% endfor %}
{% elif m.role == 'tool' %}user:
<tool_response>
{{ m.content }}
</tool_response>
{% else %}{{ m.role }}:
{{ m.content }}
{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:
{% if tools and messages[-1].role != 'tool' %}<|tool|>{% else %}<|say|>{% endif %}{% endif %}"""


def _next() -> "array[float]":
    """The table: a row for each token that may come next, in it a weight for each token that may stand before it."""
    table = array("f", bytes(4 * WIDTH * len(TOKENS)))

    def likes(after: int, following: int, weight: float) -> None:
        table[following * WIDTH + after] = weight

    for after in range(len(TOKENS)):
        likes(after, TOKENS.index('"'), 0.3)
        likes(after, TOKENS.index("}"), 0.2)
    likes(_CALL, _BEGIN, 3)
    likes(_BEGIN, TOKENS.index("<0x0A>"), 3)
    likes(TOKENS.index("}"), _END, 0.6)
    likes(_END, _EOS, 3)
    likes(_SAY, _READY, 3)
    likes(_READY, TOKENS.index("."), 3)
    likes(TOKENS.index("."), _EOS, 3)
    return table


def handmade_gguf(path: Path) -> Path:
    """Write the model."""
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "handmade",
        "general.license": "apache-2.0",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": 6,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // 6,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.scores": (0.0,) * len(TOKENS),
        "tokenizer.ggml.token_type": (*_KINDS, *[6] * 256, *[1] * 95),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": _EOS,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    kv = WIDTH // 6
    shapes = {
        "token_embd.weight": (WIDTH, len(TOKENS)),
        "output.weight": (WIDTH, len(TOKENS)),
        "output_norm.weight": (WIDTH,),
        **{f"blk.0.attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "output")},
        **{f"blk.0.attn_{name}.weight": (WIDTH, kv) for name in ("k", "v")},
        **{f"blk.0.ffn_{name}.weight": (WIDTH, INNER) for name in ("gate", "up")},
        "blk.0.ffn_down.weight": (INNER, WIDTH),
        **{f"blk.0.{name}_norm.weight": (WIDTH,) for name in ("attn", "ffn")},
    }
    infos, data = b"", b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        weights = array("f", [1.0] * count if len(shape) == 1 else bytes(4 * count))
        if name == "output.weight":
            weights = _next()
        if name == "token_embd.weight":
            for token in range(len(TOKENS)):
                weights[token * WIDTH + token] = 1.0
        data += weights.tobytes()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(metadata))
    head += b"".join(field(key, value) for key, value in metadata.items()) + infos
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path
