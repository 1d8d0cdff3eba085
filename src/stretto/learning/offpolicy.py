"""What another policy would have brought, from runs of the one that served: IPS, SNIPS and doubly robust values with intervals.

A run that the other policy would have played in the same way weighs 1 / (the chance that it was played so); one that it would
have played otherwise weighs 0. That is unbiased as long as everything the other policy does had some chance (Horvitz and
Thompson 1952; SNIPS: Swaminathan and Joachims 2015; doubly robust: Dudik, Langford and Li 2011). Where something had none, or
where a few runs carry all the weight, no value is claimed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

import numpy as np

from stretto.learning.evidence.success import Estimator, Logistic, cross_fitted, folds
from stretto.learning.own_outcomes import Logged, Spoken, as_reply
from stretto.policies.evidence.features import counts
from stretto.steps import Ask, Note, Policy
from stretto.types import Answer

__all__ = [
    "Estimate",
    "Followed",
    "Value",
    "against",
    "difference",
    "direct",
    "doubly_robust",
    "effective",
    "follow",
    "greedy",
    "ips",
    "ratio",
    "snips",
    "value",
    "values",
]

LEAST: Final = 30.0
"""Below this effective sample size no value is claimed."""

THIN: Final = 100.0
"""Below this one a warning stands beside the value: normal intervals are then too narrow."""

_Z95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and each run's influence on it: their spread is its uncertainty, and they pair it with another one."""

    method: str
    value: float
    influence: Any
    ess: float


@dataclass(frozen=True, slots=True)
class Value:
    """An estimate with its 95 % interval, or `None` and why none is claimed. `warning`: read it with care."""

    method: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    ess: float
    warning: str = ""


def effective(weights: Any) -> float:
    """Kish's effective sample size: how many equally weighted runs are worth as much."""
    total = float(np.sum(np.square(weights)))
    return float(np.sum(weights)) ** 2 / total if total > 0 else 0.0


def ips(weights: Any, rewards: Any) -> Estimate:
    """Inverse propensity: unbiased, wide."""
    each = weights * rewards
    return Estimate("IPS", float(each.mean()), each - each.mean(), effective(weights))


def snips(weights: Any, rewards: Any) -> Estimate:
    """Self-normalised: a weighted mean, so never outside the rewards seen; its bias falls with 1 / n."""
    total = weights.mean()
    if total <= 0:
        return Estimate("SNIPS", 0.0, np.zeros(len(weights)), 0.0)
    found = float((weights * rewards).mean() / total)
    return Estimate("SNIPS", found, weights * (rewards - found) / total, effective(weights))


def doubly_robust(weights: Any, rewards: Any, logged: Any, target: Any) -> Estimate:
    """A model's guess of what the target brings (`target`), corrected where it errs on what was done (`logged`).

    Right if either the chances or the model are; the model must not have seen the run it guesses (cross-fit it).
    """
    each = target + weights * (rewards - logged)
    return Estimate("DR", float(each.mean()), each - each.mean(), effective(weights))


def value(found: Estimate, *, unsupported: int = 0) -> Value:
    """An estimate as it may be told. `unsupported`: runs in which the target does what had no chance."""
    n = len(found.influence)
    if unsupported:
        why = f"in {unsupported} of {n} runs it does what the logged policy never does: nothing is known of that"
        return Value(found.method, None, None, None, n, found.ess, why)
    if found.ess < LEAST:
        why = f"the effective sample size is {found.ess:.0f}; {LEAST:.0f} are needed at least"
        return Value(found.method, None, None, None, n, found.ess, why)
    half = _Z95 * _error(found.influence)
    thin = f"the effective sample size is only {found.ess:.0f}" if found.ess < THIN else ""
    return Value(found.method, found.value, found.value - half, found.value + half, n, found.ess, thin)


def difference(a: Estimate, b: Estimate, *, unsupported: int = 0) -> Value:
    """The value of `a` less that of `b` on the same runs: what they have in common cancels."""
    paired = Estimate(a.method, a.value - b.value, a.influence - b.influence, min(a.ess, b.ess))
    return value(paired, unsupported=unsupported)


def ratio(a: Estimate, b: Estimate) -> tuple[float, float, float]:
    """The value of `a` over that of `b` with its 95 % interval (delta method); `nan` where `b` is nothing."""
    if not b.value > 0:
        return math.nan, math.nan, math.nan
    found = a.value / b.value
    half = _Z95 * _error((a.influence - found * b.influence) / b.value)
    return found, found - half, found + half


def _error(influence: Any) -> float:
    n = len(influence)
    return float(np.std(influence, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


# --- following a policy through a logged run ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followed:
    """How a policy would have played a logged run: its weight and its answer's score, or `None` where nothing tells, and why."""

    weight: float | None
    score: float = 0.0
    why: str = ""


def greedy(policy: Any) -> Any:
    """The same policy without its exploration: what is to be valued is what it decides, not what it draws."""
    if not is_dataclass(policy) or isinstance(policy, type):
        return policy
    changed: dict[str, Any] = {}
    for f in fields(policy):
        inner = getattr(policy, f.name)
        if f.name == "explore":
            changed[f.name] = 0.0
        elif isinstance(inner, Policy) and (still := greedy(inner)) is not inner:
            changed[f.name] = still
    return replace(policy, **changed) if changed else policy


def follow(policy: Policy, run: Logged) -> Followed:
    """Play `policy` on what a run recorded, ask by ask, as long as both ask the same.

    Where they part by a lot that could have gone the policy's way, the run weighs 0; where the record could never have gone that
    way, nothing is known. Only plans that ask one worker after the other can be followed.
    """
    if run.request is None:
        return Followed(None, why="its texts were not kept")
    plan = policy.plan(run.request)
    replies = [reply for reply in run.replies if reply.own]
    weight, place, sent = 1.0, 0, None
    try:
        while True:
            try:
                step: Any = plan.send(sent)
            except StopIteration as stop:
                step, ended = stop.value, True
            else:
                ended = False
            sent = None
            if isinstance(step, Answer):
                if place < len(replies):
                    return Followed(None, why="it stops where the record asks on")
                return _scored(weight, run.reply(step.at))
            if isinstance(step, Note):
                if step.choice.probability < 1:
                    return Followed(None, why="it draws by lot")
                continue
            if not isinstance(step, Ask):
                return Followed(None, why="it asks several side by side")
            if place >= len(replies):
                return Followed(None, why="it asks on where the record stops")
            there = replies[place]
            if step.worker != there.worker:
                could = there.chances.get(step.worker, 0.0) > 0
                return (
                    Followed(0.0)
                    if could
                    else Followed(None, why=f"it asks {step.worker}, which had no chance")
                )
            weight, place = weight / there.chance, place + 1
            if ended:
                return (
                    _scored(weight, there)
                    if place == len(replies)
                    else Followed(None, why="the record asks on")
                )
            sent = as_reply(there)
    finally:
        plan.close()


def _scored(weight: float, reply: Spoken | None) -> Followed:
    if reply is None or reply.score is None:
        return Followed(None, why="the answer that it gives was not scored")
    return Followed(weight, reply.score)


def direct(x: Any, workers: Any, rewards: Any, count: int, make: Callable[[], Estimator]) -> Any:
    """What each of `count` workers would bring on each run (items, workers), cross-fitted from who was asked (`workers`).

    `x` are features of the prompts; `make` gives a fresh estimator of worker success.
    """
    scores = np.full((len(x), count), np.nan)
    scores[np.arange(len(x)), workers] = rewards
    return cross_fitted(make, x, scores, folds(len(x)))


def values(policy: Policy, runs: Sequence[Logged]) -> tuple[Value, ...] | str:
    """What a policy, without its exploration, would have brought on scored runs: its IPS, SNIPS and doubly robust values.

    The model in the last one tells by the form of a prompt (its length, digits, lines, ...) what comes of each first ask, as
    learned from the other runs. Or, in words, why nothing is told.
    """
    plain = greedy(policy)
    followed = [follow(plain, run) for run in runs]
    firsts = [_first(plain, run) for run in runs]
    logged = [next((reply.worker for reply in run.replies if reply.own), "") for run in runs]
    if unknown := [each.why for each in followed if each.weight is None]:
        return f"of {len(unknown)} runs nothing is known ({max(set(unknown), key=unknown.count)})"
    workers = sorted({*firsts, *logged})
    weights = np.array([each.weight for each in followed])
    scores = np.array([each.score for each in followed])
    x = np.array([counts("" if run.request is None else run.request.prompt) for run in runs])
    x = (x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1.0)
    asked = np.array([workers.index(worker) for worker in logged])
    rewards = np.array([run.score or 0.0 for run in runs])
    guess = direct(x, asked, rewards, len(workers), Logistic)
    rows, target = np.arange(len(runs)), np.array([workers.index(worker) for worker in firsts])
    found = (
        ips(weights, scores),
        snips(weights, scores),
        doubly_robust(weights, scores, guess[rows, asked], guess[rows, target]),
    )
    return tuple(map(value, found))


def _first(policy: Policy, run: Logged) -> str:
    """Whom a policy asks first, "" where that cannot be told."""
    if run.request is None:
        return ""
    plan = policy.plan(run.request)
    try:
        step: Any = next(plan)
        while isinstance(step, Note):
            step = plan.send(None)
    except StopIteration as stop:
        step = stop.value
    finally:
        plan.close()
    return step.worker if isinstance(step, Ask) else ""


def against(
    candidate: Policy, current: Policy, runs: Sequence[Logged]
) -> tuple[float, tuple[float, float, float], tuple[float, float, float], str] | str:
    """A candidate's score, its difference to the current policy's and its relative cost, with intervals, and a warning.

    On the same scored runs, both without their exploration, self-normalised; or, in words, why no value is claimed.
    """
    followed = [[follow(greedy(policy), run) for run in runs] for policy in (candidate, current)]
    unknown = [each.why for found in followed for each in found if each.weight is None]
    if unknown:
        most = max(set(unknown), key=unknown.count)
        return f"of {len(unknown)} runs nothing is known ({most}); explore, or judge by --evaluation"
    money = np.array([float(run.cost) for run in runs])
    weights = [np.array([each.weight for each in found]) for found in followed]
    scores = [snips(w, np.array([each.score for each in f])) for w, f in zip(weights, followed, strict=True)]
    gap = difference(scores[0], scores[1])
    if gap.value is None or gap.low is None or gap.high is None:
        return gap.warning
    cost = ratio(snips(weights[0], money), snips(weights[1], money))
    return scores[0].value, (gap.value, gap.low, gap.high), cost, gap.warning
