"""Boosted trees, evaluated with a handful of numpy calls: every split of every tree is tried at once.

A split that is answered "right" cannot lead to the leaves on its left; the first leaf that all answers leave is the tree's
(QuickScorer, Lucchese et al. 2015). That is what serves one decision in microseconds and many in one go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from stretto.artifacts import packed, unpacked

__all__ = ["MOST_LEAVES", "Trees"]

MOST_LEAVES: Final = 16
"""A tree has at most so many leaves: they are the bits of a number."""

_CHUNK: Final = 256
"""Rows that are evaluated together: what they need stays in the caches."""

_FEW: Final = 3
"""So few rows are faster one by one."""


@dataclass(frozen=True, slots=True)
class Trees:
    """A sum of trees over features. Arrays of shape (splits, trees) and (trees, leaves); missing splits bar nothing.

    `features`: which one a split looks at; `thresholds`: it goes left where the feature is not above; `left`: bits of the leaves
    on its left side, the first leaf being the lowest bit; `leaves`: what each adds. `base` is added to all.
    """

    features: Any
    thresholds: Any
    left: Any
    leaves: Any
    base: float = 0.0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Trees":
        """From an artefact's data."""
        return cls(
            unpacked(data["features"]).astype("int64"),
            unpacked(data["thresholds"]),
            unpacked(data["left"]),
            unpacked(data["leaves"]),
            float(data["base"]),
        )

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {
            "features": packed(self.features.astype("int16")),
            "thresholds": packed(self.thresholds),
            "left": packed(self.left),
            "leaves": packed(self.leaves),
            "base": self.base,
        }

    def log_odds(self, x: Any) -> Any:
        """The sum for every row of `x`."""
        import numpy as np

        step = 1 if len(x) <= _FEW else _CHUNK
        if len(x) <= step:
            return self._sum(x)
        return np.concatenate([self._sum(x[k : k + step]) for k in range(0, len(x), step)])

    def _sum(self, x: Any) -> Any:
        import numpy as np

        right = np.ascontiguousarray(x.T)[self.features] > self.thresholds[:, :, None]
        barred = np.bitwise_or.reduce(right * self.left[:, :, None], axis=0)
        leaf = _lowest()[~barred]  # the first that is not barred
        trees, leaves = self.leaves.shape
        return self.leaves.ravel()[leaf + leaves * np.arange(trees)[:, None]].sum(0) + self.base


@cache
def _lowest() -> Any:
    """Of every number of sixteen bits the place of its lowest bit."""
    import numpy as np

    places = np.zeros(1 << MOST_LEAVES, dtype=np.uint8)
    for place in range(MOST_LEAVES):
        places[1 << place :: 2 << place] = place
    return places
