"""How likely each worker is to be right at a prompt, from an artefact: what `route` goes by where it was learned with `--by`.

Numpy only, imported late. The fits are `learning.evidence.success` and `learning.evidence.routing`; both read chances with what
stands here, so a chance is the same when it is learned and when it is served.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from stretto.artifacts import packed, unpacked
from stretto.policies.evidence.features import TextFeatures
from stretto.policies.evidence.lengths import Lengths
from stretto.policies.evidence.odds import Odds
from stretto.steps import Quotes
from stretto.types import Request

__all__ = [
    "HIGH",
    "LOW",
    "Calibration",
    "Clusters",
    "Form",
    "Linear",
    "Nearest",
    "Profile",
    "Success",
    "clipped",
    "units",
]

LOW: Final = 0.01
HIGH: Final = 0.995
"""Nobody is held to be right less or more often than that."""

_UNKNOWN: Final = 255
_WHOLE: Final = 254
"""How a score is kept: in so many steps, or as not known."""


def clipped(log_odds: Any) -> Any:
    """Log-odds as chances."""
    import numpy as np

    return np.clip(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))), LOW, HIGH)


def units(x: Any) -> Any:
    """Rows of length one."""
    import numpy as np

    return x / np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-9)


class Form(Protocol):
    """What an estimator keeps of what it has seen."""

    def one(self, x: Any) -> tuple[Any, Any]:
        """Of a prompt with features `x` each worker's log-odds to be right, and the standard deviation of these."""
        ...

    def data(self) -> dict[str, Any]:
        """As an artefact holds it."""
        ...


class _Rows:
    """The chances at many prompts, a row each."""

    def one(self, x: Any) -> tuple[Any, Any]:
        """As `Form.one`."""
        raise NotImplementedError

    def predict(self, x: Any) -> Any:
        """The chance of each worker to be right."""
        import numpy as np

        return clipped(np.stack([self.one(row)[0] for row in x]))

    def deviation(self, x: Any) -> Any:
        """How unsure these chances are: one standard deviation."""
        import numpy as np

        found = [self.one(row) for row in x]
        p = clipped(np.stack([z for z, _ in found]))
        return p * (1 - p) * np.stack([doubt for _, doubt in found])


@dataclass(frozen=True, slots=True)
class Linear:
    """Log-odds that are linear in the features: logistic regressions, full or of a low rank. As it serves, it is calibrated.

    `weights`: a column a worker, the constant first. `sketch`: as many rows as are kept of a root of the covariance of a worker's
    weights, drawn by lot; the length of its product with a prompt's features is the deviation of the log-odds, within an eighth.
    """

    weights: Any
    sketch: Any
    odds: Odds
    workers: int

    @classmethod
    def made(cls, weights: Any, sketch: Any, centres: Any, spread: Any) -> "Linear":
        """With the known tasks, of which the last features tell (`Odds.of`): both are read in one go."""
        import numpy as np

        odds = Odds.of(np.hstack([weights, sketch.T]), centres, spread)
        return cls(weights, sketch, odds, weights.shape[1])

    def one(self, x: Any) -> tuple[Any, Any]:
        """As `Form.one`; `x`: the features of the text alone."""
        found = self.odds.after(x)
        rest = found[self.workers :]
        return found[: self.workers], math.sqrt(float(rest @ rest))

    def data(self) -> dict[str, Any]:
        """As `Form.data`."""
        return {"kind": "linear", "weights": _half(self.weights), "sketch": _half(self.sketch)}

    @classmethod
    def of(cls, data: Mapping[str, Any], centres: Any, spread: Any) -> "Linear":
        """From `data`."""
        return cls.made(_wide(data["weights"]), _wide(data["sketch"]), centres, spread)


@dataclass(frozen=True, slots=True)
class Nearest(_Rows):
    """The mean of the `k` nearest prompts by cosine over the first features, drawn towards the worker's mean by `prior` prompts.

    `x`: those prompts, rows of length one; `scores`: what each worker got there, 0 where that is not `known` (1 or 0).
    """

    x: Any
    scores: Any
    known: Any
    mean: Any
    k: int
    prior: float

    def one(self, x: Any) -> tuple[Any, Any]:
        """As `Form.one`."""
        import numpy as np

        likeness = self.x @ x[: self.x.shape[1]].astype(self.x.dtype)  # its own length changes no order
        k = min(self.k, len(likeness))
        near = np.argpartition(likeness, len(likeness) - k)[len(likeness) - k :]
        count = np.add.reduce(self.known[near]) + self.prior
        p = (np.add.reduce(self.scores[near]) + self.prior * self.mean) / count
        p = np.minimum(np.maximum(p, LOW), HIGH)
        return np.log(p / (1 - p)), 1 / np.sqrt(count * p * (1 - p))

    def data(self) -> dict[str, Any]:
        """As `Form.data`."""
        import numpy as np

        kept = np.where(self.known > 0, np.rint(_WHOLE * self.scores), _UNKNOWN).astype(np.uint8)
        return {
            "kind": "nearest",
            "x": packed(np.rint(127 * self.x).astype(np.int8)),
            "scores": packed(kept),
            "mean": _half(self.mean),
            "k": self.k,
            "prior": self.prior,
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], centres: Any, spread: Any) -> "Nearest":
        """From `data`."""
        import numpy as np

        kept = unpacked(data["scores"])
        known = (kept != _UNKNOWN).astype(np.float32)
        x = units(unpacked(data["x"]).astype(np.float32))
        return cls(x, known * kept / np.float32(_WHOLE), known, _wide(data["mean"]), data["k"], data["prior"])


@dataclass(frozen=True, slots=True)
class Clusters(_Rows):
    """Avengers-Pro: what each worker got in each cluster of prompts; a prompt takes from its `near` nearest ones.

    They count by softmax of -`beta` * distance (by cosine over the first features). `counts`: how many outcomes are behind each
    entry of `table`, beside `prior` prompts at the worker's mean.
    """

    centres: Any
    table: Any
    counts: Any
    near: int
    beta: float
    prior: float

    def one(self, x: Any) -> tuple[Any, Any]:
        """As `Form.one`."""
        import numpy as np

        x = x[: self.centres.shape[1]]
        likeness = self.centres @ (x / (math.sqrt(float(x @ x)) or 1.0))
        near = np.argsort(likeness)[-self.near :]
        weights = np.exp(self.beta * (likeness[near] - likeness[near[-1]]))
        weights /= np.add.reduce(weights)
        table = self.table[near]
        p = np.minimum(np.maximum(weights @ table, LOW), HIGH)
        variance = (weights * weights) @ (table * (1 - table) / (self.counts[near] + self.prior))
        return np.log(p / (1 - p)), np.sqrt(variance) / (p * (1 - p))

    def data(self) -> dict[str, Any]:
        """As `Form.data`."""
        kept = {name: _half(getattr(self, name)) for name in ("centres", "table", "counts")}
        return {"kind": "clusters", **kept, "near": self.near, "beta": self.beta, "prior": self.prior}

    @classmethod
    def of(cls, data: Mapping[str, Any], centres: Any, spread: Any) -> "Clusters":
        """From `data`."""
        kept, table, counts = (_wide(data[name]) for name in ("centres", "table", "counts"))
        return cls(kept, table, counts, data["near"], data["beta"], data["prior"])


_KINDS: Final[Mapping[str, Any]] = {"linear": Linear, "nearest": Nearest, "clusters": Clusters}


@dataclass(frozen=True, slots=True)
class Calibration:
    """From an estimator's log-odds to calibrated ones: a constant for each worker, and what all log-odds say of each.

    `learning.evidence.routing.calibrate` makes it of four numbers: where workers are told apart by chance, differences count
    little.
    """

    mix: Any
    constants: Any

    def after(self, log_odds: Any) -> Any:
        """The calibrated log-odds."""
        return log_odds @ self.mix + self.constants

    @property
    def steepness(self) -> float:
        """How much a worker's log-odds move when those of its estimate do, or those of all: what errs for one errs for many."""
        return max(float(self.mix[0, 0]), float(self.mix[:, 0].sum()))


@dataclass(frozen=True, slots=True)
class Profile:
    """A worker of whom there are few outcomes, or none, in terms of those that are known: log-odds from theirs.

    `weights`: a constant, and one for each known worker's log-odds; `root`: of the covariance of these, so that the length of its
    product with them is the deviation. `labels`: how many outcomes it rests on.
    """

    worker: str
    weights: Any
    root: Any
    labels: int

    def after(self, log_odds: Any) -> tuple[Any, Any]:
        """Its log-odds and their deviation, from those of the known workers (a row a prompt, or one prompt)."""
        import numpy as np

        found = log_odds @ self.root[:, 1:].T + self.root[:, 0]
        return log_odds @ self.weights[1:] + self.weights[0], np.sqrt((found * found).sum(-1))

    def data(self) -> dict[str, Any]:
        """As an artefact holds it."""
        kept = {"weights": packed(self.weights), "root": packed(self.root)}
        return {"worker": self.worker, "labels": self.labels, **kept}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Profile":
        """From `data`."""
        return cls(data["worker"], unpacked(data["weights"]), unpacked(data["root"]), data["labels"])


@dataclass(frozen=True, slots=True)
class Success:
    """An estimator with all it needs: what is seen of a prompt, its form, its calibration, and workers that came later.

    From an artefact's data: `by` (which family), `workers`, `text` (`TextFeatures`), `centres` and `spread` (of the known tasks;
    may be absent), `form`, `mix` and `constants` (of the calibration; absent where the form is calibrated), `newcomers` and
    `lengths` (`evidence.lengths.Lengths`; both may be absent).
    """

    by: str
    workers: tuple[str, ...]
    text: TextFeatures
    form: Form
    calibration: Calibration | None = None
    newcomers: tuple[Profile, ...] = ()
    lengths: Lengths | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Success":
        """From an artefact's data. Raises `KeyError`, `ValueError` where that is something else."""
        tasks = (_wide(data[name]) if name in data else None for name in ("centres", "spread"))
        return cls(
            data["by"],
            tuple(data["workers"]),
            TextFeatures.of(data["text"]),
            _KINDS[data["form"]["kind"]].of(data["form"], *tasks),
            Calibration(_wide(data["mix"]), _wide(data["constants"])) if "mix" in data else None,
            tuple(Profile.of(one) for one in data.get("newcomers", ())),
            Lengths.of(data["lengths"], tuple(data["workers"])) if data.get("lengths") else None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Everybody it tells a chance of, those that came later last."""
        return (*self.workers, *(profile.worker for profile in self.newcomers))

    def quoting(self, request: Request, quotes: Quotes) -> Quotes:
        """Quotes of a request that expect of an answer the length that its prompt asks for, where that was learned."""
        if self.lengths is None:
            return quotes
        return self.lengths.quoting(request, quotes, self.text.vector(request.prompt))

    def log_odds(self, prompt: str) -> tuple[Any, Any]:
        """The log-odds of `workers` at a prompt, and the deviation of these."""
        found, doubt = self.form.one(self.text.vector(prompt))
        if self.calibration is not None:
            found, doubt = self.calibration.after(found), self.calibration.steepness * doubt
        return found, doubt

    def chances(self, prompt: str) -> dict[str, tuple[float, float]]:
        """Of everybody the chance to be right at a prompt, and its standard deviation."""
        import numpy as np

        found, doubt = self.log_odds(prompt)
        late = [profile.after(found) for profile in self.newcomers]
        if late:
            doubt = np.append(np.broadcast_to(doubt, found.shape), [unsure for _, unsure in late])
            found = np.append(found, [z for z, _ in late])
        p = 1 / (1 + np.exp(-found))
        p = np.minimum(np.maximum(p, LOW), HIGH)
        unsure = p * (1 - p) * doubt
        return dict(zip(self.names, zip(p.tolist(), unsure.tolist(), strict=True), strict=True))


def _half(array: Any) -> dict[str, Any]:
    import numpy as np

    return packed(np.asarray(array).astype(np.float16))


def _wide(data: Mapping[str, Any]) -> Any:
    import numpy as np

    return unpacked(data).astype(np.float64)
