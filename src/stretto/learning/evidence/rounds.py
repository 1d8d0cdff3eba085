"""Two rounds in place of one ask after another: a first batch side by side, then one decision, and perhaps a second batch.

For latency (EVIDENCE.md section 2). Which of a few batches comes first is read from what is known of a prompt before anybody was
asked; whom to add is a regression for each larger set, from what is seen after the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stretto.learning.evidence.lattice import Lattice, Walk, ridge

__all__ = ["MOST_ADDED", "MOST_BATCHES", "MOST_FIRST", "Batch", "Rounds", "solve_rounds", "walk_rounds"]

MOST_FIRST, MOST_ADDED = 3, 4
"""So many workers are in a batch at most."""

MOST_BATCHES = 4
"""Between so many first batches is chosen at each price: twelve bring little more, and fill an artefact."""

_ENOUGH = 100
"""So many items have to have all workers of a first batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`first` is a batch to begin with, a mask; `added` are masks to choose from then, 0 (stop) the first.

    `weights` (added, regressors) give the worth of each from what is seen after the first batch.
    """

    first: int
    added: tuple[int, ...]
    weights: Any


@dataclass(frozen=True, slots=True)
class Rounds:
    """At one price: `batches` to begin with, and `weights` (regressors, batches) of their worth from what is known beforehand."""

    batches: tuple[Batch, ...]
    weights: Any


@dataclass(frozen=True, slots=True)
class _Tried:
    """A first batch on all items: where all of it is there, and at each price its `worth` there (nan elsewhere), and the rest."""

    rows: Any
    worth: Any
    batches: Sequence[Batch]


def _spent(lattice: Lattice, masks: Sequence[int]) -> Any:
    """What each of some sets costs, items by sets."""
    return lattice.costs @ _chosen(lattice, masks).T.astype(np.float64)


def _chosen(lattice: Lattice, masks: Any) -> Any:
    """Who is in each of some sets (sets, workers)."""
    return np.asarray(masks, dtype=np.int64)[:, None] >> np.arange(lattice.workers) & 1 > 0


def _whole(lattice: Lattice, masks: Sequence[int]) -> Any:
    """Whether all of each of some sets can be asked, items by sets."""
    if lattice.there is None:
        return np.ones((len(lattice.logits), len(masks)), dtype=bool)
    missing = (~lattice.there).astype(np.float64) @ _chosen(lattice, masks).T.astype(np.float64)
    return missing == 0


def _realised(lattice: Lattice, batch: Batch, choice: Any) -> tuple[Any, Any]:
    """Score and cost of each item when `choice` says which set is added."""
    items = np.arange(len(choice))
    whole = (batch.first | np.array(batch.added))[choice]
    return lattice.score[whole, items], (lattice.costs * _chosen(lattice, whole)).sum(1)


def _added(lattice: Lattice, batch: Batch, rich: bool) -> Any:
    """Which set each item has added: the worthiest that can be asked, none where the answer is settled."""
    worth = lattice.seen(batch.first, rich) @ batch.weights.T
    worth = np.where(_whole(lattice, batch.added), worth, -np.inf)
    return np.where(lattice.settled(batch.first), 0, worth.argmax(1))


def _tried(lattice: Lattice, first: int, prices: Sequence[float], rich: bool) -> _Tried | None:
    """What a first batch brings on these very items (few weights, so that hardly flatters it); `None`: too few have it whole."""
    rows = _whole(lattice, [first])[:, 0]
    if rows.sum() < min(_ENOUGH, len(rows)):
        return None
    part = lattice if rows.all() else lattice.only(rows)
    masks = range(1, 1 << lattice.workers)
    added = (0, *(m for m in masks if not m & first and m.bit_count() <= MOST_ADDED))
    x = part.seen(first, rich).astype(np.float64)
    gain = ridge(x, part.score[[first | a for a in added]].T.astype(np.float64))
    loss = ridge(x, _spent(part, added))
    batches = [Batch(first, added, (gain - price * loss).T) for price in prices]
    worth = np.full((len(prices), len(rows)), np.nan)
    for place, (price, batch) in enumerate(zip(prices, batches, strict=True)):
        score, cost = _realised(part, batch, _added(part, batch, rich))
        worth[place, rows] = score - price * cost
    return _Tried(rows, worth, batches)


def solve_rounds(lattice: Lattice, prices: Sequence[float], *, rich: bool = False) -> list[Rounds]:
    """The few first batches between which it pays to choose at each price, and how.

    Answers count half by their chance, as in `lattice.solve`. A batch is considered where all of it can be asked; there is none
    where the lattice says by itself whom to ask (`Lattice.solver`).
    """
    if lattice.solver is not None:
        return [Rounds((), np.zeros((lattice.seen(0, rich).shape[1], 0)))] * len(prices)
    lattice = replace(lattice, score=0.5 * lattice.first + 0.5 * lattice.score)
    firsts = [m for m in range(1, 1 << lattice.workers) if m.bit_count() <= MOST_FIRST]
    tried = [one for first in firsts if (one := _tried(lattice, first, prices, rich)) is not None]
    x = lattice.seen(0, rich).astype(np.float64)
    weights = np.stack([ridge(x[one.rows], one.worth[:, one.rows].T) for one in tried])
    whole = np.stack([one.rows for one in tried], axis=1)
    found = []
    for place in range(len(prices)):
        expected = np.where(whole, x @ weights[:, :, place].T, -np.inf)
        mean = [float(np.nanmean(one.worth[place])) if one.rows.all() else -np.inf for one in tried]
        chosen = _few(expected, int(np.argmax(mean)))
        batches = tuple(tried[k].batches[place] for k in chosen)
        found.append(Rounds(batches, weights[chosen, :, place].T))
    return found


def _few(expected: Any, begin: int) -> list[int]:
    """The columns whose best one is worth most in the mean, found greedily from one that is always there."""
    chosen = [begin]
    best = expected[:, begin]
    while len(chosen) < MOST_BATCHES:
        means = np.maximum(expected, best[:, None]).mean(0)
        one = int(means.argmax())
        if means[one] <= best.mean():
            break
        chosen.append(one)
        best = np.maximum(best, expected[:, one])
    return chosen


def walk_rounds(solved: Sequence[Rounds], lattice: Lattice, *, rich: bool = False) -> Walk:
    """What they bring, on items that need not be those they were learned on: a row a price."""
    items = len(lattice.logits)
    score, cost, calls, sure = (np.zeros((len(solved), items)) for _ in range(4))
    seen = lattice.seen(0, rich)
    for place, rounds in enumerate(solved):
        able = _whole(lattice, [batch.first for batch in rounds.batches])
        picked = np.where(able, seen @ rounds.weights, -np.inf).argmax(1)
        for number, batch in enumerate(rounds.batches):
            at = np.flatnonzero(picked == number)
            part = lattice.only(at)
            choice = _added(part, batch, rich)
            score[place, at], cost[place, at] = _realised(part, batch, choice)
            stopped = (batch.first | np.array(batch.added))[choice]
            calls[place, at] = _chosen(lattice, stopped).sum(1)
            sure[place, at] = part.first[stopped, np.arange(len(at))]
    return Walk(score, cost, calls, sure)
