"""How likely each worker is to be right, from a prompt's features: one protocol, several families.

`fit(x, scores)` takes features (items, dimensions) and scores (items, workers) with `nan` for what is not known; `predict(x)`
gives chances (items, workers); `deviation(x)` how unsure those are themselves (one standard deviation).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stretto.policies.evidence import success as served
from stretto.policies.evidence.success import HIGH, LOW

__all__ = [
    "Clusters",
    "Estimator",
    "Factors",
    "Logistic",
    "Means",
    "Nearest",
    "Newcomer",
    "cross_fitted",
    "folds",
    "log_odds",
]

LOOSE = 0.5
"""The weak penalty of what tells of a prompt's task. Cross-fitted log-loss on three sets: flat from .1 to 4."""


class Estimator(Protocol):
    """A family of worker-success estimators."""

    def fit(self, x: Any, scores: Any) -> "Estimator":
        """Learn; returns itself."""
        ...

    def predict(self, x: Any) -> Any:
        """The chance of each worker to be right."""
        ...

    def deviation(self, x: Any) -> Any:
        """The standard deviation of these chances."""
        ...


def log_odds(chance: Any) -> Any:
    """Log-odds of chances kept off 0 and 1."""
    p = np.clip(chance, LOW, HIGH)
    return np.log(p / (1 - p))


@dataclass
class Means:
    """Every worker's mean, whatever the prompt: agreement alone decides then."""

    mean: Any = None
    count: Any = None

    def fit(self, x: Any, scores: Any) -> "Means":
        """As `Estimator.fit`; one success and one failure are added."""
        self.count = (~np.isnan(scores)).sum(0)
        self.mean = (np.nansum(scores, 0) + 1) / (self.count + 2)
        return self

    def predict(self, x: Any) -> Any:
        """As `Estimator.predict`."""
        return np.broadcast_to(self.mean, (len(x), len(self.mean)))

    def deviation(self, x: Any) -> Any:
        """As `Estimator.deviation`."""
        return np.broadcast_to(
            np.sqrt(self.mean * (1 - self.mean) / (self.count + 3)), (len(x), len(self.mean))
        )


@dataclass
class Logistic:
    """One logistic regression a worker with a quadratic penalty 1 / `c`, all at once; of the last `loose` columns 1 / `LOOSE`.

    Words are many and each tells little; what tells tasks apart is worth more (`prompts.Prompts`). What is hard for one worker is
    often hard for all: the penalty of what the workers' weights have in common is divided by `common`, that of what each has for
    itself by `own`. Each step solves with the same bound of the curvature (Boehning and Lindsay 1988), so it never overshoots.
    The deviation is Laplace's.
    """

    c: float = 0.01
    steps: int = 60
    loose: int = 0
    common: float = 1.0
    own: float = 1.0
    weights: Any = None
    covariance: Any = field(default=None, repr=False)

    def fit(self, x: Any, scores: Any) -> "Logistic":
        """As `Estimator.fit`."""
        x = np.hstack([np.ones((len(x), 1)), x]).astype(np.float64)
        known = ~np.isnan(scores)
        y = np.where(known, scores, 0.0)
        mean = np.clip(y.sum(0) / np.maximum(known.sum(0), 1), LOW, HIGH)
        penalty = np.full(x.shape[1], 1 / self.c)
        penalty[len(penalty) - self.loose :] = 1 / LOOSE
        both = penalty / self.common, penalty / self.own
        both[0][0] = both[1][0] = 1e-3
        bound = 0.25 * x.T @ x
        alike = self.common == self.own
        own = np.linalg.inv(bound + np.diag(both[1]))
        common = own if alike else np.linalg.inv(bound + np.diag(both[0]))
        w = np.zeros((x.shape[1], scores.shape[1]))
        w[0] = np.log(mean / (1 - mean))
        before = w
        for step in range(self.steps):
            ahead = w + step / (step + 3) * (w - before)  # Nesterov
            p = 1 / (1 + np.exp(-np.clip(x @ ahead, -30, 30)))
            rise = x.T @ np.where(known, y - p, 0.0) - both[1][:, None] * ahead
            before, w = w, ahead + own @ rise
            if not alike:  # the mean over the workers takes another step than what each deviates from it
                middle = rise.mean(1) + (both[1] - both[0]) * ahead.mean(1)
                w += (common @ middle - own @ rise.mean(1))[:, None]
        self.weights = w
        self.covariance = own if alike else own + (common - own) / scores.shape[1]
        return self

    def cut(self, ranks: Sequence[int]) -> dict[int, Any]:
        """The weights cut down to so many shared directions, for each of `ranks`: what `Factors` has."""
        curvature = np.linalg.inv(self.covariance[1:, 1:])
        root = np.linalg.cholesky((curvature + curvature.T) / 2)
        left, size, right = np.linalg.svd(root.T @ self.weights[1:], full_matrices=False)
        found = {}
        for rank in ranks:
            kept = np.where(np.arange(len(size)) < rank, size, 0.0)
            found[rank] = np.vstack([self.weights[:1], np.linalg.solve(root.T, left * kept @ right)])
        return found

    def logits(self, x: Any) -> Any:
        """The log-odds."""
        return x @ self.weights[1:] + self.weights[0]

    def predict(self, x: Any) -> Any:
        """As `Estimator.predict`."""
        return served.clipped(self.logits(x))

    def deviation(self, x: Any) -> Any:
        """As `Estimator.deviation`; by the bound, so rather too small in the middle than too large."""
        wide = np.hstack([np.ones((len(x), 1)), x])
        spread = np.sqrt(np.einsum("ij,jk,ik->i", wide, self.covariance, wide))
        p = self.predict(x)
        return p * (1 - p) * spread[:, None]


@dataclass
class Factors(Logistic):
    """Logistic regressions whose weights share `rank` directions: prompts and workers meet in a small space.

    As RouteLLM's matrix factorisation, with the prompt's side read from its features. Rank 1 is the two-parameter model of item
    response theory (IRT-Router): one difficulty a prompt, a slope and a level a worker. Made by cutting the full solution down to
    the rank that keeps most of it, in the metric of the curvature (reduced-rank regression, Izenman 1975).
    """

    rank: int = 1

    def fit(self, x: Any, scores: Any) -> "Factors":
        """As `Estimator.fit`."""
        super().fit(x, scores)
        self.weights = self.cut([self.rank])[self.rank]
        return self


@dataclass
class Newcomer:
    """A worker with few labels, or none: sigmoid(alpha + beta * mean log-odds of the workers that are known).

    Penalised towards alpha = 0 and beta = 1, so without labels it is taken for an average worker (EVIDENCE.md section 6). `fit`
    takes the known workers' log-odds (items, workers) in the place of features, and the newcomer's scores (items, 1).
    """

    penalty: float = 5.0
    alpha: float = 0.0
    beta: float = 1.0
    covariance: Any = field(default=None, repr=False)

    def fit(self, x: Any, scores: Any) -> "Newcomer":
        """As `Estimator.fit`, by Newton's method; rows with an unknown score are left out."""
        known = ~np.isnan(scores[:, 0])
        rows = np.stack([np.ones(int(known.sum())), x[known].mean(1)], axis=1)
        y, prior, w = scores[known, 0], np.array([0.0, 1.0]), np.array([0.0, 1.0])
        for _ in range(20):
            p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
            curvature = (rows.T * (p * (1 - p))) @ rows + self.penalty * np.eye(2)
            step = np.linalg.solve(curvature, rows.T @ (p - y) + self.penalty * (w - prior))
            # a Newton step may overshoot where all labels agree
            w = w - step / max(1.0, float(np.abs(step).max()))
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
        self.covariance = np.linalg.inv((rows.T * (p * (1 - p))) @ rows + self.penalty * np.eye(2))
        self.alpha, self.beta = float(w[0]), float(w[1])
        return self

    def predict(self, x: Any) -> Any:
        """As `Estimator.predict`, one column."""
        z = self.alpha + self.beta * x.mean(1)
        return np.clip(1 / (1 + np.exp(-z)), LOW, HIGH)[:, None]

    def deviation(self, x: Any) -> Any:
        """As `Estimator.deviation`."""
        rows = np.stack([np.ones(len(x)), x.mean(1)], axis=1)
        spread = np.eye(2) / self.penalty if self.covariance is None else self.covariance
        p = self.predict(x)
        return p * (1 - p) * np.sqrt(np.einsum("ij,jk,ik->i", rows, spread, rows))[:, None]


@dataclass
class Nearest:
    """The mean of the `k` nearest prompts by cosine, drawn towards the worker's mean by `prior` prompts.

    Of more prompts than `most`, so many by lot: all of them are looked at in every decision. Only the first `dimensions` of the
    features count.
    """

    k: int = 40
    prior: float = 10.0
    most: int = 4000
    dimensions: int = 48
    seed: int = 0
    form: Any = field(default=None, repr=False)

    def fit(self, x: Any, scores: Any) -> "Nearest":
        """As `Estimator.fit`: keeps what it saw."""
        at = np.sort(np.random.default_rng(self.seed).permutation(len(x))[: self.most])
        seen = served.units(x[at, : self.dimensions]).astype(np.float32)
        known = ~np.isnan(scores[at])
        kept = np.where(known, scores[at], 0.0).astype(np.float32), known.astype(np.float32)
        self.form = served.Nearest(seen, *kept, Means().fit(x, scores).mean, self.k, self.prior)
        return self

    def predict(self, x: Any) -> Any:
        """As `Estimator.predict`."""
        return self.form.predict(x)

    def deviation(self, x: Any) -> Any:
        """As `Estimator.deviation`."""
        return self.form.deviation(x)


@dataclass
class Clusters:
    """Avengers-Pro: k-means on unit vectors; a prompt takes from its `near` nearest clusters by softmax of -`beta` * distance.

    Only the first `dimensions` of the features count.
    """

    k: int = 40
    near: int = 3
    beta: float = 6.0
    prior: float = 5.0
    dimensions: int = 128
    seed: int = 0
    form: Any = field(default=None, repr=False)

    def fit(self, x: Any, scores: Any) -> "Clusters":
        """As `Estimator.fit`."""
        unit = served.units(x[:, : self.dimensions])
        rng = np.random.default_rng(self.seed)
        k = min(self.k, len(unit))
        centres = unit[rng.choice(len(unit), k, replace=False)]
        for _ in range(15):
            home = (unit @ centres.T).argmax(1)
            sums = np.zeros_like(centres)
            np.add.at(sums, home, unit)
            centres = served.units(np.where((np.bincount(home, minlength=k) > 0)[:, None], sums, centres))
        home = (unit @ centres.T).argmax(1)
        known = ~np.isnan(scores)
        counts, good = (np.zeros((k, scores.shape[1])) for _ in range(2))
        np.add.at(counts, home, known)
        np.add.at(good, home, np.where(known, scores, 0.0))
        table = (good + self.prior * Means().fit(x, scores).mean) / (counts + self.prior)
        self.form = served.Clusters(centres, table, counts, self.near, self.beta, self.prior)
        return self

    def predict(self, x: Any) -> Any:
        """As `Estimator.predict`."""
        return self.form.predict(x)

    def deviation(self, x: Any) -> Any:
        """As `Estimator.deviation`."""
        return self.form.deviation(x)


def folds(count: int, parts: int = 5, seed: int = 0) -> Any:
    """A fold number for each item, as even as can be."""
    return np.random.default_rng(seed).permutation(np.arange(count) % parts)


def cross_fitted(make: Any, x: Any, scores: Any, fold: Any) -> Any:
    """Chances of every item by an estimator that has not seen it; `make()` gives a fresh one."""
    out = np.empty(scores.shape)
    for number in range(int(fold.max()) + 1):
        at = fold == number
        out[at] = make().fit(x[~at], scores[~at]).predict(x[at])
    return out
