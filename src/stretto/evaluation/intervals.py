"""Intervals: never a point estimate alone. Standard library only; every draw comes from a given seed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Interval", "paired_difference", "wilson"]

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def wilson(successes: float, trials: int) -> Interval:
    """A proportion with its Wilson score interval (Wilson 1927); `trials` must be positive."""
    if trials <= 0:
        raise ValueError("a proportion needs at least one trial")
    p, z2 = successes / trials, Z95 * Z95
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, draws: int = 4000
) -> Interval:
    """The mean of `a - b` over the same items, with the percentile interval of a paired bootstrap (Efron 1979)."""
    if len(a) != len(b) or not a:
        raise ValueError(f"paired samples must have the same, positive length; got {len(a)} and {len(b)}")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(draws))
    tail = int(0.025 * draws)
    return Interval(sum(differences) / n, means[tail], means[draws - 1 - tail])
