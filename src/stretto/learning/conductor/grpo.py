"""Learning from rewards: GRPO (Shao et al. 2024) as the Conductor uses it, and filtered fine-tuning, for any causal model.

Rewards are compared within a group of workflows for one prompt; no value model, no KL term. Workflows of one group that are equal
token by token go through the model once, with their count as weight: the sum is the same.
Needs the `train` extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from stretto.learning.conductor.model import Row, Written, log_probabilities

__all__ = ["Sample", "Stepped", "advantages", "filtered_step", "grpo_step", "samples_of"]

CLIP: Final = 0.2
"""How far the probability of a token may move from where it was sampled before it counts no more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled workflow that moves the model: prompt and written tokens, their log-probabilities when sampled, what it is
    worth against its group, and how often it was sampled."""

    row: Row
    chances: tuple[float, ...]
    advantage: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did: the loss, the share of tokens that were clipped, the samples that counted."""

    loss: float
    clipped: float
    samples: int


def advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward's distance from the group's mean in standard deviations; all 0 where the group is of one mind."""
    mean = sum(rewards) / len(rewards)
    deviation = (sum((reward - mean) ** 2 for reward in rewards) / len(rewards)) ** 0.5
    if deviation < 1e-6:
        return [0.0] * len(rewards)
    return [(reward - mean) / deviation for reward in rewards]


def samples_of(prompt: list[int], written: Sequence[Written], worth: Sequence[float]) -> list[Sample]:
    """The samples of one group, equal ones once; those that are worth nothing are left out."""
    found: dict[tuple[int, ...], Sample] = {}
    for each, advantage in zip(written, worth, strict=True):
        if advantage == 0.0:
            continue
        key = tuple(each.tokens)
        times = found[key].times + 1 if key in found else 1
        found[key] = Sample((prompt, each.tokens), tuple(each.chances), advantage, times)
    return list(found.values())


def grpo_step(
    model: Any, optimizer: Any, samples: Sequence[Sample], *, end: int, group: int, together: int = 12
) -> Stepped:
    """One step on the clipped objective: the mean over `group` samples of the mean over their tokens.

    `group` counts all that were sampled, those without an advantage too. Without samples nothing moves.
    """
    if not samples:
        return Stepped(0.0, 0.0, 0)
    optimizer.zero_grad(set_to_none=True)
    loss, clipped, tokens = 0.0, 0.0, 0
    ordered = sorted(samples, key=lambda sample: len(sample.row[0]) + len(sample.row[1]))
    for start in range(0, len(ordered), together):
        part = ordered[start : start + together]
        now, owner = log_probabilities(model, [sample.row for sample in part], end)
        before = torch.tensor([c for sample in part for c in sample.chances], device=now.device)
        worth = torch.tensor([sample.advantage for sample in part], device=now.device)[owner]
        weight = torch.tensor(
            [sample.times / len(sample.chances) / group for sample in part], device=now.device
        )[owner]
        ratio = torch.exp(now - before)
        kept = torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
        gained = torch.minimum(ratio * worth, kept * worth)
        piece = -(weight * gained).sum()
        piece.backward()
        loss += float(piece.detach())
        clipped += float((gained < ratio * worth).sum())
        tokens += len(now)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return Stepped(loss, clipped / tokens, len(samples))


def filtered_step(
    model: Any, optimizers: Sequence[Any], rows: Sequence[tuple[Row, int]], *, end: int, together: int = 12
) -> float:
    """One step that makes these rows likelier, each counted so often: the mean loss over their tokens."""
    if not rows:
        return 0.0
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    ordered = sorted(rows, key=lambda row: len(row[0][0]) + len(row[0][1]))
    tokens = sum(len(row[1]) * times for row, times in ordered)
    total = 0.0
    for start in range(0, len(ordered), together):
        part = ordered[start : start + together]
        found, owner = log_probabilities(model, [row for row, _ in part], end)
        times = torch.tensor([float(count) for _, count in part], device=found.device)[owner]
        loss = -(found * times).sum() / tokens
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return total
