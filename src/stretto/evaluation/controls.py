"""What every policy has to beat, on the same items: from recorded outcomes, chosen on train, reported on what is asked for.

Arrays have the items first: `scores`, `costs` (USD) and `classes` (which answer each worker gave, -1: none), a column a worker.
Numpy, imported late.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stretto.evaluation.intervals import Interval

__all__ = [
    "Compared",
    "Control",
    "compare",
    "known_task",
    "mcnemar",
    "naive_oracle",
    "paired",
    "plain_vote",
    "random_worker",
    "resampled",
    "resampled_oracle",
    "table",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class Control:
    """A control's outcome on each item. `bound`: nobody can do that, it only shows how far the road goes."""

    name: str
    score: Any
    cost: Any
    calls: float = 1.0
    bound: bool = False


def random_worker(scores: Any, costs: Any) -> Control:
    """A worker by lot: its expectation on each item, without the noise of drawing."""
    return Control("random worker", scores.mean(1), costs.mean(1))


def known_task(
    train: Any, train_tasks: Sequence[str], scores: Any, costs: Any, tasks: Sequence[str]
) -> Control:
    """The worker that is best on the item's task on train, the task being told: more than a router from text can know."""
    import numpy as np

    overall = int(train.mean(0).argmax())
    labels = np.array(train_tasks)
    best = {task: int(train[labels == task].mean(0).argmax()) for task in set(train_tasks)}
    picked = np.array([best.get(task, overall) for task in tasks])
    rows = np.arange(len(picked))
    return Control("known task", scores[rows, picked], costs[rows, picked])


def plain_vote(train: Any, classes: Any, scores: Any, costs: Any, k: int) -> Control:
    """Plurality of the `k` best of train; a tie goes to the answer of the better worker, whose reply is returned."""
    import numpy as np

    order = np.argsort(-train.mean(0), kind="stable")[:k]
    numbers = classes[:, order]
    same = (numbers[:, :, None] == numbers[:, None, :]) & (numbers[:, :, None] >= 0)
    picked = order[(same.sum(2) - 1e-3 * np.arange(len(order))).argmax(1)]
    return Control(
        f"plain vote of {len(order)}",
        scores[np.arange(len(numbers)), picked],
        costs[:, order].sum(1),
        len(order),
    )


def resampled(classes: Any, scores: Any, costs: Any, *, panel: bool) -> Control:
    """The same model N times (columns are its samples): with `panel` the plurality, which anyone can do.

    Else the best of N by a perfect judge, which nobody can.
    """
    import numpy as np

    n = classes.shape[1]
    total = costs.sum(1)
    if not panel:
        return Control(f"best of {n} samples, perfect judge", scores.max(1), total, n, bound=True)
    same = (classes[:, :, None] == classes[:, None, :]) & (classes[:, :, None] >= 0)
    picked = (same.sum(2) - 1e-3 * np.arange(n)).argmax(1)
    return Control(f"same model x {n}, vote", scores[np.arange(len(classes)), picked], total, n)


def naive_oracle(scores: Any, costs: Any) -> Control:
    """The best of all answers to each item, the cheapest of equals. It counts every lucky guess as foresight."""
    import numpy as np

    best = scores.max(1)
    cost = np.fmin.reduce(np.where(scores >= best[:, None], costs, np.inf), axis=1)
    cost = np.where(np.isfinite(cost), cost, np.nan)  # only workers of unknown cost were right
    return Control("oracle, naive (luck included)", best, cost, bound=True)


def resampled_oracle(samples: Any, costs: Any) -> Control | None:
    """The oracle without the winner's curse: the worker of an item is chosen by all samples but one and scored on that one.

    `samples` (items, workers, samples). With one sample a worker luck and skill cannot be told apart: `None`.
    """
    import numpy as np

    count = samples.shape[2]
    if count < 2:
        return None
    rows = np.arange(len(samples))
    score, cost = np.zeros(len(samples)), np.zeros(len(samples))
    for left in range(count):
        others = np.delete(samples, left, axis=2).mean(2)
        # equal means go to the worker that is better overall: a tie must not be a lottery
        picked = (others + 1e-6 * others.mean(0)).argmax(1)
        score += samples[rows, picked, left] / count
        cost += costs[rows, picked] / count
    return Control("oracle, cross-fitted over samples", score, cost, bound=True)


# --- paired comparison -------------------------------------------------------------------------------------------


def paired(a: Any, b: Any, *, seed: int = 0, draws: int = 2000) -> Interval:
    """The mean of `a - b` over the same items with its 95 % percentile interval of a paired bootstrap (Efron 1979)."""
    import numpy as np

    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if difference.ndim != 1 or not len(difference):
        raise ValueError("paired samples must have the same, positive length")
    rng = np.random.default_rng(seed)
    values, counts = np.unique(difference, return_counts=True)
    if len(values) <= 64:  # few different values: drawing how often each comes is the same and far cheaper
        times = rng.multinomial(len(difference), counts / len(difference), draws)
        means = times @ values / len(difference)
    else:
        n = len(difference)
        means = np.array([difference[rng.integers(0, n, n)].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(difference.mean()), float(low), float(high))


def mcnemar(a: Any, b: Any) -> tuple[int, int, float]:
    """How often only `a`, and only `b`, was right (score >= .5), and the exact two-sided p-value of McNemar's test."""
    only_a = sum(1 for x, y in zip(a, b, strict=True) if x >= 0.5 > y)
    only_b = sum(1 for x, y in zip(a, b, strict=True) if y >= 0.5 > x)
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 0, 0, 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
        for i in range(k + 1)
    ]
    top = max(logs)
    tail = math.exp(top) * sum(math.exp(x - top) for x in logs)
    return only_a, only_b, min(1.0, 2 * tail)


@dataclass(frozen=True, slots=True)
class Compared:
    """One policy or control beside the best single worker on the same items; `cost` is relative to it."""

    name: str
    n: int
    score: float
    difference: Interval
    cost: float
    calls: float
    only_this: int
    only_best: int
    p: float
    bound: bool = False


def compare(entries: Sequence[Control], base: Control, *, seed: int = 0, draws: int = 2000) -> list[Compared]:
    """Each entry against `base`, paired."""
    import numpy as np

    rows = []
    unit = float(np.mean(base.cost))
    for entry in entries:
        only_this, only_best, p = mcnemar(entry.score, base.score)
        rows.append(
            Compared(
                entry.name,
                len(base.score),
                float(np.mean(entry.score)),
                paired(entry.score, base.score, seed=seed, draws=draws),
                float(np.mean(entry.cost)) / unit if unit else math.nan,
                entry.calls,
                only_this,
                only_best,
                p,
                entry.bound,
            )
        )
    return rows


def verdict(row: Compared, *, margin: float = 0.01) -> str:
    """What the interval allows to say of a policy: better, worse, as good within `margin` and cheaper, or nothing."""
    d = row.difference
    if row.bound:
        return "a bound, not a policy"
    if d.above_zero:
        return f"better, at {row.cost:.2f} x the cost"
    if d.below_zero:
        return f"worse, at {row.cost:.2f} x the cost"
    if d.low > -margin and row.cost < 1:
        least = "1 point" if margin == 0.01 else f"{100 * margin:g} points"
        return f"no gain shown in quality; not more than {least} worse, at {row.cost:.2f} x the cost"
    return "no gain shown"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def table(rows: Sequence[Compared], notes: Mapping[str, str] | None = None) -> str:
    """The comparison as a Markdown table."""
    lines = [
        "| policy | n | score | to best single [95 %] | cost | calls | McNemar p | verdict |",
        "|---|--:|--:|---|--:|--:|--:|---|",
    ]
    for r in rows:
        d = r.difference
        told = (notes or {}).get(r.name, "") or verdict(r)
        lines.append(
            f"| {r.name} | {r.n} | {100 * r.score:.2f} | {_points(d.value)} [{_points(d.low)}, {_points(d.high)}] "
            f"| x{r.cost:.3f} | {r.calls:.1f} | {r.p:.3f} | {told} |"
        )
    return "\n".join(lines) + "\n"
