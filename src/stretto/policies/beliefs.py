"""What replies are evidence of: features of each candidate answer, and the calibrated chance that it is right.

The same arithmetic serves one request and learns from many: every array has the items first. Numpy only, imported late. The
method and its measured worth: EVIDENCE.md section 2. The form that serves is a logistic regression on these features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import unpacked

__all__ = ["EXCHANGEABLE", "Beliefs", "Posterior", "candidates", "view", "views"]

EXCHANGEABLE: Final = 21
"""So many features know nothing of who supports an answer, only how good the supporters are."""


def candidates(classes: Any, logits: Any, asked: Any, *, identity: bool = False) -> tuple[Any, Any]:
    """Features (items, candidates, features) of every answer given by those asked, and which of these candidates there are.

    `classes` (items, workers): which answer each worker gave, -1 for none; `logits`: the log-odds that each is right, before
    anything was said; `asked`: whose replies are there. With `identity` one more feature a worker says on which side it is.
    """
    import numpy as np

    items, workers = classes.shape
    numbers = np.arange(workers)
    supports = (classes[:, None, :] == numbers[None, :, None]) & asked[:, None, :]
    valid = supports.any(2)
    spoke = asked & (classes >= 0)
    opposes = spoke[:, None, :] & ~supports
    size = np.maximum(asked.sum(1), 1)[:, None].astype(np.float64)
    pro, contra = supports.sum(2), opposes.sum(2)
    silent = (asked & (classes < 0)).sum(1)[:, None]
    each = logits[:, None, :]
    for_it = (supports * each).sum(2)
    against = (opposes * each).sum(2)
    score = np.where(valid, np.clip(for_it + pro, -12, 12), -30.0)
    total = 1.0 + np.exp(score).sum(1, keepdims=True) - np.exp(score)
    odds = np.clip(score - np.log(total), -12, 12)
    others = np.repeat(score[:, None, :], workers, axis=1)
    others[:, numbers, numbers] = -30.0
    rival = np.maximum(others.max(2), 0.0)
    best_for = np.where(pro > 0, np.where(supports, each, -np.inf).max(2, initial=-30.0), 0.0)
    best_against = np.where(contra > 0, np.where(opposes, each, -np.inf).max(2, initial=-30.0), 0.0)
    share = pro / size
    log_size = np.log(size)
    unanimous = ((contra == 0) & (pro > 1)).astype(np.float64)
    ease, top = logits.mean(1)[:, None], logits.max(1)[:, None]
    ones = np.ones((items, workers))
    columns = [
        ones,
        odds,
        score - rival,
        share,
        np.log1p(pro),
        np.log1p(contra),
        ones * silent / size,
        ones * np.log1p(valid.sum(1)[:, None]),
        best_for,
        best_against,
        ones * ease,
        ones * top,
        odds * np.abs(odds) / 6.0,
        odds * share,
        odds * log_size,
        for_it / size,
        against / size,
        unanimous,
        unanimous * np.log1p(pro),
        unanimous * ease,
        ones * log_size,
    ]
    features = np.stack(columns, axis=2)
    if identity:
        side = np.where(supports, 1.0, np.where(opposes, -1.0, np.where(asked[:, None, :], -0.5, 0.0)))
        features = np.concatenate([features, side], axis=2)
    return features, valid


@dataclass(frozen=True, slots=True)
class Posterior:
    """A logistic regression on standardised features. `exclusive`: at most one answer is right: chances sum to <= 1."""

    weights: Any
    mean: Any
    deviation: Any
    exclusive: bool = True

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Posterior":
        """From an artefact's data."""
        return cls(
            unpacked(data["weights"]), unpacked(data["mean"]), unpacked(data["deviation"]), data["exclusive"]
        )

    @property
    def identity(self) -> bool:
        """Whether it knows workers by who they are."""
        return len(self.weights) > EXCHANGEABLE

    def chances(self, classes: Any, logits: Any, asked: Any) -> Any:
        """The chance of each candidate (items, candidates) to be right; 0 where there is no such candidate."""
        import numpy as np

        features, valid = candidates(classes, logits, asked, identity=self.identity)
        z = ((features - self.mean) / self.deviation) @ self.weights
        chance = np.where(valid, 1.0 / (1.0 + np.exp(-np.clip(z, -30, 30))), 0.0)
        if self.exclusive:
            chance = chance / np.maximum(1.0, chance.sum(1, keepdims=True))
        return chance


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Of each item, after some replies: the best candidate and whose reply says it, its chance, and the runner-up's chance."""

    best: Any
    speaker: Any
    first: Any
    second: Any

    @classmethod
    def after(cls, posterior: Posterior, classes: Any, logits: Any, asked: Any) -> "Beliefs":
        """Where nobody gave an answer, the best of those asked speaks, with chance 0."""
        import numpy as np

        chance = posterior.chances(classes, logits, asked)
        rows = np.arange(len(chance))
        best = chance.argmax(1)
        first = chance[rows, best]
        rest = chance.copy()
        rest[rows, best] = 0.0
        says = (classes == best[:, None]) & asked
        says = np.where(says.any(1)[:, None], says, asked)
        speaker = np.where(says, logits, -np.inf).argmax(1)
        return cls(best, speaker, first, rest.max(1))


def view(first: Any, second: Any, logits: Any, *, rich: bool) -> Any:
    """What the worth of stopping and of asking on is read from, after at least one reply: a row an item."""
    import numpy as np

    t = np.clip(first, 1e-4, 1 - 1e-4)
    mean, top = logits.mean(1), logits.max(1)
    columns = [
        np.ones_like(t),
        t,
        t * t,
        np.log(t / (1 - t)),
        np.maximum(t - 0.5, 0),
        np.maximum(t - 0.8, 0),
        np.maximum(t - 0.93, 0),
        second,
        t * second,
        second * second,
        mean,
        mean * t,
        top,
        top * t,
    ]
    plain = np.stack(columns, axis=1)
    return np.concatenate([plain, logits, logits * t[:, None]], axis=1) if rich else plain


def views(logits: Any) -> Any:
    """The same before any reply: all that is known are the chances of the workers."""
    import numpy as np

    return np.concatenate([np.ones((len(logits), 1)), logits, 1.0 / (1.0 + np.exp(-logits))], axis=1)
