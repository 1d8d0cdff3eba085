"""The planner as a language model: a tiny Llama over the sparring vocabulary, and batched sampling from any causal model.

What the training needs of a model is little: `model(input_ids=..., attention_mask=...).logits` as of transformers, and a
`Tongue`, which turns prompts into tokens and tokens into text. So the same code trains the tiny planner and a Qwen2 of 7B.
Needs the `train` extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

from stretto.learning.muon import Muon
from stretto.sparring.vocabulary import END, SIZE, answer_tokens, decode, prompt_tokens

__all__ = [
    "CONTEXT",
    "HEADS",
    "Row",
    "Shape",
    "SparringTongue",
    "Tongue",
    "Written",
    "log_probabilities",
    "new_model",
    "optimizers",
    "padded",
    "sample",
]

CONTEXT: Final = 2048
"""Tokens the tiny planner takes without an error. What it has learned from is below 300."""

HEADS: Final = 4

Row = tuple[list[int], list[int]]
"""The tokens of a prompt and of what is written after it, the end mark included."""


class Tongue(Protocol):
    """How a model reads and writes."""

    @property
    def end(self) -> int:
        """The token that ends what is written; also the padding."""
        ...

    def reads(self, prompt: str) -> list[int]:
        """The tokens of one user message, up to where the model begins to write."""
        ...

    def writes(self, text: str) -> list[int]:
        """The tokens of a text that the model shall write, the end included."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of written tokens, up to the end."""
        ...


class SparringTongue:
    """The sparring vocabulary: template words are single tokens, all else is bytes."""

    end = END

    def reads(self, prompt: str) -> list[int]:
        """See `Tongue`."""
        return prompt_tokens(prompt)

    def writes(self, text: str) -> list[int]:
        """See `Tongue`."""
        return answer_tokens(text, in_words=True)

    def text(self, tokens: Sequence[int]) -> str:
        """See `Tongue`."""
        return decode(tokens).strip()


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a tiny planner: 0.65 million parameters, those of a specialist."""

    width: int = 128
    layers: int = 3
    inner: int = 352


def new_model(shape: Shape) -> Any:
    """A planner with random weights, from torch's own generator."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZE,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=None,
        )
    )


def optimizers(model: Any, rate: float, adam: float) -> tuple[Any, ...]:
    """Muon at `rate` for the matrices inside the model, AdamW at `adam` for its embedding and norms."""
    inner = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name}
    outer = [p for name, p in model.named_parameters() if name not in inner]
    return (
        Muon(inner.values(), lr=rate),
        torch.optim.AdamW(outer, lr=adam, betas=(0.9, 0.98), weight_decay=0.01),
    )


# --- reading -------------------------------------------------------------------------------------------------------


def padded(part: Sequence[Row], end: int) -> tuple[Any, Any]:
    """Token ids and targets, padded on the right; a target of -100 does not count."""
    width = max(len(prompt) + len(answer) for prompt, answer in part) - 1
    ids, targets = torch.full((len(part), width), end), torch.full((len(part), width), -100)
    for row, (prompt, answer) in enumerate(part):
        whole = torch.tensor(prompt + answer)
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return ids, targets


def log_probabilities(model: Any, part: Sequence[Row], end: int) -> tuple[Any, Any]:
    """Of every written token its log-probability, and the row that it belongs to; both flat.

    The head is applied only where something is written. What is padded stands on the right, where causal attention does not look.
    """
    ids, targets = padded(part, end)
    device = next(model.parameters()).device
    ids, targets = ids.to(device), targets.to(device)
    counted = targets != -100
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[counted]).float()
    found = -torch.nn.functional.cross_entropy(logits, targets[counted], reduction="none")
    return found, counted.nonzero()[:, 0]


# --- writing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What was sampled after one prompt: its tokens, the end too if it came, and their log-probabilities at temperature 1."""

    tokens: list[int]
    chances: list[float]


class _Room(DynamicLayer):  # type: ignore[misc]
    """A layer's cache with room made once: growing it token by token copies it every time, which costs more than the model."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.filled = room, 0

    def update(self, keys: Any, values: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Put these behind what is there; all there is now."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            shape = (keys.shape[0], keys.shape[1], self.room, keys.shape[3])
            self.keys, self.values = keys.new_empty(shape), values.new_empty(shape)
        upto = self.filled + keys.shape[2]
        self.keys[:, :, self.filled : upto] = keys
        self.values[:, :, self.filled : upto] = values
        self.filled = upto
        return self.keys[:, :, :upto], self.values[:, :, :upto]

    def get_seq_length(self) -> int:
        """How many tokens are held."""
        return self.filled

    def keep(self, rows: Any) -> None:
        """Only these rows, in this order; a row may be given again."""
        for name in ("keys", "values"):
            before = getattr(self, name)
            fresh = before.new_empty((len(rows), *before.shape[1:]))
            fresh[:, :, : self.filled] = before[rows, :, : self.filled]
            setattr(self, name, fresh)


def sample(
    model: Any,
    tongue: Tongue,
    prompts: Sequence[str],
    *,
    most: int,
    times: int = 1,
    temperature: float = 1.0,
    generator: Any = None,
    together: int = 256,
) -> list[list[Written]]:
    """For each prompt, `times` things the model writes after it, of at most `most` tokens; temperature 0 takes the likeliest.

    What begins alike is written once, until it differs: a planner that is sure of all but whom to ask writes little more than
    one text a prompt. `together` texts are sampled at a time. Equal generators give equal samples.
    """
    read = [tongue.reads(prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda place: (len(read[place]), place))
    size = max(1, together // times)
    out: dict[int, list[Written]] = {}
    for start in range(0, len(order), size):
        part = order[start : start + size]
        found = _sampled(
            model, tongue.end, [read[place] for place in part], most, times, temperature, generator
        )
        for number, place in enumerate(part):
            out[place] = found[number * times : (number + 1) * times]
    return [out[place] for place in range(len(prompts))]


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _sampled(
    model: Any,
    end: int,
    prompts: list[list[int]],
    most: int,
    times: int,
    temperature: float,
    generator: Any,
) -> list[Written]:
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(p)) + p for p in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    at = torch.tensor([len(p) for p in prompts], device=device)
    cache = DynamicCache()
    cache.layers = [_Room(width + most) for _ in range(model.config.num_hidden_layers)]
    logits = model(
        input_ids=ids,
        attention_mask=seen,
        position_ids=(seen.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    # a row is a beginning; `owner` says of every text that is still written which row it is, `texts` which text that is
    rows: list[Written] = [Written([], []) for _ in prompts]
    owner = torch.arange(len(prompts), device=device).repeat_interleave(times)
    texts = list(range(len(owner)))
    done: dict[int, Written] = {}
    for count in range(most):
        spread = torch.log_softmax(logits.float(), -1)
        if temperature == 0:
            chosen = spread.argmax(-1)[owner]
        else:
            weights = torch.softmax(logits.float() / temperature, -1)
            chosen = torch.multinomial(weights[owner], 1, generator=generator)[:, 0]
        keys, inverse = torch.unique(owner * spread.shape[1] + chosen, return_inverse=True)
        parents, tokens = keys // spread.shape[1], keys % spread.shape[1]
        said = spread[parents, tokens].tolist()
        rows = [
            Written([*rows[parent].tokens, token], [*rows[parent].chances, chance])
            for parent, token, chance in zip(parents.tolist(), tokens.tolist(), said, strict=True)
        ]
        going = (tokens != end).nonzero()[:, 0]
        if count + 1 == most:
            going = going[:0]
        ends = set(range(len(rows))) - set(going.tolist())
        left = []
        for text, row in zip(texts, inverse.tolist(), strict=True):
            if row in ends:
                done[text] = rows[row]
            else:
                left.append((text, row))
        if not left:
            break
        place = {row: number for number, row in enumerate(going.tolist())}
        texts, owner = (
            [text for text, _ in left],
            torch.tensor([place[row] for _, row in left], device=device),
        )
        rows, parents, tokens = [rows[row] for row in going.tolist()], parents[going], tokens[going]
        if len(parents) != len(seen) or bool((parents != torch.arange(len(seen), device=device)).any()):
            seen, at = seen[parents], at[parents]
            for layer in cache.layers:
                layer.keep(parents)
        seen = torch.cat([seen, seen.new_ones((len(seen), 1))], 1)
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=seen,
            position_ids=at[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        at = at + 1
    return [done[text] for text in range(len(done))]
