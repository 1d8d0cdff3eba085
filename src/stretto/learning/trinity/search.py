"""What an evolution is compared with in the same program: random search and REINFORCE, with as many episodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stretto.learning.trinity.evolution import Candidate, Evolution, Judge, drawn, look

__all__ = ["RandomSearch", "reinforce"]

Array = Any


class RandomSearch:
    """Gaussian candidates around a start, all independent; `mean` is the best of them so far. Asked and told like `cmaes`."""

    def __init__(self, start: Array, sigma: float, *, seed: int, population_size: int) -> None:
        self.population_size = population_size
        self._start, self._sigma = start, sigma
        self.reseed_rng(seed)
        self._best, self.mean = -np.inf, start

    def reseed_rng(self, seed: int) -> None:
        """Draw from here on by this seed."""
        self._rng = np.random.default_rng([seed, 7])

    def ask(self) -> Array:
        """One candidate."""
        return self._start + self._sigma * self._rng.standard_normal(len(self._start))

    def tell(self, solutions: list[tuple[Array, float]]) -> None:
        """Candidates with their losses."""
        place, loss = min(solutions, key=lambda solution: solution[1])
        if -loss > self._best:
            self._best, self.mean = -loss, place


def reinforce(
    head: Array,
    train: Judge,
    held: Judge,
    *,
    seed: int,
    generations: int,
    replications: int,
    samples: int,
    rate: float = 0.01,
    tell: Callable[[dict[str, float]], None] = lambda row: None,
) -> Evolution:
    """Policy gradient on the head (linear, unscaled): each generation `samples` sampled runs of each of `replications`
    problems, the mean reward of a problem's runs as its baseline, Adam."""
    state = Evolution(None, best=head.ravel().copy())
    first, second = np.zeros_like(head), np.zeros_like(head)
    look(state, [Candidate(head)], head.ravel(), held, 0, tell=tell)
    for generation in range(generations):
        slope = _slope(head, train, seed, generation, replications, samples)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        step = generation + 1
        head = head + rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-9)
        state.generation = step
        if step % 5 == 0 or step == generations:
            episodes = step * replications * samples
            look(state, [Candidate(head)], head.ravel(), held, episodes, tell=tell)
    return state


def _slope(head: Array, train: Judge, seed: int, generation: int, replications: int, samples: int) -> Array:
    """The gradient of the expected reward, from sampled runs."""
    draws = drawn(train, seed, generation, replications)
    which, masks = np.tile(draws.which, samples), np.tile(draws.masks, (samples, 1))
    rng = np.random.default_rng([seed, generation, 3])
    chance = rng.random((len(which), train.graph.rules.turns, 2))
    steps: list[tuple[Array, Array, Array]] = []
    played = train.sampled(head, which, masks, chance, steps)
    rewards = played.rewards - 0.01 * played.turns
    gain = rewards - np.tile(rewards.reshape(samples, -1).mean(0), samples)
    slope = np.zeros_like(head)
    for rows, features, gaps in steps:
        slope += (gaps * gain[rows, None]).T @ features
    return slope / len(which)
