"""How long each worker's reply to a prompt will be, and so what it will cost: ridge regressions of the log of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stretto.types import PICO, Price

__all__ = ["Lengths", "costs"]


@dataclass
class Lengths:
    """`fit(x, tokens)` takes features (items, dimensions) and reply tokens (items, workers), `nan` for what is not known.

    `penalty` draws the weights towards none, so with few items every prompt gets the worker's usual length.
    """

    penalty: float = 100.0
    weights: Any = None
    spread: Any = None

    def fit(self, x: Any, tokens: Any) -> "Lengths":
        """Learn; returns itself. A worker of whom nothing is known is taken for one that writes nothing."""
        wide = np.hstack([np.ones((len(x), 1)), x])
        logs = np.log1p(tokens)
        weights, spread = [], []
        for column in logs.T:
            known = ~np.isnan(column)
            z, y = wide[known], column[known]
            gram = z.T @ z + self.penalty * np.eye(wide.shape[1])
            gram[0, 0] -= self.penalty - 1e-9
            found = np.linalg.solve(gram, z.T @ y)
            weights.append(found)
            spread.append(float(np.sqrt(np.mean((y - z @ found) ** 2))) if len(y) else 0.0)
        self.weights, self.spread = np.array(weights).T, np.array(spread)
        return self

    def logs(self, x: Any) -> Any:
        """The expected log of 1 + tokens."""
        return np.hstack([np.ones((len(x), 1)), x]) @ self.weights

    def predict(self, x: Any) -> Any:
        """Expected tokens (items, workers): of a log-normal length, so above the median one."""
        return np.maximum(np.exp(self.logs(x) + self.spread**2 / 2) - 1.0, 0.0)


def costs(prices: Sequence[Price], input_tokens: Any, output_tokens: Any) -> Any:
    """Expected USD (items, workers) of prompts of so many tokens and replies of so many."""
    per_input = np.array([p.input for p in prices]) / PICO
    per_output = np.array([p.output for p in prices]) / PICO
    return np.asarray(input_tokens)[:, None] * per_input + np.asarray(output_tokens) * per_output
