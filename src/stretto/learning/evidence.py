"""Learns the sequential evidence policy from a table: features, worker success, shortlist, posterior, and the values of stopping.

Everything is fitted on the items of split `train`, and what is reported of them is cross-fitted; `dev` is looked at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stretto.artifacts import Artifact, packed
from stretto.evaluation.tables import Item, Table
from stretto.learning.assurance import assured
from stretto.learning.drift import fit_agreement
from stretto.learning.features import data_of as text_data
from stretto.learning.features import fit_features
from stretto.learning.lattice import Lattice, Solved, Walk, solve, walk
from stretto.learning.pools import values_data
from stretto.learning.posterior import fit_posterior, rows_of
from stretto.learning.risk import certified_data
from stretto.learning.rounds import Rounds, solve_rounds, walk_rounds
from stretto.learning.success import Logistic, Means, cross_fitted, folds, log_odds
from stretto.learning.trees import available
from stretto.policies.answers import classes, comparable, value_of
from stretto.policies.answers import said as said_value
from stretto.policies.assurance import Assurance
from stretto.policies.beliefs import Posterior
from stretto.policies.features import TextFeatures
from stretto.policies.sequential import EVIDENCE_SCHEMA, task_nearness
from stretto.types import Message

__all__ = [
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

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Weaker and weaker penalties of the worker-success regression (`success.Logistic.c`), until two in a row foretell worse."""

WITHIN = (0.12, 0.2, 0.35)
"""How far behind the best worker another one may be to stand in a shortlist: each is tried."""

SAMPLE = 2500
"""So many items are enough to compare shortlists."""

LONGEST = 4.0
"""A reply counts as at most so many deviations longer or shorter than the worker's usual ones."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table as arrays, items first: answer classes (-1: none), scores, costs in USD, log of 1 + tokens (nan: not known).

    `confidence`: how sure each worker was of its reply (nan: it did not tell); `None` where nobody told.
    """

    workers: tuple[str, ...]
    items: tuple[Item, ...]
    classes: Any
    scores: Any
    costs: Any
    tokens: Any
    confidence: Any = None

    def at(self, which: Any) -> "Matrix":
        """Some of the items (a mask)."""
        items = tuple(i for i, keep in zip(self.items, which, strict=True) if keep)
        return Matrix(
            self.workers,
            items,
            self.classes[which],
            self.scores[which],
            self.costs[which],
            self.tokens[which],
            None if self.confidence is None else self.confidence[which],
        )

    def of(self, workers: Sequence[int]) -> "Matrix":
        """Some of the workers, in this order; the classes are numbered anew among them."""
        w = list(workers)
        return Matrix(
            tuple(self.workers[k] for k in w),
            self.items,
            _renumbered(self.classes[:, w]),
            self.scores[:, w],
            self.costs[:, w],
            self.tokens[:, w],
            None if self.confidence is None else self.confidence[:, w],
        )


def _renumbered(numbers: Any) -> Any:
    """Class numbers below the number of workers: that of the first worker who gave the answer. -1 stays."""
    same = numbers[:, :, None] == numbers[:, None, :]
    return np.where(numbers >= 0, same.argmax(2), -1)


def matrix(table: Table, workers: Sequence[str], *, last_line: bool = False) -> Matrix:
    """The items that all of these workers answered. An unknown cost counts as nothing, so price the workers first.

    With `last_line` the recorded answers are whole replies, which count by their last line, as they do when it serves.
    """
    table = table.only(workers=workers, complete=True)
    numbers, scores, costs, tokens, sure = [], [], [], [], []
    for item in table.items:
        said = [table.said(item.id, w) for w in workers]
        values = []
        for worker, one in zip(workers, said, strict=True):
            text = (one.answer if one else None) or ""
            if last_line:
                value = said_value(Message("assistant", text), last_line=True)
                values.append(f"only {worker}" if value is None else value)
            else:
                values.append(value_of(text) if comparable(text) else f"only {worker}")
        numbers.append(classes(values))
        scores.append([one.score if one else 0.0 for one in said])
        costs.append([(one.cost if one else None) or 0.0 for one in said])
        tokens.append([np.log1p(one.output) if one and one.output else np.nan for one in said])
        sure.append([np.nan if one is None or one.confidence is None else one.confidence for one in said])
    arrays = (np.array(numbers), np.array(scores), np.array(costs), np.array(tokens))
    told = np.array(sure, dtype=np.float64)
    return Matrix(tuple(workers), table.items, *arrays, None if np.isnan(told).all() else told)


def is_exclusive(data: Matrix, most: float = 0.02) -> bool:
    """Whether two different answers are hardly ever both right."""
    both = 0
    for numbers, scores in zip(data.classes, data.scores, strict=True):
        both += len(set(numbers[(scores >= 0.5) & (numbers >= 0)])) > 1
    return both <= most * len(data.classes)


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is seen of a prompt: its text features and how near it is to each known task. `None`: nothing is."""

    text: TextFeatures | None
    tasks: tuple[str, ...] = ()
    centres: Any = None

    @classmethod
    def learned(cls, items: Sequence[Item], dimensions: int = 128, tasks: bool = True) -> "Prompts":
        """From the training items. Task labels are used here, never when serving."""
        text = fit_features([i.prompt for i in items], dimensions=dimensions)
        names = tuple(sorted({i.task for i in items}))
        if not tasks or len(names) < 2:
            return cls(text)
        x = text.matrix([i.prompt for i in items])
        label = np.array([names.index(i.task) for i in items])
        return cls(text, names, np.stack([x[label == k].mean(0) for k in range(len(names))]))

    def matrix(self, items: Sequence[Item]) -> Any:
        """The features of items, a row each."""
        if self.text is None:
            return np.zeros((len(items), 1))
        x = self.text.matrix([i.prompt for i in items])
        if self.centres is None:
            return x
        return np.hstack([x, task_nearness(x, self.centres)])


def shortlist(
    data: Matrix, logits: Any, size: int, best: int, *, within: float = 0.2, seed: int = 0, sample: int = 1500
) -> list[int]:
    """Up to `size` workers that are worth asking together: best single first, then greedily for several prices in turn.

    Once by the worth of the best of them on each prompt (facility location), once by a simulator that asks by rising cost until
    the naive Bayes vote is .98 sure. Only the `size` best workers, and others whose score is `within` of the best one's, are
    considered: cheap junk in a shortlist may cost quality.
    """
    rng = np.random.default_rng(seed)
    at = rng.permutation(len(data.scores))[:sample]
    numbers, scores, costs, odds = data.classes[at], data.scores[at], data.costs[at], logits[at]
    mean, unit = costs.mean(0), costs[:, best].mean()
    level = scores.mean(0)
    ranked = np.argsort(-level, kind="stable")
    likely = [int(k) for r, k in enumerate(ranked) if r < size or level[k] >= level[best] - within]
    odds_of = 1 / (1 + np.exp(-odds))
    greedy = [_covering(odds_of[:, likely] - u / unit * mean[likely], size) for u in (0.02, 0.08)]
    greedy = [[likely[k] for k in picks] for picks in greedy]
    for u in (0.0, 0.02, 0.06, 0.15):
        chosen = [best]
        while len(chosen) < size:
            worth = {
                k: _simulated(
                    numbers, scores, costs, odds, sorted([*chosen, k], key=lambda j: mean[j]), u / unit
                )
                for k in likely
                if k not in chosen
            }
            if not worth:
                break
            chosen.append(max(worth, key=lambda k: worth[k]))
        greedy.append(chosen)
    found = [best]
    for rank in range(size):
        for chosen in greedy:
            if rank < len(chosen) and chosen[rank] not in found and len(found) < size:
                found.append(chosen[rank])
    return found


def _covering(worth: Any, size: int) -> list[int]:
    """Columns that together hold the most of each row's greatest worth, greedily (facility location)."""
    chosen: list[int] = []
    covered = np.full(len(worth), -np.inf)
    while len(chosen) < min(size, worth.shape[1]):
        gain = np.maximum(worth, covered[:, None]).mean(0)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        covered = np.maximum(covered, worth[:, chosen[-1]])
    return chosen


def _simulated(numbers: Any, scores: Any, costs: Any, odds: Any, order: list[int], price: float) -> float:
    items = np.arange(len(numbers))
    votes = np.zeros((len(numbers), int(numbers.max()) + 1))
    spent, going = np.zeros(len(numbers)), np.ones(len(numbers), dtype=bool)
    speaker, strength = np.full(votes.shape, order[0]), np.full(votes.shape, -np.inf)
    for k in order:
        spoke = going & (numbers[:, k] >= 0)
        rows, said = items[spoke], numbers[spoke, k]
        votes[rows, said] += odds[spoke, k] + 1.0
        stronger = odds[spoke, k] > strength[rows, said]
        strength[rows[stronger], said[stronger]] = odds[spoke, k][stronger]
        speaker[rows[stronger], said[stronger]] = k
        spent += np.where(going, costs[:, k], 0.0)
        score = np.where(strength > -np.inf, np.clip(votes, -12, 12), -30.0)
        top = score.max(1)
        going = going & (np.exp(top) / (1 + np.exp(score).sum(1)) < 0.98)
    best = score.argmax(1)
    return float((scores[items, speaker[items, best]] - price * spent).mean())


@dataclass(frozen=True, slots=True)
class Learned:
    """Everything that was learned, and the lattices to measure it on: `train` cross-fitted, `dev` unseen (if there is any).

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
    assurance: Assurance | None = None
    agreement: Any = None
    prices: Sequence[float] = PRICES


def nats(chance: Any, right: Any) -> float:
    """Mean log-loss."""
    p = np.clip(chance, 1e-6, 1 - 1e-6)
    return float(-(right * np.log(p) + (1 - right) * np.log(1 - p)).mean())


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
    parts = few.classes[at], logits, few.scores[at], long
    sure = is_exclusive(few)
    fits = [
        fit_posterior(*(a[fold != f] for a in parts), exclusive=sure, trees=False)
        for f in range(int(fold.max()) + 1)
    ]
    lattice = Lattice.of(fits, fold, few.classes[at], logits, few.scores[at], few.costs[at], long)
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
    if len(lists) == 1:
        return list(next(iter(lists)))
    worths = {chosen: _worth(train, chance, fold, chosen, unit) for chosen in lists}
    told["shortlists"] = {lists[chosen]: round(100 * worth, 3) for chosen, worth in worths.items()}
    return list(max(worths.items(), key=lambda pair: pair[1])[0])


def _success(x: Any, train: Matrix, fold: Any, text: bool, told: dict[str, Any]) -> tuple[Any, Any]:
    """The cross-fitted chances of all workers, and the estimator of the penalty that foretells best."""
    if not text:
        return cross_fitted(Means, x, train.scores, fold), Means().fit(x, train.scores)
    losses: dict[float, float] = {}
    best, chance, worse = PENALTIES[0], None, 0
    for c in PENALTIES:
        found = cross_fitted(lambda c=c: Logistic(c), x, train.scores, fold)
        losses[c] = nats(found, train.scores)
        if losses[c] <= losses[best]:
            best, chance, worse = c, found, 0
        elif (worse := worse + 1) == 2:
            break
    told["success nats"] = {str(c): round(loss, 4) for c, loss in losses.items()}
    return chance, Logistic(best).fit(x, train.scores)


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
    parts = few.classes, logits, few.scores, long, logits if after is None else after
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
    say: Callable[[str], None] = lambda text: None,
) -> Learned:
    """The whole offline programme. `names` fixes the shortlist; the dial will go along `prices`, from the lowest to the highest.

    `router` of the result: the chances of all workers, on train (cross-fitted) and dev.
    """
    is_train = np.array([i.split == "train" for i in data.items])
    train, dev = data.at(is_train), data.at(~is_train)
    told: dict[str, Any] = {}
    best = int(train.scores.mean(0).argmax())
    unit = float(train.costs[:, best].mean())
    prompts = Prompts.learned(train.items, dimensions) if text else Prompts(None)
    x, x_dev = prompts.matrix(train.items), prompts.matrix(dev.items) if len(dev.items) else np.zeros((0, 1))
    say("features")
    fold = folds(len(train.items))
    chance, success = _success(x, train, fold, text, told)
    chance_dev = success.predict(x_dev) if len(x_dev) else np.zeros((0, len(data.workers)))
    say("success")
    chosen = [data.workers.index(n) for n in names]
    chosen = chosen or _shortlisted(train, chance, fold, size, best, told)
    say("shortlist " + ", ".join(data.workers[k] for k in chosen))
    few, few_dev = train.of(chosen), dev.of(chosen)
    usual = _usual(few)
    logits, logits_dev = log_odds(chance[:, chosen]), log_odds(chance_dev[:, chosen])
    sure = is_exclusive(few) if exclusive is None else exclusive
    long = _lengths(few, usual)
    assurance, after = None, None
    if few.confidence is not None:
        assurance, after = assured(logits, few.confidence, few.scores, fold)
        told["nats after replies"] = round(nats(1 / (1 + np.exp(-after)), few.scores), 4)
    fits, posterior = _posteriors(few, logits, long, after, fold, identity, sure, told)
    say("posterior")
    lattice = Lattice.of(fits, fold, few.classes, logits, few.scores, few.costs, long, after)
    lattice_dev = None
    if len(dev.items):
        none = np.zeros(len(dev.items), dtype=int)
        said = few_dev.classes, logits_dev, few_dev.scores, few_dev.costs, _lengths(few_dev, usual)
        later = None
        if assurance is not None and few_dev.confidence is not None:
            later = assurance.after(logits_dev, few_dev.confidence)
        lattice_dev = Lattice.of([posterior], none, *said, later)
    say("lattice")
    some, per = ([u / unit if unit else 0.0 for u in us] for us in (prices[2::3], prices))
    worths = {rich: float(cross_walk(lattice, some, rich=rich).worth(some).mean()) for rich in (False, True)}
    told["value"] = {("rich" if rich else "plain"): round(100 * w, 3) for rich, w in worths.items()}
    rich = worths[True] > worths[False]
    crossed = cross_walk(lattice, per, rich=rich)
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
        assurance,
        fit_agreement(posterior, few.classes, logits, long),
        prices,
    )


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
    weights = packed(rounds.weights.astype(np.float32))
    return {"first": rounds.first, "added": list(rounds.added), "weights": weights}


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
        data["certified"] = certified_data(learned.prices, learned.crossed, *base, best)
    if learned.agreement is not None:
        data["agreement"] = packed(learned.agreement.astype(np.float32))
    if learned.assurance is not None:
        data["assurance"] = learned.assurance.data
    if learned.prompts.text is not None:
        data["text"] = text_data(learned.prompts.text)
        if learned.prompts.centres is not None:
            data["centres"] = packed(learned.prompts.centres.astype(np.float32))
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
