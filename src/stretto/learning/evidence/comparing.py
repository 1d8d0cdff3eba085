"""Learns how far a comparer of free texts can be trusted, and the values of asking on when only it tells who agrees with whom.

Labelled pairs come from recorded scores: two replies to one prompt that are both right are the same; a right one and a wrong one
are not; of two wrong ones nobody knows. Only prompts with both kinds of pairs count, each as much as any other: else an easy
prompt, to which all replies are right and short, would pass for a comparer that sees what is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from stretto.artifacts import Artifact
from stretto.learning.evidence.lattice import Lattice
from stretto.learning.evidence.training import Matrix
from stretto.policies.answers import classes, said
from stretto.policies.embedding import shipped
from stretto.policies.evidence.beliefs import Posterior
from stretto.policies.evidence.equivalence import LONGEST, Comparer, divisions, likely, mean_over
from stretto.policies.judging import Wordings
from stretto.types import Message

__all__ = [
    "Comparison",
    "Learned",
    "Told",
    "assumed",
    "cosines",
    "drawn",
    "error",
    "lattice",
    "learned",
    "of_vectors",
    "of_verdicts",
    "pairs_of",
    "static",
    "values_of",
]

_ENOUGH = 30
"""Prompts with both kinds of pairs; with fewer a comparer is taken for a coin."""

_CANDIDATES = 60
"""So many thresholds are tried."""


@dataclass(frozen=True, slots=True)
class Told:
    """Of every pair of replies (items, workers, workers): the logarithm of the chance of what is known of it if the two are
    the `same`, and if they `differ`. Both 0: nothing is. `collision` as in `Comparer`.
    """

    same: Any
    differ: Any
    collision: float

    @classmethod
    def of(cls, comparer: Comparer, verdicts: Any, values: Any = None) -> "Told":
        """`verdicts`: 1 the same, 0 not, nan nothing said; `values`: class numbers of replies whose values tell, -2 where not."""
        said = np.stack([verdicts == 1, verdicts == 0])
        parts = []
        for same in (True, False):
            yes, no = comparer.weight(True, same), comparer.weight(False, same)
            parts.append(np.where(said[0], yes, np.where(said[1], no, 0.0)))
        if values is not None:
            known = (values[:, :, None] > -2) & (values[:, None, :] > -2)
            equal = values[:, :, None] == values[:, None, :]
            parts[0] = np.where(known, np.where(equal, 0.0, -np.inf), parts[0])
            parts[1] = np.where(known, np.where(equal, -np.inf, 0.0), parts[1])
        return cls(parts[0], parts[1], comparer.collision)

    def at(self, which: Any) -> "Told":
        """Some of the items."""
        return Told(self.same[which], self.differ[which], self.collision)

    def among(self, workers: Sequence[int]) -> "Told":
        """Some of the workers, in this order."""
        pairs = np.ix_(range(len(self.same)), list(workers), list(workers))
        return Told(self.same[pairs], self.differ[pairs], self.collision)


def cosines(vectors: Any) -> Any:
    """Of every pair of replies to an item (items, workers, workers), from vectors (items, workers, dimensions); nan for none."""
    size = np.sqrt((vectors**2).sum(2, keepdims=True))
    unit = np.divide(vectors, size, out=np.full_like(vectors, np.nan), where=size > 0)
    return np.einsum("iad,ibd->iab", unit, unit)


@dataclass(frozen=True, slots=True)
class Learned:
    """A comparer with its error, and what it rests on: `items` with both kinds of pairs, `pairs` in them, how well what was
    measured ranks the same above the different within an item (`auc`), and 95 % intervals over items of that, and of
    sensitivity + specificity - 1 (`edge`; an interval with 0 in it makes a coin).
    """

    comparer: Comparer
    items: int
    pairs: int
    auc: float
    auc_interval: tuple[float, float]
    edge: float
    edge_interval: tuple[float, float]

    @property
    def told(self) -> dict[str, Any]:
        """For an artefact's provenance."""
        return {
            "items": self.items,
            "pairs": self.pairs,
            "auc": round(self.auc, 4),
            "auc_interval": [round(v, 4) for v in self.auc_interval],
            "edge": round(self.edge, 4),
            "edge_interval": [round(v, 4) for v in self.edge_interval],
        }


def error(
    measured: Any,
    scores: Any,
    by: Literal["embedding", "judge"],
    worker: str,
    *,
    usd: float = 0.0,
    seed: int = 0,
) -> Learned:
    """How often a comparer is right. `measured` (items, workers, workers): cosines, or 1 and 0 of a judge; nan: not compared."""
    upper = np.triu_indices(scores.shape[1], 1)
    value = measured[:, upper[0], upper[1]]
    right = scores >= 0.5
    both = right[:, upper[0]] & right[:, upper[1]]
    one = right[:, upper[0]] ^ right[:, upper[1]]
    known = ~np.isnan(value)
    same, other = both & known, one & known
    usable = same.any(1) & other.any(1)
    value, same, other = value[usable], same[usable], other[usable]
    wrong = ~right[:, upper[0]] & ~right[:, upper[1]] & known
    base = Comparer(by, worker, 0.5, 0.5, usd=usd)
    none = (0.0, 0.0)
    pairs = int(same.sum() + other.sum())
    if len(value) < _ENOUGH:
        return Learned(base, len(value), pairs, 0.5, none, 0.0, none)
    thresholds = [0.5]
    if by == "embedding":
        thresholds = np.quantile(value[same | other], np.linspace(0.02, 0.98, _CANDIDATES)).tolist()
    yes, no = np.stack([_shares(value, same, other, t) for t in thresholds], axis=1)  # thresholds, items
    place = int((yes - no).mean(1).argmax())
    edges = (yes - no)[place]
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(edges), (2000, len(edges)))
    # a little towards a coin, as if one more item had said so
    count = len(edges)
    sensitivity = (yes[place].sum() + 0.5) / (count + 1)
    specificity = (count - no[place].sum() + 0.5) / (count + 1)
    ranks = np.array([_auc(v[s], v[o]) for v, s, o in zip(value, same, other, strict=True)])
    low, high = np.quantile(edges[draws].mean(1), (0.025, 0.975))
    bounds = np.quantile(ranks[draws].mean(1), (0.025, 0.975))
    found = replace(base, threshold=float(thresholds[place]))
    if low > 0:
        every = measured[:, upper[0], upper[1]][wrong]
        share = float((every >= found.threshold).mean()) if len(every) else 0.2
        collision = (share - (1 - specificity)) / (sensitivity + specificity - 1)
        found = replace(
            found,
            sensitivity=float(sensitivity),
            specificity=float(specificity),
            collision=float(np.clip(collision, 0.02, 0.8)),
        )
    edge = (float(low), float(high))
    return Learned(
        found,
        count,
        pairs,
        float(ranks.mean()),
        (float(bounds[0]), float(bounds[1])),
        float(edges.mean()),
        edge,
    )


def _shares(value: Any, same: Any, other: Any, threshold: float) -> tuple[Any, Any]:
    """Of each item: the share of same pairs, and of different ones, that are called the same."""
    yes = value >= threshold
    return (yes & same).sum(1) / same.sum(1), (yes & other).sum(1) / other.sum(1)


def _auc(same: Any, other: Any) -> float:
    difference = same[:, None] - other[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def drawn(comparer: Comparer, classes: Any, seed: int = 0) -> Any:
    """Verdicts by the comparer's known error on replies of these classes: where asking about every pair would cost too much."""
    rng = np.random.default_rng(seed)
    equal = (classes[:, :, None] == classes[:, None, :]) & (classes[:, :, None] >= 0)
    yes = np.where(equal, comparer.sensitivity, 1 - comparer.specificity)
    said = rng.random(equal.shape) < yes
    upper = np.triu(np.ones(equal.shape[1:], dtype=bool), 1)
    return np.where(upper, said, said.transpose(0, 2, 1)).astype(float)


def assumed(told: Told, scores: Any, speaks: Any, seed: int = 0) -> Any:
    """Classes of the replies as far as the scores tell (right ones are the same, and not what wrong ones are); which wrong ones
    are the same is drawn, as likely as the comparer makes it. -1: no answer (`speaks` is false).
    """
    rng = np.random.default_rng(seed)
    items, workers = scores.shape
    right = (scores >= 0.5) & speaks
    found = np.where(right, right.argmax(1)[:, None], -1)
    ways = {n: divisions(n) for n in range(1, min(workers, 7) + 1)}
    for item in range(items):
        wrong = np.flatnonzero(speaks[item] & ~right[item])[:7]
        rest = np.flatnonzero(speaks[item] & ~right[item])[7:]
        found[item, rest] = rest
        if not len(wrong):
            continue
        rows = ways[len(wrong)]
        total = likely(rows, np.full((1, len(wrong)), -8.0), told.collision)[:, 0]
        for a in range(len(wrong)):
            for b in range(a):
                pair = item, wrong[b], wrong[a]
                total = total + np.where(rows[:, a] == rows[:, b], told.same[pair], told.differ[pair])
        chance = np.exp(total - total.max())
        row = rows[rng.choice(len(rows), p=chance / chance.sum())]
        found[item, wrong] = wrong[[int((row == part).argmax()) for part in row]]
    return found


def lattice(
    posteriors: Sequence[Posterior],
    fold: Any,
    told: Told,
    speaks: Any,
    logits: Any,
    scores: Any,
    costs: Any,
    lengths: Any = None,
    after: Any = None,
) -> Lattice:
    """As `Lattice.of`, but of what is believed when nothing but `told` says who agrees with whom (`equivalence.softly`).

    `speaks`: who gave an answer at all. For shortlists of up to five: six have four times as many ways to be divided.
    """
    items, workers = scores.shape
    first = np.zeros((1 << workers, items), dtype=np.float32)
    second, score = np.zeros_like(first), np.zeros_like(first)
    pattern = (speaks << np.arange(workers)).sum(1)
    for number, posterior in enumerate(posteriors):
        for spoke in np.unique(pattern[fold == number]):
            at = np.flatnonzero((fold == number) & (pattern == spoke))
            for mask in range(1, 1 << workers):
                asked = np.broadcast_to([bool(mask >> k & 1) for k in range(workers)], (len(at), workers))
                odds = logits[at] if after is None else np.where(asked, after[at], logits[at])
                places = [k for k in range(workers) if (mask & int(spoke)) >> k & 1]
                long = None if lengths is None else lengths[at]
                found = _believed(posterior, told.at(at), places, odds, asked, long)
                first[mask, at], second[mask, at] = found.first, found.second
                score[mask, at] = scores[at, found.speaker]
    return Lattice(first, second, score, logits, costs)


def _believed(
    posterior: Posterior, told: Told, places: list[int], odds: Any, asked: Any, lengths: Any
) -> Any:
    rows = divisions(len(places))
    total = likely(rows, odds[:, places], told.collision) if places else np.zeros((1, len(odds)))
    for a in range(len(places)):
        for b in range(a):
            equal = (rows[:, a] == rows[:, b])[:, None]
            total = total + np.where(
                equal, told.same[:, places[b], places[a]], told.differ[:, places[b], places[a]]
            )
    chance = np.exp(total - total.max(0))
    chance /= chance.sum(0)
    classes = np.full((len(rows), *odds.shape), -1)
    classes[:, :, places] = rows[:, None, :]
    found = np.stack([posterior.chances(way, odds, asked, lengths) for way in classes])
    return mean_over(found, classes, chance, odds, asked)


def _open(values: Any) -> Any:
    """The pairs (items, workers, workers) that a comparer is for: those whose values do not tell. Without free texts, all."""
    free = values == -2
    free = free[:, :, None] | free[:, None, :]
    return free if free.any() else ~free


def pairs_of(data: Matrix, values: Any, most: int, seed: int = 0) -> list[tuple[int, int, int]]:
    """Pairs to ask a judge about (item, worker, worker): of train items by lot, one that is the same and one that is not."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, int, int]] = []
    usable = (values != -1) & np.array([i.split == "train" for i in data.items])[:, None]
    open_ = _open(values)
    right = (data.scores >= 0.5) & usable
    wrong = (data.scores < 0.5) & usable
    for item in rng.permutation(len(usable)):
        good, bad = np.flatnonzero(right[item]), np.flatnonzero(wrong[item])
        if len(good) > 1 and len(bad):
            one, two = (int(k) for k in rng.choice(good, 2, replace=False))
            third, other = int(rng.choice(good)), int(rng.choice(bad))
            if open_[item, one, two] and open_[item, third, other]:
                found += [
                    (int(item), min(one, two), max(one, two)),
                    (int(item), min(third, other), max(third, other)),
                ]
        if len(found) >= most:
            break
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparer beside a table: what is known of each pair of replies to each item. `rows`: the place of each item by its id.

    It gives `learning.evidence.training.learn` the classes to learn from, and the lattice of what will be believed.
    """

    comparer: Comparer
    workers: tuple[str, ...]
    rows: Mapping[str, int]
    told: Told
    speaks: Any
    found: Mapping[str, Any]

    @classmethod
    def of(
        cls, comparer: Comparer, data: Matrix, verdicts: Any, values: Any, found: Mapping[str, Any]
    ) -> "Comparison":
        """`verdicts` as for `Told.of`. Those of a judge that were not asked for are drawn by its error, from what scores tell."""
        speaks = values != -1
        told = Told.of(comparer, verdicts, values)
        if comparer.by == "judge":
            classes = assumed(told, data.scores, speaks)
            told = Told.of(comparer, np.where(np.isnan(verdicts), drawn(comparer, classes), verdicts), values)
        return cls(
            comparer, data.workers, {i.id: row for row, i in enumerate(data.items)}, told, speaks, found
        )

    def _part(self, data: Matrix) -> tuple[Told, Any]:
        rows = [self.rows[i.id] for i in data.items]
        columns = [self.workers.index(w) for w in data.workers]
        return self.told.at(rows).among(columns), self.speaks[np.ix_(rows, columns)]

    def taught(self, artefact: Artifact) -> Artifact:
        """An evidence artefact that knows the comparer."""
        chosen = dict(artefact.provenance.get("chosen", {})) | {"comparing": dict(self.found)}
        data = dict(artefact.data) | {"comparing": self.comparer.data}
        return Artifact(artefact.schema, dict(artefact.provenance) | {"chosen": chosen}, data)

    def assumed(self, data: Matrix) -> Matrix:
        """The table with classes as the scores and the comparer tell."""
        told, speaks = self._part(data)
        return replace(data, classes=assumed(told, data.scores, speaks))

    def lattice(
        self,
        posteriors: Sequence[Posterior],
        fold: Any,
        data: Matrix,
        logits: Any,
        lengths: Any = None,
        after: Any = None,
    ) -> Lattice:
        """As serving will believe. Every ask costs what comparing its reply costs, too."""
        told, speaks = self._part(data)
        costs = data.costs + (self.comparer.usd if self.comparer.informed else 0.0)
        return lattice(posteriors, fold, told, speaks, logits, data.scores, costs, lengths, after)


# --- from whole replies ------------------------------------------------------------------------------------------


def values_of(texts: Sequence[Sequence[str]], last_line: bool) -> Any:
    """Class numbers of the replies whose values tell, -1 for no answer, -2 for free texts: as serving sees them."""
    rows = []
    for row in texts:
        found = [said(Message("assistant", text), last_line=last_line) for text in row]
        numbers = classes([v if v is not None else "" for v in found])
        rows.append([-2 if v is None else n for v, n in zip(found, numbers, strict=True)])
    return np.array(rows)


def static(texts: Sequence[Sequence[str]]) -> Any:
    """Cosines of all pairs of replies to each item, by the embedding that ships."""
    model = shipped()
    return cosines(np.array([[model.vector(t[-LONGEST:]) for t in row] for row in texts], dtype=np.float64))


def of_vectors(items: int, workers: int, vectors: Mapping[tuple[int, int], Sequence[float]]) -> Any:
    """The same from vectors by (item, worker); who has none cannot be compared."""
    wide = np.zeros((items, workers, len(next(iter(vectors.values())))))
    for place, vector in vectors.items():
        wide[place] = vector
    return cosines(wide)


def of_verdicts(items: int, workers: int, verdicts: Mapping[tuple[int, int, int], bool]) -> Any:
    """Verdicts by (item, worker, worker) as an array, nan where there is none."""
    found = np.full((items, workers, workers), np.nan)
    for (item, one, other), same in verdicts.items():
        found[item, one, other] = found[item, other, one] = float(same)
    return found


def learned(
    data: Matrix,
    measured: Any,
    values: Any,
    by: Literal["embedding", "judge"],
    worker: str,
    *,
    usd: float,
    wordings: Wordings | None,
) -> tuple[Learned, Comparison]:
    """The error of a comparer, learned on train, and the comparer beside the whole table."""
    train = np.array([i.split == "train" for i in data.items])
    asked = np.where(_open(values), measured, np.nan)
    found = error(asked[train], data.scores[train], by, worker, usd=usd)
    comparer = found.comparer if wordings is None else replace(found.comparer, wordings=wordings)
    verdicts = np.where(np.isnan(measured), np.nan, measured >= comparer.threshold)
    return found, Comparison.of(comparer, data, verdicts, values, found.told)
