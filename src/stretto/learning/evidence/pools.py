"""Values as an artefact holds them, solved anew for every smaller pool, so that nobody is counted on who may not be asked."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np

from stretto.artifacts import packed
from stretto.learning.evidence.lattice import Lattice, Solved, solve
from stretto.policies.evidence.pools import members, parts

__all__ = ["smaller", "values_data"]

WHOLE: Final = 7
"""Up to so many workers every smaller pool is solved; above that those without one worker."""

ITEMS: Final = 4000
"""So many items are enough for a smaller pool."""


def smaller(workers: int) -> list[int]:
    """The smaller pools that are solved, as bit masks: of two workers at least, since one alone leaves no choice."""
    least = 2 if workers <= WHOLE else workers - 1
    return [
        sum(1 << k for k in chosen)
        for size in range(workers - 1, least - 1, -1)
        for chosen in combinations(range(workers), size)
    ]


def values_data(
    lattice: Lattice, solved: Solved, say: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """What `evidence.pools.Values` reads: `solved`, for the whole shortlist, and smaller pools at a few of its prices."""
    count, prices = lattice.workers, solved.prices
    everybody = (1 << count) - 1
    found = [_data(solved, everybody, range(len(prices)))]
    at = np.sort(np.random.default_rng(2).permutation(len(lattice.logits))[:ITEMS])
    few = lattice.only(at)
    for pool in smaller(count):
        places = _spread(len(prices), 5 if pool.bit_count() == count - 1 else 3)
        part = solve(few.among(members(pool)), [prices[k] for k in places], rich=solved.rich)
        found.append(_data(part, pool, places))
    say("smaller pools")
    return found


def _spread(count: int, most: int) -> list[int]:
    """Places spread evenly, both ends among them."""
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def _data(solved: Solved, pool: int, places: Sequence[int]) -> dict[str, Any]:
    workers = members(pool)
    blocks, scales = [], []
    for place, asked in enumerate(parts(pool)):  # `solved` numbers the subsets among the workers of the pool
        columns = [0] if asked else []
        columns += [1 + k for k, w in enumerate(workers) if not asked >> w & 1]
        block = solved.weights[place][:, :, columns].reshape(len(places), -1)
        scales.append(np.maximum(np.abs(block).max(1), 1e-9) / 32767)
        blocks.append(np.round(block / scales[-1][:, None]))
    return {
        "pool": pool,
        "places": list(places),
        "scales": packed(np.stack(scales, axis=1).astype(np.float32)),
        "weights": packed(np.concatenate(blocks, axis=1).astype(np.int16)),
    }
