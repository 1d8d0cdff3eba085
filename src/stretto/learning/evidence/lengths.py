"""How many times as long as usual each worker's reply to a prompt will be: ridge regressions of the log of tokens.

What a reply costs follows from its length and the worker's price, which the pool knows: `policies.evidence.lengths` puts both
together where a plan is priced.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stretto.artifacts import packed
from stretto.learning.evidence.matrices import Matrix
from stretto.learning.evidence.success import folds
from stretto.policies.evidence.lengths import MOST

if TYPE_CHECKING:
    from stretto.learning.evidence.training import Learned

__all__ = ["fit_lengths", "foretold", "lengths_data"]

PENALTY: Final = 300.0
"""Draws the weights towards none, so with few items every prompt gets the usual length. Flat from 30 to 300 on three sets."""

LEAST: Final = 50
"""Of a worker with fewer replies of known length nothing is learned."""


def fit_lengths(x: Any, tokens: Any) -> Any:
    """Weights (features and a constant, workers) of the log of how many times as long as usual a reply is; 1 in the mean.

    `tokens`: of each reply (items, workers), `nan` where it is not known.
    """
    wide = np.hstack([np.ones((len(x), 1)), x])
    penalty = np.full(wide.shape[1], PENALTY)
    penalty[0] = 1e-9
    weights = np.zeros((wide.shape[1], tokens.shape[1]))
    for k, column in enumerate(tokens.T):
        known = ~np.isnan(column)
        if known.sum() < LEAST:
            continue
        z = wide[known]
        found = np.linalg.solve(z.T @ z + np.diag(penalty), z.T @ np.log1p(column[known]))
        found[0] -= np.log(np.exp(z @ found).mean())
        weights[:, k] = found
    return weights


def lengths_data(x: Any, tokens: Any, seed: int = 0) -> dict[str, Any]:
    """As `policies.evidence.lengths.Lengths` reads it, or nothing where no worker's lengths can be foretold.

    Those of a worker count if their mean error on items of other folds is below that of its mean length.
    """
    fold = folds(len(x), seed=seed)
    better, usual = np.full(tokens.shape, np.nan), np.full(tokens.shape, np.nan)
    for f in range(int(fold.max()) + 1):
        at = fold == f
        known = ~np.isnan(tokens[~at])
        mean = np.where(known, tokens[~at], 0.0).sum(0) / np.maximum(known.sum(0), 1)
        weights = fit_lengths(x[~at], tokens[~at])
        times = np.clip(np.exp(x[at] @ weights[1:] + weights[0]), 1 / MOST, MOST)
        better[at], usual[at] = np.abs(mean * times - tokens[at]), np.abs(mean - tokens[at])
    gain = np.where(np.isnan(tokens), 0.0, usual - better).sum(0) > 0
    if not gain.any():
        return {}
    return {"weights": packed((fit_lengths(x, tokens) * gain).astype(np.float16))}


def foretold(learned: "Learned", data: Matrix) -> dict[str, Any]:
    """What an artefact of evidence tells of money before a call: `spent` (what asking cost on train at each price, cross-fitted,
    in calls of the best single worker) and, where the words of prompts count and tell it, `lengths`.
    """
    spent = learned.crossed.cost.mean(1) / (learned.unit or 1.0)
    found: dict[str, Any] = {"spent": [round(float(cost), 4) for cost in spent]}
    if learned.prompts.text is not None:
        train = [place for place, item in enumerate(data.items) if item.split == "train"]
        x = learned.prompts.text.matrix([data.items[place].prompt for place in train])
        tokens = np.expm1(data.tokens[np.ix_(train, [data.workers.index(w) for w in learned.workers])])
        if lengths := lengths_data(x, tokens):
            found["lengths"] = lengths
    return found
