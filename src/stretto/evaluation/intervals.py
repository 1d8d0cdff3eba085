"""Intervals: never a point estimate alone. Standard library only; every draw comes from a given seed."""

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Interval", "clustered", "paired_difference", "wilson"]

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


def wilson(successes: float, trials: float) -> Interval:
    """A proportion with its Wilson score interval (Wilson 1927); `trials` must be positive."""
    if trials <= 0:
        raise ValueError("a proportion needs at least one trial")
    p, z2 = successes / trials, Z95 * Z95
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def clustered(outcomes: Sequence[tuple[Hashable, float]]) -> Interval:
    """A proportion of items some of which ask for the same thing: `(what for, score)`, such as a payload in several wordings.

    Wilson's interval with the effective number of items (Kish 1965): as many independent ones as would vary as these clusters do,
    no more than there are. Where all score alike, the number of clusters. Without a repetition this is `wilson`.
    """
    if not outcomes:
        raise ValueError("a proportion needs at least one trial")
    sums: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for key, score in outcomes:
        sums[key][0] += score
        sums[key][1] += 1
    n = len(outcomes)
    p = sum(score for _, score in outcomes) / n
    variance = sum((score - p * size) ** 2 for score, size in sums.values()) / n**2
    effective = min(n, p * (1 - p) / variance) if variance > 0 else len(sums)
    return wilson(p * effective, effective)


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
