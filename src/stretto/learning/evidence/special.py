"""Two known policies as special cases of the sequential one: fewer asks are open, and the rest is learned and served as ever.

**By the question** (`by_question`): one worker is asked for a prompt, and nobody after it. Between two workers that is the
threshold of RouteLLM (Ong et al. 2024, arXiv 2406.18665): the strong one is asked if and only if what it is expected to gain on
this prompt is at least alpha. There alpha is set by hand, here it is the price: u times what the strong one costs more. Among
more workers it is a router by the text.

**In order** (`in_order`): the workers are asked one after the other, in the order of the shortlist, until the score of what has
been said is enough. That is the cascade of FrugalGPT (Chen, Zaharia and Zou 2023, arXiv 2305.05176), which seeks the thresholds
tau that bring the most for a budget: the answer after worker j stands if and only if g(q, a) >= tau_j. Here g is the posterior,
and tau_j brings the most at a price. Two things differ, since the posterior allows them: g sees earlier replies too, so agreement
counts; and the best answer so far goes out, which need not be the last one.

Both are solvers of a `Lattice` in the place of `lattice.solve`. What they leave in an artefact has the usual form: of two values
the greater one is followed, and where the one is a constant and the other the score, that is a threshold.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from stretto.learning.evidence.lattice import NEVER, Lattice, Solved, ridge
from stretto.learning.evidence.matrices import Matrix
from stretto.policies.evidence.beliefs import Posterior

__all__ = ["apart", "by_question", "in_order", "lattice_of", "thresholds"]

_BARRED: Final = -1.0
"""The value of an ask that is not open, beside a score: less than any score. (`NEVER` would take all precision from the values
that an artefact holds beside it.)"""

_SURE: Final = 1e-4
"""Scores count from here to one less this (`beliefs.view`)."""

_Solver = Callable[[Lattice, Sequence[float], bool], Solved]


def lattice_of(
    solver: _Solver,
    posteriors: Sequence[Posterior],
    fold: Any,
    data: Matrix,
    logits: Any,
    lengths: Any,
    after: Any,
) -> Lattice:
    """With `solver` bound, the `lattice_of` of `training.learn`. Raises `ValueError` where somebody was not asked everything."""
    if not data.there.all():
        raise ValueError("everybody has to have been asked every item")
    said = data.classes, logits, data.scores, data.costs
    return replace(Lattice.of(posteriors, fold, *said, lengths, after), solver=solver)


def apart(data: Matrix) -> Matrix:
    """The same where a reply without an answer counts as an answer that nobody else gave: for tables that hold only scores."""
    own = np.arange(len(data.workers))
    return replace(data, classes=np.where(data.classes < 0, own, data.classes))


def by_question(lattice: Lattice, prices: Sequence[float], rich: bool = False) -> Solved:
    """The values of asking each worker and nobody after it: the score that is expected of its answer to this prompt, less the
    price of what it usually costs.
    """
    solved = _closed(lattice, prices, rich)
    alone = lattice.score[[1 << k for k in range(lattice.workers)]]
    weights = ridge(lattice.seen(0, rich).astype(np.float64), alone.T.astype(np.float64))
    solved.weights[0][:, :, 1:] = weights
    solved.weights[0][:, 0, 1:] -= np.outer(prices, solved.paid)
    return solved


def in_order(lattice: Lattice, prices: Sequence[float], rich: bool = False) -> Solved:
    """The thresholds that bring the most on these items at each price, found from the last worker back to the first."""
    solved = _closed(lattice, prices, rich)
    score = 0.5 * lattice.first.astype(np.float64) + 0.5 * lattice.score
    per = np.asarray(prices, dtype=np.float64)[:, None]
    brought = np.broadcast_to(score[-1], (len(prices), score.shape[1]))
    for k in range(lattice.workers - 1, 0, -1):
        mask = (1 << k) - 1
        chance = np.clip(lattice.first[mask].astype(np.float64), _SURE, 1 - _SURE)
        further = brought - per * lattice.costs[:, k]
        found = np.array([_threshold(chance, score[mask], one) for one in further])
        # as `beliefs.bounded`: nothing gains more
        found = np.minimum(found, 1.0 - per[:, 0] * solved.paid[k])
        solved.weights[mask][:, 0, 1 + k] = found
        brought = np.where(chance >= found[:, None], score[mask], further)
    first = (brought - per * lattice.costs[:, 0]).mean(1)
    solved.weights[0][:, 0, 1:] = first[:, None] + _BARRED
    solved.weights[0][:, 0, 1] = first
    return solved


def thresholds(solved: Solved) -> Any:
    """Of `in_order` the tau of each price and stage: what an answer has to score to stand (prices, workers - 1)."""
    stages = range(1, len(solved.paid))
    return np.stack([solved.weights[(1 << k) - 1][:, 0, 1 + k] for k in stages], axis=1)


def _threshold(chance: Any, stop: Any, further: Any) -> float:
    """Going on below it and stopping from it on brings the most: between two scores, 0 (all stop) or 1 (all go on)."""
    order = np.argsort(chance, kind="stable")
    sure = chance[order]
    gain = np.concatenate([[0.0], np.cumsum((further - stop)[order])])
    gain[1:-1][sure[1:] == sure[:-1]] = -np.inf  # equal scores cannot be told apart
    best = int(gain.argmax())
    if best == 0:
        return 0.0
    return 1.0 if best == len(sure) else float(sure[best - 1] + sure[best]) / 2


def _closed(lattice: Lattice, prices: Sequence[float], rich: bool) -> Solved:
    """Values by which nobody is asked, and stopping is worth the score of what has been said."""
    solved = Solved({}, rich, tuple(prices), lattice.paid)
    for mask in range(1 << lattice.workers):
        regressors = lattice.seen(mask, rich).shape[1]
        weights = np.zeros((len(prices), regressors, 1 + lattice.workers))
        asked = [1 + k for k in range(lattice.workers) if mask >> k & 1]
        weights[:, 0, 1:] = _BARRED
        weights[:, 0, asked] = NEVER
        if mask:
            weights[:, 1, 0] = 1.0
        else:
            weights[:, 0, 0] = NEVER
        solved.weights[mask] = weights
    return solved
