"""Learns the sequential evidence policy from a table: features, worker success, shortlist, posterior, and the values of stopping.

Everything is fitted on the items of split `train`, and what is reported of them is cross-fitted; `dev` is looked at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from stretto.artifacts import Artifact, packed
from stretto.learning.evidence.assurance import assured, moved, stating
from stretto.learning.evidence.drift import fit_agreement
from stretto.learning.evidence.features import data_of as text_data
from stretto.learning.evidence.lattice import Lattice, Solved, Walk, choices, solve, walk
from stretto.learning.evidence.matrices import Matrix, is_exclusive, matrix
from stretto.learning.evidence.pools import values_data
from stretto.learning.evidence.posterior import fit_posterior, rows_of
from stretto.learning.evidence.prompts import Prompts
from stretto.learning.evidence.reading import read_replies, reread
from stretto.learning.evidence.risk import certified_data
from stretto.learning.evidence.rounds import Rounds, solve_rounds, walk_rounds
from stretto.learning.evidence.shortlists import shortlist
from stretto.learning.evidence.success import Logistic, Means, cross_fitted, folds, log_odds
from stretto.learning.evidence.trees import available
from stretto.policies.evidence.assurance import Assurance, Stated
from stretto.policies.evidence.beliefs import Posterior
from stretto.policies.evidence.reading import Reading
from stretto.policies.evidence.standing import Moves
from stretto.policies.evidence.trees import Trees
from stretto.policies.sequential import EVIDENCE_SCHEMA

__all__ = [
    "PENALTIES",
    "PRICES",
    "Learned",
    "Matrix",
    "Prompts",
    "artefact",
    "cross_rounds",
    "cross_walk",
    "is_exclusive",
    "learn",
    "matrix",
    "nats",
    "shortlist",
    "summary",
    "values",
]

PRICES = (
    *(0.0005, 0.003, 0.006, 0.01, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1),
    *(0.115, 0.13, 0.15, 0.18, 0.21, 0.25, 0.32, 0.4, 0.6, 1.0),
)
"""Usual prices: how much accuracy one call of the best single worker is worth. The dial goes along them, in steps of .05."""

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Weaker and weaker penalties of the worker-success regression (`success.Logistic.c`), until two in a row foretell worse."""

SHARING = ((5.0, 0.4), (20.0, 0.3))
"""How much more the workers' regressions may have in common, and less each for itself (`success.Logistic.common`, `own`)."""

WITHIN = (0.12, 0.2, 0.35)
"""How far behind the best worker another one may be to stand in a shortlist: each is tried."""

LOTS, FEWER = 3, 600
"""So many more searches, each on so few items by lot: a greedy search may miss a good list by a hair."""

SAMPLE = 2500
"""So many items are enough to compare shortlists."""

LONGEST = 4.0
"""A reply counts as at most so many deviations longer or shorter than the worker's usual ones."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Everything that was learned, and the lattices to measure it on: `train` cross-fitted, `dev` unseen (if there is any).

    `stated`: how sure it is called of an answer that it stopped at, `said` (prices, items): what that is on train, cross-fitted.
    `usual` holds mean and deviation of each worker's log reply length. `rich`: which regressors the values have. `crossed`: what
    the policy brings on train at each of `prices`, cross-fitted. `told`: what was chosen between, with the figures that decided.
    """

    workers: tuple[str, ...]
    pool: tuple[str, ...]
    best: int
    unit: float
    prompts: Prompts
    success: Logistic | Means
    posterior: Posterior
    usual: Any
    rich: bool
    train: Lattice
    dev: Lattice | None
    fold: Any
    router: tuple[Any, Any]
    crossed: Walk
    told: Mapping[str, Any]
    reading: Reading | None = None
    unread: Posterior | None = None
    assurance: Assurance | None = None
    agreement: Any = None
    moves: Moves | None = None
    prices: Sequence[float] = PRICES
    stated: Stated | None = None
    said: Any = None
    tasks: Sequence[str] = ()


def nats(chance: Any, right: Any) -> float:
    """Mean log-loss, where it is known what was right."""
    p = np.clip(chance, 1e-6, 1 - 1e-6)
    return float(-np.nanmean(right * np.log(p) + (1 - right) * np.log(1 - p)))


def _lengths(data: Matrix, usual: Any) -> Any:
    """How much longer each reply is than the worker's usual ones, in deviations; 0 where it is not known."""
    mean, deviation = usual
    return np.nan_to_num(np.clip((data.tokens - mean) / deviation, -LONGEST, LONGEST))


def _usual(data: Matrix) -> Any:
    known = ~np.isnan(data.tokens)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, data.tokens, 0.0).sum(0) / count
    spread = np.sqrt((np.where(known, data.tokens - mean, 0.0) ** 2).sum(0) / count)
    return np.stack([mean, np.where(spread > 1e-3, spread, 1.0)])


def _worth(data: Matrix, chance: Any, fold: Any, chosen: Sequence[int], unit: float) -> float:
    """The mean worth of asking these workers over several prices, cross-fitted, with the quicker form of the posterior."""
    at = np.sort(np.random.default_rng(1).permutation(len(fold))[:SAMPLE])
    few, logits, fold = data.of(chosen), log_odds(chance[:, chosen])[at], fold[at]
    long = _lengths(few, _usual(few))[at]
    there = few.there[at]
    parts = few.classes[at], logits, few.scores[at], long, logits, there
    sure = is_exclusive(few)
    fits = [
        fit_posterior(*(a[fold != f] for a in parts), exclusive=sure, trees=False)
        for f in range(int(fold.max()) + 1)
    ]
    said = few.classes[at], logits, few.scores[at], few.costs[at]
    lattice = Lattice.of(fits, fold, *said, long, there=there)
    per = [u / unit if unit else 0.0 for u in PRICES[2::3]]
    return float(cross_walk(lattice, per).worth(per).mean())


def _shortlisted(
    train: Matrix, chance: Any, fold: Any, size: int, best: int, told: dict[str, Any]
) -> list[int]:
    """Of several shortlists the one that is worth most, cross-fitted."""
    unit = float(train.costs[:, best].mean())
    lists: dict[tuple[int, ...], str] = {}
    for within in WITHIN:
        found = shortlist(train, log_odds(chance), size, best, within=within)
        lists[tuple(found)] = f"within {100 * within:.0f} points"
        if size > 5:
            lists.setdefault(tuple(found[:5]), f"within {100 * within:.0f} points, the first 5")
    for lot in range(1, LOTS + 1):
        found = shortlist(train, log_odds(chance), size, best, within=WITHIN[0], seed=lot, sample=FEWER)
        lists.setdefault(tuple(found), f"within {100 * WITHIN[0]:.0f} points, lot {lot}")
    if len(lists) == 1:
        return list(next(iter(lists)))
    worths = {chosen: _worth(train, chance, fold, chosen, unit) for chosen in lists}
    told["shortlists"] = {lists[chosen]: round(100 * worth, 3) for chosen, worth in worths.items()}
    return list(max(worths.items(), key=lambda pair: pair[1])[0])


def _success(
    x: Any, train: Matrix, fold: Any, text: bool, loose: int, told: dict[str, Any]
) -> tuple[Any, Any]:
    """The cross-fitted chances of all workers, and the estimator of the penalty that foretells best."""
    if not text:
        return cross_fitted(Means, x, train.scores, fold), Means().fit(x, train.scores)
    losses: dict[float, float] = {}
    best, chance, worse = PENALTIES[0], None, 0
    for c in PENALTIES:
        found = cross_fitted(lambda c=c: Logistic(c, loose=loose), x, train.scores, fold)
        losses[c] = nats(found, train.scores)
        if losses[c] <= losses[best]:
            best, chance, worse = c, found, 0
        elif (worse := worse + 1) == 2:
            break
    told["success nats"] = {str(c): round(loss, 4) for c, loss in losses.items()}
    least, form = losses[best], partial(Logistic, best, loose=loose)
    for common, own in SHARING:
        sharing = partial(form, common=common, own=own)
        found = cross_fitted(sharing, x, train.scores, fold)
        loss = nats(found, train.scores)
        told["success nats"][f"common {common:g}, own {own:g}"] = round(loss, 4)
        if loss < least:
            least, chance, form = loss, found, sharing
    return chance, form().fit(x, train.scores)


def _sloped(
    prompts: Prompts,
    x: Any,
    chance: Any,
    success: Any,
    train: Matrix,
    fold: Any,
    chosen: Sequence[int],
    told: dict[str, Any],
) -> tuple[Prompts, Any, Any, Any]:
    """The same without slopes of tasks, where the workers of the shortlist are foretold better without (cross-fitted)."""
    if prompts.spread is None:
        return prompts, x, chance, success
    plain = replace(prompts, spread=None)
    few = x[:, : -prompts.spread.size]
    form = partial(Logistic, success.c, loose=plain.loose, common=success.common, own=success.own)
    found = cross_fitted(form, few, train.scores, fold)
    losses = [nats(each[:, chosen], train.scores[:, chosen]) for each in (chance, found)]
    told["nats of the shortlist"] = dict(
        zip(("slopes", "none"), [round(loss, 4) for loss in losses], strict=True)
    )
    if losses[0] <= losses[1]:
        return prompts, x, chance, success
    return plain, few, found, form().fit(few, train.scores)


def _unseen(prompts: Prompts, success: Any, dev: Matrix) -> tuple[Any, Any]:
    """The features of items that nothing was learned from, and the chances of all workers."""
    if not dev.items:
        return np.zeros((0, 1)), np.zeros((0, len(dev.workers)))
    x = prompts.matrix(dev.items)
    return x, success.predict(x)


def _posteriors(
    few: Matrix,
    logits: Any,
    long: Any,
    after: Any,
    fold: Any,
    identity: bool,
    exclusive: bool,
    told: dict[str, Any],
) -> tuple[list[Posterior], Posterior]:
    """One posterior a fold that has not seen it, and one of all, in the form that foretells best (cross-fitted)."""
    parts = few.classes, logits, few.scores, long, logits if after is None else after, few.there
    kind = {"identity": identity, "exclusive": exclusive}
    found: dict[bool, list[Posterior]] = {}
    losses: dict[bool, float] = {}
    for trees in (False, True) if available() else (False,):
        found[trees] = [fit_posterior(*(a[fold != f] for a in parts), trees=trees, **kind) for f in range(5)]
        total = []
        for f, fit in enumerate(found[trees]):
            x, y = rows_of(*(a[fold == f] for a in parts), identity=identity, rounds=3, seed=9)
            total.append(nats(1 / (1 + np.exp(-np.clip(fit.form.log_odds(x), -30, 30))), y))
        losses[trees] = float(np.mean(total))
    best = min(losses, key=lambda trees: losses[trees])
    told["posterior nats"] = {("trees" if t else "linear"): round(loss, 4) for t, loss in losses.items()}
    return found[best], fit_posterior(*parts, trees=best, **kind)


def _unread(few: Matrix, logits: Any, long: Any, posterior: Posterior) -> Posterior:
    """What serves where there is no text to read, though it was learned with texts: the same form, from the prompts' log-odds."""
    parts = few.classes, logits, few.scores, long, None, few.there
    kind = {"identity": posterior.identity, "exclusive": posterior.exclusive}
    return fit_posterior(*parts, trees=isinstance(posterior.form, Trees), **kind)


@dataclass(frozen=True, slots=True)
class _Heeded:
    """What is heeded of a reply beside its value: its text, and how sure its worker was."""

    reading: Reading | None = None
    assurance: Assurance | None = None

    def after(self, logits: Any, data: Matrix) -> Any:
        """The log-odds of the workers once they have replied; `None` where nothing is heeded."""
        if self.reading is None and self.assurance is None:
            return None
        if self.reading is not None and (read := read_replies(data)) is not None:
            logits = self.reading.after(logits, read)
        if self.assurance is not None and data.confidence is not None:
            logits = self.assurance.after(logits, data.confidence)
        return logits


def _heeded(few: Matrix, logits: Any, fold: Any, told: dict[str, Any]) -> tuple[_Heeded, Any]:
    """What is worth heeding, and the log-odds after the replies, cross-fitted (`None`: as before). Texts only if that helps."""
    reading, assurance, after = None, None, None
    if (read := read_replies(few)) is not None:
        reading, found = reread(logits, read, few.scores, fold)
        before, then = (nats(1 / (1 + np.exp(-z)), few.scores) for z in (logits, found))
        told["reading nats"] = {"question": round(before, 4), "reply": round(then, 4)}
        if reading is not None and then < before:
            after = found
        else:
            reading = None
    if few.confidence is not None:
        base = logits if after is None else after
        assurance, after = assured(base, few.confidence, few.scores, fold)
        told["nats after replies"] = round(nats(1 / (1 + np.exp(-after)), few.scores), 4)
    return _Heeded(reading, assurance), after


def _plain(
    posteriors: Sequence[Posterior],
    fold: Any,
    data: Matrix,
    logits: Any,
    lengths: Any,
    after: Any,
    moves: Moves | None,
) -> Lattice:
    """The lattice where the classes of a table are what is known when it serves."""
    said = data.classes, logits, data.scores, data.costs
    return Lattice.of(posteriors, fold, *said, lengths, after, data.there, moves)


def learn(
    data: Matrix,
    *,
    size: int = 7,
    identity: bool = True,
    text: bool = True,
    dimensions: int = 128,
    exclusive: bool | None = None,
    names: Sequence[str] = (),
    prices: Sequence[float] = PRICES,
    lattice_of: Callable[..., Lattice] | None = None,
    seen: Prompts | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Learned:
    """The whole offline programme. `names` fixes the shortlist; the dial will go along `prices`, from the lowest to the highest.

    `seen`: what is seen of prompts, where that is not their words. `lattice_of`: what will be believed of each subset, where that
    is not as the classes tell (`comparing.Comparison.lattice`). `router` of the result: the chances of all workers, on train
    (cross-fitted) and dev.
    """
    is_train = np.array([i.split == "train" for i in data.items])
    train, dev = data.at(is_train), data.at(~is_train)
    told: dict[str, Any] = {}
    best = train.best
    unit = float(train.costs[:, best].mean())
    prompts = seen or (Prompts.learned(train.items, dimensions) if text else Prompts(None))
    x = prompts.matrix(train.items)
    say("features")
    fold = folds(len(train.items))
    chance, success = _success(x, train, fold, text, prompts.loose, told)
    say("success")
    chosen = [data.workers.index(n) for n in names] or _shortlisted(train, chance, fold, size, best, told)
    say("shortlist " + ", ".join(data.workers[k] for k in chosen))
    prompts, x, chance, success = _sloped(prompts, x, chance, success, train, fold, chosen, told)
    x_dev, chance_dev = _unseen(prompts, success, dev)
    few, few_dev = train.of(chosen), dev.of(chosen)
    usual = _usual(few)
    logits, logits_dev = log_odds(chance[:, chosen]), log_odds(chance_dev[:, chosen])
    sure = is_exclusive(few) if exclusive is None else exclusive
    long = _lengths(few, usual)
    heeded, after = _heeded(few, logits, fold, told)
    say("replies")
    fits, posterior = _posteriors(few, logits, long, after, fold, identity, sure, told)
    say("posterior")
    moves = moved(logits, after, few.there, few.classes)
    believing = lattice_of or partial(_plain, moves=moves)
    lattice = believing(fits, fold, few, logits, long, after)
    lattice_dev = None
    if len(dev.items):
        none = np.zeros(len(dev.items), dtype=int)
        later = heeded.after(logits_dev, few_dev)
        lattice_dev = believing([posterior], none, few_dev, logits_dev, _lengths(few_dev, usual), later)
    say("lattice")
    near = prompts.near(x), prompts.near(x_dev)
    lattice, lattice_dev, rich, crossed, *saying = _followed(lattice, lattice_dev, near, prices, unit, told)
    say("values")
    return Learned(
        few.workers,
        data.workers,
        best,
        unit,
        prompts,
        success,
        posterior,
        usual,
        rich,
        lattice,
        lattice_dev,
        fold,
        (chance, chance_dev),
        crossed,
        told,
        heeded.reading,
        None if heeded.reading is None else _unread(few, logits, long, posterior),
        heeded.assurance,
        fit_agreement(lattice, few.classes, _choices(lattice, prices, unit, rich)),
        None if lattice_of else moves,
        prices,
        *saying,
    )


def _followed(
    lattice: Lattice,
    dev: Lattice | None,
    near: tuple[Any, Any],
    prices: Sequence[float],
    unit: float,
    told: dict[str, Any],
) -> tuple[Lattice, Lattice | None, bool, Walk, Stated | None, Any]:
    """Which regressors the values are to have; what following the choices then brings, cross-fitted; and how sure is said.

    `near`: how near each prompt of train and of dev is to each known task. The lattices that are returned have it where that
    helps the first choice.
    """
    some, per = ([u / unit if unit else 0.0 for u in us] for us in (prices[2::3], prices))

    def worth(lattice: Lattice, rich: bool) -> float:
        return float(cross_walk(lattice, some, rich=rich).worth(some).mean())

    worths = {"plain": worth(lattice, False), "rich": worth(lattice, True)}
    rich = worths["rich"] > worths["plain"]
    if near[0] is not None:
        heeding = replace(lattice, near=near[0])
        worths["tasks"] = worth(heeding, rich)
        if worths["tasks"] > max(worths["plain"], worths["rich"]):
            lattice, dev = heeding, dev and replace(dev, near=near[1])
    told["value"] = {name: round(100 * each, 3) for name, each in worths.items()}
    crossed = cross_walk(lattice, per, rich=rich)
    found, said = stating(crossed, prices, told)
    return lattice, dev, rich, crossed, found, said.sure


def _choices(lattice: Lattice, prices: Sequence[float], unit: float, rich: bool) -> Any:
    """What is chosen at some of the prices after every subset, by values that were learned on the other half of the items."""
    per = [u / unit if unit else 0.0 for u in prices[2::3]]
    half = folds(len(lattice.logits), 2, 0)
    out = np.zeros((len(per), *lattice.first.shape), dtype=np.int8)
    for number in (0, 1):
        at = half == number
        out[:, :, at] = choices(solve(lattice.only(~at), per, rich=rich), lattice.only(at))
    return out


def _crossed(lattice: Lattice, count: int, walked: Callable[[Lattice, Lattice], Walk], seed: int) -> Walk:
    """Two halves, each walked by what was solved on the other."""
    half = folds(len(lattice.logits), 2, seed)
    score, cost, calls, sure = (np.zeros((count, len(half))) for _ in range(4))
    for number in (0, 1):
        at = half == number
        part = walked(lattice.only(~at), lattice.only(at))
        score[:, at], cost[:, at], calls[:, at], sure[:, at] = part.score, part.cost, part.calls, part.sure
    return Walk(score, cost, calls, sure)


def cross_walk(lattice: Lattice, prices: Sequence[float], *, rich: bool = False, seed: int = 0) -> Walk:
    """What the policy brings on items that its values were not learned on."""
    return _crossed(lattice, len(prices), lambda a, b: walk(solve(a, prices, rich=rich), b), seed)


def cross_rounds(lattice: Lattice, prices: Sequence[float], *, rich: bool = False, seed: int = 0) -> Walk:
    """The same in two rounds."""
    return _crossed(
        lattice,
        len(prices),
        lambda a, b: walk_rounds(solve_rounds(a, prices, rich=rich), b, rich=rich),
        seed,
    )


def values(learned: Learned, us: Sequence[float] = PRICES) -> Solved:
    """The values of stopping and asking at each of `us` (points of accuracy, of 1, that a call of the best single is worth)."""
    return solve(learned.train, [u / learned.unit if learned.unit else 0.0 for u in us], rich=learned.rich)


def _rounds_data(rounds: Rounds) -> dict[str, Any]:
    batches = [
        {"first": b.first, "added": list(b.added), "weights": packed(b.weights.astype(np.float32))}
        for b in rounds.batches
    ]
    return {"batches": batches, "weights": packed(rounds.weights.astype(np.float32))}


def artefact(
    learned: Learned,
    provenance: Mapping[str, Any],
    *,
    last_line: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Artifact:
    """What `policies.sequential` reads, solved for every one of its prices. `provenance` says from what it was learned."""
    solved = values(learned, learned.prices)
    say("prices")
    rounds = solve_rounds(learned.train, solved.prices, rich=learned.rich)
    say("two rounds")
    calls = learned.crossed.calls.mean(1)
    prices = [
        {"u": u, "calls": round(float(calls[place]), 3), "rounds": _rounds_data(rounds[place])}
        for place, u in enumerate(learned.prices)
    ]
    success = learned.success
    weights = success.weights if isinstance(success, Logistic) else log_odds(success.mean)[None]
    chosen = [learned.pool.index(w) for w in learned.workers]
    data: dict[str, Any] = {
        "workers": list(learned.workers),
        "success": packed(weights[:, chosen].astype(np.float32)),
        "posterior": learned.posterior.data,
        "usual": packed(learned.usual),
        "rich": learned.rich,
        "nearness": learned.train.near is not None,
        "last_line": last_line,
        "paid": [round(float(each), 6) for each in solved.paid / learned.unit]
        if learned.unit
        else [0.0] * len(chosen),
        "values": values_data(learned.train, solved, say),
        "prices": prices,
    }
    if (best := learned.pool[learned.best]) in learned.workers:
        place = learned.workers.index(best)
        base = learned.train.score[1 << place], learned.train.costs[:, place]
        data["certified"] = certified_data(learned.prices, learned.crossed, *base, best, learned.tasks)
    if learned.moves is not None:
        data["moves"] = learned.moves.data
    if learned.stated is not None:
        data["stated"] = learned.stated.data
    if learned.agreement is not None:
        data["agreement"] = packed(learned.agreement.astype(np.float32))
    if (there := learned.train.there) is not None:
        data["gaps"] = [w for w, always in zip(learned.workers, there.all(0), strict=True) if not always]
    if learned.reading is not None:
        data["reading"] = learned.reading.data
    if learned.unread is not None:
        data["unread"] = learned.unread.data
    if learned.assurance is not None:
        data["assurance"] = learned.assurance.data
    if learned.prompts.text is not None:
        data["text"] = text_data(learned.prompts.text)
    if learned.prompts.embedded is not None:
        data["embedder"] = learned.prompts.embedded.data
    if learned.prompts.centres is not None:
        data["centres"] = packed(learned.prompts.centres.astype(np.float32))
    if learned.prompts.spread is not None:
        data["spread"] = packed(learned.prompts.spread.astype(np.float32))
    return Artifact(EVIDENCE_SCHEMA, dict(provenance) | {"chosen": dict(learned.told)}, data)


def summary(learned: Learned, data: Matrix) -> list[tuple[str, float, float, float]]:
    """Best single worker, then each price: name, mean score, mean USD, mean calls of the train items, cross-fitted."""
    scores = data.at(np.array([i.split == "train" for i in data.items])).scores[:, learned.best]
    rows = [(f"best single {learned.pool[learned.best]}", float(scores.mean()), learned.unit, 1.0)]
    for u, went in zip(learned.prices, learned.crossed, strict=True):
        rows.append(
            (f"price {u}", float(went.score.mean()), float(went.cost.mean()), float(went.calls.mean()))
        )
    return rows
