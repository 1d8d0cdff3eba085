"""TRINITY's training: what a candidate coordinator is, how it plays, and its evolution on the reward at the end of whole runs.

Stage 1 fits a head to soft targets (`trinity_tree`). Stage 2 is separable CMA-ES (`cmaes.SepCMA`) from there: each
generation all candidates play the same problems under the same pools, drawn from seed and generation alone, so a training
that was killed goes on from its checkpoint to the same end. The genome is the head and, with `scales`, one factor for each
singular value of the matrices in the backbone's last layer, whose nuclear norms are kept (arXiv 2512.04695).
"""

import itertools
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from stretto.errors import ConfigError
from stretto.learning.trinity.backbone import States
from stretto.learning.trinity.episodes import Graph, Played
from stretto.policies.coordinator import ROLES, chances, whitened
from stretto.types import derive_seed

__all__ = [
    "SIGMA",
    "Candidate",
    "Draws",
    "Evolution",
    "Head",
    "Judge",
    "Space",
    "Whitening",
    "drawn",
    "entropy",
    "evolve",
    "keep",
    "look",
    "population",
    "restore",
]

SIGMA: Final = 0.03
"""The first step size, of the paper."""

LOOK: Final = 5
"""Generations between looks at the held-out problems."""

TURN_COST: Final = 0.01
"""What the fitness takes off for each turn: enough to prefer the shorter of two equal ways, and no more."""

_LEAST: Final = 0.01
"""The least factor of a singular value: none is turned round."""

Array = Any
Head = Literal["linear", "low-rank", "block"]


@dataclass(frozen=True, slots=True)
class Whitening:
    """States become features: less `mean`, times `matrix` (k x d), and a 1 behind where there is a `bias`."""

    mean: Array
    matrix: Array
    bias: bool = True

    @classmethod
    def of(cls, states: Array, *, floor: float = 1e-2, bias: bool = True) -> "Whitening":
        """By principal components; those below `floor` of the largest variance are not blown up further."""
        mean = states.mean(0)
        values, vectors = np.linalg.eigh(np.cov((states - mean).T))
        return cls(mean, (vectors / np.sqrt(np.maximum(values, floor * values.max()))).T, bias)

    def features(self, states: Array) -> Array:
        """A row a state."""
        return whitened(states, self.mean, self.matrix, bias=self.bias)

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.matrix) + self.bias


@dataclass(frozen=True, slots=True)
class Candidate:
    """A coordinator to try: its head (workers and roles x features), and the matrices of its last layer, if they are scaled."""

    head: Array
    matrices: dict[str, Array] = field(default_factory=dict)


class Space:
    """What a genome means. `shape`, `rank` and `blocks` are of the head; with `spectra` the scales stand behind it."""

    def __init__(
        self,
        rows: int,
        width: int,
        shape: Head = "linear",
        *,
        rank: int = 6,
        blocks: int = 2,
        scaled: dict[str, tuple[Array, Array, Array]] | None = None,
    ) -> None:
        self.rows, self.width, self.shape, self.rank = rows, width, shape, min(rank, rows, width)
        edges = zip(_edges(rows, blocks), _edges(width, blocks), strict=True)
        self._blocks = [(slice(*r), slice(*c)) for r, c in edges]
        self._scaled = scaled or {}
        self.head_size = {
            "linear": rows * width,
            "low-rank": self.rank * (rows + width),
            "block": sum((r.stop - r.start) * (c.stop - c.start) for r, c in self._blocks),
        }[shape]
        self.size = self.head_size + sum(len(s) for _, s, _ in self._scaled.values())

    def genome(self, head: Array) -> Array:
        """The genome nearest to a full head, with the backbone as it is."""
        found = np.zeros(self.size)
        if self.shape == "linear":
            found[: self.head_size] = head.ravel()
        elif self.shape == "low-rank":
            u, s, vt = np.linalg.svd(head, full_matrices=False)
            root = np.sqrt(s[: self.rank])
            left, right = u[:, : self.rank] * root, root[:, None] * vt[: self.rank]
            found[: self.head_size] = np.concatenate([left.ravel(), right.ravel()])
        else:
            found[: self.head_size] = np.concatenate([head[r, c].ravel() for r, c in self._blocks])
        return found

    def parts(self, genome: Array) -> dict[str, Any]:
        """The head as an artefact has it, in arrays: `kind` and `weight`, or `left` and `right`, or `blocks`."""
        own = genome[: self.head_size]
        if self.shape == "linear":
            return {"kind": "linear", "weight": own.reshape(self.rows, self.width)}
        if self.shape == "low-rank":
            split = self.rows * self.rank
            return {
                "kind": "low-rank",
                "left": own[:split].reshape(self.rows, self.rank),
                "right": own[split:].reshape(self.rank, self.width),
            }
        blocks, at = [], 0
        for r, c in self._blocks:
            shape = (r.stop - r.start, c.stop - c.start)
            blocks.append(own[at : at + shape[0] * shape[1]].reshape(shape))
            at += shape[0] * shape[1]
        return {"kind": "block", "blocks": blocks}

    def deltas(self, genome: Array) -> dict[str, Array]:
        """For each scaled matrix what its singular values are multiplied by, less 1, before they are brought back to their
        sum."""
        found, at = {}, self.head_size
        for name, (_, s, _) in self._scaled.items():
            found[name] = np.maximum(genome[at : at + len(s)], _LEAST - 1)
            at += len(s)
        return found

    def candidate(self, genome: Array) -> Candidate:
        """The coordinator of a genome."""
        parts = self.parts(genome)
        if self.shape == "linear":
            head = parts["weight"]
        elif self.shape == "low-rank":
            head = parts["left"] @ parts["right"]
        else:
            head = np.zeros((self.rows, self.width))
            for (r, c), block in zip(self._blocks, parts["blocks"], strict=True):
                head[r, c] = block
        matrices = {}
        for name, delta in self.deltas(genome).items():
            u, s, vt = self._scaled[name]
            raw = (1 + delta) * s
            matrices[name] = ((u * (raw * (s.sum() / raw.sum()))) @ vt).astype(np.float32)
        return Candidate(head, matrices)


def _edges(size: int, blocks: int) -> list[tuple[int, int]]:
    cuts = [round(size * k / blocks) for k in range(blocks + 1)]
    return list(itertools.pairwise(cuts))


# --- playing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draws:
    """Problems (places in a graph) with the pool of each (problem x worker, bool), and numbers to sample by, if choices are."""

    which: Array
    masks: Array
    chance: Array | None = None


class Judge:
    """Plays candidates over a graph."""

    def __init__(self, graph: Graph, states: States, whitening: Whitening) -> None:
        self.graph, self.states, self.whitening = graph, states, whitening
        self._features = np.zeros((0, whitening.width))

    def full(self) -> Draws:
        """Every problem once, with the whole pool."""
        count = len(self.graph.problems)
        return Draws(np.arange(count), np.ones((count, len(self.graph.workers)), bool))

    def play(self, candidates: Sequence[Candidate], draws: Draws) -> list[Played]:
        """Every candidate on all of them, the likeliest choice each time, or sampled where `draws` has numbers for it."""
        per = len(draws.which)
        heads = np.stack([c.head for c in candidates])
        masks = np.tile(draws.masks, (len(candidates), 1))
        turn = [0]

        def choose(rows: Array, nodes: Array) -> tuple[Array, Array]:
            who = rows // per
            logits = np.einsum("rd,rkd->rk", self._seen(candidates, who, nodes), heads[who])
            able = self.graph.allowed_rows(nodes, masks[rows])
            chance = None if draws.chance is None else draws.chance[rows % per, turn[0]]
            turn[0] += 1
            return _pick(logits, able, chance)

        played = self.graph.play(np.tile(draws.which, len(candidates)), choose, masks)
        parts = [slice(k * per, (k + 1) * per) for k in range(len(candidates))]
        return [
            Played(played.rewards[p], played.turns[p], played.ends[p], played.roles[p], played.workers[p])
            for p in parts
        ]

    def sampled(
        self, head: Array, which: Array, masks: Array, chance: Array, steps: list[tuple[Array, Array, Array]]
    ) -> Played:
        """Runs whose choices are drawn by `chance` (run x turn x 2). `steps` gets for each turn: the runs, the features,
        and the gradient of the log-probability of what was drawn by the logits."""
        split = len(self.graph.workers)

        def choose(rows: Array, nodes: Array) -> tuple[Array, Array]:
            features = self.features(self.graph.text[nodes])
            logits = features @ head.T
            able = self.graph.allowed_rows(nodes, masks[rows])
            roles, workers = _pick(logits, able, chance[rows, len(steps)])
            at = np.arange(len(rows))
            gaps = np.concatenate(
                [-chances(logits[:, :split], able[at, roles]), -chances(logits[:, split:], able.any(2))], 1
            )
            gaps[at, workers] += 1
            gaps[at, split + roles] += 1
            steps.append((rows, features, gaps))
            return roles, workers

        return self.graph.play(which, choose, masks)

    def fitness(self, candidates: Sequence[Candidate], draws: Draws) -> Array:
        """Mean reward less the cost of turns, a candidate each."""
        return np.array(
            [float((p.rewards - TURN_COST * p.turns).mean()) for p in self.play(candidates, draws)]
        )

    def seen_by(self, candidate: Candidate, texts: Sequence[str]) -> Array:
        """The features that a candidate reads of texts."""
        if not candidate.matrices:
            return self.whitening.features(self.states.rows(texts))
        return self.whitening.features(self.states.scaled(texts, candidate.matrices))

    def features(self, texts: Array) -> Array:
        """What the unscaled backbone's states of texts (places in the graph) come to."""
        if len(self._features) < len(self.graph.texts):
            fresh = self.graph.texts[len(self._features) :]
            rows = [self.whitening.features(row) for row in self.states.rows(fresh)]  # see `_seen`
            self._features = np.concatenate([self._features, rows])
        return self._features[texts]

    def _seen(self, candidates: Sequence[Candidate], who: Array, nodes: Array) -> Array:
        texts = self.graph.text[nodes]
        if not any(c.matrices for c in candidates):
            return self.features(texts)
        found = np.zeros((len(nodes), self.whitening.width))
        for number in np.unique(who):
            rows = np.flatnonzero(who == number)
            # in the order of the texts themselves: their places depend on what was met first, and with the order of rows the last
            # bits of a product change, which a resumed training must not
            told = sorted({self.graph.texts[t] for t in texts[rows].tolist()})
            features = self.whitening.features(self.states.scaled(told, candidates[number].matrices))
            place = {text: at for at, text in enumerate(told)}
            found[rows] = features[[place[self.graph.texts[t]] for t in texts[rows].tolist()]]
        return found


def _pick(logits: Array, able: Array, chance: Array | None) -> tuple[Array, Array]:
    """Roles, then workers for them, of rows of logits; `able` is row x role x worker, `chance` row x 2."""
    split, rows = able.shape[2], np.arange(len(logits))
    roles = _one(logits[:, split:], able.any(2), None if chance is None else chance[:, 0])
    workers = _one(logits[:, :split], able[rows, roles], None if chance is None else chance[:, 1])
    return roles, workers


def _one(logits: Array, mask: Array, chance: Array | None) -> Array:
    held = np.where(mask, logits, -np.inf)
    if chance is None:
        return held.argmax(1)
    weights = np.exp(held - held.max(1, keepdims=True))
    sums = weights.cumsum(1)
    return (sums <= chance[:, None] * sums[:, -1:]).sum(1)


def drawn(
    judge: Judge, seed: int, number: int, count: int, *, masked: float = 0.3, sampled: bool = False
) -> Draws:
    """The problems of one generation, the same for all its candidates; a share of `masked` has a random k-of-n pool.

    Half of them are of the graph's first half, half of its second (simple problems, composites).
    """
    rng = np.random.default_rng([seed, number])
    graph = judge.graph
    half = len(graph.problems) // 2
    which = np.concatenate(
        [
            rng.choice(half, count - count // 2, replace=False),
            half + rng.choice(len(graph.problems) - half, count // 2, replace=False),
        ]
    )
    masks = np.ones((count, len(graph.workers)), bool)
    for row in np.flatnonzero(rng.random(count) < masked):
        gone = rng.choice(len(graph.workers), rng.integers(1, len(graph.workers) // 2 + 1), replace=False)
        masks[row, gone] = False
        if not graph.allowed(int(graph.roots[which[row]]), masks[row]).any():
            masks[row] = True  # nobody left who may play
    chance = rng.random((count, graph.rules.turns, 2)) if sampled else None
    return Draws(which, masks, chance)


# --- searching ---------------------------------------------------------------------------------------------------


@dataclass
class Evolution:
    """Where a search stands; what a checkpoint holds. `curve`: generation, evaluations, training fitness, held-out fitness."""

    search: Any
    generation: int = 0
    best: Array = None
    best_held: float = -math.inf
    curve: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


def population(size: int) -> int:
    """Candidates a generation: 4 + 3 ln n."""
    return 4 + math.floor(3 * math.log(size))


Alarm = Callable[[Evolution, Played], str]
"""Says why a training must stop, or ""."""


def evolve(
    space: Space,
    start: Array,
    train: Judge,
    held: Judge,
    *,
    seed: int,
    generations: int,
    replications: int = 64,
    sigma: float = SIGMA,
    search: Callable[..., Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    about: str = "",
    alarm: Alarm = lambda state, played: "",
    tell: Callable[[dict[str, float]], None] = lambda row: None,
) -> Evolution:
    """Separable CMA-ES from `start` (or another `search` that is asked and told like it). Every fifth generation the mean
    plays all of `held`; the best mean there is kept.

    `alarm(state, played)` may stop it with a reason; the best so far is what remains. With `checkpoint` the state is
    written there after each generation, whole or not at all; `about` tells whose it is.
    """
    state = restore(checkpoint, about) if checkpoint and resume else None
    if state is None:
        make = search or _separable()
        made = make(np.array(start), sigma, seed=seed, population_size=population(space.size))
        state = Evolution(made, best=np.array(start))
        look(state, [space.candidate(start)], np.array(start), held, 0, alarm=alarm, tell=tell)
    else:
        for row in state.curve:
            tell(row)
    while state.generation < generations and not state.stopped:
        size = state.search.population_size
        # its generator does not survive being kept (`cmaes` leaves it out), so each generation has one of its own
        state.search.reseed_rng(derive_seed(seed, "generation", state.generation) % 2**32)
        asked = [state.search.ask() for _ in range(size)]
        draws = drawn(train, seed, state.generation, replications)
        found = train.fitness([space.candidate(x) for x in asked], draws)
        state.search.tell([(x, -float(f)) for x, f in zip(asked, found, strict=True)])
        state.generation += 1
        if state.generation % LOOK == 0 or state.generation == generations:
            mean = state.search.mean.copy()
            look(
                state,
                [space.candidate(mean)],
                mean,
                held,
                state.generation * size * replications,
                train=float(found.mean()),
                alarm=alarm,
                tell=tell,
            )
        if checkpoint:
            keep(checkpoint, state, about)
    return state


def _separable() -> Callable[..., Any]:
    from cmaes import SepCMA

    made: Callable[..., Any] = SepCMA
    return made


def look(
    state: Evolution,
    candidates: Sequence[Candidate],
    genome: Array,
    held: Judge,
    episodes: int,
    *,
    train: float = math.nan,
    alarm: Alarm = lambda state, played: "",
    tell: Callable[[dict[str, float]], None] = lambda row: None,
) -> None:
    """Let the one candidate play the held-out problems, note how it went, and keep its genome if it is the best so far."""
    (played,) = held.play(candidates, held.full())
    half = len(played.rewards) // 2
    fitness = float((played.rewards - TURN_COST * played.turns).mean())
    row = {
        "generation": state.generation,
        "episodes": episodes,
        "held": float(played.rewards.mean()),
        "simple": float(played.rewards[:half].mean()),
        "composite": float(played.rewards[half:].mean()),
        "turns": float(played.turns.mean()),
        "entropy": entropy(played, len(held.graph.workers)),
    }
    if math.isfinite(train):
        row["train"] = train
    state.curve.append(row)
    tell(row)
    state.stopped = alarm(state, played)
    if fitness > state.best_held and not state.stopped:
        state.best, state.best_held = genome, fitness


def entropy(played: Played, workers: int) -> float:
    """How evenly the workers are used as workers, 0 (one alone) to 1."""
    used = np.bincount(played.workers[played.roles == ROLES.index("worker")], minlength=workers).astype(float)
    share = used[used > 0] / max(1.0, used.sum())
    return float(-(share * np.log(share)).sum() / math.log(workers)) if len(share) else 0.0


def keep(path: Path, state: Evolution, about: str) -> None:
    """Write a checkpoint, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps((about, state)))
    part.replace(path)


def restore(path: Path, about: str) -> Evolution | None:
    """The state in a checkpoint that this program wrote; `None` if there is none. Raises `ConfigError` for another
    training's."""
    if not path.is_file():
        return None
    found, state = pickle.loads(path.read_bytes())
    if found != about:
        raise ConfigError(
            f"{path} is of another training ({found}); give another --out, or leave out --resume"
        )
    return replace(state) if isinstance(state, Evolution) else None
