"""Two rounds in place of one ask after another: a first batch side by side, then one decision, and perhaps a second batch.

For latency (EVIDENCE.md section 2). Which batch comes first is one choice a price; whom to add is a regression for each larger
set, from what is seen after the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stretto.learning.evidence.lattice import Lattice, Walk, ridge

__all__ = ["MOST_ADDED", "MOST_FIRST", "Rounds", "solve_rounds", "walk_rounds"]

MOST_FIRST, MOST_ADDED = 3, 4
"""So many workers are in a batch at most."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """At one price: `first` is the batch to begin with, a mask; `added` are masks to choose from then, 0 (stop) the first.

    `weights` (added, regressors) give the worth of each from what is seen after the first batch.
    """

    first: int
    added: tuple[int, ...]
    weights: Any


def _spent(lattice: Lattice, masks: Sequence[int]) -> Any:
    """What each of some sets costs, items by sets."""
    chosen = np.array([[mask >> k & 1 for mask in masks] for k in range(lattice.workers)], dtype=np.float64)
    return lattice.costs @ chosen


def _realised(lattice: Lattice, first: int, added: Sequence[int], choice: Any, spent: Any) -> tuple[Any, Any]:
    """Score and cost of each item when `choice` says which set is added."""
    items = np.arange(len(choice))
    whole = np.array([first | a for a in added])[choice]
    return lattice.score[whole, items], _spent(lattice, [first])[:, 0] + spent[items, choice]


def solve_rounds(lattice: Lattice, prices: Sequence[float], *, rich: bool = False) -> list[Rounds]:
    """The best first batch at each price, by what it brings on these very items (few weights, so that hardly flatters it).

    Answers count half by their chance, as in `lattice.solve`.
    """
    lattice = replace(lattice, score=0.5 * lattice.first + 0.5 * lattice.score)
    workers = lattice.workers
    masks = range(1 << workers)
    found: list[tuple[float, Rounds]] = [(-np.inf, Rounds(1, (0,), None))] * len(prices)
    for first in masks:
        if not 1 <= first.bit_count() <= MOST_FIRST:
            continue
        added = (0, *(m for m in masks if m and not m & first and m.bit_count() <= MOST_ADDED))
        x = lattice.seen(first, rich).astype(np.float64)
        brings = lattice.score[[first | a for a in added]].T.astype(np.float64)
        spent = _spent(lattice, added)
        gain, loss = ridge(x, brings), ridge(x, spent)
        seen_gain, seen_loss = x @ gain, x @ loss
        for place, price in enumerate(prices):
            choice = np.where(lattice.settled(first), 0, (seen_gain - price * seen_loss).argmax(1))
            score, cost = _realised(lattice, first, added, choice, spent)
            worth = float((score - price * cost).mean())
            if worth > found[place][0]:
                found[place] = worth, Rounds(first, added, (gain - price * loss).T)
    return [rounds for _, rounds in found]


def walk_rounds(solved: Sequence[Rounds], lattice: Lattice, *, rich: bool = False) -> Walk:
    """What they bring, on items that need not be those they were learned on: a row a price."""
    scores, costs, calls, sure = [], [], [], []
    for rounds in solved:
        choice = (lattice.seen(rounds.first, rich) @ rounds.weights.T).argmax(1)
        choice = np.where(lattice.settled(rounds.first), 0, choice)
        score, cost = _realised(lattice, rounds.first, rounds.added, choice, _spent(lattice, rounds.added))
        scores.append(score)
        costs.append(cost)
        calls.append(rounds.first.bit_count() + np.array([a.bit_count() for a in rounds.added])[choice])
        stopped = np.array([rounds.first | a for a in rounds.added])[choice]
        sure.append(lattice.first[stopped, np.arange(len(choice))])
    return Walk(np.stack(scores), np.stack(costs), np.stack(calls), np.stack(sure))
