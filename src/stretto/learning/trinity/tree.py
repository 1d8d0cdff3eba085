"""TRINITY's first stage: from a tree of kept replies to soft targets for worker and role, and a head that is fitted to them.

The value of a choice is the best reward that can still be reached from there, less a discount a turn; the target is a
softmax of the values over `tau`, for roles and for workers the marginals of it (arXiv 2606.21228, section on the selection
head; roles added). Which replies are worth following is read off the training problems' own steps, which are known.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stretto.learning.trinity.episodes import Graph
from stretto.policies.episode import THINKER, Episode
from stretto.sparring.graders import normalise
from stretto.sparring.problems import Problem

__all__ = ["DISCOUNT", "Followed", "Targets", "explore", "fit", "on_track", "targets"]

DISCOUNT: Final = 0.9
"""What a reward loses a turn: of two ways to the same answer the shorter is better."""

_ASTRAY: Final = 0.3
"""The weight of a node after a wrong answer, against one on the way to the right one."""

_DOUBT: Final = 0.7
"""The share of its value that is left to a run after a wrong answer, although it could still be mended."""

Array = Any

Key = tuple[int, int, int]
"""Problem, text, turns."""

Followed = Mapping[Key, int]
"""The nodes that were walked on from."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What to fit: nodes, for each the shares of the workers and of the roles, who may play, and a weight."""

    nodes: Array
    workers: Array
    roles: Array
    able: Array
    """Node x role x worker."""
    weights: Array


def on_track(problem: Problem, episode: Episode) -> bool:
    """Whether a run has said nothing wrong so far: its pending sub-problem and its answer are steps of the problem."""
    steps = [(s.task.lower(), s.answer) for s in problem.steps] or [(problem.prompt.lower(), problem.answer)]
    answers = {answer for _, answer in steps}
    if episode.author >= 0 and normalise(episode.answer) not in answers:
        return False
    return not episode.pending or episode.task.lower() in {task for task, _ in steps}


def explore(
    graph: Graph,
    which: Sequence[int],
    thinking: Sequence[int],
    say: Callable[[str], None] = lambda what: None,
) -> dict[Key, int]:
    """Walk every choice from the roots of the problems `which`, and on from every child that is on track; and from one wrong
    first answer a problem, since only these can be mended. Only `thinking` workers are tried as thinkers. Returns the nodes
    that were followed.
    """
    full = np.ones(len(graph.workers), bool)
    level = [int(n) for n in graph.roots[list(which)]]
    followed = {_key(graph, node): node for node in level}
    for depth in range(graph.rules.turns):
        nodes, roles, workers = [], [], []
        for node in level:
            for role, worker in zip(*np.nonzero(graph.allowed(node, full)), strict=True):
                if role != THINKER or int(worker) in thinking:
                    nodes.append(node)
                    roles.append(int(role))
                    workers.append(int(worker))
        if not nodes:
            break
        after = graph.step(np.array(nodes), np.array(roles), np.array(workers))
        say(f"turn {depth + 1}: {len(nodes)} choices")
        level = []
        astray: set[int] = set()
        for child in sorted(set(after.tolist()), key=lambda n: _lot(graph, n)):
            key, problem = _key(graph, child), int(graph.problem[child])
            if graph.ended[child] or key in followed:
                continue
            good = on_track(graph.problems[problem], graph.episodes[child])
            if good or (depth == 0 and graph.episodes[child].author >= 0 and problem not in astray):
                if not good:
                    astray.add(problem)
                followed[key] = child
                level.append(child)
    return followed


def _lot(graph: Graph, node: int) -> int:
    """An order that prefers no worker, the same in every run."""
    return zlib.crc32(repr((graph.episodes[node].question, graph.episodes[node].answer)).encode())


def _key(graph: Graph, node: int) -> Key:
    """What a coordinator can tell of a node, and how many turns it took: equal keys are followed once."""
    return int(graph.problem[node]), int(graph.text[node]), len(graph.episodes[node].turns)


class _Values:
    """The best reward that can be reached from the nodes that were followed; 0 from others, which have gone astray."""

    def __init__(self, graph: Graph, followed: Followed) -> None:
        self._graph, self._followed = graph, followed
        self._full = np.ones(len(graph.workers), bool)
        self._choices: dict[int, Array] = {}

    def of(self, node: int) -> float:
        if self._graph.ended[node]:
            return float(self._graph.reward[node])
        same = self._followed.get(_key(self._graph, node))
        if same is None:
            return 0.0
        graph, best = self._graph, float(self.choices(same).max())
        # whoever has gone astray does not know it
        return best if on_track(graph.problems[graph.problem[same]], graph.episodes[same]) else _DOUBT * best

    def choices(self, node: int) -> Array:
        """Role x worker."""
        if node not in self._choices:
            able = self._graph.allowed(node, self._full)
            found = np.zeros(able.shape)
            for role, worker in zip(*np.nonzero(able), strict=True):
                child = self._graph.known(node, int(role), int(worker))
                if child is not None:
                    found[role, worker] = DISCOUNT * self.of(child)
            self._choices[node] = found
        return self._choices[node]


def targets(graph: Graph, followed: Followed, tau: float) -> Targets:
    """Targets at every node that was followed and is not lost."""
    values = _Values(graph, followed)
    full = np.ones(len(graph.workers), bool)
    rows = []
    for node in followed.values():
        worth, may = values.choices(node), graph.allowed(node, full)
        if worth.max() <= 0:
            continue
        # the role first, by the best that it leads to, however many could play it; then the worker in each role
        held = np.where(may, worth, -np.inf)
        roles = _shares(held.max(1), tau)
        workers = sum(roles[role] * _shares(held[role], tau) for role in np.flatnonzero(may.any(1)))
        good = on_track(graph.problems[graph.problem[node]], graph.episodes[node])
        rows.append((node, workers, roles, may, 1.0 if good else _ASTRAY))
    return Targets(*(np.array(column) for column in zip(*rows, strict=True)))


def _shares(worth: Array, tau: float) -> Array:
    weights = np.exp((worth - worth.max()) / tau)
    return weights / weights.sum()


def fit(
    features: Array, wanted: Targets, *, decay: float = 1e-3, steps: int = 400, rate: float = 0.02
) -> Array:
    """The head (workers and roles x features) with the least KL divergence from the targets, by Adam on all of them."""
    count = wanted.workers.shape[1]
    head = np.zeros((count + wanted.roles.shape[1], features.shape[1]))
    first, second = np.zeros_like(head), np.zeros_like(head)
    weight = (wanted.weights / wanted.weights.sum())[:, None]
    may_role = wanted.able.any(2)
    may_worker = wanted.able.any(1)
    for step in range(1, steps + 1):
        logits = features @ head.T
        gap = np.concatenate(
            [
                _soft(logits[:, :count], may_worker) - wanted.workers,
                _soft(logits[:, count:], may_role) - wanted.roles,
            ],
            1,
        )
        slope = (gap * weight).T @ features + decay * head
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        pace = rate * (1 - 0.9 * step / steps)
        head -= pace * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-9)
    return head


def _soft(logits: Array, mask: Array) -> Array:
    held = np.where(mask, logits, -np.inf)
    weights = np.exp(held - held.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)
