"""Learns `evidence.beliefs.Posterior`: one row an item, a random set of workers asked, and a candidate answer."""

from typing import Any

import numpy as np

from stretto.learning.evidence.trees import available, fit_trees
from stretto.policies.evidence.beliefs import EXCHANGEABLE, Linear, Posterior, candidates

__all__ = ["fit_posterior", "logistic", "rows_of", "said_best"]


def said_best(classes: Any, logits: Any, asked: Any, scores: Any, item: Any, number: Any) -> Any:
    """The score of each candidate: that of its best supporter's reply, which is what would be returned."""
    supports = (classes[item] == number[:, None]) & asked[item]
    speaker = np.where(supports, logits[item], -np.inf).argmax(1)
    return scores[item, speaker]


def rows_of(
    classes: Any,
    logits: Any,
    scores: Any,
    lengths: Any = None,
    after: Any = None,
    there: Any = None,
    *,
    identity: bool = True,
    rounds: int = 5,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Features and targets: the full set of workers of every item, and `rounds` random sets, their sizes uniform.

    `after`: the log-odds of workers once they have replied, where their replies tell how sure they were. `there` (items,
    workers): who can be asked; `None`: everybody.
    """
    rng = np.random.default_rng(seed)
    items, workers = classes.shape
    rows, targets = [], []
    for round_ in range(rounds + 1):
        size = rng.integers(1, workers + 1, items) if round_ else np.full(items, workers)
        asked = rng.random((items, workers)).argsort(1) < size[:, None]
        if there is not None:
            asked = asked & there
        odds = logits if after is None else np.where(asked, after, logits)
        features, item, number = candidates(classes, odds, asked, lengths, identity=identity)
        rows.append(features)
        targets.append(said_best(classes, odds, asked, scores, item, number))
    return np.concatenate(rows), np.concatenate(targets)


def fit_posterior(
    classes: Any,
    logits: Any,
    scores: Any,
    lengths: Any = None,
    after: Any = None,
    there: Any = None,
    *,
    identity: bool = True,
    exclusive: bool = True,
    trees: bool | None = None,
    seed: int = 0,
) -> Posterior:
    """Boosted trees, or with `trees` false (or without LightGBM) a logistic regression whose identity terms shrink more."""
    x, y = rows_of(classes, logits, scores, lengths, after, there, identity=identity, seed=seed)
    if available() if trees is None else trees:
        return Posterior(
            fit_trees(x, y, least=100 if len(classes) >= 1500 else 60, seed=seed), identity, exclusive
        )
    mean, deviation = x.mean(0), x.std(0)
    mean[0], deviation[0] = 0.0, 1.0
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    penalty = np.full(x.shape[1], 20.0)
    penalty[0] = 1e-3
    penalty[EXCHANGEABLE:] = 60.0
    return Posterior(
        Linear(logistic((x - mean) / deviation, y, penalty), mean, deviation), identity, exclusive
    )


def logistic(x: Any, y: Any, penalty: Any, steps: int = 12) -> Any:
    """Weights of a logistic regression with a quadratic penalty, by Newton's method; targets may lie between 0 and 1."""
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - y) + penalty * w
        curvature = (x.T * np.maximum(p * (1 - p), 1e-4)) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        w = w - step
        if np.abs(step).max() < 1e-5:
            break
    return w
