"""What replies are evidence of: features of each candidate answer, and the calibrated chance that it is right.

The same arithmetic serves one request and learns from many: every array has the items first. Numpy only, imported late. The
method and its measured worth: EVIDENCE.md section 2. Boosted trees on these features serve; where LightGBM was not there to learn
them, a logistic regression.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import packed, unpacked
from stretto.policies.evidence.trees import Trees

__all__ = ["EXCHANGEABLE", "Beliefs", "Linear", "Posterior", "bounded", "candidates", "view", "views"]

EXCHANGEABLE: Final = 23
"""So many features know nothing of who supports an answer, only how good the supporters are and how long their replies."""


def candidates(
    classes: Any, logits: Any, asked: Any, lengths: Any = None, *, identity: bool = False
) -> tuple[Any, Any, Any]:
    """A row of features for every answer given by those asked; and of each row the item, and the number of the answer.

    `classes` (items, workers): which answer each worker gave, -1 for none; `logits`: the log-odds that each is right, before
    anything was said; `asked`: whose replies are there; `lengths`: how much longer a reply is than the worker's usual ones, in
    deviations. With `identity` one more feature a worker says on which side it is.
    """
    import numpy as np

    items, workers = classes.shape
    item, number = ((classes[:, None, :] == np.arange(workers)[:, None]) & asked[:, None, :]).any(2).nonzero()
    pro = (classes[item] == number[:, None]) & asked[item]
    contra = (asked & (classes >= 0))[item] & ~pro
    each = logits[item]
    for_, against = pro.sum(1), contra.sum(1)
    size = asked.sum(1)[item].astype(np.float64)
    of_pro, of_contra = (pro * each).sum(1), (contra * each).sum(1)
    score = np.minimum(np.maximum(of_pro + for_, -12.0), 12.0)
    dense = np.full((items, workers + 1), -30.0)  # the last column: no rival at all
    dense[item, number] = score
    weight = np.exp(score)
    total = 1.0 + np.bincount(item, weight, items)
    odds = np.minimum(np.maximum(score - np.log(np.maximum(total[item] - weight, 1e-9)), -12.0), 12.0)
    dense.partition(workers - 1, axis=1)
    first, second = dense[item, workers], dense[item, workers - 1]
    rival = np.maximum(np.where(score == first, second, first), 0.0)
    best_for = np.where(pro, each, -30.0).max(1)
    best_against = np.where(against > 0, np.where(contra, each, -30.0).max(1), 0.0)
    share, log_size = for_ / size, np.log(size)
    unanimous = ((against == 0) & (for_ > 1)).astype(np.float64)
    ease = logits.mean(1)[item]
    long_pro = long_contra = np.zeros(len(item))
    if lengths is not None:
        long = lengths[item]
        long_pro = (pro * long).sum(1) / for_
        long_contra = (contra * long).sum(1) / np.maximum(against, 1)
    columns = (
        1.0,
        odds,
        score - rival,
        share,
        np.log1p(for_),
        np.log1p(against),
        (size - for_ - against) / size,
        np.log1p(np.bincount(item, minlength=items))[item],
        best_for,
        best_against,
        ease,
        logits.max(1)[item],
        odds * np.abs(odds) / 6.0,
        odds * share,
        odds * log_size,
        of_pro / size,
        of_contra / size,
        unanimous,
        unanimous * np.log1p(for_),
        unanimous * ease,
        log_size,
        long_pro,
        long_contra,
    )
    features = np.empty((len(item), EXCHANGEABLE + workers * identity))
    for place, column in enumerate(columns):  # faster than np.stack where there are few rows
        features[:, place] = column
    if identity:
        features[:, EXCHANGEABLE:] = np.where(
            pro, 1.0, np.where(contra, -1.0, np.where(asked[item], -0.5, 0.0))
        )
    return features, item, number


@dataclass(frozen=True, slots=True)
class Linear:
    """A logistic regression on standardised features."""

    weights: Any
    mean: Any
    deviation: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Linear":
        """From an artefact's data."""
        return cls(unpacked(data["weights"]), unpacked(data["mean"]), unpacked(data["deviation"]))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {
            "weights": packed(self.weights),
            "mean": packed(self.mean),
            "deviation": packed(self.deviation),
        }

    def log_odds(self, x: Any) -> Any:
        """Of every row."""
        return ((x - self.mean) / self.deviation) @ self.weights


@dataclass(frozen=True, slots=True)
class Posterior:
    """How likely an answer is right. `exclusive`: at most one answer is right: chances sum to <= 1.

    `identity`: it knows workers by who they are, not only by how good they are.
    """

    form: Linear | Trees
    identity: bool = False
    exclusive: bool = True

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Posterior":
        """From an artefact's data."""
        form = Trees.of(data["trees"]) if "trees" in data else Linear.of(data["linear"])
        return cls(form, data["identity"], data["exclusive"])

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        name = "trees" if isinstance(self.form, Trees) else "linear"
        return {name: self.form.data, "identity": self.identity, "exclusive": self.exclusive}

    def chances(self, classes: Any, logits: Any, asked: Any, lengths: Any = None) -> Any:
        """The chance of each candidate (items, candidates) to be right; 0 where there is no such candidate."""
        import numpy as np

        features, item, number = candidates(classes, logits, asked, lengths, identity=self.identity)
        z = np.minimum(np.maximum(self.form.log_odds(features), -30.0), 30.0)
        chance = np.zeros(classes.shape)
        chance[item, number] = 1.0 / (1.0 + np.exp(-z))
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
    def after(
        cls, posterior: Posterior, classes: Any, logits: Any, asked: Any, lengths: Any = None
    ) -> "Beliefs":
        """Where nobody gave an answer, the best of those asked speaks, with chance 0."""
        return cls.of(posterior.chances(classes, logits, asked, lengths), classes, logits, asked)

    @classmethod
    def of(cls, chances: Any, classes: Any, logits: Any, asked: Any) -> "Beliefs":
        """The same where the chances of the candidates (items, candidates) are there."""
        import numpy as np

        chance = chances.copy()
        rows = np.arange(len(chance))
        best = chance.argmax(1)
        first = chance[rows, best]
        chance[rows, best] = 0.0
        says = (classes == best[:, None]) & asked
        says = np.where(says.any(1)[:, None], says, asked)
        speaker = np.where(says, logits, -np.inf).argmax(1)
        return cls(best, speaker, first, chance.max(1))


def view(first: Any, second: Any, logits: Any, *, rich: bool) -> Any:
    """What the worth of stopping and of asking on is read from, after at least one reply: a row an item."""
    import numpy as np

    t = np.clip(first, 1e-4, 1 - 1e-4)
    mean, top = logits.mean(1), logits.max(1)
    columns = (
        1.0,
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
    )
    count, workers = len(columns), logits.shape[1]
    found = np.empty((len(t), count + 2 * workers * rich))
    for place, column in enumerate(columns):
        found[:, place] = column
    if rich:
        # what asking somebody brings is about the chance that this one is right times the chance that the best answer is not
        found[:, count : count + workers] = right = 1.0 / (1.0 + np.exp(-logits))
        found[:, count + workers :] = right * (1.0 - t[:, None])
    return found


def views(logits: Any, near: Any = None) -> Any:
    """The same before any reply: all that is known are the chances of the workers, and how near the prompt is to each known task.

    What pays as a first ask differs between tasks with the same chances: where several answers may be right, nobody can agree.
    """
    import numpy as np

    parts = [np.ones((len(logits), 1)), logits, 1.0 / (1.0 + np.exp(-logits))]
    return np.concatenate(parts if near is None else [*parts, near], axis=1)


def bounded(stop: Any, ask: Any, sure: Any, paid: Any) -> Any:
    """What asking can be worth at most: as much as stopping, and all that is left to gain (1 - `sure`), less the price.

    A regression knows nothing of that bound, and would pay for second opinions on what is certain.
    """
    import numpy as np

    return np.minimum(ask, stop + (1.0 - sure) - paid)
