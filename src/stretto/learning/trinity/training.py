"""One training of TRINITY from beginning to end: replies, stage 1, a search, and the artefact.

Fits on training problems, chooses on calibration problems; test problems are not touched. What a training is made of stands
in a `Recipe`; equal recipes over equal replies give equal artefacts.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact, packed
from stretto.errors import ConfigError
from stretto.evaluation.curves import learning_curve
from stretto.learning.replies import Replies
from stretto.learning.trinity.episodes import Graph, Played
from stretto.learning.trinity.evolution import (
    SIGMA,
    Evolution,
    Head,
    Judge,
    Space,
    Whitening,
    evolve,
    look,
    population,
)
from stretto.learning.trinity.profiles import profile_of
from stretto.learning.trinity.search import RandomSearch, reinforce
from stretto.learning.trinity.source import OBSERVATION, General, Read, Source, Sparring
from stretto.learning.trinity.tree import explore, fit, targets
from stretto.policies.coordinator import ROLES, TRINITY_SCHEMA, Observation
from stretto.policies.episode import Rules, observed
from stretto.policies.forms import GIVEN
from stretto.sparring import PoolEntry, grade
from stretto.sparring.problems import FAMILIES, Problem, Split, composites, problems

__all__ = [
    "OBSERVATION",
    "PROBLEMS",
    "Method",
    "Recipe",
    "Training",
    "able",
    "alarm",
    "mixed",
    "single",
    "train",
]

Array = Any
Method = Literal["evolution", "stage-1", "random-search", "reinforce"]

PROBLEMS: Final = 61
"""The seed of the problems that every training is fitted on, whatever its own; the next one is that of those it is chosen on."""

_COLLAPSED: Final = 0.3
"""Share of the first entropy of workers below which a training has collapsed."""

_LOST: Final = 0.1
"""Loss of held-out reward against the best so far at which a training stops."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training is made of. `problems` and `held` count simple problems, and as many composites again.

    `backbone`: a sparring model, or the path of a GGUF file or of a folder with a model (`trinity_source.General`).
    """

    seed: int = 1
    method: Method = "evolution"
    backbone: str = "thinker-north"
    pooling: Literal["penultimate", "last", "mean"] = "penultimate"
    head: Head = "linear"
    scales: bool = True
    start: Literal["stage-1", "zero"] = "stage-1"
    roles: tuple[str, ...] = ROLES
    verifier: Literal["agreement", "verdict"] = "agreement"
    turns: int = 5
    without: tuple[str, ...] = ()
    problems: int = 600
    held: int = 150
    generations: int = 150
    replications: int = 192
    sigma: float = SIGMA
    tau: float = 0.03
    decay: float = 1e-3
    floor: float = 1e-2

    @property
    def digest(self) -> str:
        """Tells recipes apart; a longer training is the same one gone on with."""
        own = {name: value for name, value in asdict(self).items() if name != "generations"}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]


@dataclass
class Training:
    """A finished training: `artifact`, and beside it how the held-out problems went."""

    artifact: Artifact
    curve: list[dict[str, float]]
    stopped: str
    cpu_seconds: float
    best_single: tuple[str, float]
    held: Played


def mixed(split: Split, n: int, seed: int) -> list[Problem]:
    """`n` simple problems, then `n` composites."""
    return [*problems(FAMILIES, split, n, seed), *composites(split, n, seed)]


def able(pool: Sequence[PoolEntry]) -> Array:
    """Role x worker: who may play what, by the labels that policies go by too."""
    solves = [entry.role == "solver" for entry in pool]
    thinks = [entry.role == "thinker" for entry in pool]
    return np.array([solves, thinks, solves])


def train(
    recipe: Recipe,
    pool: Sequence[PoolEntry],
    book: Replies,
    out: Path,
    *,
    resume: bool = False,
    read: Read | None = None,
    say: Callable[[str], None] = lambda what: None,
    tell: Callable[[dict[str, float]], None] = lambda row: None,
) -> Training:
    """Train, and write `trinity.json`, `coordinator.gguf`, `log.jsonl` and `learning-curve.svg` into `out`.

    `say` is told what is being done, `tell` each look at the held-out problems. With `resume` a checkpoint in `out` is gone
    on from. `read` gives the states of a GGUF file that is no sparring model.
    """
    began = time.process_time()
    out.mkdir(parents=True, exist_ok=True)
    playing = [entry for entry in pool if entry.id not in recipe.without]
    source = _source(recipe, pool, len(playing), book, read)
    workers = [entry.id for entry in playing]
    rules = Rules(GIVEN, recipe.turns, recipe.roles, recipe.verifier, heeds=False, done_ends=True)
    graph = partial(
        Graph,
        rules=rules,
        observe=lambda rules, episode: observed(source.observation, rules, episode),
        workers=workers,
        book=book,
        able=able(playing),
    )
    fitted = graph(mixed("train", recipe.problems, PROBLEMS))
    chosen = graph(mixed("calibration", recipe.held, PROBLEMS + 1))
    states = source.states
    say("the tree of replies")
    followed = explore(
        fitted,
        range(len(fitted.problems)),
        [place for place, entry in enumerate(playing) if entry.role == "thinker"],
        say,
    )
    wanted = targets(fitted, followed, recipe.tau)
    say(f"states of {len(wanted.nodes)} situations")
    seen = states.rows([fitted.texts[t] for t in fitted.text[wanted.nodes]])
    whitening = Whitening.of(seen, floor=recipe.floor, bias=recipe.head != "block")
    states.keep()
    head = fit(whitening.features(seen), wanted, decay=recipe.decay)
    if recipe.start == "zero":
        head = np.zeros_like(head)
    judge, held = Judge(fitted, states, whitening), Judge(chosen, states, whitening)
    space = source.space(len(head), whitening.width, recipe.head, scales=recipe.scales)
    singles = single(playing, mixed("calibration", recipe.held, PROBLEMS + 1), book)
    best_single = max(singles.items(), key=lambda found: found[1])
    say(recipe.method)
    log: list[dict[str, Any]] = [{"recipe": asdict(recipe)}]

    def noted(row: dict[str, float]) -> None:
        log.append(row)
        _write_log(out, log)
        tell(row)

    state = _searched(recipe, space, head, judge, held, out, resume, best_single[1], noted)
    final = space.candidate(state.best)
    (played,) = held.play([final], held.full())
    states.keep()
    gguf = out / "coordinator.gguf"
    source.bake(space.deltas(state.best), gguf)
    data = _data(recipe, source, playing, space, state.best, whitening, played, singles, gguf)
    data["profiles"] = profile_of(fitted, followed, partial(judge.seen_by, final), workers)
    seconds = time.process_time() - began
    provenance = _provenance(recipe, pool, state, played, best_single, seconds)
    made = Artifact(TRINITY_SCHEMA, provenance, data)
    artifacts.write(made, out / "trinity.json")
    end = {"hash": made.hash, "cpu_seconds": round(seconds, 1), "replies_asked": book.asked}
    _write_log(out, [*log, *([{"stopped": state.stopped}] if state.stopped else []), end])
    _draw(out / "learning-curve.svg", state, best_single)
    return Training(made, state.curve, state.stopped, seconds, best_single, played)


def _source(
    recipe: Recipe, pool: Sequence[PoolEntry], workers: int, book: Replies, read: Read | None
) -> Source:
    base = next((entry for entry in pool if entry.id == recipe.backbone), None)
    if base is not None:
        return Sparring(base, recipe.pooling, book.folder)
    return General(Path(recipe.backbone), recipe.pooling, read, workers=workers)


def _searched(
    recipe: Recipe,
    space: Space,
    head: Array,
    judge: Judge,
    held: Judge,
    out: Path,
    resume: bool,
    single_reward: float,
    tell: Callable[[dict[str, float]], None],
) -> Evolution:
    start = space.genome(head)
    common = {"seed": recipe.seed, "generations": recipe.generations, "replications": recipe.replications}
    if recipe.method == "stage-1":
        state = Evolution(None, best=start)
        look(state, [space.candidate(start)], start, held, 0, tell=tell)
        return state
    if recipe.method == "reinforce":
        if recipe.head != "linear" or recipe.scales:
            raise ConfigError("REINFORCE is for a linear head without scales: --head linear --no-scales")
        return reinforce(head, judge, held, samples=population(space.size), tell=tell, **common)
    return evolve(
        space,
        start,
        judge,
        held,
        sigma=recipe.sigma,
        search=RandomSearch if recipe.method == "random-search" else None,
        checkpoint=out / "checkpoint",
        resume=resume,
        alarm=partial(alarm, single_reward),
        tell=tell,
        about=recipe.digest,
        **common,
    )


def alarm(single_reward: float, state: Evolution, played: Played) -> str:
    """Why a training must stop now: its workers have collapsed into few, it lost what it had, or it is worse than one
    worker alone."""
    now, first = state.curve[-1], state.curve[0]
    if now["entropy"] < _COLLAPSED * first["entropy"]:
        return f"workers collapsed: entropy {now['entropy']:.2f} from {first['entropy']:.2f}"
    best = max(row["held"] for row in state.curve)
    if all(row["held"] < best - _LOST for row in state.curve[-3:]) and len(state.curve) > 3:
        return f"held-out reward fell to {now['held']:.3f} from {best:.3f}"
    late = len(state.curve) > 10 and first["held"] >= single_reward
    if late and now["held"] < single_reward:
        return f"worse than the best single worker: {now['held']:.3f} against {single_reward:.3f}"
    return ""


def single(pool: Sequence[PoolEntry], asked: Sequence[Problem], book: Replies) -> dict[str, float]:
    """The reward of each solver alone."""
    found = {}
    for entry in pool:
        if entry.role == "solver":
            said = book.get([(entry.id, problem.prompt) for problem in asked])
            found[entry.id] = float(
                np.mean([grade(problem, s.text) for problem, s in zip(asked, said, strict=True)])
            )
    return found


def _data(
    recipe: Recipe,
    source: Source,
    pool: Sequence[PoolEntry],
    space: Space,
    genome: Array,
    whitening: Whitening,
    played: Played,
    singles: Mapping[str, float],
    gguf: Path,
) -> dict[str, Any]:
    parts = space.parts(genome)
    head = {
        name: part
        if name == "kind"
        else [packed(block.astype(np.float32)) for block in part]
        if name == "blocks"
        else packed(part.astype(np.float32))
        for name, part in parts.items()
    }
    roles = {
        name: [pool[int(i)].id for i in np.flatnonzero(row)]
        for name, row in zip(ROLES, able(pool), strict=True)
    }
    plain, own = Observation(), source.observation
    told = {f.name: getattr(own, f.name) for f in fields(own)}
    observation = {name: value for name, value in told.items() if value != getattr(plain, name)}
    if own.spaced:
        observation["spaced"] = [list(pair) for pair in own.spaced]
    return {
        "workers": [entry.id for entry in pool],
        "head": head,
        "mean": packed(whitening.mean.astype(np.float32)),
        "whiten": packed(whitening.matrix.astype(np.float32)),
        "bias": whitening.bias,
        "pooling": recipe.pooling,
        "observation": observation,
        "forms": "given",
        "turns": recipe.turns,
        "roles": list(recipe.roles),
        "verifier": recipe.verifier,
        "heeds": False,
        "done_ends": True,
        "temperature": 0,
        "thinker_tokens": 200,
        "verifier_tokens": 160,
        "able": roles,
        "best": sorted(singles, key=lambda name: -singles[name]),
        "calls": round(2 * float(played.turns.mean()), 2),
        "backbone": "coordinator",
        "beside": [
            {
                "id": "coordinator",
                "file": gguf.name,
                "sha256": hashlib.sha256(gguf.read_bytes()).hexdigest(),
                "role": "coordinator",
                "context": 2048,
                "price": {"input": 0.6, "output": 2.4},
                **({"labels": dict(source.labels)} if source.labels else {}),
            }
        ],
    }


def _provenance(
    recipe: Recipe,
    pool: Sequence[PoolEntry],
    state: Evolution,
    played: Played,
    best_single: tuple[str, float],
    seconds: float,
) -> dict[str, Any]:
    from stretto import __version__

    half = len(played.rewards) // 2
    return {
        "learned_by": "stretto train trinity",
        "stretto": __version__,
        "recipe": asdict(recipe),
        "problems": f"{2 * recipe.problems} of the train split; chosen on {2 * recipe.held} of calibration",
        "models": {entry.id: entry.sha256 for entry in pool},
        "calibration": {
            "simple": round(float(played.rewards[:half].mean()), 4),
            "composite": round(float(played.rewards[half:].mean()), 4),
            "best_single": [best_single[0], round(best_single[1], 4)],
        },
        "generations": state.generation,
        "stopped": state.stopped,
        "cpu_seconds": round(seconds, 1),
    }


def _write_log(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _draw(path: Path, state: Evolution, best_single: tuple[str, float]) -> None:
    curve = [row for row in state.curve if math.isfinite(row["held"])]
    learning_curve(
        path,
        {
            name: [(row["episodes"], row[key]) for row in curve]
            for name, key in (("simple", "simple"), ("mix", "held"), ("composite", "composite"))
        },
        title="TRINITY on held-out calibration problems",
        across="training episodes",
        up="right answers",
        marks={f"best single ({best_single[0]})": best_single[1]},
    )
