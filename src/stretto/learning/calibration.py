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

__all__ = [
    "Observation",
    "balanced_accuracy",
    "lowest_threshold",
    "observe",
    "route_table",
    "thresholds",
]


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


def thresholds(
    seen: Sequence[Observation], provenance: Mapping[str, Any], *, precision: float = 0.95
) -> Artifact:
    """Per worker the confidence from which on its answer is accepted: the lowest with which `precision` of what was accepted
    on the calibration problems was right. A worker that never reaches it is not accepted below certainty.

    With each threshold: how many it accepted, the precision there, and the balanced accuracy of the signal at its best.
    """
    workers, quality = {}, {}
    for worker in dict.fromkeys(o.worker for o in seen):
        pairs = [(o.confidence, o.right) for o in seen if o.worker == worker and o.confidence is not None]
        least, accepted, good = lowest_threshold(pairs, precision)
        workers[worker] = least
        quality[worker] = {
            "n": len(pairs),
            "accepted": accepted,
            "precision": round(good, 4),
            "best_balanced_accuracy": round(balanced_accuracy(pairs), 4),
        }
    data = {
        "signal": "probability of the least certain token",
        "wanted_precision": precision,
        "workers": workers,
        "quality": quality,
    }
    return Artifact(THRESHOLDS_SCHEMA, dict(provenance), data)


def lowest_threshold(
    pairs: Sequence[tuple[float, bool]], precision: float, least: int = 20
) -> tuple[float, int, float]:
    """The lowest threshold at which at least `precision` of the answers with `confidence >= threshold` were right.

    Returns it with how many it accepts and the precision there; (1.0, 0, 0.0) if there is none that accepts `least` answers:
    a precision seen on fewer is luck.
    """
    best = (1.0, 0, 0.0)
    right = 0
    ordered = sorted(pairs, reverse=True)
    for number, (value, good) in enumerate(ordered, 1):
        right += good
        last_of_value = number == len(ordered) or ordered[number][0] < value
        if last_of_value and number >= least and right / number >= precision:
            best = (value, number, right / number)
    return best


def balanced_accuracy(pairs: Sequence[tuple[float, bool]]) -> float:
    """How well confidence separates right from wrong at its best threshold; 0.5 where there is nothing to separate."""
    right = sum(good for _, good in pairs)
    wrong = len(pairs) - right
    if not right or not wrong:
        return 0.5
    best, accepted, mistaken = 0.5, 0, 0
    ordered = sorted(pairs, reverse=True)
    for number, (value, good) in enumerate(ordered, 1):
        accepted += good
        mistaken += not good
        if number == len(ordered) or ordered[number][0] < value:
            best = max(best, (accepted / right + (wrong - mistaken) / wrong) / 2)
    return best
