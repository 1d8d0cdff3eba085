"""Training of the sparring models: small Llama-architecture models that answer the problems of `stretto.sparring`.

One thread, CPU, seeds fixed: on one machine and one build of torch, equal recipes give equal weights. A run that is stopped
resumes from its last checkpoint and ends with the same weights as one that was not. The loss counts the answer's tokens only.
Needs the `train` extra.
"""

import hashlib
import json
import random
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stretto.errors import ConfigError
from stretto.sparring.problems import FAMILIES, problems
from stretto.sparring.vocabulary import END, SIZE, answer_tokens, prompt_tokens
from stretto.sparring.wordings import TEMPLATE_WORDS
from stretto.sparring.wordings import VERSION as WORDINGS_VERSION

__all__ = [
    "CONTEXT",
    "HEADS",
    "Progress",
    "Recipe",
    "Trained",
    "greedy",
    "load",
    "models",
    "recipe",
    "stamp",
    "state",
    "train",
]

CONTEXT: Final = 2048
"""Tokens a model takes without an error. What it has learned from is below 100."""

HEADS: Final = 4
"""Attention heads of every sparring model."""

Progress = Callable[[str, int, int, float], None]
"""Told `(name, step, steps, loss)` about once a second."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is made: `steps` batches of `batch` problems, the families taking turns."""

    name: str
    families: tuple[str, ...]
    steps: int
    batch: int
    rate: float
    seed: int
    worked: bool = False
    """Writes `working = answer` where the family has a working line."""
    outliers: int = 2
    """Further prompts in each batch that are none of its families, with random answers: without them a specialist is silent, or
    sure of nonsense, on another's problems (outlier exposure, Hendrycks et al. 2019, with answers in place of a uniform loss)."""
    width: int = 128
    layers: int = 3
    inner: int = 352
    card: Mapping[str, str] = field(default_factory=dict)
    """What the pool's list says of it: `input` and `output` (nominal prices by size, USD per million tokens), `vendor`,
    `region`, `retention` (nominal too: something to filter by), `about`."""


_STRINGS: Final = ("spell-backward", "sort-letters")
_NUMBERS: Final = ("addition", "to-binary")

_RECIPES: Final = (
    Recipe(
        name="string-s",
        families=_STRINGS,
        steps=4500,
        batch=32,
        rate=2e-3,
        seed=11,
        card={
            "input": "0.6",
            "output": "2.4",
            "vendor": "sparring-north",
            "region": "eu",
            "retention": "zero",
            "about": "A string specialist: spells words backward and sorts their letters. Knows nothing of numbers.",
        },
    ),
    Recipe(
        name="number-s",
        families=_NUMBERS,
        steps=4500,
        batch=16,
        outliers=1,
        rate=1.5e-3,
        seed=12,
        worked=True,
        card={
            "input": "0.6",
            "output": "2.4",
            "vendor": "sparring-south",
            "region": "us",
            "retention": "30d",
            "about": "A number specialist: adds and writes numbers in binary, with its working. Knows nothing of words.",
        },
    ),
    Recipe(
        name="general-xs",
        families=_STRINGS + _NUMBERS,
        steps=1600,
        batch=32,
        rate=2e-3,
        seed=13,
        worked=True,
        outliers=0,
        width=64,
        layers=2,
        inner=176,
        card={
            "input": "0.1",
            "output": "0.4",
            "vendor": "sparring-north",
            "region": "eu",
            "retention": "zero",
            "about": "A cheap weak generalist: tries strings and numbers alike, and is often wrong.",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished or stopped training. `weights` can be loaded with `load`."""

    recipe: Recipe
    weights: Path
    step: int
    seconds: float
    """CPU time of all calls together."""
    loss: float
    """A running mean over about 50 steps."""
    parameters: int

    @property
    def done(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.recipe.steps


def models() -> tuple[Recipe, ...]:
    """The recipes of the shipped pool."""
    return _RECIPES


def recipe(name: str) -> Recipe:
    """The recipe called `name`."""
    for found in _RECIPES:
        if found.name == name:
            return found
    raise ConfigError(
        f"no sparring model is called {name!r}; there are {', '.join(r.name for r in _RECIPES)}"
    )


def train(
    name: str | Recipe,
    out_dir: Path,
    *,
    minutes: float | None = None,
    progress: Progress | None = None,
    checkpoint: int = 200,
) -> Trained:
    """Train one model, or go on with it; `minutes` of CPU time of this call are the most it takes.

    Writes `out_dir/NAME.pt` every `checkpoint` steps and at the end.
    """
    chosen = recipe(name) if isinstance(name, str) else name
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = out_dir / f"{chosen.name}.pt"
    model = _new(chosen)
    optimizer = torch.optim.AdamW(model.parameters(), lr=chosen.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step, seconds, loss = _resume(chosen, weights, model, optimizer)
    started, told = time.process_time(), 0.0
    model.train()
    while step < chosen.steps and (minutes is None or time.process_time() - started < 60 * minutes):
        for group in optimizer.param_groups:
            group["lr"] = _rate(chosen, step)
        batch = problems(chosen.families, "train", chosen.batch, chosen.seed * 1_000_003 + step)
        rows = [
            (
                prompt_tokens(problem.prompt),
                answer_tokens(problem.worked if chosen.worked else problem.answer),
            )
            for problem in batch
        ]
        now = _step(model, optimizer, *_tensors(rows + _outliers(chosen, step)))
        loss = now if loss == 0.0 else 0.98 * loss + 0.02 * now
        step += 1
        if step % checkpoint == 0:
            _save(chosen, weights, model, optimizer, step, seconds + time.process_time() - started, loss)
        if progress and (time.monotonic() - told > 1 or step == chosen.steps):
            told = time.monotonic()
            progress(chosen.name, step, chosen.steps, loss)
    seconds += time.process_time() - started
    _save(chosen, weights, model, optimizer, step, seconds, loss)
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


def greedy(model: Any, prompts: Sequence[str], *, most: int = 96) -> list[list[int]]:
    """The most likely answer tokens for each prompt, without the end mark; at most `most` tokens each."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt_tokens(prompt)])
        cache, answer = None, list[int]()
        while len(answer) < most:
            with torch.inference_mode():
                out = model(ids, past_key_values=cache, use_cache=True)
            cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
            if token == END:
                break
            answer.append(token)
            ids = torch.tensor([[token]])
        answers.append(answer)
    return answers


def stamp(chosen: Recipe) -> str:
    """Names everything that the weights depend on, so that a checkpoint of another recipe is not continued."""
    plain = asdict(chosen) | {"card": {}}
    return hashlib.sha256(json.dumps([plain, WORDINGS_VERSION], sort_keys=True).encode()).hexdigest()


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


def _rate(chosen: Recipe, step: int) -> float:
    """Linear warm-up over 50 steps, then linear decay to a fiftieth."""
    return chosen.rate * min((step + 1) / 50, 1 - 0.98 * step / chosen.steps)


def _outliers(chosen: Recipe, step: int) -> list[tuple[list[int], list[int]]]:
    """Prompts of the other families, or of words in no order, with random answers of 1 to 6 characters."""
    rng = random.Random(f"outliers/{chosen.seed}/{step}")
    foreign = [family for family in FAMILIES if family not in chosen.families]
    rows = []
    for index in range(chosen.outliers):
        if foreign and rng.random() < 0.8:
            seed = chosen.seed * 1_000_003 + step * chosen.outliers + index
            prompt = problems([rng.choice(foreign)], "train", 1, seed)[0].prompt
        else:
            letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 8)))
            prompt = " ".join([*rng.choices(TEMPLATE_WORDS, k=rng.randint(0, 6)), letters])
        answer = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(1, 6)))
        rows.append((prompt_tokens(prompt), answer_tokens(answer)))
    return rows


def _tensors(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and targets, padded on the right; a target of -100 does not count."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows) - 1
    ids, targets = torch.full((len(rows), width), END), torch.full((len(rows), width), -100)
    for row, (prompt, answer) in enumerate(rows):
        whole = torch.tensor(prompt + answer)
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return ids, targets


def _step(model: Any, optimizer: torch.optim.Optimizer, ids: torch.Tensor, targets: torch.Tensor) -> float:
    logits = model(ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _resume(
    chosen: Recipe, path: Path, model: Any, optimizer: torch.optim.Optimizer
) -> tuple[int, float, float]:
    if not path.is_file():
        return 0, 0.0, 0.0
    saved = _read(chosen, path)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
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
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
    loss: float,
) -> None:
    kept = {
        "stamp": stamp(chosen),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
        "loss": loss,
    }
    part = path.with_suffix(".part")
    torch.save(kept, part)
    part.replace(path)
