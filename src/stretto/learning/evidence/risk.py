"""Which price may be served: a fixed-sequence test that the loss against the best single worker stays under a margin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FEWEST", "FEWEST_TASKS", "MARGIN", "Certificate", "certified_data", "certify"]

MARGIN = 0.01
"""A loss of one point (of 1) against the best single worker is borne."""

CONFIDENCE = 0.95

FEWEST = 50

FEWEST_TASKS = 20
"""Of so many tasks it can be told how much the difference varies between them."""

_Z: dict[float, float] = {0.90: 1.2816, 0.95: 1.6449, 0.99: 2.3263}


@dataclass(frozen=True, slots=True)
class Certificate:
    """`u` is the cheapest certified price, `None` if there is none or it is dearer and not surely better: keep the best single.

    `bound`: with the asked-for confidence the loss is not above this (points of 1). `tested`: (u, mean difference, bound).
    `passed`: the cheapest certified price even where it is dearer than the best single worker, `cost` times as dear.
    """

    u: float | None
    bound: float
    cost: float
    tested: tuple[tuple[float, float, float], ...]
    reason: str
    passed: float | None = None


def certify(
    walks: Sequence[tuple[float, Any, Any]],
    base_score: Any,
    base_cost: Any,
    *,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    least: int = 300,
    tasks: Sequence[str] = (),
) -> Certificate:
    """Go from the safest price to the cheapest while each test rejects "the loss is above `margin`"; the last that passed stands.

    `walks`: (u, scores, costs) per item, on items that neither the policy nor its price was fitted on. The first failure ends the
    sequence, so the whole keeps the level of one test (paired differences, normal approximation). Of fewer than `least` items
    3 / n is added to each bound: losses so rare that nobody has seen one (the rule of three). Under `FEWEST` nothing passes.
    `tasks`, one an item: with `FEWEST_TASKS` or more of them the bound allows for another mix of such tasks than the one seen.
    """
    if confidence not in _Z:
        raise ValueError(f"confidence must be one of {', '.join(map(str, _Z))}")
    n = len(base_score)
    unit = float(np.mean(base_cost))
    if n < FEWEST:
        return Certificate(
            None, math.inf, 1.0, (), f"{n} items are too few to certify anything; {FEWEST} are needed"
        )
    unseen = 3.0 / n if n < least else 0.0
    tested: list[tuple[float, float, float]] = []
    passed: tuple[float, float, float] | None = None
    for u, score, cost in sorted(walks, key=lambda w: w[0]):
        difference = np.asarray(score) - base_score
        spread = max(float(difference.std(ddof=1)) / math.sqrt(n), _between(difference, tasks))
        bound = _Z[confidence] * spread - float(difference.mean()) + unseen
        tested.append((u, float(difference.mean()), bound))
        if bound >= margin:
            break
        passed = (u, bound, float(np.mean(cost)) / unit if unit else 1.0)
    if passed is None:
        return Certificate(
            None, tested[0][2] if tested else math.inf, 1.0, tuple(tested), "nothing was certified"
        )
    u, bound, cost_ratio = passed
    if cost_ratio >= 1 and bound >= 0:
        return Certificate(
            None, bound, cost_ratio, tuple(tested), f"u = {u} is certified, but costs {cost_ratio:.2f} x", u
        )
    what = f"loss at most {100 * bound:.2f}" if bound > 0 else f"gain at least {-100 * bound:.2f}"
    told = f"{what} points with {confidence:.0%}, at {cost_ratio:.2f} x the cost"
    return Certificate(u, bound, cost_ratio, tuple(tested), told, u)


def _between(difference: Any, tasks: Sequence[str]) -> float:
    """The standard error of a mean over items that come in tasks (cluster-robust); 0 of too few tasks."""
    names, task = np.unique(np.array(tasks, dtype=str), return_inverse=True)
    count = len(names)
    if count < FEWEST_TASKS:
        return 0.0
    sums = np.bincount(task, difference - difference.mean())
    return math.sqrt(float(sums @ sums) * count / (count - 1)) / len(difference)


def certified_data(
    us: Sequence[float],
    walks: Any,
    base_score: Any,
    base_cost: Any,
    single: str,
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """The certificate as an evidence artefact holds it. `walks`: what each of `us` brought, cross-fitted (`lattice.Walk`).

    `cost` and `bound` are of the price that serves in the middle of the dial: the middle one, or the certified one if lower. The
    cheapest certified price may be as good as nothing where a lower one is certified to be far better.
    """
    each = [(u, walk.score, walk.cost) for u, walk in zip(us, walks, strict=True)]
    found = certify(each, base_score, base_cost, tasks=tasks)
    cost, bound, reason = found.cost, found.bound, found.reason
    middle = sorted(us)[round(0.5 * (len(us) - 1))]
    if found.passed is not None and middle < found.passed:
        unit = float(np.mean(base_cost))
        cost = float(np.mean(next(paid for u, _, paid in each if u == middle))) / unit if unit else 1.0
        bound = next(b for u, _, b in found.tested if u == middle)
        what = f"loss at most {100 * bound:.2f}" if bound > 0 else f"gain at least {-100 * bound:.2f}"
        reason = f"in the middle of the dial (u = {middle}) {what} points with {CONFIDENCE:.0%}, at {cost:.2f} x the cost"
    return {
        "u": found.passed,
        "single": single,
        "cost": round(cost, 5),
        "bound": round(bound, 5) if math.isfinite(bound) else None,
        "margin": MARGIN,
        "confidence": CONFIDENCE,
        "n": len(base_score),
        "reason": reason,
    }
