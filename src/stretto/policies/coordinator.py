"""TRINITY's coordinator: from the hidden state of a small model to who plays next, and in which role.

A linear head on one hidden state gives a logit a worker and three logits for the roles, each set with a softmax of its own
(arXiv 2512.04695, section 3). All of it comes from an artefact. Numpy only, imported late; the functions take rows of states
too, so that training uses the same ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from stretto.artifacts import Artifact, unpacked

__all__ = [
    "BACKBONE",
    "ROLES",
    "TRINITY_SCHEMA",
    "Coordinator",
    "Decision",
    "Observation",
    "Pooling",
    "chances",
    "head_matrix",
    "picked",
    "whitened",
]

TRINITY_SCHEMA: Final = "stretto.trinity/1"

ROLES: Final = ("worker", "thinker", "verifier")
"""The roles in the order of their logits, as in the paper's code."""

BACKBONE: Final = "coordinator"
"""The worker whose states are read, where an artefact does not name it."""

Pooling = Literal["penultimate", "last", "mean"]
"""Which hidden state is read: after the last token but one, after the last, or the mean of all."""


@dataclass(frozen=True, slots=True)
class Observation:
    """How a run is told to the backbone, as raw text without a chat template: the format is part of the weights.

    `tells` the `transcript`: the question, one piece a turn with `{number}` (of the turns of that role, from 1), `{worker}` (its
    place), `{task}` and `{reply}`, then `end`. A role whose piece is "" goes unmentioned, so `thinker=""` and `verifier=""` are
    the paper's variant, in which only workers' turns change the observation. Or it tells the `forms`: what a thinker would be
    asked now, or the worker who is to do what the thinker has written. Failed turns are never told.

    The text stands in `frame` as `{text}` (beside `{system}`); then `lower` and, in order, the replacements `spaced`.
    """

    tells: Literal["transcript", "forms"] = "transcript"
    frame: str = "system: {system}\nuser: {text}"
    system: str = ""
    worker: str = "\n\n<reference_thought_{number}>\n{reply}\n</reference_thought_{number}>"
    thinker: str = "\n\n<suggestion_{number}>\n{reply}\n</suggestion_{number}>"
    verifier: str = "\n\n<review_{number}>\n{reply}\n</review_{number}>"
    end: str = ""
    lower: bool = False
    spaced: tuple[tuple[str, str], ...] = ()
    question_chars: int = 3000
    reply_chars: int = 600

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Observation":
        """From an artefact's data; what is not told is as above. Raises `ValueError` for a name that is none."""
        if unknown := set(data) - {f.name for f in fields(cls)}:
            raise ValueError(f"an observation has no {', '.join(sorted(unknown))}")
        return cls(**{**data, "spaced": tuple((str(a), str(b)) for a, b in data.get("spaced", ()))})

    def framed(self, text: str) -> str:
        """A text as the backbone reads it."""
        text = self.frame.format(system=self.system, text=text)
        text = text.lower() if self.lower else text
        for old, new in self.spaced:
            text = text.replace(old, new)
        return text


@dataclass(frozen=True, slots=True)
class Decision:
    """Who plays next, and as what (places in the coordinator's workers and in `ROLES`).

    `roles` are the chances of the roles, `workers` those of the workers in the role that was picked; 0 for who may not.
    """

    worker: int
    role: int
    workers: tuple[float, ...]
    roles: tuple[float, ...]


class Coordinator:
    """An artefact of schema `TRINITY_SCHEMA`, ready to use. Its data:

    `workers` in the order of the logits; `head` (`head_matrix`); optionally `mean`, `whiten` and `bias` (`whitened`), `pooling`,
    `backbone` (a worker's id), `observation` (`Observation`), `able` {role: workers who may play it}, `best` (workers from the
    best single one on), `calls` (of a run, on average), and how the episodes went that it was trained on (`episode.Rules.of`).

    `backbone`: the worker whose states are read, where it goes by another id than in the artefact. Raises `ValueError`.
    """

    def __init__(self, artifact: Artifact, backbone: str = "") -> None:
        if artifact.schema != TRINITY_SCHEMA:
            raise ValueError(f"trinity needs an artefact of schema {TRINITY_SCHEMA}, not {artifact.schema}")
        self.data = data = artifact.data
        self.name = f"trinity {artifact.hash}"
        self.workers: tuple[str, ...] = tuple(data["workers"])
        self.backbone: str = backbone or data.get("backbone", BACKBONE)
        self.pooling: Pooling = data.get("pooling", "penultimate")
        self.observes = Observation.of(data.get("observation", {}))
        self.best: tuple[str, ...] = tuple(data.get("best", self.workers))
        self.calls: float | None = data.get("calls")
        self._able: Mapping[str, Sequence[str]] = data.get("able", {})
        self._head = head_matrix(data["head"])
        if len(self._head) != len(self.workers) + len(ROLES):
            raise ValueError(
                f"the head has {len(self._head)} rows, not one a worker ({len(self.workers)}) and one a role"
            )
        self._mean = unpacked(data["mean"]) if data.get("mean") else None
        self._whiten = unpacked(data["whiten"]) if data.get("whiten") else None
        self._bias = bool(data.get("bias", False))
        self.width = self._width()

    def __repr__(self) -> str:
        return f"{self.name} on {self.backbone}"

    def _width(self) -> int:
        """How long a state has to be."""
        if self._mean is not None:
            return len(self._mean)
        if self._whiten is not None:
            return int(self._whiten.shape[-1])
        return int(self._head.shape[1]) - self._bias

    def able(self, eligible: Sequence[bool]) -> tuple[tuple[bool, ...], ...]:
        """For each role, which of the workers (in their order) may play it, of those who are eligible."""
        named = [self._able.get(role) for role in ROLES]
        return tuple(
            tuple(e and (own is None or w in own) for w, e in zip(self.workers, eligible, strict=True))
            for own in named
        )

    def decide(
        self,
        state: Sequence[float],
        allowed: Sequence[Sequence[bool]],
        draws: tuple[float, float] | None = None,
    ) -> Decision:
        """A role, then a worker for it. `allowed[role][worker]`: who may be picked, somebody at least.

        `draws`: two numbers in [0, 1) to sample the role and the worker by; without them the likeliest (of equals the first).
        Raises `ValueError` for a state that is not as long as the head is wide.
        """
        import numpy as np

        row = np.asarray(state, dtype=np.float64)
        if row.shape != (self.width,):
            raise ValueError(f"the backbone gave a state of {row.size} numbers, the head reads {self.width}")
        logits = self._head @ whitened(row, self._mean, self._whiten, bias=self._bias)
        split = len(self.workers)
        roles = chances(logits[split:], np.array([any(some) for some in allowed]))
        role = picked(roles, None if draws is None else draws[0])
        workers = chances(logits[:split], np.array(allowed[role], dtype=bool))
        worker = picked(workers, None if draws is None else draws[1])
        return Decision(worker, role, tuple(workers.tolist()), tuple(roles.tolist()))


def head_matrix(head: Mapping[str, Any]) -> Any:
    """A head as one matrix of float64: a row a worker and a row a role, a column a number of the (whitened) state.

    `kind` is `linear` (`weight`), `low-rank` (`left` @ `right`) or `block` (`blocks`: each a group of rows that reads a
    stretch of columns of its own: block-diagonal). Raises `ValueError` for another.
    """
    import numpy as np

    match head["kind"]:
        case "linear":
            return unpacked(head["weight"]).astype(np.float64)
        case "low-rank":
            return unpacked(head["left"]).astype(np.float64) @ unpacked(head["right"]).astype(np.float64)
        case "block":
            blocks = [unpacked(block).astype(np.float64) for block in head["blocks"]]
            whole = np.zeros((sum(len(b) for b in blocks), sum(b.shape[1] for b in blocks)))
            row = column = 0
            for block in blocks:
                whole[row : row + len(block), column : column + block.shape[1]] = block
                row, column = row + len(block), column + block.shape[1]
            return whole
        case other:
            raise ValueError(f"there is no head of kind {other!r}: linear, low-rank or block")


def whitened(states: Any, mean: Any = None, whiten: Any = None, *, bias: bool = False) -> Any:
    """What a head reads of states (one, or a row each): less their `mean`, times `whiten`, and with `bias` a 1 behind.

    `whiten`: a number a column, or a matrix (k, d) that each state is multiplied by; `None` leaves them as they are.
    """
    import numpy as np

    found = np.asarray(states, dtype=np.float64)
    if mean is not None:
        found = found - mean
    if whiten is not None:
        found = found * whiten if whiten.ndim == 1 else found @ whiten.T
    return np.concatenate([found, np.ones((*found.shape[:-1], 1))], axis=-1) if bias else found


def chances(logits: Any, mask: Any) -> Any:
    """A softmax over the last axis, of what the mask allows; 0 for the rest. Somebody must be allowed in every row."""
    import numpy as np

    held = np.where(mask, logits, -np.inf)
    weights = np.exp(held - held.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def picked(odds: Any, draw: float | None = None) -> int:
    """Of one row of chances the likeliest (of equals the first), or the one into whose share a draw in [0, 1) falls."""
    if draw is None:
        return int(odds.argmax())
    place = int(odds.cumsum().searchsorted(draw * odds.sum(), side="right"))
    possible = odds.nonzero()[0]
    return place if place < len(odds) and odds[place] > 0 else int(possible[-1])
