"""Does a trained coordinator do live, through the engine and llama.cpp, what it did over kept replies in training?

    python recipes/trinity_live.py --trained DIR [-n 100] [--replies FILE] [--data DIR]

Plays n simple calibration problems and n composites both ways: in numpy over kept replies, and live. Prints both rewards, and
on how many problems the answer is the same.
"""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np

from stretto import artifacts
from stretto.app import find_workers, open_world
from stretto.artifacts import unpacked
from stretto.catalog.orchestrators import unwrapped
from stretto.cli.local_pool import replies
from stretto.cli.options import settings_of
from stretto.learning.trinity.backbone import Backbone, States
from stretto.learning.trinity.episodes import Graph
from stretto.learning.trinity.evolution import Candidate, Judge, Whitening
from stretto.learning.trinity.training import PROBLEMS, able, mixed
from stretto.policies.coordinator import TRINITY_SCHEMA, Observation, head_matrix
from stretto.policies.episode import Rules, observed
from stretto.sparring import entries, grade
from stretto.sparring.graders import normalise
from stretto.sparring.problems import Problem
from stretto.sparring.vocabulary import encode
from stretto.types import Message, Request


def kept(folder: Path, asked: list[Problem], file: Path, data_dir: Path) -> list[tuple[float, str]]:
    """Reward and answer of each problem, over kept replies, with the states of the exported backbone."""
    data = artifacts.read(folder / "trinity.json", TRINITY_SCHEMA).data
    pool = {entry.id: entry for entry in entries()}
    playing = [pool[name] for name in data["workers"]]
    observation = Observation.of(data["observation"])
    with replies(file, data_dir) as book:
        graph = Graph(
            asked,
            Rules.of(data),
            lambda rules, episode: observed(observation, rules, episode),
            data["workers"],
            book,
            able(playing),
        )
        states = States(Backbone(folder / data["beside"][0]["file"]), data["pooling"], encode)
        whitening = Whitening(unpacked(data["mean"]), unpacked(data["whiten"]), data["bias"])
        judge = Judge(graph, states, whitening)
        (played,) = judge.play([Candidate(head_matrix(data["head"]))], judge.full())
        answers = [graph.episodes[end].answer for end in played.ends]
        return [(float(r), a) for r, a in zip(played.rewards, answers, strict=True)]


async def live(folder: Path, asked: list[Problem], data_dir: Path) -> list[tuple[float, str]]:
    """The same through the engine."""
    settings = settings_of(None, data_dir)
    settings = replace(settings, pool=replace(settings.pool, sparring=True, discover=False))
    found = await find_workers(settings, {})
    async with open_world(settings, found, artefacts=folder) as world:
        policy, gate = unwrapped(world.catalog.resolve("trinity")), asyncio.Semaphore(8)

        async def one(problem: Problem) -> tuple[float, str]:
            request = Request(
                messages=(Message("user", problem.prompt),), model="trinity", params={"temperature": 0}
            )
            async with gate:
                run = await world.engine.run(policy, request, name="trinity", purpose="evaluation")
            text = "" if run.answer.error else run.answer.text
            return grade(problem, text), text

        return list(await asyncio.gather(*(one(problem) for problem in asked)))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--replies", type=Path, default=Path("replies.jsonl"))
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    asked = mixed("calibration", args.n, PROBLEMS + 1)
    over = kept(args.trained, asked, args.replies, args.data)
    now = asyncio.run(live(args.trained, asked, args.data))
    for name, found in (("kept replies", over), ("live", now)):
        rewards = np.array([reward for reward, _ in found])
        print(f"{name}: simple {rewards[: args.n].mean():.3f}, composite {rewards[args.n :].mean():.3f}")
    same = sum(normalise(a) == normalise(b) for (_, a), (_, b) in zip(over, now, strict=True))
    print(f"same answer: {same} of {len(asked)}")


if __name__ == "__main__":
    main()
