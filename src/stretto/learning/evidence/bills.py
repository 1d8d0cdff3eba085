"""What each worker is expected to cost on a prompt: ridge regressions of its costs over the prompt's features."""

from typing import Any, Final

import numpy as np

from stretto.learning.evidence.lattice import ridge
from stretto.policies.evidence.odds import bills

__all__ = ["bills_of", "fit_bills", "foretold"]

PENALTY: Final = 300.0
"""Draws what is expected towards a worker's usual cost: with few items every prompt costs the same."""


def fit_bills(x: Any, costs: Any, there: Any) -> Any:
    """Weights (a constant and the features, workers) of costs in units of each worker's mean one, where it was asked (`there`).

    A worker that costs nothing, or was hardly asked, is expected to cost its usual.
    """
    wide = np.hstack([np.ones((len(x), 1)), x])
    weights = np.zeros((wide.shape[1], costs.shape[1]))
    weights[0] = 1.0
    for k in range(costs.shape[1]):
        at = there[:, k]
        if at.sum() > 1 and (usual := costs[at, k].mean()) > 0:
            weights[:, k] = ridge(wide[at], costs[at, k] / usual, PENALTY)
    return weights


def bills_of(x: Any, costs: Any, there: Any, fold: Any) -> tuple[Any, Any]:
    """The weights of all items, and what each worker was expected to cost on each item by those of other folds."""
    found = np.empty(costs.shape)
    for number in range(int(fold.max()) + 1):
        at = fold == number
        found[at] = foretold(x[at], fit_bills(x[~at], costs[~at], there[~at]))
    return fit_bills(x, costs, there), found


def foretold(x: Any, weights: Any) -> Any:
    """What each worker is expected to cost on prompts with features `x`, in its usual costs."""
    return bills(x @ weights[1:] + weights[0])
