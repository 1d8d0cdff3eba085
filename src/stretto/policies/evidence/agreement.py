"""How likely a worker is to say what somebody has said before it: what tells that a worker has silently got worse."""

import math
from typing import Any

__all__ = ["expected", "signs"]


def signs(first: Any, second: Any, odds: Any) -> Any:
    """What the chance is read from, a row each: of the best and the next answer given so far, and of the worker, to be right."""
    import numpy as np

    t = np.clip(np.asarray(first, dtype=np.float64), 1e-3, 1 - 1e-3)
    v, odds = np.asarray(second, dtype=np.float64), np.asarray(odds, dtype=np.float64)
    right = 1 / (1 + np.exp(-odds))
    split = (v > 0).astype(np.float64)
    columns = [np.ones_like(t), t, np.log(t / (1 - t)), odds, right * t, v, right * v, split, split * odds]
    return np.stack(columns, axis=-1)


def expected(weights: Any, first: float, second: float, odds: float) -> float:
    """The chance that a healthy worker says again what was said, by the weights that were learned for it."""
    z = float(signs(first, second, odds) @ weights)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))
