"""A worker that a coordinator was never trained with: its row of the head, from how it does on a probe set.

The probe set's situations fall into clusters by what the backbone makes of them. A worker's *profile* is its success in
each. Where workers of the same success have which logits is known of those that were trained; the newcomer gets the logits
that go with its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from stretto.artifacts import packed
from stretto.learning.trinity.episodes import Graph
from stretto.learning.trinity.tree import Followed, on_track
from stretto.policies.episode import WORKER

__all__ = ["CLUSTERS", "by_cluster", "clustered", "near", "probes", "profile_of", "row_for", "successes"]

CLUSTERS: Final = 24
"""Clusters of the probe set."""

Array = Any


def clustered(features: Array, count: int = CLUSTERS, *, seed: int = 0, rounds: int = 30) -> Array:
    """The centres of `count` clusters (k-means, k-means++ start), a row each."""
    rng = np.random.default_rng(seed)
    centres = [features[rng.integers(len(features))]]
    for _ in range(min(count, len(features)) - 1):
        far = np.min([((features - c) ** 2).sum(1) for c in centres], axis=0)
        centres.append(features[rng.choice(len(features), p=far / far.sum())])
    found = np.stack(centres)
    for _ in range(rounds):
        nearest = near(features, found)
        for place in range(len(found)):
            if (nearest == place).any():
                found[place] = features[nearest == place].mean(0)
    return found


def near(features: Array, centres: Array) -> Array:
    """The nearest centre of each row."""
    return ((centres**2).sum(1) - 2 * features @ centres.T).argmin(1)


def probes(graph: Graph, followed: Followed) -> list[int]:
    """The situations in which a worker's success can be told: on track, and a step is due that a worker can do."""
    found = []
    for node in followed.values():
        episode, problem = graph.episodes[node], graph.problems[graph.problem[node]]
        due = episode.pending or (not episode.turns and not problem.steps)
        if due and on_track(problem, episode) and not graph.ended[node]:
            found.append(node)
    return found


def successes(graph: Graph, nodes: Sequence[int], workers: Sequence[int]) -> Array:
    """Node x worker: whether the worker's reply there keeps the run on track."""
    count = len(workers)
    after = graph.step(
        np.repeat(np.array(nodes), count), np.full(len(nodes) * count, WORKER), np.tile(workers, len(nodes))
    )
    good = [on_track(graph.problems[graph.problem[n]], graph.episodes[n]) for n in after.tolist()]
    return np.array(good, dtype=float).reshape(len(nodes), count)


def profile_of(
    graph: Graph, followed: Followed, seen: Callable[[Sequence[str]], Array], workers: Sequence[str]
) -> dict[str, Any]:
    """The clusters of the training's own situations, and each worker's success there: `centres` (packed), `success` by worker.

    `seen` gives the features of texts.
    """
    nodes = probes(graph, followed)
    features = seen([graph.texts[t] for t in graph.text[nodes].tolist()])
    centres = clustered(features)
    of = near(features, centres)
    right = successes(graph, nodes, range(len(workers)))
    return {
        "centres": packed(centres.astype(np.float32)),
        "success": {
            worker: [round(float(x), 4) for x in by_cluster(right[:, place], of, len(centres))]
            for place, worker in enumerate(workers)
        },
    }


def by_cluster(right: Array, of: Array, count: int) -> Array:
    """The share of right answers in each cluster; one half of a case is lent on both sides."""
    good = np.bincount(of, weights=right, minlength=count)
    return (good + 0.5) / (np.bincount(of, minlength=count) + 1.0)


def row_for(
    head: Array, centres: Array, success: Mapping[str, Sequence[float]], workers: Sequence[str], fresh: Array
) -> Array:
    """The row of a newcomer with success `fresh` a cluster, for a `head` with a row for each of `workers` first.

    In each cluster a logit goes with success along one line through those of the trained workers; the row is the one that comes
    nearest to the logits it should have at all centres.
    """
    logits = centres @ head[: len(workers)].T
    known = np.array([success[worker] for worker in workers]).T
    odds = np.log(known / (1 - known + 1e-9) + 1e-9)
    mean_logit, mean_odds = logits.mean(1, keepdims=True), odds.mean(1, keepdims=True)
    spread = ((odds - mean_odds) ** 2).sum()
    slope = ((logits - mean_logit) * (odds - mean_odds)).sum() / max(spread, 1e-9)
    own = np.log(fresh / (1 - fresh + 1e-9) + 1e-9)
    wanted = mean_logit[:, 0] + slope * (own - mean_odds[:, 0])
    ridge = 1e-2 * np.trace(centres @ centres.T) / len(centres)
    return centres.T @ np.linalg.solve(centres @ centres.T + ridge * np.eye(len(centres)), wanted)
