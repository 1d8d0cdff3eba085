"""When to stop and whom to ask next: regressed values over all subsets of a shortlist, solved from the full set down.

The subset of workers asked so far is a bit mask. With K <= 10 workers there are at most 1,024 of them (EVIDENCE.md section 2,
stage 3). Many prices are solved side by side: what is seen of a subset is the same for all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from stretto.policies.evidence.beliefs import Beliefs, Posterior, bounded, view, views
from stretto.policies.evidence.pools import NEVER
from stretto.policies.evidence.standing import Moves, Scene, barred

__all__ = ["NEVER", "Lattice", "Solved", "Standing", "Walk", "choices", "ridge", "solve", "walk"]


_UNTRIED: Final = -5.0
"""The value of asking somebody in a situation that too few items were in: below all that asking can bring."""

_ENOUGH: Final = 30
"""So many items have to have been in a situation."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What it takes to say whose word stands after each subset of `workers`, and once it was said (`found`) what came of it.

    `found`: of each subset and item whether the answer is settled, and the worker (a place among `workers`) whose word would
    stand against all others, -1 for none. `odds`: the log-odds of workers once they have replied. The rest: as of `Lattice.of`.
    """

    posteriors: Sequence[Posterior]
    moves: Moves
    fold: Any
    classes: Any
    logits: Any
    odds: Any
    lengths: Any
    there: Any
    workers: tuple[int, ...]
    found: tuple[Any, Any] | None = None

    def only(self, at: Any) -> "Standing":
        """The same for some of the items."""
        return replace(
            self,
            fold=self.fold[at],
            classes=self.classes[at],
            logits=self.logits[at],
            odds=self.odds[at],
            lengths=self.lengths[at],
            there=self.there[at],
            found=None if self.found is None else (self.found[0][:, at], self.found[1][:, at]),
        )

    def among(self, places: Sequence[int]) -> "Standing":
        """When nobody but these of `workers` may be asked: to be said anew."""
        return replace(self, workers=tuple(self.workers[k] for k in places), found=None)

    @property
    def likely(self) -> Any:
        """The chance of each of `workers` to be right, before anything was asked."""
        return 1.0 / (1.0 + np.exp(-self.logits[:, self.workers]))

    def said(self) -> "Standing":
        """With `found`."""
        count = len(self.workers)
        settled = np.zeros((1 << count, len(self.fold)), dtype=bool)
        foremost = np.full(settled.shape, -1, dtype=np.int8)
        place = np.full(self.classes.shape[1], -1, dtype=np.int8)
        place[list(self.workers)] = np.arange(count)
        for number, posterior in enumerate(self.posteriors):
            at = np.flatnonzero(self.fold == number)
            for mask in range((1 << count) - 1):
                scene = self._scene(posterior, mask, at)
                settled[mask, at] = done = scene.settled()
                open_ = np.flatnonzero(~done)
                part = scene.at(open_)
                one = part.foremost(part.left & self.there[at][open_])
                foremost[mask, at[open_]] = np.where(one >= 0, place[one], -1)
        return replace(self, found=(settled, foremost))

    def _scene(self, posterior: Posterior, mask: int, at: Any) -> Scene:
        """After the workers of a subset were asked; who is not there is left as if it had not been asked."""
        chosen = np.zeros(self.classes.shape[1], dtype=bool)
        chosen[[w for k, w in enumerate(self.workers) if mask >> k & 1]] = True
        able = np.zeros_like(chosen)
        able[list(self.workers)] = True
        asked = chosen & self.there[at]
        odds = np.where(asked, self.odds[at], self.logits[at])
        left = able & ~asked
        return Scene.after(posterior, self.moves, self.classes[at], odds, asked, left, self.lengths[at])


@dataclass(frozen=True, slots=True)
class Lattice:
    """Of every subset and item: chance of the best answer, of the runner-up, and the score that stopping there brings.

    `there` (items, workers): who can be asked; `None`: everybody. Whoever is not there adds nothing to a subset and
    costs nothing. `standing`: after which subsets asking is in vain; `None`: nobody has looked. `near` (items, tasks): how near
    each prompt is to each known task, which the first choice heeds; `None`: it does not. `solver`: solves it in the place of
    `solve`, by other rules of whom to ask (`learning.evidence.special`).
    """

    first: Any
    second: Any
    score: Any
    logits: Any
    costs: Any
    there: Any = None
    standing: Standing | None = None
    near: Any = None
    solver: "Callable[[Lattice, Sequence[float], bool], Solved] | None" = None

    @classmethod
    def of(
        cls,
        posteriors: Sequence[Posterior],
        fold: Any,
        classes: Any,
        logits: Any,
        scores: Any,
        costs: Any,
        lengths: Any = None,
        after: Any = None,
        there: Any = None,
        moves: Moves | None = None,
    ) -> "Lattice":
        """`posteriors[f]` judges the items of fold f, which it has not seen. The empty subset stops with nothing: score 0.

        `after`: the log-odds of workers once they have replied. With `moves` nobody is asked who could not change the answer.
        """
        items, workers = classes.shape
        if there is not None and there.all():
            there = None
        first = np.zeros((1 << workers, items), dtype=np.float32)
        second, score = np.zeros_like(first), np.zeros_like(first)
        for number, posterior in enumerate(posteriors):
            at = np.flatnonzero(fold == number)
            odds = logits[at] if after is None else after[at]
            long = None if lengths is None else lengths[at]
            for mask in range(1, 1 << workers):
                asked = np.broadcast_to([bool(mask >> k & 1) for k in range(workers)], (len(at), workers))
                if there is not None:
                    asked = asked & there[at]
                believed = Beliefs.after(
                    posterior, classes[at], np.where(asked, odds, logits[at]), asked, long
                )
                first[mask, at], second[mask, at] = believed.first, believed.second
                score[mask, at] = np.where(asked.any(1), scores[at, believed.speaker], 0.0)
        standing = None
        if moves is not None:
            odds = logits if after is None else after
            long = np.zeros_like(logits) if lengths is None else lengths
            here = np.ones(classes.shape, dtype=bool) if there is None else there
            parts = posteriors, moves, fold, classes, logits, odds, long, here, tuple(range(workers))
            standing = Standing(*parts).said()
        return cls(first, second, score, logits, costs, there, standing)

    def only(self, at: Any) -> "Lattice":
        """The same for some of the items."""
        seen = self.first[:, at], self.second[:, at], self.score[:, at], self.logits[at], self.costs[at]
        standing = None if self.standing is None else self.standing.only(at)
        there, near = (None if part is None else part[at] for part in (self.there, self.near))
        return Lattice(*seen, there, standing, near, self.solver)

    def among(self, workers: Sequence[int]) -> "Lattice":
        """The same when nobody but these workers may be asked; whose word stands among them is not said yet (`judged`)."""
        masks = [
            sum(1 << w for k, w in enumerate(workers) if mask >> k & 1) for mask in range(1 << len(workers))
        ]
        seen = self.first[masks], self.second[masks], self.score[masks], self.logits, self.costs[:, workers]
        standing = None if self.standing is None else self.standing.among(workers)
        there = None if self.there is None else self.there[:, workers]
        return Lattice(*seen, there, standing, self.near, self.solver)

    def judged(self) -> "Lattice":
        """The same, knowing whose word stands."""
        return self if self.standing is None else replace(self, standing=self.standing.said())

    def settled(self, mask: int) -> Any:
        """The items whose answer nobody who is left can change (a mask)."""
        if self.standing is None or self.standing.found is None:
            return np.zeros(len(self.logits), dtype=bool)
        return self.standing.found[0][mask]

    def vain(self, mask: int, paid: Any) -> Any:
        """Whom it is in vain to ask after a subset (items, prices, workers); `paid` (prices, workers): what that costs."""
        standing = self.standing
        if standing is None or standing.found is None:
            return False
        return self.settled(mask)[:, None, None] | barred(standing.found[1][mask], standing.likely, paid)

    @property
    def workers(self) -> int:
        """How many there are to ask."""
        return int(self.costs.shape[1])

    @property
    def paid(self) -> Any:
        """What each worker costs on average, where it can be asked."""
        if self.there is None:
            return self.costs.mean(0)
        return (self.costs * self.there).sum(0) / np.maximum(self.there.sum(0), 1)

    def whole(self, mask: int, worker: int | None = None) -> Any:
        """The items where all of a subset, and this worker, can be asked (a mask)."""
        members = [k for k in range(self.workers) if mask >> k & 1 or k == worker]
        return self.there[:, members].all(1)

    def seen(self, mask: int, rich: bool) -> Any:
        """The regressors of a subset, a row an item."""
        if mask == 0:
            return views(self.logits, self.near)
        return view(self.first[mask], self.second[mask], self.logits, rich=rich)


@dataclass(frozen=True, slots=True)
class Solved:
    """Of every subset and price the weights of its values: column 0 is stopping, column 1 + k is asking worker k.

    `weights[mask]` has the shape (prices, regressors, 1 + workers). `paid`: what each worker costs on average.
    """

    weights: dict[int, Any]
    rich: bool
    prices: tuple[float, ...]
    paid: Any


@dataclass(frozen=True, slots=True)
class Walk:
    """What following the choices brings, a row a price and a column an item: score, money, calls, the chance at the stop."""

    score: Any
    cost: Any
    calls: Any
    sure: Any

    def __len__(self) -> int:
        return len(self.score)

    def __iter__(self) -> "Iterator[Walk]":
        return map(Walk, self.score, self.cost, self.calls, self.sure)

    def worth(self, prices: Sequence[float]) -> Any:
        """The mean of score less price times cost, a price each."""
        return self.score.mean(1) - np.asarray(prices) * self.cost.mean(1)


def _downwards(workers: int) -> list[int]:
    return sorted(range(1 << workers), key=lambda m: -m.bit_count())


def _chosen(lattice: Lattice, x: Any, solved: Solved, mask: int) -> Any:
    """What each item chooses at each price after a subset: 0 stops, 1 + k asks worker k (prices, items)."""
    weights = solved.weights[mask]
    prices, regressors, _ = weights.shape
    worth = (x @ weights.transpose(1, 0, 2).reshape(regressors, -1)).reshape(len(x), prices, -1)
    paid = np.outer(solved.prices, solved.paid)
    if mask:
        sure = lattice.first[mask][:, None, None]
        worth[:, :, 1:] = bounded(worth[:, :, :1], worth[:, :, 1:], sure, paid[None])
    worth[:, :, 1:] = np.where(lattice.vain(mask, paid), -np.inf, worth[:, :, 1:])
    if lattice.there is not None:
        worth[:, :, 1:] = np.where(lattice.there[:, None], worth[:, :, 1:], -np.inf)
    return worth.argmax(2).T


def _step(lattice: Lattice, x: Any, solved: Solved, mask: int, later: dict[int, Walk]) -> Walk:
    """From a subset on: the choice of each item at each price, and what it brings."""
    choice = _chosen(lattice, x, solved, mask)
    score, sure = (np.broadcast_to(a[mask], choice.shape) for a in (lattice.score, lattice.first))
    cost, calls = np.zeros(choice.shape), np.zeros(choice.shape)
    for k in range(lattice.workers):
        at = choice == k + 1
        if at.any():
            then = later[mask | 1 << k]
            score = np.where(at, then.score, score)
            cost = np.where(at, then.cost + lattice.costs[:, k], cost)
            calls = np.where(at, then.calls + 1, calls)
            sure = np.where(at, then.sure, sure)
    return Walk(score, cost, calls, sure)


def _forget(later: dict[int, Walk], mask: int) -> None:
    """Only the next larger subsets are ever looked at again."""
    for known in [m for m in later if m.bit_count() > mask.bit_count() + 1]:
        del later[known]


def ridge(x: Any, targets: Any, strength: float = 5.0) -> Any:
    """Weights of the regression of `targets` on `x`; the constant, column 0, is free."""
    gram = x.T @ x + strength * np.eye(x.shape[1])
    gram[0, 0] -= strength
    return np.linalg.solve(gram, x.T @ targets)


def _regressed(lattice: Lattice, mask: int, x: Any, targets: Any) -> Any:
    """Weights of every value (regressors, values, columns), each learned where it is known: with everybody there, all at once."""
    items, columns, regressors = len(x), targets.shape[2], x.shape[1]
    if lattice.there is None:
        return ridge(x, targets.reshape(items, -1)).reshape(regressors, -1, columns)
    weights = np.zeros((regressors, targets.shape[1], columns))
    weights[0, :, 1:] = _UNTRIED
    if mask:
        weights[1, :, 0] = 1.0  # stopping is worth the chance of the best answer
    for column in range(columns):
        at = lattice.whole(mask, column - 1 if column else None)
        if at.sum() >= _ENOUGH:
            weights[:, :, column] = ridge(x[at], targets[at, :, column])
    return weights


def solve(lattice: Lattice, prices: Sequence[float], *, rich: bool = False) -> Solved:
    """The values at prices: how much score one dollar is worth. Realised returns are handed down, not fitted ones.

    What an answer brings counts half by its score and half by its chance, which varies less and was not learned on the item.
    Stopping is never chosen before anybody was asked.
    """
    if lattice.solver is not None:
        return lattice.solver(lattice, prices, rich)
    lattice = replace(lattice, score=0.5 * lattice.first + 0.5 * lattice.score)
    workers = lattice.workers
    solved = Solved({}, rich, tuple(prices), lattice.paid)
    paid = np.asarray(prices)[:, None]
    later: dict[int, Walk] = {}
    for mask in _downwards(workers):
        x = lattice.seen(mask, rich).astype(np.float64)
        targets = np.zeros((len(x), len(prices), workers + 1))
        targets[:, :, 0] = lattice.score[mask][:, None]
        for k in range(workers):
            if not mask >> k & 1:
                then = later[mask | 1 << k]
                targets[:, :, k + 1] = (then.score - paid * (then.cost + lattice.costs[:, k])).T
        weights = np.ascontiguousarray(_regressed(lattice, mask, x, targets).transpose(1, 0, 2))
        never = [0] if mask == 0 else [k + 1 for k in range(workers) if mask >> k & 1]
        weights[:, :, never] = 0.0
        weights[:, 0, never] = NEVER
        solved.weights[mask] = weights
        later[mask] = _step(lattice, x, solved, mask, later)
        _forget(later, mask)
    return solved


def choices(solved: Solved, lattice: Lattice) -> Any:
    """What is chosen at each price after every subset, on each item: 0 stops, 1 + k asks worker k (prices, subsets, items)."""
    out = np.zeros((len(solved.prices), *lattice.first.shape), dtype=np.int8)
    for mask in solved.weights:
        out[:, mask] = _chosen(lattice, lattice.seen(mask, solved.rich), solved, mask)
    return out


def walk(solved: Solved, lattice: Lattice) -> Walk:
    """Follow the choices from the start, on items that need not be those they were learned on."""
    later: dict[int, Walk] = {}
    for mask in _downwards(lattice.workers):
        later[mask] = _step(lattice, lattice.seen(mask, solved.rich), solved, mask, later)
        _forget(later, mask)
    return later[0]
