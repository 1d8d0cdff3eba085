"""What `route` and `cascade` know of a pool, learned from calibration problems: a route table and confidence thresholds.

Test items are never used. Both artefacts name the problems, the seed and the pool they come from.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stretto.artifacts import Artifact
from stretto.engine.run import Engine
from stretto.policies.cascade import THRESHOLDS_SCHEMA
from stretto.policies.route import TABLE_SCHEMA, words
from stretto.policies.signals import confidence
from stretto.policies.solo import Solo
from stretto.sparring.graders import grade
from stretto.sparring.problems import FAMILIES, Problem, problems
from stretto.types import Message, Request

__all__ = ["Observation", "best_threshold", "observe", "route_table", "thresholds"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One calibration problem answered by one worker: whether it was right, and how sure it was."""

    worker: str
    family: str
    right: bool
    confidence: float | None


async def observe(
    engine: Engine,
    workers: Sequence[str],
    *,
    n: int,
    seed: int,
    concurrency: int = 4,
    tick: Callable[[str], None] = lambda worker: None,
) -> list[Observation]:
    """Every worker on `n` calibration problems, alone and greedy, through the engine. A failed call counts as wrong."""
    asked = problems(FAMILIES, "calibration", n, seed)
    gate = asyncio.Semaphore(concurrency)

    async def one(worker: str, problem: Problem) -> Observation:
        request = Request(
            messages=(Message("user", problem.prompt),), model=worker, params={"temperature": 0}
        )
        async with gate:
            run = await engine.run(Solo(worker, "logprobs"), request, purpose="calibration")
        tick(worker)
        right = run.answer.error is None and grade(problem, run.answer.text) >= 1.0
        return Observation(worker, problem.family, right, confidence(run.answer.logprobs))

    return list(await asyncio.gather(*(one(w, p) for w in workers for p in asked)))


def route_table(seen: Sequence[Observation], provenance: Mapping[str, Any], *, n: int, seed: int) -> Artifact:
    """The table of `policies.route`: how each family is worded (from `n` training prompts), who is right how often."""
    prompts: dict[str, Counter[str]] = {family: Counter() for family in FAMILIES}
    for problem in problems(FAMILIES, "train", n, seed):
        prompts[problem.family].update(set(words(problem.prompt)))
    total: Counter[str] = Counter()
    for count in prompts.values():
        total.update(count)
    # A word that is in few prompts is payload, not wording; leaving it out keeps the table small and the guess honest.
    kept = sorted(word for word, count in total.items() if count >= max(5, n // 200))
    sizes = {family: sum(count[w] for w in kept) for family, count in prompts.items()}
    data = {
        "tasks": {
            family: {"prior": 1 / len(FAMILIES), "workers": _record(seen, family)} for family in FAMILIES
        },
        "words": {
            word: {
                f: round(math.log((prompts[f][word] + 0.5) / (sizes[f] + 0.5 * len(kept))), 4)
                for f in FAMILIES
            }
            for word in kept
        },
        "unseen": {f: round(math.log(0.5 / (sizes[f] + 0.5 * len(kept))), 4) for f in FAMILIES},
    }
    return Artifact(TABLE_SCHEMA, dict(provenance), data)


def _record(seen: Sequence[Observation], family: str) -> dict[str, list[int]]:
    record: dict[str, list[int]] = {}
    for observation in seen:
        if observation.family == family:
            entry = record.setdefault(observation.worker, [0, 0])
            entry[0] += observation.right
            entry[1] += 1
    return record


def thresholds(seen: Sequence[Observation], provenance: Mapping[str, Any]) -> Artifact:
    """Per worker the confidence from which on its answer is accepted, with the quality it has on the calibration problems."""
    workers, quality = {}, {}
    for worker in dict.fromkeys(o.worker for o in seen):
        mine = [o for o in seen if o.worker == worker and o.confidence is not None]
        least, balanced = best_threshold([(o.confidence or 0.0, o.right) for o in mine])
        workers[worker] = round(least, 6)
        quality[worker] = {"balanced_accuracy": round(balanced, 4), "n": len(mine)}
    data = {"signal": "probability of the least certain token", "workers": workers, "quality": quality}
    return Artifact(THRESHOLDS_SCHEMA, dict(provenance), data)


def best_threshold(pairs: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """The threshold with the best balanced accuracy for `confidence >= threshold` meaning right, and that accuracy.

    Of equally good ones the middle of the widest gap. With only right or only wrong answers there is nothing to separate:
    (0, .5) accepts all, (1, .5) accepts none that is not certain.
    """
    right = sum(r for _, r in pairs)
    wrong = len(pairs) - right
    if not right or not wrong:
        return (0.0 if right else 1.0), 0.5
    ordered = sorted(pairs)
    best, at = 0.5, (0.0, 0.0)
    kept, dropped, last = right, 0, 0.0
    for number, (value, good) in enumerate(ordered):
        if value > last or number == 0:
            balanced = (kept / right + dropped / wrong) / 2
            if (balanced, value - last) > (best, at[1] - at[0]):
                best, at = balanced, (last, value)
        kept -= good
        dropped += not good
        last = value
    return (at[0] + at[1]) / 2, best
