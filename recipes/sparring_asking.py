"""Asking the sparring models: every answer once, through llama.cpp, and kept; alone, handed over, step by step."""

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stretto.cli.progress import progress
from stretto.policies.signals import confidence
from stretto.pool.worker import WorkerPool
from stretto.sparring import PoolEntry, Problem, grade, normalise
from stretto.sparring.problems import Split, composites
from stretto.sparring.roles import handed_over, thinker_prompt
from stretto.sparring.wordings import DONE
from stretto.steps import Ask, Tally
from stretto.types import Message

CHAINS: dict[str, Callable[[Split, int, int], list[Problem]]] = {
    "two skills": lambda split, n, seed: composites(split, n, seed),
    "three skills": lambda split, n, seed: composites(split, n, seed, steps=(3,)),
    "held-out pairs": lambda split, n, seed: composites(split, n, seed, unseen_pairs=True),
    "held-out forms": lambda split, n, seed: composites(split, n, seed, unseen_wordings=True),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, the probability of its least certain token, and that of its first."""

    text: str
    sure: float
    first: float

    @property
    def value(self) -> str:
        """What is handed on: the part after the last ` = `."""
        return self.text.rpartition(" = ")[2].strip()


class Book:
    """Every model's greedy replies to prompts, asked once and kept in one file a model."""

    def __init__(self, pool: WorkerPool, models: Sequence[PoolEntry], folder: Path, width: int) -> None:
        self._pool, self._width = pool, width
        self._files = {e.id: folder / f"{e.id}-{e.sha256[:12]}.jsonl" for e in models}
        self._known: dict[str, dict[str, Reply]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in self._files.items():
            lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else ()
            self._known[name] = {row[0]: Reply(*row[1:]) for row in map(json.loads, lines)}

    async def ask(self, model: str, prompts: Iterable[str]) -> list[Reply]:
        """The replies to `prompts`, in order."""
        return (await self.ask_all({model: list(prompts)}))[model]

    async def ask_all(
        self, wanted: Mapping[str, Sequence[str]], what: str = "asking"
    ) -> dict[str, list[Reply]]:
        """The replies of several models, each to its own prompts, all models at a time."""
        new = {
            m: [p for p in dict.fromkeys(prompts) if p not in self._known[m]] for m, prompts in wanted.items()
        }
        if total := sum(map(len, new.values())):
            with progress(total, what) as tick:
                await asyncio.gather(*(self._fetch(model, prompts, tick) for model, prompts in new.items()))
        return {model: [self._known[model][p] for p in prompts] for model, prompts in wanted.items()}

    async def _fetch(self, model: str, prompts: Sequence[str], tick: Callable[[str], None]) -> None:
        waiting = iter(prompts)
        with self._files[model].open("a", encoding="utf-8") as kept:

            async def worker() -> None:
                for prompt in waiting:
                    reply = self._known[model][prompt] = await self._once(model, prompt)
                    kept.write(json.dumps([prompt, reply.text, reply.sure, reply.first]) + "\n")
                    tick(model)

            await asyncio.gather(*(worker() for _ in range(self._width)))

    async def _once(self, model: str, prompt: str) -> Reply:
        ask = Ask(
            model, (Message("user", prompt),), want="logprobs", max_tokens=128, params={"temperature": 0}
        )
        endpoint = self._pool.candidates(ask).endpoints[0]
        came = await self._pool.attempt(ask, endpoint, deadline=None, tally=Tally(), emit=None)
        if came.error is not None and came.error.kind != "empty":
            raise SystemExit(f"{model}: {came.error.message}")
        first = math.exp(came.logprobs[0].logprob) if came.logprobs else 0.0
        return Reply(came.message.text, confidence(came.logprobs) or 0.0, first)


@dataclass(frozen=True, slots=True)
class World:
    """What is measured, and how much of it."""

    book: Book
    models: tuple[PoolEntry, ...]
    n: int
    seed: int

    @property
    def solvers(self) -> list[str]:
        """The models that solve problems."""
        return [e.id for e in self.models if e.role == "solver"]

    def of_role(self, role: str) -> str:
        """The model of a role."""
        return next(e.id for e in self.models if e.role == role)

    def home(self, model: str) -> tuple[str, ...]:
        """The families that a model was trained on."""
        return next(e.families for e in self.models if e.id == model)


Cells = dict[tuple[str, str], list[tuple[Problem, Reply, bool]]]
"""By model and family: problems, replies, and whether those were right. The problems of a family are the same for all models."""


async def solved(world: World, asked: Sequence[Problem], models: Sequence[str], what: str) -> Cells:
    """All `models` on all problems."""
    replies = await world.book.ask_all({m: [p.prompt for p in asked] for m in models}, what)
    cells: Cells = {}
    for model in models:
        for problem, reply in zip(asked, replies[model], strict=True):
            right = grade(problem, reply.text) == 1.0
            cells.setdefault((model, problem.family), []).append((problem, reply, right))
    return cells


def share(cells: Cells, model: str, families: Iterable[str]) -> tuple[int, int]:
    """How many were right, of how many."""
    found = [right for family in families for _, _, right in cells.get((model, family), ())]
    return sum(found), len(found)


def best(cells: Cells, models: Sequence[str], families: Sequence[str]) -> str:
    """The model with most right answers."""
    return max(models, key=lambda m: share(cells, m, families)[0])


async def chained(
    world: World, asked: Sequence[Problem], first: Mapping[str, str], later: Mapping[str, str]
) -> tuple[int, int]:
    """The right sub-problems given to the best solver of each, every reply handed to the next: how many ended right, and how many
    of the first steps did."""
    replies: list[str] = [""] * len(asked)
    begun = 0
    for step in range(max(len(p.steps) for p in asked)):
        turn: dict[str, list[int]] = {}
        for place, problem in enumerate(asked):
            if step < len(problem.steps):
                who = (later if step else first)[problem.steps[step].family]
                turn.setdefault(who, []).append(place)
        prompts = {
            who: [
                handed_over(asked[i].steps[step].task, [replies[i]]) if step else asked[i].steps[0].task
                for i in places
            ]
            for who, places in turn.items()
        }
        came = await world.book.ask_all(prompts, f"step {step + 1}")
        for who, places in turn.items():
            for place, reply in zip(places, came[who], strict=True):
                replies[place] = reply.value
        if not step:
            begun = sum(normalise(r) == p.steps[0].answer for r, p in zip(replies, asked, strict=True))
    return sum(grade(p, r) == 1.0 for p, r in zip(asked, replies, strict=True)), begun


async def thought(
    world: World, asked: Sequence[Problem], first: Mapping[str, str], later: Mapping[str, str]
) -> tuple[int, int]:
    """The same with sub-problems that the thinker writes, until it says it is done: how many ended right, and how many had every
    sub-problem right. Each goes to the best solver of the skill that is due."""
    thinker = world.of_role("thinker")
    tasks, replies = [""] * len(asked), [""] * len(asked)
    exact, under_way = [True] * len(asked), list(range(len(asked)))
    for step in range(max(len(p.steps) for p in asked) + 1):
        prompts = [thinker_prompt(asked[i].prompt, tasks[i], replies[i]) for i in under_way]
        said = [reply.text.strip() for reply in await world.book.ask(thinker, prompts)]
        turn: dict[str, list[int]] = {}
        for place, text in zip(under_way, said, strict=True):
            due = asked[place].steps[step:]
            exact[place] &= text == (due[0].task.lower() if due else DONE)
            if text != DONE:
                tasks[place] = text
                family = (due or asked[place].steps)[0].family
                turn.setdefault((later if step else first)[family], []).append(place)
        under_way = [place for places in turn.values() for place in places]
        asks = {
            who: [handed_over(tasks[i], [replies[i]]) if step else tasks[i] for i in places]
            for who, places in turn.items()
        }
        came = await world.book.ask_all(asks, f"thinker's step {step + 1}")
        for who, places in turn.items():
            for place, reply in zip(places, came[who], strict=True):
                replies[place] = reply.value
    return sum(grade(p, r) == 1.0 for p, r in zip(asked, replies, strict=True)), sum(exact)
