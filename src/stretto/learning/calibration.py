"""What `route` and `cascade` know of a pool, learned from calibration problems: a route table and confidence thresholds.

Test items are never used. Both artefacts name the problems, the seed and the pool they come from.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import Artifact
from stretto.engine.run import Engine
from stretto.evaluation.verification import balanced_accuracy, lowest_threshold
from stretto.policies.cascade import THRESHOLDS_SCHEMA
from stretto.policies.route import TABLE_SCHEMA, features, order_words
from stretto.policies.signals import confidence
from stretto.policies.solo import Solo
from stretto.sparring.graders import grade
from stretto.sparring.problems import FAMILIES, Problem, Split, composites, problems
from stretto.types import Message, Request

__all__ = ["COMPOSITE", "NEVER", "TASKS", "Observation", "asked", "observe", "route_table", "thresholds"]

COMPOSITE: Final = "composite"
"""The kind of task that all composites are to a table: hardly anybody solves one alone, whatever its words."""

TASKS: Final = (*FAMILIES, COMPOSITE)
"""The kinds of tasks that are told apart."""

NEVER: Final = 1.0
"""The threshold of a worker that is not accepted: certainty."""

_ENOUGH: Final = 60
"""Calibration problems of one kind from which on a threshold of its own is learned."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One calibration problem answered by one worker: whether it was right, and how sure it was. `task` is one of `TASKS`."""

    worker: str
    task: str
    right: bool
    confidence: float | None


def asked(split: Split, n: int, seed: int) -> list[tuple[str, Problem]]:
    """`n` problems, the kinds of tasks taking turns, with their kinds."""
    chained = n // len(TASKS)
    simple = [(problem.family, problem) for problem in problems(FAMILIES, split, n - chained, seed)]
    return [*simple, *((COMPOSITE, problem) for problem in composites(split, chained, seed))]


async def observe(
    engine: Engine,
    workers: Sequence[str],
    *,
    n: int,
    seed: int,
    concurrency: int = 8,
    tick: Callable[[str], None] = lambda worker: None,
) -> list[Observation]:
    """Every worker on `n` calibration problems, alone and greedy, through the engine. A failed call counts as wrong."""
    gate = asyncio.Semaphore(concurrency)

    async def one(worker: str, task: str, problem: Problem) -> Observation:
        request = Request(
            messages=(Message("user", problem.prompt),), model=worker, params={"temperature": 0}
        )
        async with gate:
            run = await engine.run(Solo(worker, "logprobs"), request, purpose="calibration")
        tick(worker)
        right = run.answer.error is None and grade(problem, run.answer.text) >= 1.0
        return Observation(worker, task, right, confidence(run.answer.logprobs))

    those = asked("calibration", n, seed)
    return list(await asyncio.gather(*(one(w, task, p) for task, p in those for w in workers)))


def route_table(seen: Sequence[Observation], provenance: Mapping[str, Any], *, n: int, seed: int) -> Artifact:
    """The table of `policies.route`: how each kind of task is worded (from `n` training prompts), who is right how often."""
    prompts: dict[str, Counter[str]] = {task: Counter() for task in TASKS}
    those = asked("train", n, seed)
    for task, problem in those:
        prompts[task].update(set(features(problem.prompt)))
    total: Counter[str] = Counter()
    for count in prompts.values():
        total.update(count)
    # A word that is in few prompts is payload, not wording; leaving it out keeps the table small and the guess honest.
    kept = sorted(word for word, count in total.items() if count >= max(5, n // 1000))
    sizes = {task: sum(count[w] for w in kept) for task, count in prompts.items()}
    strangers = {task: _strangers([p.prompt for t, p in those if t == task], set(kept)) for task in TASKS}
    data = {
        "tasks": {
            task: {"prior": 1 / len(TASKS), "strangers": strangers[task], "workers": _record(seen, task)}
            for task in TASKS
        },
        "words": {
            word: {
                t: round(math.log((prompts[t][word] + 0.5) / (sizes[t] + 0.5 * len(kept))), 4) for t in TASKS
            }
            for word in kept
        },
        "unseen": {t: round(math.log(0.5 / (sizes[t] + 0.5 * len(kept))), 4) for t in TASKS},
    }
    return Artifact(TABLE_SCHEMA, dict(provenance), data)


def _strangers(prompts: Sequence[str], known: set[str]) -> int:
    """How many unknown words a prompt has at most beside its lists, but for one in a thousand prompts."""
    counts = sorted(sum(word not in known for word in order_words(prompt)) for prompt in prompts)
    return counts[int(0.999 * len(counts))]


def _record(seen: Sequence[Observation], task: str) -> dict[str, list[int]]:
    record: dict[str, list[int]] = {}
    for observation in seen:
        if observation.task == task:
            entry = record.setdefault(observation.worker, [0, 0])
            entry[0] += observation.right
            entry[1] += 1
    return record


def thresholds(
    seen: Sequence[Observation], provenance: Mapping[str, Any], *, precision: float = 0.9
) -> Artifact:
    """Per worker the confidence from which on its answer is accepted: the lowest with which surely `precision` of what was
    accepted on the calibration problems was right (the lower end of the Wilson interval).

    The same per kind of task, from that kind's problems alone, where there are at least sixty. A worker that never reaches the
    precision is not accepted below certainty. With each worker's threshold: how many it accepted, the precision there, and the
    balanced accuracy of the signal at its best; and per kind of task how often it was right where it was not accepted.
    """
    workers, quality = {}, {}
    tasks: dict[str, dict[str, float]] = {}
    unsure: dict[str, dict[str, float]] = {}
    for worker in dict.fromkeys(o.worker for o in seen):
        by_task: dict[str, list[tuple[float, bool]]] = {}
        for o in seen:
            if o.worker == worker and o.confidence is not None:
                by_task.setdefault(o.task, []).append((o.confidence, o.right))
        pairs = [pair for part in by_task.values() for pair in part]
        found = lowest_threshold(pairs, precision)
        workers[worker] = NEVER if found is None else found[0]
        quality[worker] = {
            "n": len(pairs),
            "accepted": 0 if found is None else found[1],
            "precision": None if found is None else round(found[2].value, 4),
            "best_balanced_accuracy": round(balanced_accuracy(pairs), 4),
        }
        for task, part in by_task.items():
            if len(part) >= _ENOUGH:
                own = lowest_threshold(part, precision)
                least = NEVER if own is None else own[0]
                tasks.setdefault(task, {})[worker] = least
                below = [right for value, right in part if value < least]
                unsure.setdefault(task, {})[worker] = round((sum(below) + 1) / (len(below) + 2), 4)
    data = {
        "signal": "probability of the least certain token",
        "wanted_precision": precision,
        "workers": workers,
        "tasks": tasks,
        "unsure": unsure,
        "quality": quality,
    }
    return Artifact(THRESHOLDS_SCHEMA, dict(provenance), data)
