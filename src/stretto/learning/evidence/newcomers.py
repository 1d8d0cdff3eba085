"""A worker that came later, with 0 to 200 labels, beside those that a route table knows: its probe profile.

As UniRoute's: a model is what it got on some prompts, and is like those that got the same. Its log-odds are a constant, the mean
of the known workers' log-odds and its likeness to each of them, all drawn towards an average worker. Measured in `recipes/LOG.md`
(2026-11-22): against two numbers alone (`success.Newcomer`) the likenesses bring up to 1.5 points, offsets of tasks nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from stretto.artifacts import Artifact
from stretto.errors import ConfigError
from stretto.learning.evidence.success import log_odds
from stretto.policies.evidence.success import HIGH, LOW, Profile, clipped
from stretto.policies.route import Table

__all__ = ["MOST", "Joined", "join", "profile"]

MOST: Final = 200
"""With more labels than that it should be learned with the others, which tells more of it."""

CONSTANT, MEAN, LIKENESS = 1.0, 5.0, 20.0
"""How strongly each part is drawn to that of an average worker."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A table in which a newcomer takes part. `profile`: what was learned of it; `known`: the workers in whose terms that is.

    `right`, `doubt`: at each prompt that was named the chance of the newcomer to be right, and how unsure that is; `others`: the
    chances of the known workers.
    """

    artifact: Artifact
    profile: Profile
    known: tuple[str, ...]
    right: Any
    doubt: Any
    others: Any

    @property
    def asked(self) -> Any:
        """At which prompts it would be asked at dial 1."""
        return self.right - 0.5 * self.doubt > self.others.max(1)


def profile(worker: str, logits: Any, scores: Any) -> Profile:
    """What labels tell of a newcomer. `logits`: of the known workers at the labelled prompts; `scores`: what it got there.

    By Newton's method on the penalised likelihood; the covariance is Laplace's.
    """
    count = logits.shape[1]
    mix = np.zeros((1 + count, 2 + count))  # from (1, log-odds) to (1, mean, each one's own)
    mix[0, 0] = 1.0
    mix[1:, 1] = 1 / count
    mix[1:, 2:] = np.eye(count) - 1 / count
    rows = np.hstack([np.ones((len(logits), 1)), logits]) @ mix
    penalty = np.array([CONSTANT, MEAN, *[LIKENESS] * count])
    prior = np.array([0.0, 1.0, *[0.0] * count])
    w = prior.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
        curvature = (rows.T * (p * (1 - p))) @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, rows.T @ (p - scores) + penalty * (w - prior))
        w = w - step / max(1.0, float(np.abs(step).max()))
    p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
    covariance = np.linalg.inv((rows.T * (p * (1 - p))) @ rows + np.diag(penalty))
    root = np.linalg.cholesky((covariance + covariance.T) / 2).T @ mix.T
    return Profile(worker, (mix @ w).astype(np.float32), root.astype(np.float32), len(scores))


def join(artifact: Artifact, worker: str, prompts: Sequence[str], scores: Sequence[float | None]) -> Joined:
    """The table with one more worker. `scores`: what it got at each prompt, `None` where that is not known or shall not count.

    The same worker once more, with more labels, takes the place of what was known of it as a newcomer. Raises `ConfigError` if
    it was learned with the others.
    """
    table = Table(artifact)
    came = set(artifact.data.get("newcomers", ()))
    tasks = artifact.data["tasks"]
    told = {w for task in tasks.values() for w in task["workers"]} - came
    known = tuple(sorted(told)) if table.success is None else table.success.workers
    if worker in known:
        raise ConfigError(f"{worker} was learned with the others; to learn more of it: stretto train route")
    logits = _logits(table, known, prompts)
    labelled = [k for k, score in enumerate(scores) if score is not None]
    one = profile(worker, logits[labelled], np.array([scores[k] for k in labelled], dtype=np.float64))
    data = dict(artifact.data)
    data["newcomers"] = sorted(came | {worker})
    data["tasks"] = {task: _recorded(table, task, known, one) for task in tasks}
    if table.success is not None:
        others = [row for row in data["success"].get("newcomers", ()) if row["worker"] != worker]
        data["success"] = {**data["success"], "newcomers": [*others, one.data()]}
    z, spread = one.after(logits)
    p = clipped(z)
    made = replace(artifact, data=data)
    return Joined(made, one, known, p, p * (1 - p) * spread, clipped(logits))


def _logits(table: Table, known: Sequence[str], prompts: Sequence[str]) -> Any:
    """The log-odds of the known workers at prompts, as the table tells them."""
    if not prompts:
        return np.zeros((0, len(known)))
    if table.success is not None:
        return np.stack([table.success.log_odds(prompt)[0] for prompt in prompts])
    return log_odds(np.array([_estimates(table, table.guess(prompt).task, known) for prompt in prompts]))


def _estimates(table: Table, task: str, known: Sequence[str]) -> list[float]:
    found = table.estimates(task)
    mean = sum(found.values()) / len(found) if found else 0.5
    return [found.get(worker, mean) for worker in known]


def _recorded(table: Table, task: str, known: Sequence[str], one: Profile) -> dict[str, Any]:
    """A task's entry with the newcomer's record: as many successes and trials as tell what is known of it, half a deviation off.

    A choice by the record alone (`policies.route.Table.estimates`) is then as careful as one by its profile.
    """
    z, spread = one.after(log_odds(np.array([_estimates(table, task, known)])))
    p = float(clipped(z)[0])
    deviation = p * (1 - p) * float(spread[0])
    careful = min(max(p - 0.5 * deviation, LOW), HIGH)
    tried = min(max(p * (1 - p) / max(deviation, 1e-3) ** 2 - 3, 8.0), 200.0)
    entry = table.artifact.data["tasks"][task]
    good = max(0.0, careful * (tried + 2) - 1)
    return {**entry, "workers": {**entry["workers"], one.worker: [round(good, 3), round(tried, 1)]}}
