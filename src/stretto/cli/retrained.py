"""Whether a sparring model that was trained anew is as good as the one that ships: `stretto sparring train NAME --check`."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stretto.cli.progress import progress

if TYPE_CHECKING:
    from stretto.evaluation.intervals import Interval
    from stretto.sparring import PoolEntry, Problem, Split

__all__ = ["Retrained", "asked_of", "compared"]

SEED = 20_261
"""Of the problems of a check: none that an evaluation uses by default."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """The shipped model and the one trained anew on the same `n` held-out problems, through llama.cpp, greedy."""

    name: str
    n: int
    shipped: "Interval"
    anew: "Interval"
    gain: "Interval"
    same_bytes: bool

    @property
    def holds(self) -> bool:
        """Whether the new model's accuracy is within the interval of the shipped one, or above it."""
        return self.anew.value >= self.shipped.low

    def told(self) -> str:
        """All of it in three lines."""
        bytes_ = (
            "the same bytes"
            if self.same_bytes
            else "other bytes (another processor or build of torch rounds otherwise)"
        )
        return (
            f"{self.name}, trained anew: {bytes_}.\n"
            f"{self.n} held-out problems of its own: shipped {_shown(self.shipped)}, anew {_shown(self.anew)}, "
            f"difference {_shown(self.gain)}.\n"
            f"{'Within' if self.holds else 'BELOW'} the interval of the shipped model."
        )


def asked_of(entry: "PoolEntry", split: "Split", n: int, seed: int) -> "list[Problem]":
    """Problems of what a model was made for."""
    from stretto.sparring.problems import problems
    from stretto.sparring.roles import judgements, thoughts, verifications

    if entry.role == "thinker":
        return thoughts(split, n, seed)
    if entry.role == "checker":
        return [*verifications(split, n - n // 4, seed), *judgements(split, n // 4, seed)]
    return problems(entry.families, split, n, seed)


def compared(entry: "PoolEntry", file: Path, n: int) -> Retrained:
    """Ask the shipped model and `file` the same problems."""
    from stretto.evaluation.intervals import paired_difference, wilson

    paths = {"shipped": str(entry.path), "anew": str(file.absolute())}
    scores = asyncio.run(_scores(paths, asked_of(entry, "test", n, SEED)))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Retrained(
        entry.id,
        n,
        wilson(sum(scores["shipped"]), n),
        wilson(sum(scores["anew"]), n),
        paired_difference(scores["anew"], scores["shipped"], seed=SEED),
        digest == entry.sha256,
    )


async def _scores(paths: Mapping[str, str], those: "Sequence[Problem]") -> dict[str, list[float]]:
    from stretto.app import open_world
    from stretto.config import parse
    from stretto.evaluation.sparring import by_engine
    from stretto.policies.solo import Solo

    workers = "".join(f"[[worker]]\nid = {json.dumps(w)}\npath = {json.dumps(p)}\n" for w, p in paths.items())
    gate = asyncio.Semaphore(8)
    with tempfile.TemporaryDirectory() as folder:
        text = f"[server]\ndata = {json.dumps(folder)}\n[pool]\ndiscover = false\nsparring = false\n{workers}"
        async with open_world(parse(text, file="check.toml", environ={})) as world:
            play = by_engine(world.engine, {name: Solo(name) for name in paths}, seed=SEED)

            async def one(name: str, problem: "Problem") -> float:
                async with gate:
                    item = await play(name, problem)
                tick(name)
                return item.score

            with progress(len(paths) * len(those), "checking") as tick:
                return {
                    name: list(await asyncio.gather(*(one(name, problem) for problem in those)))
                    for name in paths
                }


def _shown(interval: "Interval") -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
