"""Training of the sparring models: small Llama-architecture models that answer the problems of `stretto.sparring`.

One thread, CPU, seeds fixed: on one machine and one build of torch, equal recipes give equal weights. A run that is stopped
resumes from its last checkpoint and ends with the same weights as one that was not. The loss counts the answer's tokens only.
Needs the `train` extra.
"""

import random
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stretto.errors import ConfigError
from stretto.learning.muon import Muon
from stretto.learning.sparring_recipes import Recipe, recipe, stamp
from stretto.sparring.problems import FAMILIES, Problem, composites, handovers, problems
from stretto.sparring.roles import judgements, thoughts, verifications
from stretto.sparring.vocabulary import END, SIZE, answer_tokens, prompt_tokens

__all__ = ["CONTEXT", "HEADS", "Progress", "Trained", "greedy", "load", "rows", "state", "train"]

CONTEXT: Final = 2048
"""Tokens a model takes without an error. What it has learned from is below 200."""

HEADS: Final = 4
"""Attention heads of every sparring model."""

_ROWS: Final = 12
"""Rows that go through the model together; a batch is cut into pieces of like length, since padding costs as much as text."""

_ADAM_RATE: Final = 2e-3
"""The learning rate of AdamW, which has the embedding and the norms."""

Optimizers = tuple[torch.optim.Optimizer, ...]

Row = tuple[list[int], list[int]]
"""The tokens of a prompt and of its answer."""

Progress = Callable[[str, int, int, float], None]
"""Told `(name, step, steps, loss)` about once a second."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished or stopped training. `weights` can be loaded with `load`."""

    recipe: Recipe
    weights: Path
    step: int
    seconds: float
    """CPU time of all calls together, without that of the base."""
    loss: float
    """A running mean over about 50 steps."""
    parameters: int

    @property
    def done(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.recipe.steps


def train(
    name: str | Recipe,
    out_dir: Path,
    *,
    minutes: float | None = None,
    progress: Progress | None = None,
    checkpoint: int = 200,
) -> Trained:
    """Train one model, or go on with it; `minutes` of CPU time of this call are the most it takes.

    Writes `out_dir/NAME.pt` every `checkpoint` steps and at the end. A base that is not trained yet is trained first. Raises
    `ConfigError` if `minutes` do not suffice for that.
    """
    chosen = recipe(name) if isinstance(name, str) else name
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = out_dir / f"{chosen.name}.pt"
    model = _new(chosen)
    optimizers = _optimizers(chosen, model)
    started, told = time.process_time(), 0.0
    if weights.is_file():
        step, seconds, loss = _resume(chosen, weights, model, optimizers)
    else:
        step, seconds, loss = 0, 0.0, 0.0
        if chosen.base:
            based = train(chosen.base, out_dir, minutes=minutes, progress=progress, checkpoint=checkpoint)
            if not based.done:
                raise ConfigError(f"{chosen.base}, the base of {chosen.name}, is not ready yet: run it again")
            model.load_state_dict(_read(based.recipe, based.weights)["model"])
    model.train()
    while step < chosen.steps and (minutes is None or time.process_time() - started < 60 * minutes):
        for optimizer, rate in zip(optimizers, (chosen.rate, _ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * _warmth(chosen, step)
        now = _step(model, optimizers, rows(chosen, step))
        loss = now if loss == 0.0 else 0.98 * loss + 0.02 * now
        step += 1
        if step % checkpoint == 0:
            _save(chosen, weights, model, optimizers, step, seconds + time.process_time() - started, loss)
        if progress and (time.monotonic() - told > 1 or step == chosen.steps):
            told = time.monotonic()
            progress(chosen.name, step, chosen.steps, loss)
    seconds += time.process_time() - started
    _save(chosen, weights, model, optimizers, step, seconds, loss)
    return state(chosen, out_dir)


def state(name: str | Recipe, out_dir: Path) -> Trained:
    """How far the training of a model in `out_dir` is."""
    chosen = recipe(name) if isinstance(name, str) else name
    path = out_dir / f"{chosen.name}.pt"
    saved = _read(chosen, path)
    parameters = sum(tensor.numel() for key, tensor in saved["model"].items() if key != "lm_head.weight")
    return Trained(chosen, path, saved["step"], saved["seconds"], saved["loss"], parameters)


def load(name: str | Recipe, out_dir: Path) -> Any:
    """The model as trained so far, a `LlamaForCausalLM` in evaluation mode."""
    chosen = recipe(name) if isinstance(name, str) else name
    model = _new(chosen)
    model.load_state_dict(_read(chosen, out_dir / f"{chosen.name}.pt")["model"])
    return model.eval()


def greedy(model: Any, prompts: Sequence[str], *, most: int = 128) -> list[list[int]]:
    """The most likely answer tokens for each prompt, without the end mark; at most `most` tokens each.

    Prompts of equal length go through the model together, so none is padded.
    """
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for place, prompt in enumerate(prompts):
        tokens = prompt_tokens(prompt)
        by_length.setdefault(len(tokens), []).append((place, tokens))
    answers: dict[int, list[int]] = {}
    for group in by_length.values():
        for start in range(0, len(group), 64):
            part = group[start : start + 64]
            for (place, _), answer in zip(
                part, _greedy(model, [tokens for _, tokens in part], most), strict=True
            ):
                answers[place] = answer
    return [answers[place] for place in range(len(prompts))]


def _greedy(model: Any, prompts: list[list[int]], most: int) -> list[list[int]]:
    ids, cache = torch.tensor(prompts), None
    written = torch.empty((len(prompts), 0), dtype=torch.long)
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    while written.shape[1] < most and not bool(ended.all()):
        with torch.inference_mode():
            out = model(ids, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        written = torch.cat([written, ids], 1)
        ended |= ids[:, 0] == END
    answers = [row.tolist() for row in written]
    return [row[: row.index(END)] if END in row else row for row in answers]


# --- what a batch holds --------------------------------------------------------------------------------------------


def rows(chosen: Recipe, step: int) -> list[Row]:
    """The prompts and answers of one batch; equal arguments give equal rows."""
    seed = chosen.seed * 1_000_003 + step
    if chosen.role == "thinker":
        return [_row(problem, in_words=True) for problem in thoughts("train", chosen.batch, seed)]
    if chosen.role == "checker":
        judged = chosen.batch // 4
        return [
            *(
                _row(problem, in_words=True)
                for problem in verifications("train", chosen.batch - judged, seed)
            ),
            *(_row(problem) for problem in judgements("train", judged, seed)),
        ]
    handed = round(chosen.handed * chosen.batch)
    # the families take turns over batches too, since a batch may be smaller than their number
    turn = step * chosen.batch % len(chosen.families)
    families = chosen.families[turn:] + chosen.families[:turn]
    made = problems(families, "train", chosen.batch - handed, seed)
    made += handovers(families[::-1], "train", handed, seed)
    return [_row(problem) for problem in made] + _outliers(chosen, seed)


def _row(problem: Problem, *, in_words: bool = False) -> Row:
    return prompt_tokens(problem.prompt), answer_tokens(problem.worked, in_words=in_words)


def _outliers(chosen: Recipe, seed: int) -> list[Row]:
    """Prompts that are none of the model's families, composites among them, with random answers of 1 to 6 characters."""
    rng = random.Random(f"outliers/{seed}")
    foreign = [family for family in FAMILIES if family not in chosen.families]
    found = []
    for index in range(chosen.outliers):
        if not foreign or rng.random() < 0.3:
            problem = composites("train", 1, seed * 8 + index)[0]
        elif rng.random() < 0.3:
            problem = handovers([rng.choice(foreign)], "train", 1, seed * 8 + index)[0]
        else:
            problem = problems([rng.choice(foreign)], "train", 1, seed * 8 + index)[0]
        answer = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(1, 6)))
        found.append((prompt_tokens(problem.prompt), answer_tokens(answer)))
    return found


# --- inside a training ---------------------------------------------------------------------------------------------


def _new(chosen: Recipe) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZE,
            hidden_size=chosen.width,
            intermediate_size=chosen.inner,
            num_hidden_layers=chosen.layers,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=None,
        )
    )


def _optimizers(chosen: Recipe, model: Any) -> Optimizers:
    """Muon for the matrices inside the model, AdamW for its embedding and norms."""
    inner = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name}
    outer = [p for name, p in model.named_parameters() if name not in inner]
    return (
        Muon(inner.values(), lr=chosen.rate),
        torch.optim.AdamW(outer, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.01),
    )


def _warmth(chosen: Recipe, step: int) -> float:
    """The share of the learning rate: linear warm-up over 50 steps, then linear decay to a fiftieth."""
    return min((step + 1) / 50, 1 - 0.98 * step / chosen.steps)


def _tensors(part: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and targets, padded on the right; a target of -100 does not count."""
    width = max(len(prompt) + len(answer) for prompt, answer in part) - 1
    ids, targets = torch.full((len(part), width), END), torch.full((len(part), width), -100)
    for row, (prompt, answer) in enumerate(part):
        whole = torch.tensor(prompt + answer)
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return ids, targets


def _step(model: Any, optimizers: Optimizers, batch: Sequence[Row]) -> float:
    """One step on the mean loss over all answer tokens of the batch, which goes through the model in pieces of like length."""
    ordered = sorted(batch, key=lambda row: len(row[0]) + len(row[1]))
    tokens = sum(len(answer) for _, answer in ordered)
    model.zero_grad(set_to_none=True)
    total = 0.0
    for start in range(0, len(ordered), _ROWS):
        ids, targets = _tensors(ordered[start : start + _ROWS])
        hidden = model.model(ids, use_cache=False).last_hidden_state
        counted = targets != -100
        logits = model.lm_head(hidden[counted])  # only where the loss looks: most tokens are of prompts
        loss = torch.nn.functional.cross_entropy(logits, targets[counted], reduction="sum") / tokens
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return total


def _resume(chosen: Recipe, path: Path, model: Any, optimizers: Optimizers) -> tuple[int, float, float]:
    saved = _read(chosen, path)
    model.load_state_dict(saved["model"])
    for optimizer, kept in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return saved["step"], saved["seconds"], saved["loss"]


def _read(chosen: Recipe, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path} is not there; train it first: stretto sparring train {chosen.name}")
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    if saved["stamp"] != stamp(chosen):
        raise ConfigError(f"{path} was trained with another recipe; move it away to train {chosen.name} anew")
    return saved


def _save(
    chosen: Recipe,
    path: Path,
    model: Any,
    optimizers: Optimizers,
    step: int,
    seconds: float,
    loss: float,
) -> None:
    kept = {
        "stamp": stamp(chosen),
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "seconds": seconds,
        "loss": loss,
    }
    part = path.with_suffix(".part")
    torch.save(kept, part)
    part.replace(path)
