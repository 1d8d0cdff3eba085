"""Alarms of a planner's training: what is read after every few rounds, and when that says stop.

A training by reward fails silently: the mean reward rises through the format alone, all work goes to one strong worker, or what
is learned does not hold on other problems. So four things are read apart, and any of them ends a stage. The caller then goes
back to the last good weights. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Limits", "Reading", "alarm", "best_place", "entropy"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at one time: on workflows sampled since the last reading, and on held-out problems answered greedily."""

    round: int
    parsed: float
    """Share of sampled workflows that are valid."""
    right: float
    """Share of right answers among the *valid* ones."""
    spread: float
    """Entropy of the workers asked, over that of an even choice: 0 if all is asked of one."""
    held: float
    """Accuracy on held-out problems."""
    single: float
    """Accuracy of the best single worker on the same held-out problems."""
    steps: float = 0.0
    """Mean steps of a valid workflow."""
    calls: int = 0
    """Worker calls made since the start of the training, whether kept replies answered them or not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop. `patience` readings in a row must agree for what wavers by chance."""

    parsed: float = 0.85
    spread: float = 0.35
    regret: float = 0.02
    """How far below the best single worker the held-out accuracy may be."""
    fall: float = 0.06
    """How far below its best the held-out accuracy may be."""
    patience: int = 2


def alarm(history: Sequence[Reading], limits: Limits) -> str | None:
    """What the readings say against going on, if anything: `parse`, `collapse`, `regret` or `held-out`, with figures."""
    if not history:
        return None
    now = history[-1]
    if now.parsed < limits.parsed:
        return f"parse: {now.parsed:.3f} of the workflows are valid, {limits.parsed:g} are needed"
    recent = history[-limits.patience :]
    if len(recent) < limits.patience:
        return None
    narrow = all(reading.spread < limits.spread for reading in recent)
    if (
        narrow and now.held <= recent[0].held
    ):  # what still gets better may be on its way from the generalist to specialists
        return f"collapse: the workers asked have {now.spread:.3f} of an even choice's entropy, {limits.spread:g} are needed"
    if all(reading.held < reading.single - limits.regret for reading in recent):
        return f"regret: {now.held:.3f} on held-out problems, {now.single:.3f} by the best single worker"
    best = max(reading.held for reading in history)
    if all(reading.held < best - limits.fall for reading in recent):
        return f"held-out: {now.held:.3f} after {best:.3f}"
    return None


def best_place(history: Sequence[Reading], limits: Limits) -> int:
    """The place of the best reading that raises no alarm by itself: highest held-out accuracy, the earliest of equals."""
    sound = [i for i, r in enumerate(history) if r.parsed >= limits.parsed and r.spread >= limits.spread]
    return max(sound or range(len(history)), key=lambda place: (history[place].held, -place))


def entropy(counts: Sequence[int]) -> float:
    """Entropy of a choice over that of an even one: 1 for even, 0 for always the same; 1 where there is nothing to choose."""
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return 1.0
    return -sum(c / total * math.log(c / total) for c in counts if c) / math.log(len(counts))
