"""Does what was promoted keep its promise? A test that may be looked at after every outcome without being fooled by looking.

Evidence against "the mean is at least so much" is a bet on each outcome: what the bets have won is a martingale while the promise
holds, so it passes 1 / alpha with a chance of at most alpha, ever (Ville 1939; Waudby-Smith and Ramdas 2024).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Kept", "kept"]

_BETS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of what a bet may stake; the evidence is their mean, so none has to be chosen."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`broken`: the promise is refuted. `against`: the odds against it, at their highest; `mean` of `n` outcomes."""

    broken: bool
    against: float
    n: int
    mean: float


def kept(
    outcomes: Iterable[float], promised: float, *, low: float = 0.0, high: float = 1.0, alpha: float = 0.05
) -> Kept:
    """Whether outcomes between `low` and `high`, in the order they came, refute that their mean is at least `promised`.

    At whatever moment it is asked: a promise that holds is called broken with a chance of at most `alpha` over all time.
    """
    if not low <= promised <= high:
        raise ValueError(f"what was promised lies between {low} and {high}, not at {promised}")
    wealth = [0.0] * len(_BETS)
    highest, n, total = 0.0, 0, 0.0
    room = max(high - promised, 1e-12)  # where the most was promised, the first outcome below it refutes that
    for x in outcomes:
        n, total = n + 1, total + x
        for place, share in enumerate(_BETS):
            wealth[place] += math.log(max(1e-12, 1 + share / room * (promised - x)))
        top = max(wealth)
        highest = max(highest, top + math.log(sum(math.exp(w - top) for w in wealth) / len(wealth)))
    odds = math.exp(min(700.0, highest))
    return Kept(odds >= 1 / alpha, odds, n, total / n if n else math.nan)
