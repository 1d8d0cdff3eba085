"""The first stage of the Conductor's training: a planner learns to write workflows, with workers by lot.

It begins with the weights of a shipped thinker, which has learned to write the next sub-problem: reading orders and copying
payloads are the larger part of both. Equal for all seeds of the later stages, so one training may take it over from another.
Needs the `train` extra.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import gguf
import torch

from stretto import sparring
from stretto.errors import ConfigError
from stretto.learning.conductor.data import Case, cases, lessons, tasks_of
from stretto.learning.conductor.grpo import filtered_step
from stretto.learning.conductor.model import HEADS, Shape, SparringTongue, new_model, optimizers, sample
from stretto.policies.workflow import Allowed, Workflow, parse
from stretto.sparring.wordings import VERSION

__all__ = ["Format", "formatted", "spelled"]

_ADAM_RATE: Final = 2e-3
_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Format:
    """How the format is learned: `steps` batches of `batch` lessons; `base` is a shipped model to begin with ("": none)."""

    shape: Shape = field(default_factory=Shape)
    base: str = "thinker-north"
    steps: int = 450
    batch: int = 32
    rate: float = 4e-3
    """Of Muon, falling linearly."""
    seed: int = 1
    needed: float = 0.9
    """The share of held-out problems, at the end, for which the sub-tasks must be right to the letter."""
    checked: int = 40
    """So many of each kind are asked for that."""

    def stamp(self, n: int) -> str:
        """Names everything that the weights depend on, for `n` workers."""
        base = _file(self.base).sha256 if self.base else ""
        plain = asdict(self) | {"needed": 0, "checked": 0}
        return hashlib.sha256(json.dumps([plain, base, n, VERSION], sort_keys=True).encode()).hexdigest()


def formatted(
    form: Format,
    n: int,
    out: Path,
    *,
    start: Path | None = None,
    progress: Callable[[str, int, int, float], None] = lambda stage, step, steps, loss: None,
    checkpoint: int = 25,
) -> dict[str, Any]:
    """The weights after the format stage in `out/format.pt`, trained now as far as they are not.

    `start` is a folder with a finished one, which is copied. Raises `ConfigError` for one of another form, and if too few
    sub-tasks are right in the end.
    """
    path, stamp = out / "format.pt", form.stamp(n)
    if start is not None and not path.is_file():
        _check(start / "format.pt", stamp)
        shutil.copyfile(start / "format.pt", path)
    tongue = SparringTongue()
    torch.manual_seed(form.seed)
    model = new_model(form.shape)
    if form.base:
        _begin_with(model, form.base)
    moving = optimizers(model, form.rate, _ADAM_RATE)
    state: dict[str, Any] = {"stamp": stamp, "step": 0, "loss": 0.0, "seconds": 0.0}
    if path.is_file():
        state = _check(path, stamp)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(moving, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
    model.train()
    begun = time.process_time()
    while state["step"] < form.steps:
        step = state["step"]
        for optimizer, rate in zip(moving, (form.rate, _ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * min((step + 1) / 50, 1 - 0.98 * step / form.steps)
        rows = [
            ((tongue.reads(prompt), tongue.writes(plan)), 1)
            for prompt, plan in lessons(form.seed, step, form.batch, n)
        ]
        loss = filtered_step(model, moving, rows, end=tongue.end)
        state["loss"] = loss if step == 0 else 0.95 * state["loss"] + 0.05 * loss
        state["step"] = step + 1
        if state["step"] % checkpoint == 0 or state["step"] == form.steps:
            now = time.process_time()
            state["seconds"], begun = state["seconds"] + now - begun, now
            _save(path, state, model, moving)
        progress("format", state["step"], form.steps, state["loss"])
    right = spelled(model, cases("calibration", (form.checked,) * 3, 10, n))
    if right < form.needed:
        raise ConfigError(
            f"{path}: the sub-tasks are right for {right:.2f} of the held-out problems, {form.needed:g} are needed; "
            "give the format more steps"
        )
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def spelled(model: Any, those: Sequence[Case]) -> float:
    """The share of problems for which the likeliest workflow is valid and its sub-tasks are right to the letter."""
    model.eval()
    tongue = SparringTongue()
    written = sample(model, tongue, [case.prompt for case in those], most=_MOST, temperature=0.0)
    good = 0
    for case, [one] in zip(those, written, strict=True):
        plan = parse(tongue.text(one.tokens), Allowed({o: str(o) for o in case.allowed}))
        good += isinstance(plan, Workflow) and tuple(s.subtask for s in plan.steps) == tasks_of(case.problem)
    model.train()
    return good / len(those)


def _file(name: str) -> sparring.PoolEntry:
    for entry in sparring.entries():
        if entry.id == name:
            return entry
    raise ConfigError(f"no sparring model is called {name!r}")


def _begin_with(model: Any, name: str) -> None:
    """Put a shipped model's weights into the first layers; layers beyond them change nothing at first."""
    tensors = {
        t.name: torch.from_numpy(t.data.copy()).float() for t in gguf.GGUFReader(_file(name).path).tensors
    }
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    found = {
        "model.embed_tokens.weight": tensors["token_embd.weight"],
        "model.norm.weight": tensors["output_norm.weight"],
    }
    for key, tensor in tensors.items():
        _, _, rest = key.partition("blk.")
        layer, _, part = rest.removesuffix(".weight").partition(".")
        if part in parts:
            halves = _halves(tensor) if part in ("attn_q", "attn_k") else tensor
            found[f"model.layers.{layer}.{parts[part]}.weight"] = halves
    with torch.no_grad():
        for key, own in model.state_dict().items():
            if key in found:
                own.copy_(found[key])
            elif key.endswith(("o_proj.weight", "down_proj.weight")):
                own.zero_()


def _halves(weight: Any) -> Any:
    """Rows in transformers' rotary layout again, which llama.cpp has interleaved."""
    rows, columns = weight.shape
    return weight.reshape(HEADS, rows // HEADS // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _check(path: Path, stamp: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path} is not there: no format stage to take over")
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    if saved["stamp"] != stamp:
        raise ConfigError(f"{path} is of another format; give another folder or move it away")
    return saved


def _save(path: Path, state: dict[str, Any], model: Any, moving: Sequence[Any]) -> None:
    kept = state | {"model": model.state_dict(), "optimizers": [one.state_dict() for one in moving]}
    part = path.with_suffix(".part")
    torch.save(kept, part)
    part.replace(path)
