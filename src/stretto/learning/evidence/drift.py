"""Learns how often each worker, while healthy, says what was said before it: the measure of the drift monitor."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from stretto.learning.evidence.lattice import Lattice
from stretto.learning.evidence.posterior import logistic
from stretto.policies.evidence.agreement import signs

__all__ = ["fit_agreement"]

_ROUNDS: Final = 4


def fit_agreement(lattice: Lattice, classes: Any, chosen: Any = (), *, seed: int = 0) -> Any:
    """Weights of `evidence.agreement` (workers, signs), from healthy items: a set of replies, and a further one.

    Sets by chance, so that all that may be met is known; and the sets after which the policy asks on, a table of choices
    (`lattice.choices`, of values that have not seen the item) a price. It asks on just where it doubts what it has read, so
    there replies agree less often than after sets by chance (mmlu_pro: .64, not .71).
    """
    items, workers = classes.shape
    rows: list[list[Any]] = [[] for _ in range(workers)]
    targets: list[list[Any]] = [[] for _ in range(workers)]
    for item, mask, newcomer in (*_by_chance(lattice, workers, seed), *_met(chosen, items)):
        asked = (mask[:, None] >> np.arange(workers) & 1).astype(bool)
        if lattice.there is not None:
            asked &= lattice.there[item]
        mine = classes[item, newcomer]
        agrees = ((classes[item] == mine[:, None]) & asked).any(1) & (mine >= 0)
        for k in range(workers):
            at = (newcomer == k) & asked.any(1)
            if lattice.there is not None:
                at &= lattice.there[item, k]
            first, second = lattice.first[mask[at], item[at]], lattice.second[mask[at], item[at]]
            rows[k].append(signs(first, second, lattice.logits[item[at], k]))
            targets[k].append(agrees[at])
    penalty = np.full(signs(0.5, 0.0, 0.0).shape[-1], 3.0)
    penalty[0] = 1e-3
    return np.stack(
        [
            logistic(np.concatenate(rows[k]), np.concatenate(targets[k]).astype(float), penalty)
            for k in range(workers)
        ]
    )


def _by_chance(lattice: Lattice, workers: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Of every item a set of workers by lot, its size uniform, and who is next."""
    rng = np.random.default_rng(seed)
    items = len(lattice.logits)
    for _ in range(_ROUNDS):
        size = rng.integers(1, workers, items)
        order = rng.random((items, workers)).argsort(1)
        mask = ((order < size[:, None]) << np.arange(workers)).sum(1)
        yield np.arange(items), mask, (order == size[:, None]).argmax(1)


def _met(chosen: Any, items: int) -> Iterator[tuple[Any, Any, Any]]:
    """The sets after which somebody was asked, and who that was."""
    for choice in chosen:
        item, mask = np.arange(items), np.zeros(items, dtype=np.int64)
        while len(item):
            picked = choice[mask, item].astype(np.int64)
            item, mask, picked = item[picked > 0], mask[picked > 0], picked[picked > 0] - 1
            second = mask > 0
            yield item[second], mask[second], picked[second]
            mask = mask | 1 << picked
