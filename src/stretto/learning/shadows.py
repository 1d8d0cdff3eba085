"""What shadow runs tell: the candidate's answers beside those that were served to the same requests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stretto.learning.own_outcomes import Logged
from stretto.learning.promotion import relative_cost
from stretto.policies.answers import said
from stretto.types import PICO

__all__ = ["Beside", "Pair", "beside", "pairs", "scores"]

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Pair:
    """A run that served, and the candidate's for the same request. `agree`: whether both say the same, `None`: unknown."""

    served: Logged
    shadow: Logged
    agree: bool | None

    @property
    def score(self) -> float | None:
        """The candidate's: its own, else that of the answer that says the same; `None` where nothing tells."""
        if self.shadow.score is not None:
            return self.shadow.score
        return self.served.score if self.agree else None


@dataclass(frozen=True, slots=True)
class Beside:
    """Candidate against who serves, over `n` pairs. Intervals of 95 %; `nan` where there is nothing to tell from.

    `agree`: the share that says the same, among `comparable` pairs. `cost`: relative. `difference`: of the scores, among `scored`
    pairs, where an answer of the candidate that differs and was not scored counts as `worst` (0) or, if what was served was
    wrong, as anything up to 1: `best`.
    """

    n: int
    comparable: int
    agree: tuple[float, float, float]
    cost: tuple[float, float, float]
    scored: int
    worst: tuple[float, float, float]
    best: tuple[float, float, float]


def pairs(runs: Sequence[Logged], *, last_line: bool = True) -> list[Pair]:
    """The pairs among some runs, in their order. One that failed, or that a limit cut short, was not played out: no pair."""
    by_run = {run.run: run for run in runs}
    found = []
    for shadow in runs:
        served = by_run.get(shadow.beside)
        if served is None or any(run.error or run.cut for run in (served, shadow)):
            continue
        found.append(Pair(served, shadow, _agree(served, shadow, last_line)))
    return found


def _agree(a: Logged, b: Logged, last_line: bool) -> bool | None:
    values = []
    for run in (a, b):
        reply = run.reply(run.at)
        if reply is None or reply.content is None:
            return None
        tools = () if a.request is None else a.request.tools
        values.append(said(reply.content, last_line=last_line, tools=tools))
    if None in values:
        same = a.reply(a.at).content == b.reply(b.at).content  # type: ignore[union-attr]
        return True if same else None
    return values[0] == values[1]


def scores(found: Sequence[Pair]) -> tuple[list[float], list[float], list[float], list[Pair]]:
    """Of the pairs whose served answer has a score: the candidate's at worst and at best, what was served, and the pairs."""
    worst, best, base, kept = [], [], [], []
    for pair in found:
        if (served := pair.served.score) is None:
            continue
        known = pair.score
        worst.append(0.0 if known is None else known)
        best.append((0.0 if served >= 0.5 and pair.agree is False else 1.0) if known is None else known)
        base.append(served)
        kept.append(pair)
    return worst, best, base, kept


def beside(found: Sequence[Pair]) -> Beside:
    """What the pairs come to."""
    told = [pair.agree for pair in found if pair.agree is not None]
    cost = (math.nan,) * 3
    if len(found) > 1:
        cost = relative_cost([p.shadow.cost / PICO for p in found], [p.served.cost / PICO for p in found])
    worst, best, base, kept = scores(found)
    return Beside(
        len(found),
        len(told),
        _share(told),
        cost,
        len(kept),
        _mean(np.array(worst) - np.array(base)),
        _mean(np.array(best) - np.array(base)),
    )


def _share(told: Sequence[bool]) -> tuple[float, float, float]:
    """A share with its interval (Wilson 1927)."""
    n = len(told)
    if not n:
        return (math.nan,) * 3
    p, z = sum(told) / n, _Z95 * _Z95 / n
    middle = (p + z / 2) / (1 + z)
    half = math.sqrt(z * (p * (1 - p) + z / 4)) / (1 + z)
    return p, middle - half, middle + half


def _mean(gaps: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float, float]:
    if len(gaps) < 2:
        return (math.nan,) * 3
    mean, half = float(gaps.mean()), _Z95 * float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    return mean, mean - half, mean + half
