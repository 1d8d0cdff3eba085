"""Which estimator of `success` foretells best who is right at a prompt, and what asking by it brings: all cross-fitted.

What it learns is put into a route table (`learning.route_table`), and `policies.route` goes by it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

from stretto.artifacts import packed
from stretto.learning.evidence.features import data_of as text_data
from stretto.learning.evidence.prompts import Prompts
from stretto.learning.evidence.success import Clusters, Logistic, Nearest, folds, log_odds
from stretto.learning.evidence.training import PENALTIES, nats
from stretto.policies.evidence.success import HIGH, LOW, Calibration, Form, Linear, clipped
from stretto.policies.route import PRICE_WEIGHT

__all__ = [
    "DIALS",
    "FAMILIES",
    "LEAST",
    "Candidate",
    "Family",
    "Quality",
    "calibrate",
    "candidates",
    "data_of",
    "quality",
    "steps",
]

Family = Literal["logistic", "nearest", "clusters", "factors", "irt"]
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)

LEAST: Final = 50
"""With fewer outcomes of a worker nothing of its own is learned of it: it is a newcomer."""

SKETCH: Final = 32
"""So many rows tell the deviation of a prompt's log-odds within an eighth."""

DIALS: Final = (1.0, 0.5, 0.0)
"""Where what asking by an estimator brings is looked at."""

_SIZES: Final = (20, 40, 80)
"""How many prompts are near, and how many clusters there are: each is tried."""

_RANKS: Final = (2, 3, 5)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An estimator of one family, learned from all items. `chance`: of every item (items, workers), by one that has not seen it.

    `told`: what was chosen within the family, in words. `calibration`: `None` where the form is calibrated.
    """

    by: str
    told: str
    form: Form
    calibration: Calibration | None
    chance: Any


@dataclass(frozen=True, slots=True)
class Quality:
    """How good chances are. `nats`: mean log-loss; `error`: expected calibration error in ten bins; `auc`: how well they tell a
    worker's right prompts from its wrong ones, mean over the workers; `scores` and `costs`: what asking whom they call best at
    each of `DIALS` brings, an array of items each; `worth`: the score less what the money is worth there, mean over the dials.
    """

    nats: float
    error: float
    auc: float
    scores: tuple[Any, ...]
    costs: tuple[Any, ...]
    worth: Any


def steps(by: Sequence[Family]) -> int:
    """So often `candidates` and what goes before it say `tick`, about."""
    linear = any(family in ("logistic", "factors", "irt") for family in by)
    return 5 * (1 + 5 * linear + len(_SIZES) * sum(family in ("nearest", "clusters") for family in by))


def candidates(
    by: Sequence[Family],
    prompts: Prompts,
    x: Any,
    scores: Any,
    *,
    seed: int = 0,
    tick: Callable[[str], None] = lambda family: None,
) -> Iterator[Candidate]:
    """The named families, the best of each. `x`: `prompts.matrix` of the items; `scores`: `nan` where it is not known."""
    fold = folds(len(x), seed=seed)
    if linear := [family for family in by if family in ("logistic", "factors", "irt")]:
        yield from _linear(linear, prompts, x, scores, fold, tick)
    for family in by:
        if family in ("nearest", "clusters"):
            yield _local(family, prompts, x, scores, fold, tick)


def _linear(
    by: Sequence[Family], prompts: Prompts, x: Any, scores: Any, fold: Any, tick: Callable[[str], None]
) -> Iterator[Candidate]:
    """Logistic regressions and those of low rank, which are cut from them, with the penalty that foretells best."""
    wide = np.hstack([np.ones((len(x), 1)), x])
    ranks = tuple(r for r in _RANKS if r < scores.shape[1]) if "factors" in by else ()
    cuts = ranks + ((1,) if "irt" in by else ())
    best, found, worse = (np.inf, 0.0), {}, 0
    for c in PENALTIES:
        parts = {rank: np.empty(scores.shape) for rank in (0, *cuts)}
        for f in range(int(fold.max()) + 1):
            at = fold == f
            fit = Logistic(c, loose=prompts.loose).fit(x[~at], scores[~at])
            for rank, weights in {0: fit.weights, **(fit.cut(cuts) if cuts else {})}.items():
                parts[rank][at] = clipped(wide[at] @ weights)
            tick("logistic")
        if (loss := nats(parts[0], scores)) <= best[0]:
            best, found, worse = (loss, c), parts, 0
        elif (worse := worse + 1) == 2:
            break
    whole = Logistic(best[1], loose=prompts.loose).fit(x, scores)
    sketch = _sketch(whole.covariance)
    cut = whole.cut(cuts) if cuts else {}
    for family in by:
        rank, told = 0, f"penalty 1/{best[1]:g}"
        if family == "irt":
            rank, told = 1, f"{told}, rank 1"
        elif family == "factors":
            if not ranks:
                continue  # with so few workers a low rank is the full one
            rank = min(ranks, key=lambda r: nats(found[r], scores))
            told = f"{told}, rank {rank}"
        one, chance = _calibrated(found[rank], scores, fold)
        weights = one.after(cut[rank] if rank else whole.weights)
        weights[1:] -= one.constants  # these belong to the constant alone
        form = Linear.made(weights, one.steepness * sketch, prompts.centres, prompts.spread)
        yield Candidate(family, told, form, None, chance)


def _local(
    family: Family, prompts: Prompts, x: Any, scores: Any, fold: Any, tick: Callable[[str], None]
) -> Candidate:
    """By the prompts like it, each or in clusters; of the number that foretells best. Of the features only those of the text."""
    wide = len(prompts.text.mean) if prompts.text is not None else x.shape[1]
    x = x[:, :wide]
    make = Nearest if family == "nearest" else Clusters
    found: dict[int, Any] = {}
    for k in _SIZES:
        found[k] = np.empty(scores.shape)
        for f in range(int(fold.max()) + 1):
            at = fold == f
            found[k][at] = make(k=k).fit(x[~at], scores[~at]).predict(x[at])
            tick(family)
    k = min(_SIZES, key=lambda k: nats(found[k], scores))
    told = f"the {k} nearest" if family == "nearest" else f"{k} clusters"
    one, chance = _calibrated(found[k], scores, fold)
    return Candidate(family, told, make(k=k).fit(x, scores).form, one, chance)


def _sketch(covariance: Any, seed: int = 0) -> Any:
    root = np.linalg.cholesky((covariance + covariance.T) / 2).T
    lot = np.random.default_rng(seed).standard_normal((SKETCH, len(root))) / np.sqrt(SKETCH)
    return lot @ root


def calibrate(chance: Any, scores: Any) -> Calibration:
    """The calibration that makes cross-fitted chances likeliest, drawn to no change by a little.

    Four numbers for all workers together: a constant, and how much of their log-odds count the mean of all (how hard the prompt
    is), how far each worker is usually above that, and the rest (what it is good at).
    """
    z = log_odds(chance)
    usual = (z - z.mean(1, keepdims=True)).mean(0)
    shared = np.repeat(z.mean(1, keepdims=True), z.shape[1], axis=1)
    level = np.broadcast_to(usual, z.shape)
    known = ~np.isnan(scores)
    columns = (np.ones(z.shape), shared, level, z - shared - level)
    rows, y = np.stack([c[known] for c in columns], axis=1), scores[known]
    prior = np.array([0.0, 1.0, 1.0, 1.0])
    w = prior.copy()
    for _ in range(20):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
        curvature = (rows.T * (p * (1 - p))) @ rows + 5.0 * np.eye(4)
        step = np.linalg.solve(curvature, rows.T @ (p - y) + 5.0 * (w - prior))
        w = w - step / max(1.0, float(np.abs(step).max()))
    count = len(usual)
    everyone = np.full((count, count), 1 / count)
    mix = w[1] * everyone + w[3] * (np.eye(count) - everyone)
    return Calibration(mix, w[0] + (w[2] - w[3]) * usual)


def _calibrated(chance: Any, scores: Any, fold: Any) -> tuple[Calibration, Any]:
    """The calibration by cross-fitted chances, and these as calibrated by those of the other folds."""
    out = np.empty(chance.shape)
    for f in range(int(fold.max()) + 1):
        at = fold == f
        out[at] = clipped(calibrate(chance[~at], scores[~at]).after(log_odds(chance[at])))
    return calibrate(chance, scores), out


def quality(chance: Any, scores: Any, costs: Any) -> Quality:
    """How good cross-fitted chances are. `costs` (items, workers): USD, `nan` where not known, which counts as usual.

    Who is asked is chosen as `route` chooses, with each worker's mean cost in the place of its price, among those who are there.
    """
    known = ~np.isnan(scores)
    told = known & ~np.isnan(costs)
    price = np.where(told, costs, 0.0).sum(0) / np.maximum(told.sum(0), 1)
    if told.any():
        price = np.where(told.any(0), price, price[told.any(0)].mean())
    costs = np.where(np.isnan(costs), price, costs)
    rows = np.flatnonzero(known.any(1))
    dearest = float(price.max()) or 1.0
    got: list[Any] = []
    paid: list[Any] = []
    worth = np.zeros(len(rows))
    for dial in DIALS:
        weight = PRICE_WEIGHT * (1 - dial) / dearest
        picked = np.where(known, chance - weight * price, -np.inf).argmax(1)
        got.append(scores[rows, picked[rows]])
        paid.append(costs[rows, picked[rows]])
        worth += (got[-1] - weight * paid[-1]) / len(DIALS)
    p, y = np.clip(chance, LOW, HIGH)[known], scores[known]
    place = np.minimum((10 * p).astype(int), 9)
    error = float(np.abs(np.bincount(place, p - y, 10)).sum() / len(p))
    return Quality(nats(chance, scores), error, _auc(chance, scores), tuple(got), tuple(paid), worth)


def _auc(chance: Any, scores: Any) -> float:
    found = []
    for p, y in zip(chance.T, scores.T, strict=True):
        p, y = p[~np.isnan(y)], y[~np.isnan(y)] >= 0.5
        if 0 < y.sum() < len(y):
            _, place, count = np.unique(p, return_inverse=True, return_counts=True)
            rank = (np.cumsum(count) - (count - 1) / 2)[place]  # equal chances share their ranks
            found.append((rank[y].sum() - y.sum() * (y.sum() + 1) / 2) / (y.sum() * (~y).sum()))
    return float(np.mean(found)) if found else 0.5


def data_of(candidate: Candidate, prompts: Prompts, workers: Sequence[str]) -> dict[str, Any]:
    """As `policies.evidence.success.Success` reads it."""
    if prompts.text is None:
        raise ValueError("a route table reads the words of prompts")
    data = {
        "by": candidate.by,
        "workers": list(workers),
        "text": text_data(prompts.text),
        "form": candidate.form.data(),
    }
    if (found := candidate.calibration) is not None:
        data["mix"] = packed(found.mix.astype(np.float32))
        data["constants"] = packed(found.constants.astype(np.float32))
    if prompts.centres is not None and isinstance(candidate.form, Linear):
        data["centres"] = packed(prompts.centres.astype(np.float16))
        if prompts.spread is not None:
            data["spread"] = packed(prompts.spread.astype(np.float16))
    return data
