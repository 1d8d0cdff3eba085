"""Learns `policies.beliefs.Posterior`: one row an item, a random set of workers asked, and a candidate answer."""

from typing import Any

import numpy as np

from stretto.artifacts import packed
from stretto.policies.beliefs import Posterior, candidates

__all__ = ["data_of", "fit_posterior", "logistic", "said_best"]


def said_best(classes: Any, logits: Any, asked: Any, scores: Any) -> Any:
    """The score of each candidate (items, candidates): that of its best supporter's reply, which is what would be returned."""
    workers = classes.shape[1]
    supports = (classes[:, None, :] == np.arange(workers)[None, :, None]) & asked[:, None, :]
    speaker = np.where(supports, logits[:, None, :], -np.inf).argmax(2)
    return np.take_along_axis(scores, speaker, axis=1)


def fit_posterior(
    classes: Any,
    logits: Any,
    scores: Any,
    *,
    identity: bool = True,
    exclusive: bool = True,
    rounds: int = 5,
    shrink: float = 20.0,
    shrink_identity: float = 60.0,
    seed: int = 0,
) -> Posterior:
    """Fit on the full set of workers and on `rounds` random sets an item, sizes uniform. Identity terms shrink more."""
    rng = np.random.default_rng(seed)
    items, workers = classes.shape
    rows, targets = [], []
    for round_ in range(rounds + 1):
        size = rng.integers(1, workers + 1, items) if round_ else np.full(items, workers)
        asked = rng.random((items, workers)).argsort(1) < size[:, None]
        features, valid = candidates(classes, logits, asked, identity=identity)
        rows.append(features[valid])
        targets.append(said_best(classes, logits, asked, scores)[valid])
    x, y = np.concatenate(rows), np.concatenate(targets)
    mean, deviation = x.mean(0), x.std(0)
    mean[0], deviation[0] = 0.0, 1.0
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    penalty = np.full(x.shape[1], shrink)
    penalty[0] = 1e-3
    if identity:
        penalty[-workers:] = shrink_identity
    weights = logistic((x - mean) / deviation, y, penalty)
    return Posterior(weights, mean, deviation, exclusive)


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


def data_of(posterior: Posterior) -> dict[str, Any]:
    """The posterior as an artefact's data."""
    return {
        "weights": packed(posterior.weights),
        "mean": packed(posterior.mean),
        "deviation": packed(posterior.deviation),
        "exclusive": posterior.exclusive,
    }
