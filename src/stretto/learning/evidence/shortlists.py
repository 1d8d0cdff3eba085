"""Which workers are worth asking together: candidates for a shortlist, found greedily."""

from typing import Any

import numpy as np

from stretto.learning.evidence.matrices import Matrix

__all__ = ["shortlist"]


def shortlist(
    data: Matrix, logits: Any, size: int, best: int, *, within: float = 0.2, seed: int = 0, sample: int = 1500
) -> list[int]:
    """Up to `size` workers that are worth asking together: best single first, then greedily for several prices in turn.

    Once by the worth of the best of them on each prompt (facility location), once by a simulator that asks by rising cost until
    the naive Bayes vote is .98 sure. Only the `size` best workers, and others whose score is `within` of the best one's, are
    considered: cheap junk in a shortlist may cost quality. A worker with gaps is measured against the best one
    where it was asked.
    """
    rng = np.random.default_rng(seed)
    at = rng.permutation(len(data.scores))[:sample]
    numbers, costs, odds, there = data.classes[at], data.costs[at], logits[at], data.there[at]
    scores = np.where(there, data.scores[at], 0.0)
    asked = np.maximum(there.sum(0), 1)
    mean, unit = costs.sum(0) / asked, costs[:, best].mean()
    level = ((scores - scores[:, [best]]) * there).sum(0) / asked + scores[:, best].mean()
    ranked = np.argsort(-level, kind="stable")
    likely = [int(k) for r, k in enumerate(ranked) if r < size or level[k] >= level[best] - within]
    odds_of = np.where(there, 1 / (1 + np.exp(-odds)), -1.0)
    # where the best one is free there is nothing to measure prices in: then only quality counts
    per = {u: u / unit if unit else 0.0 for u in (0.0, 0.02, 0.06, 0.08, 0.15)}
    greedy = [_covering(odds_of[:, likely] - per[u] * mean[likely], size) for u in (0.02, 0.08)]
    greedy = [[likely[k] for k in picks] for picks in greedy]
    for u in (0.0, 0.02, 0.06, 0.15):
        chosen = [best]
        while len(chosen) < size:
            worth = {
                k: _simulated(
                    numbers, scores, costs, odds, sorted([*chosen, k], key=lambda j: mean[j]), per[u]
                )
                for k in likely
                if k not in chosen
            }
            if not worth:
                break
            chosen.append(max(worth, key=lambda k: worth[k]))
        greedy.append(chosen)
    found = [best]
    for rank in range(size):
        for chosen in greedy:
            if rank < len(chosen) and chosen[rank] not in found and len(found) < size:
                found.append(chosen[rank])
    return found


def _covering(worth: Any, size: int) -> list[int]:
    """Columns that together hold the most of each row's greatest worth, greedily (facility location)."""
    chosen: list[int] = []
    covered = np.full(len(worth), -np.inf)
    while len(chosen) < min(size, worth.shape[1]):
        gain = np.maximum(worth, covered[:, None]).mean(0)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        covered = np.maximum(covered, worth[:, chosen[-1]])
    return chosen


def _simulated(numbers: Any, scores: Any, costs: Any, odds: Any, order: list[int], price: float) -> float:
    items = np.arange(len(numbers))
    votes = np.zeros((len(numbers), int(numbers.max()) + 1))
    spent, going = np.zeros(len(numbers)), np.ones(len(numbers), dtype=bool)
    speaker, strength = np.full(votes.shape, order[0]), np.full(votes.shape, -np.inf)
    for k in order:
        spoke = going & (numbers[:, k] >= 0)
        rows, said = items[spoke], numbers[spoke, k]
        votes[rows, said] += odds[spoke, k] + 1.0
        stronger = odds[spoke, k] > strength[rows, said]
        strength[rows[stronger], said[stronger]] = odds[spoke, k][stronger]
        speaker[rows[stronger], said[stronger]] = k
        spent += np.where(going, costs[:, k], 0.0)
        score = np.where(strength > -np.inf, np.clip(votes, -12, 12), -30.0)
        top = score.max(1)
        going = going & (np.exp(top) / (1 + np.exp(score).sum(1)) < 0.98)
    best = score.argmax(1)
    return float((scores[items, speaker[items, best]] - price * spent).mean())
