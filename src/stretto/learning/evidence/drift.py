"""Learns how often each worker, while healthy, says what was said before it: the measure of the drift monitor."""

from typing import Any

import numpy as np

from stretto.learning.evidence.posterior import logistic
from stretto.policies.evidence.agreement import signs
from stretto.policies.evidence.beliefs import Beliefs, Posterior

__all__ = ["fit_agreement"]


def fit_agreement(
    posterior: Posterior,
    classes: Any,
    logits: Any,
    lengths: Any,
    there: Any = None,
    *,
    rounds: int = 4,
    seed: int = 0,
) -> Any:
    """Weights of `evidence.agreement` (workers, signs): from random sets of replies and a further one, on healthy items.

    What a set amounts to says what is to be expected of the next reply, however the set came about: so a policy that asks on
    just where it is unsure does not bias it. `there` (items, workers): who can be asked; `None`: everybody.
    """
    rng = np.random.default_rng(seed)
    items, workers = classes.shape
    rows: list[list[Any]] = [[] for _ in range(workers)]
    targets: list[list[Any]] = [[] for _ in range(workers)]
    for _ in range(rounds):
        size = rng.integers(1, workers, items)
        order = rng.random((items, workers)).argsort(1)
        asked = order < size[:, None]
        newcomer = (order == size[:, None]).argmax(1)
        if there is not None:
            asked = asked & there
        believed = Beliefs.after(posterior, classes, logits, asked, lengths)
        mine = classes[np.arange(items), newcomer]
        agrees = ((classes == mine[:, None]) & asked).any(1) & (mine >= 0)
        for k in range(workers):
            at = newcomer == k
            if there is not None:
                at = at & there[:, k] & asked.any(1)
            rows[k].append(signs(believed.first[at], believed.second[at], logits[at, k]))
            targets[k].append(agrees[at])
    penalty = np.full(signs(0.5, 0.0, 0.0).shape[-1], 3.0)
    penalty[0] = 1e-3
    return np.stack(
        [
            logistic(np.concatenate(rows[k]), np.concatenate(targets[k]).astype(float), penalty)
            for k in range(workers)
        ]
    )
