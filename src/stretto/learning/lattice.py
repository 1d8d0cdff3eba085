"""When to stop and whom to ask next: regressed values over all subsets of a shortlist, solved from the full set down.

The subset of workers asked so far is a bit mask. With K <= 10 workers there are at most 1,024 of them (EVIDENCE.md section 2,
stage 3).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stretto.policies.beliefs import Beliefs, Posterior, view, views

__all__ = ["Lattice", "Solved", "Walk", "solve", "walk"]


_NEVER = -1e6
"""The value of what cannot be done: to stop with nothing, to ask the same worker again."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Of every subset and item: chance of the best answer, of the runner-up, and the score that stopping there brings."""

    first: Any
    second: Any
    score: Any
    logits: Any
    costs: Any

    @classmethod
    def of(cls, posteriors: Any, fold: Any, classes: Any, logits: Any, scores: Any, costs: Any) -> "Lattice":
        """`posteriors[f]` judges the items of fold f, which it has not seen. The empty subset stops with nothing: score 0."""
        items, workers = classes.shape
        first = np.zeros((1 << workers, items), dtype=np.float32)
        second, score = np.zeros_like(first), np.zeros_like(first)
        for mask in range(1, 1 << workers):
            bits = np.array([mask >> k & 1 for k in range(workers)], dtype=bool)
            for number, posterior in enumerate(posteriors):
                at = fold == number
                believed = _after(posterior, classes[at], logits[at], bits)
                first[mask, at], second[mask, at] = believed.first, believed.second
                score[mask, at] = scores[at, :][np.arange(int(at.sum())), believed.speaker]
        return cls(first, second, score, logits, costs)

    def only(self, at: Any) -> "Lattice":
        """The same for some of the items."""
        return Lattice(
            self.first[:, at], self.second[:, at], self.score[:, at], self.logits[at], self.costs[at]
        )

    def seen(self, mask: int, rich: bool) -> Any:
        """The regressors of a subset, a row an item."""
        if mask == 0:
            return views(self.logits)
        return view(self.first[mask], self.second[mask], self.logits, rich=rich)


def _after(posterior: Posterior, classes: Any, logits: Any, bits: Any) -> Beliefs:
    asked = np.broadcast_to(bits, classes.shape)
    return Beliefs.after(posterior, classes, logits, asked)


@dataclass(frozen=True, slots=True)
class Solved:
    """Of every subset the weights of its values: column 0 is stopping, column 1 + k is asking worker k."""

    weights: dict[int, Any]
    rich: bool
    price: float

    def choices(self, lattice: Lattice, mask: int) -> Any:
        """What is chosen for each item: 0 to stop, 1 + k to ask worker k."""
        return (lattice.seen(mask, self.rich) @ self.weights[mask]).argmax(1)


@dataclass(frozen=True, slots=True)
class Walk:
    """What following the choices brings from a subset on, an item each: score, money, calls."""

    score: Any
    cost: Any
    calls: Any


def _walk(solved: Solved, lattice: Lattice, mask: int, later: dict[int, Walk]) -> Walk:
    workers = lattice.logits.shape[1]
    choice = solved.choices(lattice, mask)
    score = lattice.score[mask].astype(np.float64).copy()
    cost, calls = np.zeros_like(score), np.zeros_like(score)
    for k in range(workers):
        at = choice == k + 1
        if at.any():
            then = later[mask | 1 << k]
            score[at], calls[at] = then.score[at], then.calls[at] + 1
            cost[at] = then.cost[at] + lattice.costs[at, k]
    return Walk(score, cost, calls)


def _downwards(workers: int) -> list[int]:
    return sorted(range(1 << workers), key=lambda m: -m.bit_count())


def solve(lattice: Lattice, price: float, *, rich: bool = False, ridge: float = 5.0) -> Solved:
    """The values at a price: how much score one dollar is worth. Realised returns are handed down, not fitted ones.

    Stopping is regressed on half the chance and half the score, which varies less on small sets. It is never chosen
    before anybody was asked.
    """
    workers = lattice.logits.shape[1]
    solved = Solved({}, rich, price)
    later: dict[int, Walk] = {}
    for mask in _downwards(workers):
        x = lattice.seen(mask, rich).astype(np.float64)
        targets = np.zeros((len(x), workers + 1))
        targets[:, 0] = 0.5 * lattice.first[mask] + 0.5 * lattice.score[mask]
        for k in range(workers):
            if not mask >> k & 1:
                then = later[mask | 1 << k]
                targets[:, k + 1] = then.score - price * (then.cost + lattice.costs[:, k])
        gram = x.T @ x + ridge * np.eye(x.shape[1])
        gram[0, 0] -= ridge  # the constant is free
        weights = np.linalg.solve(gram, x.T @ targets)
        barred = [0] if mask == 0 else [k + 1 for k in range(workers) if mask >> k & 1]
        weights[:, barred] = 0.0
        weights[0, barred] = _NEVER
        solved.weights[mask] = weights
        later[mask] = _walk(solved, lattice, mask, later)
    return solved


def walk(solved: Solved, lattice: Lattice) -> Walk:
    """Follow the choices from the start, on items that need not be those they were learned on."""
    later: dict[int, Walk] = {}
    for mask in _downwards(lattice.logits.shape[1]):
        later[mask] = _walk(solved, lattice, mask, later)
    return later[0]
