"""Which price may be served: a fixed-sequence test that the loss against the best single worker stays under a margin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Certificate", "certify"]

_Z: dict[float, float] = {0.90: 1.2816, 0.95: 1.6449, 0.99: 2.3263}


@dataclass(frozen=True, slots=True)
class Certificate:
    """`u` is the cheapest certified price, `None` if there is none or what is certified is dearer: then keep the best single.

    `bound`: with the asked-for confidence the loss is not above this (points of 1). `tested`: (u, mean difference, bound).
    """

    u: float | None
    bound: float
    cost: float
    tested: tuple[tuple[float, float, float], ...]
    reason: str


def certify(
    walks: Sequence[tuple[float, Any, Any]],
    base_score: Any,
    base_cost: Any,
    *,
    margin: float = 0.01,
    confidence: float = 0.95,
    least: int = 300,
) -> Certificate:
    """Go from the safest price to the cheapest while each test rejects "the loss is above `margin`"; the last that passed stands.

    `walks`: (u, scores, costs) per item, on items that neither the policy nor its price was fitted on. The first failure ends the
    sequence, so the whole keeps the level of one test (paired differences, normal approximation). Fewer than `least` items
    certify nothing.
    """
    if confidence not in _Z:
        raise ValueError(f"confidence must be one of {', '.join(map(str, _Z))}")
    n = len(base_score)
    unit = float(np.mean(base_cost))
    if n < least:
        return Certificate(
            None, math.inf, 1.0, (), f"{n} items are too few to certify anything; {least} are needed"
        )
    tested: list[tuple[float, float, float]] = []
    passed: tuple[float, float, float] | None = None
    for u, score, cost in sorted(walks, key=lambda w: w[0]):
        difference = np.asarray(score) - base_score
        spread = float(difference.std(ddof=1)) / math.sqrt(n)
        bound = _Z[confidence] * spread - float(difference.mean())
        tested.append((u, float(difference.mean()), bound))
        if bound >= margin:
            break
        passed = (u, bound, float(np.mean(cost)) / unit if unit else 1.0)
    if passed is None:
        return Certificate(
            None, tested[0][2] if tested else math.inf, 1.0, tuple(tested), "nothing was certified"
        )
    u, bound, cost_ratio = passed
    if cost_ratio >= 1:
        return Certificate(
            None, bound, 1.0, tuple(tested), f"u = {u} is certified, but costs {cost_ratio:.2f} x"
        )
    told = f"loss at most {100 * max(0.0, bound):.2f} points with {confidence:.0%}, at {cost_ratio:.2f} x the cost"
    return Certificate(u, bound, cost_ratio, tuple(tested), told)
