"""From a trained sparring model to the GGUF file that llama.cpp serves. Needs the `train` extra."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import gguf
import torch

from stretto import __version__
from stretto.errors import ConfigError
from stretto.learning.sparring import CONTEXT, HEADS, Trained, load, state
from stretto.learning.sparring_recipes import Recipe, models, recipe, stamp
from stretto.sparring.vocabulary import END, gguf_tokens
from stretto.sparring.wordings import CHAT_TEMPLATE, TEMPLATE_WORDS
from stretto.sparring.wordings import VERSION as WORDINGS_VERSION

__all__ = ["export", "ship", "write_gguf"]


def export(name: str | Recipe, out_dir: Path, target: Path) -> Path:
    """Write the model that was trained in `out_dir` to `target` as an F16 GGUF file; equal weights give equal bytes."""
    chosen = recipe(name) if isinstance(name, str) else name
    knows = ", ".join(chosen.families) if chosen.role == "solver" else f"a {chosen.role}"
    return write_gguf(
        target,
        load(chosen, out_dir).state_dict(),
        name=chosen.name,
        about=f"A sparring model of stretto {__version__}: {knows}.",
        version=f"wordings {WORDINGS_VERSION}, seed {chosen.seed}, {chosen.steps} steps",
    )


def write_gguf(target: Path, weights: Any, *, name: str, about: str, version: str) -> Path:
    """Write the weights of a Llama with the sparring vocabulary and `HEADS` heads to `target`, whole or not at all."""
    layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("model.layers."))
    inner, width = weights["model.layers.0.mlp.gate_proj.weight"].shape
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name(f"stretto {name}")
    writer.add_description(about)
    writer.add_license("apache-2.0")
    writer.add_version(version)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(gguf_tokens()))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer)
    for name_, tensor in _tensors(weights, layers):
        writer.add_tensor(name_, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)
    return target


def ship(out_dir: Path, pool_dir: Path) -> Path:
    """Export every model that was trained in `out_dir` into `pool_dir/models`, and write `pool_dir/pool.toml` about them.

    The files of models that were listed and are no more are removed; those that artefacts brought along stay. Raises
    `ConfigError` before anything is written if a training is not finished.
    """
    parts = [
        "# The shipped sparring models; `stretto sparring train --all` writes this file and the GGUF files beside it.\n"
        "# Prices are nominal, by size (USD per million tokens); vendor, region and retention are nominal too.\n"
    ]
    finished = [(chosen, state(chosen, out_dir)) for chosen in models()]
    for chosen, trained in finished:
        if not trained.done:
            raise ConfigError(
                f"{chosen.name} has {trained.step} of {chosen.steps} steps; finish its training first"
            )
    files = []
    for chosen, trained in finished:
        files.append(export(chosen, out_dir, pool_dir / "models" / f"{chosen.name}.gguf"))
        parts.append(_row(chosen, trained, files[-1]))
    listing = pool_dir / "pool.toml"
    before = tomllib.loads(listing.read_text(encoding="utf-8"))["model"] if listing.is_file() else []
    for stale in {pool_dir / row["file"] for row in before} - {*files}:
        stale.unlink(missing_ok=True)
    listing.write_text("\n".join(parts), encoding="utf-8")
    return listing


def _row(chosen: Recipe, trained: Trained, file: Path) -> str:
    card = chosen.card
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"""[[model]]
id = "{chosen.name}"
file = "models/{file.name}"
about = "{card["about"]}"
families = {json.dumps(chosen.families)}
context = {CONTEXT}
price = {{ input = {card["input"]}, output = {card["output"]} }}
sha256 = "{digest}"

[model.labels]
role = "{chosen.role}"
vendor = "{card["vendor"]}"
region = "{card["region"]}"
licence = "apache-2.0"
retention = "{card["retention"]}"

[model.provenance]
recipe = "{stamp(chosen)[:16]}"
seed = {chosen.seed}
steps = {trained.step}
cpu_seconds = {trained.seconds:.0f}
parameters = {trained.parameters}
code = {{ stretto = "{__version__}", wordings = {WORDINGS_VERSION}, torch = "{torch.__version__}" }}
"""


def _add_tokenizer(writer: Any) -> None:
    tokens = gguf_tokens()
    kinds = (
        [gguf.TokenType.NORMAL] * 256
        + [gguf.TokenType.CONTROL] * 2
        + [gguf.TokenType.NORMAL] * len(TEMPLATE_WORDS)
    )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    # llama.cpp refuses a file without merges. This one joins into no token, and what is no token falls back into its bytes.
    writer.add_token_merges(["~ ~"])
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(weights: Any, layers: int) -> list[tuple[str, Any]]:
    """GGUF names and arrays: matrices in 16 bits, norms in 32; the head is tied to the embedding and left out."""

    def half(name: str, permuted: bool = False) -> Any:
        tensor = weights[f"model.{name}.weight"]
        if permuted:
            tensor = _interleaved(tensor)
        return tensor.to(torch.float16).numpy()

    def full(name: str) -> Any:
        return weights[f"model.{name}.weight"].float().numpy()

    out = [("token_embd.weight", half("embed_tokens")), ("output_norm.weight", full("norm"))]
    for layer in range(layers):
        source, target = f"layers.{layer}.", f"blk.{layer}."
        out += [
            (target + "attn_norm.weight", full(source + "input_layernorm")),
            (target + "attn_q.weight", half(source + "self_attn.q_proj", permuted=True)),
            (target + "attn_k.weight", half(source + "self_attn.k_proj", permuted=True)),
            (target + "attn_v.weight", half(source + "self_attn.v_proj")),
            (target + "attn_output.weight", half(source + "self_attn.o_proj")),
            (target + "ffn_norm.weight", full(source + "post_attention_layernorm")),
            (target + "ffn_gate.weight", half(source + "mlp.gate_proj")),
            (target + "ffn_up.weight", half(source + "mlp.up_proj")),
            (target + "ffn_down.weight", half(source + "mlp.down_proj")),
        ]
    return out


def _interleaved(weight: Any) -> Any:
    """Rows reordered from transformers' half-split rotary layout to llama.cpp's interleaved one (`LlamaModel.permute`)."""
    rows, columns = weight.shape
    return (
        weight.reshape(HEADS, 2, rows // HEADS // 2, columns)
        .swapaxes(1, 2)
        .reshape(rows, columns)
        .contiguous()
    )
