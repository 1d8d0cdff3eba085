"""Learns how far a verifier can be trusted to say whether a reply is right, and where its verdicts pay.

Recorded scores say what is right. A verifier is shown one right and one wrong reply to the same prompt: else one that says yes to
easy prompts would pass for one that sees what is right, and how easy a prompt is is known without it. What verdicts bring is
what `evidence.prospects` does with them on items whose chances are cross-fitted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from stretto.artifacts import Artifact
from stretto.evaluation.tables import Item
from stretto.learning.evidence.lattice import Lattice, Walk
from stretto.learning.evidence.risk import certified_data
from stretto.learning.evidence.training import Learned, Matrix
from stretto.policies.evidence.odds import task_nearness
from stretto.policies.evidence.prospects import ACCEPTED, HEARD, OPEN, REJECTED, Prospects, hardness
from stretto.policies.evidence.verification import Rates, Verifier, lift
from stretto.policies.judging import Wordings

__all__ = ["Judged", "error", "free_of", "replies_of", "spread_of", "taught", "walked"]

_ENOUGH: Final = 30
"""Prompts with a verdict on a right and on a wrong reply; with fewer a verifier is taken for a coin."""

_STRENGTH: Final = 20.0
"""A task's own verdicts count beside so many of all tasks."""

_BATCH: Final = 256

_BOUGHT: Final = 0.01
"""Verdicts that a request takes at least on average where it is said that they pay."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verifier's rates over all `items`, and of each task (rates, their 95 % intervals, items); `edge` is sensitivity +
    specificity - 1. An interval of it with 0 in it makes a coin: then all rates are one half.
    """

    rates: Rates
    tasks: Mapping[str, tuple[Rates, tuple[Rates, Rates], int]]
    items: int
    edge: float
    edge_interval: tuple[float, float]

    @property
    def informed(self) -> bool:
        """Whether it can be told from a coin."""
        return self.edge_interval[0] > 0

    def of_task(self, name: str) -> Rates:
        """Those of a task; of one without verdicts, those of all."""
        return self.tasks[name][0] if name in self.tasks else self.rates

    @property
    def told(self) -> dict[str, Any]:
        """For an artefact's provenance."""
        tasks = {
            name: {"rates": _short(rates), "intervals": [_short(i) for i in intervals], "items": n}
            for name, (rates, intervals, n) in self.tasks.items()
        }
        found = {"items": self.items, "rates": _short(self.rates), "tasks": tasks}
        return found | {"edge": round(self.edge, 4), "edge_interval": _short(self.edge_interval)}


def _short(pair: Sequence[float]) -> list[float]:
    return [round(float(v), 4) for v in pair]


def free_of(values: Any) -> Any:
    """The items whose replies cannot be compared (a mask), from `comparing.values_of`."""
    return (values < 0).all(1) & (values == -2).any(1)


def replies_of(data: Matrix, values: Any, most: int, author: str, seed: int = 0) -> list[tuple[int, int]]:
    """Replies to show a verifier (item, worker), at most so many: of train items by lot a right and a wrong one, none its own.

    Only replies that cannot be compared, or all where there are no such.
    """
    rng = np.random.default_rng(seed)
    usable = (values == -2) if (values == -2).any() else values != -1
    usable = usable & np.array([i.split == "train" for i in data.items])[:, None]
    usable &= np.array([w != author for w in data.workers])
    found: list[tuple[int, int]] = []
    for item in rng.permutation(len(usable)):
        good = np.flatnonzero(usable[item] & (data.scores[item] >= 0.5))
        bad = np.flatnonzero(usable[item] & (data.scores[item] < 0.5))
        if len(found) + 2 > most:
            break
        if len(good) and len(bad):
            found += [(int(item), int(rng.choice(good))), (int(item), int(rng.choice(bad)))]
    return found


def error(verdicts: Mapping[tuple[int, int], bool], data: Matrix, seed: int = 0) -> Judged:
    """How often a verifier is right, from its verdicts on replies (item, worker)."""
    from scipy.stats import beta

    right: dict[int, bool] = {}
    wrong: dict[int, bool] = {}
    for (item, worker), yes in verdicts.items():
        (right if data.scores[item, worker] >= 0.5 else wrong)[item] = yes
    both = sorted(right.keys() & wrong.keys())
    coin = (0.5, 0.5)
    if len(both) < _ENOUGH:
        return Judged(coin, {}, len(both), 0.0, (0.0, 0.0))
    hits = np.array([[right[item], not wrong[item]] for item in both], dtype=np.float64)
    edges = hits.sum(1) - 1
    rng = np.random.default_rng(seed)
    low, high = np.quantile(
        edges[rng.integers(0, len(edges), (2000, len(edges)))].mean(1), (0.025, 0.975)
    ).tolist()
    # a little towards a coin, as if one more item had said so
    rates = (hits.sum(0) + 0.5) / (len(hits) + 1) if low > 0 else np.array(coin)
    names = np.array([data.items[item].task for item in both])
    tasks = {}
    for name in sorted(set(names.tolist())):
        own = hits[names == name]
        yes, no = own.sum(0) + _STRENGTH * rates, len(own) - own.sum(0) + _STRENGTH * (1 - rates)
        mean = _pair(yes / (yes + no)) if low > 0 else coin
        bounds = _pair(beta.ppf(0.025, yes, no)), _pair(beta.ppf(0.975, yes, no))
        tasks[name] = (mean, bounds, len(own))
    return Judged(_pair(rates), tasks, len(both), float(edges.mean()), (low, high))


def _pair(of: Any) -> Rates:
    return float(of[0]), float(of[1])


def spread_of(logits: Any, scores: Any) -> float:
    """The deviation of the hidden hardness (`evidence.prospects`) that makes the recorded scores likeliest."""
    nodes, weights = hardness()
    right = scores[:, :, None] >= 0.5
    found = []
    for spread in np.arange(0.0, 4.01, 0.25):
        z = (logits * np.sqrt(1 + 0.346 * spread**2))[:, :, None] + spread * nodes
        each = -np.logaddexp(0.0, np.where(right, -z, z)).sum(1)
        found.append((float(np.log((np.exp(each) * weights).sum(1)).sum()), float(spread)))
    return max(found)[1]


def walked(
    lattice: Lattice,
    verifier: Verifier,
    rates: Any,
    verdicts: Any,
    us: Sequence[float],
    unit: float,
    shown: Any,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Walk, Any]:
    """What buying replies and verdicts brings at each of `us`, and how many verdicts it takes (prices, items).

    `rates` (items, 2) are those that it goes by, `verdicts` (items, workers) what the verifier says; `shown` (workers): whose
    replies it may be shown.
    """
    items, workers = lattice.logits.shape
    wide = [np.zeros((len(us), items)) for _ in range(5)]
    single = [1 << k for k in range(workers)]
    lifts = np.stack([lift(lattice.first[m], lattice.logits[:, k]) for k, m in enumerate(single)], axis=1)
    scores = np.stack([lattice.score[m] for m in single], axis=1)
    for place, u in enumerate(us):
        for start in range(0, items, _BATCH):
            at = np.arange(start, min(items, start + _BATCH))
            paid = u * lattice.paid / unit, u * verifier.paid
            parts = _followed(lattice, lifts, scores, verifier, rates, verdicts, paid, shown, at)
            for whole, part in zip(wide, parts, strict=True):
                whole[place, at] = part
        say(f"price {u}")
    score, cost, calls, sure, checks = wide
    return Walk(score, cost, calls, sure), checks


def _followed(
    lattice: Lattice,
    lifts: Any,
    scores: Any,
    verifier: Verifier,
    rates: Any,
    verdicts: Any,
    paid: tuple[Any, float],
    shown: Any,
    at: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """The choices of some items, one step of all at a time."""
    workers = lattice.logits.shape[1]
    known = np.full((len(at), workers), OPEN)
    score, cost, calls, sure, checks = (np.zeros(len(at)) for _ in range(5))
    going = np.arange(len(at))
    while len(going):
        items, now = at[going], known[going]
        seen = Prospects.of(
            lattice.logits[items],
            now,
            np.where(now > OPEN, lifts[items], 1.0),
            np.ones(now.shape, dtype=bool),
            np.broadcast_to(shown, now.shape),
            *paid,
            rates[items],
            verifier.spread,
        )
        worths = seen.worths()
        worths[(now == OPEN).all(1), 0] = -np.inf
        picked = worths.argmax(1)
        stops = picked == 0
        chance = np.where(now > OPEN, seen.sure, -1.0)
        speaker = chance.argmax(1)
        score[going[stops]] = scores[items, speaker][stops]
        sure[going[stops]] = chance.max(1)[stops]
        for k in range(workers):
            asks, shows = picked == 1 + k, picked == 1 + workers + k
            known[going[asks], k] = HEARD
            cost[going[asks]] += lattice.costs[items[asks], k]
            calls[going[asks]] += 1
            known[going[shows], k] = np.where(verdicts[items[shows], k], ACCEPTED, REJECTED)
            cost[going[shows]] += verifier.usd
            checks[going[shows]] += 1
        going = going[~stops]
    return score, cost, calls, sure, checks


def _said(
    judged: Judged, rates: Any, scores: Any, verdicts: Mapping[tuple[int, int], bool], seed: int = 0
) -> Any:
    """What the verifier says of every reply: what it said, and drawn by its known error where it was not asked."""
    yes = np.where(scores >= 0.5, rates[:, :1], 1 - rates[:, 1:])
    found = np.random.default_rng(seed).random(scores.shape) < yes
    for place, said in verdicts.items():
        found[place] = said
    return found


def taught(
    made: Artifact,
    learned: Learned,
    data: Matrix,
    judged: Judged,
    verdicts: Mapping[tuple[int, int], bool],
    *,
    worker: str,
    usd: float,
    wordings: Wordings,
    free: Any,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Artifact, Walk, Verifier]:
    """An evidence artefact that knows a verifier, and what it brings then on train, cross-fitted; `free`: as `free_of` says.

    It serves at the prices where it was worth more than doing without it, with 95 %, and for tasks whose answers mostly cannot
    be compared. Where nothing was learned of a task, as for all together.
    """
    train = np.flatnonzero([i.split == "train" for i in data.items])
    columns = [data.workers.index(w) for w in learned.workers]
    names, free = learned.prompts.tasks, np.asarray(free)[train]
    label = np.array([data.items[i].task for i in train])
    of_tasks = tuple(None if free[label == name].mean() <= 0.5 else judged.of_task(name) for name in names)
    lattice, unit = learned.train, learned.unit
    spread = spread_of(lattice.logits, data.scores[np.ix_(train, np.array(columns))])
    count = len(learned.prices)
    verifier = Verifier(
        worker,
        judged.rates,
        of_tasks,
        spread,
        usd / unit if unit else 0.0,
        usd,
        (False,) * count,
        (0.0,) * count,
        (0.0,) * count,
        wordings=wordings,
    )
    crossed = learned.crossed
    if names:
        near = _nearest(learned, [data.items[i] for i in train])
        free &= np.array([of is not None for of in of_tasks])[near]
        mine = np.array([of or judged.rates for of in of_tasks])[near]
    else:
        free &= free.mean() > 0.5
        mine = np.tile(judged.rates, (len(train), 1))
    if judged.informed and free.any() and unit:
        rows = {int(item): row for row, item in enumerate(train)}
        places = {worker: k for k, worker in enumerate(columns)}
        asked = {(rows[i], places[w]): yes for (i, w), yes in verdicts.items() if i in rows and w in places}
        said = _said(judged, mine, data.scores[np.ix_(train, np.array(columns))], asked)
        shown = np.array([w != worker for w in learned.workers])
        at = np.flatnonzero(free)
        few, us = lattice.only(at), learned.prices
        part, checks = walked(few, verifier, mine[at], said[at], us, unit, shown, say)
        bare, _ = walked(few, verifier, mine[at], said[at], us, unit, shown & False)
        verifier, crossed = _serving(verifier, learned, part, checks, bare, at)
    best = learned.pool[learned.best]
    if best in learned.workers:
        place = learned.workers.index(best)
        base = lattice.score[1 << place], lattice.costs[:, place]
        proof = certified_data(learned.prices, crossed, *base, best, learned.tasks)
        verifier = replace(verifier, certified=proof)
    chosen = dict(made.provenance.get("chosen", {})) | {"verifying": judged.told}
    data_ = dict(made.data) | {"verifying": verifier.data}
    return Artifact(made.schema, dict(made.provenance) | {"chosen": chosen}, data_), crossed, verifier


def _nearest(learned: Learned, items: Sequence[Item]) -> Any:
    """The place of the known task that each item is most like: what serving goes by."""
    centres = learned.prompts.centres
    return task_nearness(learned.prompts.matrix(items)[:, : centres.shape[1]], centres).argmax(1)


def _serving(
    verifier: Verifier, learned: Learned, part: Walk, checks: Any, bare: Walk, at: Any
) -> tuple[Verifier, Walk]:
    """At which prices verdicts pay for the items `at`, and what all items bring then.

    They must be worth more than what was learned without them, and than what reckoning brings without them (`bare`).
    """
    old, per = learned.crossed, np.array(learned.prices)[:, None] / learned.unit
    serves = checks.mean(1) > _BOUGHT
    for score, cost in ((old.score[:, at], old.cost[:, at]), (bare.score, bare.cost)):
        gain = (part.score - per * part.cost) - (score - per * cost)
        serves &= gain.mean(1) - 1.96 * gain.std(1) / np.sqrt(len(at)) > 0
    mixed = [a.copy() for a in (old.score, old.cost, old.calls, old.sure)]
    for whole, new in zip(mixed, (part.score, part.cost, part.calls, part.sure), strict=True):
        whole[np.ix_(serves, at)] = new[serves]
    told = replace(
        verifier,
        serves=tuple(serves.tolist()),
        calls=tuple(part.calls.mean(1).round(3).tolist()),
        checks=tuple(checks.mean(1).round(3).tolist()),
    )
    return told, Walk(*mixed)
