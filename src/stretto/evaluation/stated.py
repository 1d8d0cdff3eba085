"""How far what was stated is from what came true: the expected calibration error, and how much of it is luck."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["BINS", "Honesty", "honesty"]

BINS: Final = 10
_DRAWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Honesty:
    """Of `n` answers with a stated probability of being right: the expected calibration error in ten equal bins.

    `lucky`: the 95th percentile of the error that answers would have whose stated probabilities are exactly true. An error below
    that is no sign of a fault.
    """

    n: int
    error: float
    lucky: float


def honesty(stated: Sequence[float], score: Sequence[float], *, seed: int = 0) -> Honesty | None:
    """The calibration error of stated probabilities (0..1) against scores (0..1); `None` where nothing was stated."""
    import numpy as np

    if not stated:
        return None
    sure = np.array(stated, dtype=np.float64)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)

    def error(right: Any) -> float:
        return float(np.abs(np.bincount(place, sure - right, BINS)).sum() / len(sure))

    rng = np.random.default_rng(seed)
    drawn = [error((rng.random(len(sure)) < sure).astype(np.float64)) for _ in range(_DRAWS)]
    return Honesty(len(sure), error(np.array(score)), float(np.percentile(drawn, 95)))
