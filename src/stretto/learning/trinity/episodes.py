"""TRINITY's episodes as a graph over kept replies: what was played once is an index afterwards.

A node is an `Episode` of one problem, an edge who plays next and as what. At temperature 0 every edge has one end, so
thousands of candidates of an evolution walk the same graph, and only what none has tried before is asked. The arithmetic of
an episode (who may play, what is asked, when it ends) is that of `policies.episode`, the same code as live.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stretto.learning.replies import Replies
from stretto.policies.coordinator import ROLES
from stretto.policies.episode import Episode, Rules, advanced, allowed, opening, prompt
from stretto.sparring.graders import grade
from stretto.sparring.problems import Problem

__all__ = ["Graph", "Played"]

_UNKNOWN: Final = -1

Array = Any


@dataclass(frozen=True, slots=True)
class Played:
    """How runs over some problems went, a row each: reward 0 or 1, turns taken, the last node, and per turn role and worker
    (-1 where the run had ended)."""

    rewards: Array
    turns: Array
    ends: Array
    roles: Array
    workers: Array


class Graph:
    """The episodes over `problems` that have been walked so far.

    `observe(rules, episode)` is what the backbone reads; `able` (role x worker) says who may play what. Arrays by node:
    `ended`, `reward` (of an ended run), `text` (a place in `texts`), `problem`.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        rules: Rules,
        observe: Callable[[Rules, Episode], str],
        workers: Sequence[str],
        book: Replies,
        able: Array | None = None,
    ) -> None:
        self._able = np.ones((len(ROLES), len(workers)), bool) if able is None else able
        self.problems, self.rules, self.workers = tuple(problems), rules, tuple(workers)
        self._observe, self._book = observe, book
        self.episodes: list[Episode] = []
        self.texts: list[str] = []
        self._text_places: dict[str, int] = {}
        self._nodes: dict[tuple[int, Episode], int] = {}
        self._masks: dict[tuple[int, bytes], Array] = {}
        room = 4 * len(self.problems)
        self.ended = np.zeros(room, bool)
        self.reward = np.zeros(room)
        self.text = np.zeros(room, np.int64)
        self.problem = np.zeros(room, np.int64)
        self._whole = np.zeros((room, len(ROLES), len(workers)), bool)
        self._asked_whole = np.zeros(room, bool)
        self._next = np.full((room, len(ROLES), len(workers)), _UNKNOWN, np.int64)
        self.roots = np.array([self._node(i, opening(p.prompt)) for i, p in enumerate(self.problems)])

    def __len__(self) -> int:
        return len(self.episodes)

    def allowed(self, node: int, mask: Array) -> Array:
        """Who may play which role (roles x workers), with only the workers of `mask` (bool) in the pool."""
        key = node, mask.tobytes()
        if key not in self._masks:
            able = tuple(map(tuple, (self._able & mask).tolist()))
            self._masks[key] = np.array(allowed(self.rules, self.episodes[node], able), dtype=bool)
        return self._masks[key]

    def allowed_rows(self, nodes: Array, masks: Array) -> Array:
        """`allowed` of many: row x role x worker."""
        whole = masks.all(1)
        for node in np.unique(nodes[whole & ~self._asked_whole[nodes]]).tolist():
            self._whole[node] = self.allowed(node, np.ones(len(self.workers), bool))
            self._asked_whole[node] = True
        found = self._whole[nodes]
        for row in np.flatnonzero(~whole):
            found[row] = self.allowed(int(nodes[row]), masks[row])
        return found

    def step(self, nodes: Array, roles: Array, workers: Array) -> Array:
        """Where these nodes lead with these choices. What nobody tried before is asked, all of it at a time."""
        found = self._next[nodes, roles, workers]
        if (fresh := np.flatnonzero(found == _UNKNOWN)).size:
            self._expand({(int(nodes[i]), int(roles[i]), int(workers[i])) for i in fresh})
            found = self._next[nodes, roles, workers]
        return found

    def known(self, node: int, role: int, worker: int) -> int | None:
        """Where a choice leads if that has been tried, else `None`."""
        found = int(self._next[node, role, worker])
        return None if found == _UNKNOWN else found

    def tried(self, node: int) -> bool:
        """Whether any choice has been tried from a node."""
        return bool((self._next[node] != _UNKNOWN).any())

    def play(
        self, which: Array, choose: Callable[[Array, Array], tuple[Array, Array]], masks: Array
    ) -> Played:
        """Runs from the roots of the problems `which`, all at a time; row i under the pool `masks[i]`.

        `choose(rows, nodes)` gives roles and workers for the runs that are under way.
        """
        nodes = self.roots[which].copy()
        most = self.rules.turns
        roles, workers = (np.full((len(nodes), most), _UNKNOWN, np.int64) for _ in range(2))
        for turn in range(most):
            rows = np.flatnonzero(~self.ended[nodes])
            if not rows.size:
                break
            role, worker = choose(rows, nodes[rows])
            roles[rows, turn], workers[rows, turn] = role, worker
            nodes[rows] = self.step(nodes[rows], role, worker)
        return Played(self.reward[nodes], (roles != _UNKNOWN).sum(1), nodes, roles, workers)

    def _expand(self, edges: set[tuple[int, int, int]]) -> None:
        order = sorted(edges)
        pairs = [(self.workers[w], prompt(self.rules, self.episodes[node], r)) for node, r, w in order]
        for (node, role, worker), said in zip(order, self._book.get(pairs), strict=True):
            text = said.text
            after = advanced(self.rules, self.episodes[node], role, worker, text, failed=not text.strip())
            self._next[node, role, worker] = self._node(int(self.problem[node]), after)

    def _node(self, problem: int, episode: Episode) -> int:
        key = problem, episode
        if key in self._nodes:
            return self._nodes[key]
        node = self._nodes[key] = len(self.episodes)
        self.episodes.append(episode)
        if node == len(self.ended):
            self._grow()
        self.ended[node], self.problem[node] = episode.ended, problem
        if episode.ended:
            self.reward[node] = grade(self.problems[problem], episode.answer) if episode.answer else 0.0
        else:
            told = self._observe(self.rules, episode)
            if told not in self._text_places:
                self._text_places[told] = len(self.texts)
                self.texts.append(told)
            self.text[node] = self._text_places[told]
        return node

    def _grow(self) -> None:
        def twice(array: Array, fill: Any) -> Array:
            return np.concatenate([array, np.full_like(array, fill)])

        self.ended, self.reward = twice(self.ended, False), twice(self.reward, 0.0)
        self.text, self.problem = twice(self.text, 0), twice(self.problem, 0)
        self._next = twice(self._next, _UNKNOWN)
        self._whole, self._asked_whole = twice(self._whole, False), twice(self._asked_whole, False)
