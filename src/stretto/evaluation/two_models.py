"""The published metrics of routers between a weak and a strong model: how much of the gap for how many calls of the strong one.

As RouteLLM defines them (Ong et al. 2024, arXiv 2406.18665, and its `routellm/evals/evaluate.py`), with r the mean score:

    PGR(c)  = (r(policy that asks the strong model on a share c) - r(weak)) / (r(strong) - r(weak))
    APGR    = the mean of PGR over c from 0 to 1, by trapezoids over steps of a tenth
    CPT(x)  = the least c with PGR(c) >= x, on the line between the steps

Choosing by lot comes to PGR(c) = c: APGR .5, CPT(50 %) 50 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.evaluation.intervals import Interval
from stretto.evaluation.runner import Result

__all__ = ["Between", "Point", "TwoModels", "Uncertain", "between", "two_models", "uncertain"]

_STEPS: Final = 10
_DRAWS: Final = 1000
_ROOM: Final = 4_000_000
"""So many numbers of a bootstrap are drawn at once."""


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
    score: Any, weak: Any, strong: Any, *, steps: int = _STEPS, targets: Sequence[float] = (0.2, 0.5, 0.8)
) -> TwoModels:
    """Send the items with the highest `score` ("the strong one is needed") to the strong model, in shares of 1 / `steps`.

    Ties in `score` are broken by the order of the items. Raises `ValueError` where the strong model is not better.
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
    apgr = _area(shares, recovered)
    return TwoModels(
        n, float(weak.mean()), float(strong.mean()), apgr, {t: _least(shares, recovered, t) for t in targets}
    )


def _area(shares: Any, recovered: Any) -> float:
    import numpy as np

    return float(((recovered[1:] + recovered[:-1]) / 2 * np.diff(shares)).sum())


def _least(shares: Any, recovered: Any, target: float) -> float | None:
    for k in range(1, len(shares)):
        low, high = float(recovered[k - 1]), float(recovered[k])
        if high >= target:
            part = 0.0 if high == low else (target - low) / (high - low)
            return float(shares[k - 1] + max(0.0, part) * (shares[k] - shares[k - 1]))
    return None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """APGR, CPT(50 %) and CPT(80 %) with 95 % bootstrap intervals over the items."""

    apgr: Interval
    cpt50: Interval
    cpt80: Interval

    @classmethod
    def of(cls, found: Sequence[float], draws: Sequence[Sequence[float]]) -> "Uncertain":
        """From the three figures, and the same of each draw."""
        import numpy as np

        low, high = np.percentile(np.asarray(draws, dtype=np.float64), [2.5, 97.5], axis=0).tolist()
        return cls(*(Interval(value, low[k], high[k]) for k, value in enumerate(found)))


def uncertain(score: Any, weak: Any, strong: Any, *, draws: int = 500, seed: int = 0) -> Uncertain:
    """`two_models` with intervals; where a target is never reached all calls are needed."""
    import numpy as np

    score, weak, strong = (np.asarray(each, dtype=np.float64) for each in (score, weak, strong))
    rng = np.random.default_rng(seed)

    def three(at: Any) -> tuple[float, float, float]:
        found = two_models(score[at], weak[at], strong[at])
        return found.apgr, found.cpt[0.5] or 1.0, found.cpt[0.8] or 1.0

    n = len(score)
    drawn = [three(rng.integers(0, n, n)) for _ in range(draws)]
    return Uncertain.of(three(np.arange(n)), drawn)


@dataclass(frozen=True, slots=True)
class Point:
    """A policy at one place of its dial: the share of items on which the strong model was asked, and the gap recovered there."""

    name: str
    share: float
    recovered: float


@dataclass(frozen=True, slots=True)
class Between:
    """A policy that was turned between two models, `weak` and `strong` (mean scores `low` and `high`). `points`: by share."""

    name: str
    weak: str
    strong: str
    low: float
    high: float
    points: tuple[Point, ...]
    figures: Uncertain


def between(
    results: Mapping[str, Sequence[Result]], workers: Sequence[str], scores: Any, *, seed: int = 0
) -> tuple[Between, ...]:
    """The figures of each policy that was asked for at several dials (NAME@DIAL, or NAME as one of them) and asked two workers
    there, on each item one of them or both. None where the strong one is not surely better.

    `scores` (items, workers) are what the `workers` come to alone. Between the dials, and from them to either worker alone, the
    line is straight: that is what choosing between two dials by lot comes to. What counts is how often the strong one is asked,
    whether or not the weak one was asked before it.
    """
    groups: dict[str, list[str]] = {}
    for name in results:
        groups.setdefault(name.rpartition("@")[0] or name, []).append(name)
    found = []
    for base, names in groups.items():
        asked = {worker for name in names for r in results[name] for worker in r.asked}
        if len(names) < 2 or len(asked) != 2 or not asked <= set(workers):
            continue
        alone = {worker: scores[:, workers.index(worker)] for worker in asked}
        weak, strong = sorted(asked, key=lambda worker: (float(alone[worker].mean()), worker))
        turned = {
            name: ([strong in r.asked for r in results[name]], [r.score for r in results[name]])
            for name in names
        }
        one = _turned(base, (weak, strong), alone[weak], alone[strong], turned, seed)
        found += [one] if one is not None else []
    return tuple(found)


def _turned(
    name: str,
    pair: tuple[str, str],
    weak: Any,
    strong: Any,
    turned: Mapping[str, tuple[Any, Any]],
    seed: int,
) -> Between | None:
    """The figures of one policy. `turned`: of each dial, item by item, whether the strong model was asked, and the score."""
    import numpy as np

    strong = np.asarray(strong, dtype=np.float64)
    columns = [weak, strong]
    for asked, score in turned.values():
        columns += [asked, score]
    table = np.stack([np.asarray(each, dtype=np.float64) for each in columns], axis=1)
    n = len(table)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, _DRAWS, size := max(1, _ROOM // n)):
        times = rng.multinomial(n, np.full(n, 1 / n), min(size, _DRAWS - start))
        means.append(times @ table / n)
    drawn = np.concatenate(means)
    if np.percentile(drawn[:, 1] - drawn[:, 0], 2.5) <= 0:
        return None
    mean = table.mean(0)
    points = [Point(at, *_of(mean, k)) for k, at in enumerate(turned)]
    found = [_figures(row) for row in drawn if row[1] > row[0]]
    return Between(
        name,
        *pair,
        float(mean[0]),
        float(mean[1]),
        tuple(sorted(points, key=lambda point: (point.share, point.recovered))),
        Uncertain.of(_figures(mean), found),
    )


def _of(means: Any, place: int) -> tuple[float, float]:
    """Of one dial the share of strong calls and the gap recovered. `means`: weak, strong, then both of each dial."""
    gap = means[1] - means[0]
    return float(means[2 + 2 * place]), float((means[3 + 2 * place] - means[0]) / gap)


def _figures(means: Any) -> tuple[float, float, float]:
    """APGR, CPT(50 %), CPT(80 %) of the line through the dials."""
    import numpy as np

    known: dict[float, list[float]] = {}
    for place in range((len(means) - 2) // 2):
        share, won = _of(means, place)
        known.setdefault(share, []).append(won)
    known.setdefault(0.0, [0.0])
    known.setdefault(1.0, [1.0])
    at = sorted(known)
    shares = np.linspace(0.0, 1.0, _STEPS + 1)
    recovered = np.interp(shares, at, [float(np.mean(known[share])) for share in at])
    half, most = (_least(shares, recovered, target) for target in (0.5, 0.8))
    return _area(shares, recovered), 1.0 if half is None else half, 1.0 if most is None else most
