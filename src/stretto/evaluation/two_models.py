"""The published metrics of routers between a weak and a strong model (RouteLLM): how much of the gap for how many calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TwoModels", "two_models"]


@dataclass(frozen=True, slots=True)
class TwoModels:
    """`apgr`: the share of the quality gap that is recovered, averaged over all shares of strong calls (random: about .5).

    `cpt[x]`: the least share of strong calls that recovers the share x of the gap; `None` where none does.
    """

    n: int
    weak: float
    strong: float
    apgr: float
    cpt: dict[float, float | None]


def two_models(
    score: Any, weak: Any, strong: Any, *, steps: int = 10, targets: Sequence[float] = (0.2, 0.5, 0.8)
) -> TwoModels:
    """Send the items with the highest `score` ("the strong one is needed") to the strong model, in shares of 1 / `steps`.

    As RouteLLM's code does it: performance at each share, the area under it by trapezoids over shares 0..1, minus the weak
    model's, over the gap; CPT interpolates between shares. Ties in `score` are broken by the order of the items.
    """
    import numpy as np

    weak, strong = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    gap = float(strong.mean() - weak.mean())
    if gap <= 0:
        raise ValueError("the strong model is not better than the weak one on these items")
    n = len(weak)
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / n / gap
    shares = np.linspace(0.0, 1.0, steps + 1)
    recovered = np.interp(shares, np.arange(n + 1) / n, gained)
    apgr = float(((recovered[1:] + recovered[:-1]) / 2 * np.diff(shares)).sum())
    return TwoModels(
        n, float(weak.mean()), float(strong.mean()), apgr, {t: _least(shares, recovered, t) for t in targets}
    )


def _least(shares: Any, recovered: Any, target: float) -> float | None:
    for k in range(1, len(shares)):
        low, high = float(recovered[k - 1]), float(recovered[k])
        if high >= target:
            part = 0.0 if high == low else (target - low) / (high - low)
            return float(shares[k - 1] + max(0.0, part) * (shares[k] - shares[k - 1]))
    return None
