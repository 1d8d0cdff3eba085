"""What asking on and what verdicts are worth where replies cannot be compared: reckoned out, not regressed.

Where no reply can say the same as another, little is left to know: who was asked, and which replies a verifier was shown and
what it said. Every such state is gone through, from all verdicts down to nobody asked (4 to the power of the workers). How
hard the prompt is for all of them together is one hidden number: a rejected reply makes the next one doubtful, too. Arrays have
the items first. Numpy only, imported late.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from stretto.policies.evidence.pools import NEVER

__all__ = ["ACCEPTED", "HEARD", "MOST", "OPEN", "REJECTED", "Prospects", "hardness"]

OPEN, HEARD, ACCEPTED, REJECTED = range(4)
"""What is known of a worker's reply: it was not asked; it has replied; a verifier accepted that; rejected it."""

MOST: Final = 5
"""So many workers are gone through in less than 2 ms; each further one takes four times as long."""

_NODES: Final = 7
"""So many degrees of hardness stand for all."""

_FLATTER: Final = 0.346
"""A mean over hardness (a normal of deviation d) flattens log-odds as if they were divided by sqrt(1 + .346 d^2)."""


@cache
def hardness() -> tuple[Any, Any]:
    """Degrees of hardness, in deviations, and how likely each is: those of a Gauss-Hermite rule."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


@cache
def _states(workers: int) -> tuple[Any, Any, list[tuple[Any, Any, Any]]]:
    """What is known in each state (states, workers); and of each level, the last first, its states, and where a yes and a no of
    each worker lead: a verdict on a reply that was heard; the reply itself, either way, of who was not asked.
    """
    import numpy as np

    base = 4 ** np.arange(workers)
    known = (np.arange(4**workers)[:, None] // base) % 4
    level = (known > OPEN).sum(1) + (known > HEARD).sum(1)
    steps = []
    for number in range(2 * workers - 1, -1, -1):
        at = np.flatnonzero(level == number)
        yes = at[:, None] + base * (known[at] <= HEARD)
        steps.append((at, yes, yes + base * (known[at] == HEARD)))
    return base, known, steps


@dataclass(frozen=True, slots=True)
class Prospects:
    """Of some items, each where it is (`place`): the values and the chances of all states that may follow.

    `chance` (items, states, workers): that a reply is right; `value` (items, states): what the best way to go on brings, in
    points of 1. `costs`, `verdict`: the price of an ask and of a verdict, in the same.
    """

    chance: Any
    value: Any
    place: Any
    known: Any
    able: Any
    shown: Any
    costs: Any
    verdict: float
    rates: Any

    @classmethod
    def of(
        cls,
        odds: Any,
        known: Any,
        lift: Any,
        able: Any,
        shown: Any,
        costs: Sequence[float] | Any,
        verdict: float,
        rates: Any,
        spread: float,
    ) -> "Prospects":
        """All (items, workers), but for the last four.

        `odds`: the log-odds of the workers to be right, before anything was asked; `known`: what is known of each reply; `lift`:
        how much likelier a right reply looks like this one than a wrong one (1: it tells nothing); `able`: who may be asked yet;
        `shown`: whose reply may be shown to the verifier; `rates` (items, 2): its sensitivity and specificity; `spread`: the
        deviation of the hardness.
        """
        import numpy as np

        workers = odds.shape[1]
        base, states, steps = _states(workers)
        chance = _chances(odds, lift, rates, spread)
        value = np.where(states > OPEN, chance, 0.0).max(2)
        accepts = chance * (rates[:, :1] + rates[:, 1:] - 1)[:, None] + (1 - rates[:, 1:])[:, None]
        may = np.where(states == OPEN, able[:, None], shown[:, None] & (states == HEARD))
        paid = np.where(may, np.where(states == OPEN, costs, verdict), -NEVER)
        for at, yes, no in steps:
            then = value[:, no]
            then += accepts[:, at] * (value[:, yes] - then)
            value[:, at] = np.maximum(value[:, at], (then - paid[:, at]).max(2))
        return cls(chance, value, known @ base, known, able, shown, costs, verdict, rates)

    @property
    def sure(self) -> Any:
        """The chance of each worker's reply to be right (items, workers); of one that was not asked, the expected one."""
        return self.chance[range(len(self.place)), self.place]

    def worths(self) -> Any:
        """Of stopping (0), of asking worker k (1 + k), and of having its reply verified (1 + workers + k): a row an item."""
        import numpy as np

        rows, workers = np.arange(len(self.place)), self.known.shape[1]
        sure = self.sure
        found = np.full((len(rows), 1 + 2 * workers), NEVER)
        found[:, 0] = np.where(self.known > OPEN, sure, 0.0).max(1)
        for k in range(workers):
            after = self.place + 4**k  # past the last state only where it is not looked at
            last = self.value.shape[1] - 1
            ask = self.value[rows, np.minimum(after, last)] - self.costs[k]
            found[:, 1 + k] = np.where((self.known[:, k] == OPEN) & self.able[:, k], ask, NEVER)
            yes = self.accepts(k)
            both = self.value[rows, np.minimum(after, last)], self.value[rows, np.minimum(after + 4**k, last)]
            show = yes * both[0] + (1 - yes) * both[1] - self.verdict
            may = (self.known[:, k] == HEARD) & self.shown[:, k]
            found[:, 1 + workers + k] = np.where(may, show, NEVER)
        return found

    def accepts(self, worker: int) -> Any:
        """How likely the verifier accepts a worker's reply."""
        sure = self.sure[:, worker]
        return sure * self.rates[:, 0] + (1 - sure) * (1 - self.rates[:, 1])

    def after(self, worker: int) -> tuple[float, float]:
        """Of the first item: the chance of a reply that was heard, once it is accepted, and once it is rejected."""
        place = int(self.place[0]) + 4**worker
        return float(self.chance[0, place, worker]), float(self.chance[0, place + 4**worker, worker])


def _chances(odds: Any, lift: Any, rates: Any, spread: float) -> Any:
    """Of each item and state the chance of every worker's reply, over all degrees of hardness."""
    import numpy as np

    nodes, weights = hardness()
    items, workers = odds.shape
    eased = odds * math.sqrt(1 + _FLATTER * spread**2)
    right = 1 / (1 + np.exp(-(eased[:, :, None] + spread * nodes)))  # items, workers, degrees
    yes, no = rates[:, :1, None], rates[:, 1:, None]
    one = np.ones_like(right)
    told = lift[:, :, None] * right
    good = np.stack([right, told, told * yes, told * (1 - yes)], axis=2)
    bad = np.stack([one - right, one - right, (1 - right) * (1 - no), (1 - right) * no], axis=2)
    total = good + bad  # items, workers, what is known, degrees
    share = good / total
    weight = np.broadcast_to(weights, (items, 1, len(nodes)))
    for k in range(workers):
        weight = (total[:, k, :, None] * weight[:, None]).reshape(items, -1, len(nodes))
    weight = weight / weight.sum(2, keepdims=True)
    found = np.empty((items, 4**workers, workers))
    for k in range(workers):  # the states by what is known of worker k
        wide = weight.reshape(items, -1, 4, 4**k, len(nodes))
        found[:, :, k] = np.einsum("ihsld,isd->ihsl", wide, share[:, k]).reshape(items, -1)
    return found
