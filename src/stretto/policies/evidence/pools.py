"""What stopping and asking are worth after each set of replies, for the whole shortlist and for every smaller pool of it.

A worker that is left out, not eligible or out of order cannot be asked later, so what was expected of asking it later is not to
be had: the values are solved anew for smaller pools (`learning.evidence.pools`), at fewer prices. Sets of workers are bit
masks. Numpy only, imported late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import unpacked

__all__ = ["NEVER", "Openings", "Values", "members", "parts"]

NEVER: Final = -1e6
"""The worth of what cannot be done."""


def members(mask: int) -> list[int]:
    """The places of the workers of a set."""
    return [k for k in range(mask.bit_length()) if mask >> k & 1]


def parts(pool: int) -> list[int]:
    """The subsets of a pool after which there is still somebody to ask: the empty one first, ascending, not all of it."""
    workers = members(pool)
    return [
        sum(1 << w for place, w in enumerate(workers) if chosen >> place & 1)
        for chosen in range((1 << len(workers)) - 1)
    ]


class Values:
    """From data [{`pool`, `places`, `scales`, `weights`}], the whole shortlist first: `places` are those of the dial's prices.

    `weights` (prices, whole numbers) are those of every subset in the order of `parts`, one after the other, to be multiplied by
    `scales` (prices, subsets): of each subset a row a regressor, and a column for stopping (not before anybody was asked) and for
    each worker of the pool that is not in the subset.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], start: int, later: int) -> None:
        """`start` and `later`: how many regressors there are before and after the first reply."""
        import numpy as np

        self._rows = start, later
        self._packed = {int(row["pool"]): row for row in data}
        self._everybody = int(data[0]["pool"])
        self._never = np.full(1 + self._everybody.bit_length(), NEVER)
        self._columns: dict[int, dict[int, list[int]]] = {}
        self._read: dict[int, dict[int, Any]] = {}
        self._nearest: dict[int, int] = {}
        self._unfold(self._everybody)

    def pool(self, able: int) -> int:
        """The smallest pool that was solved and holds all of `able`."""
        found = self._nearest.get(able)
        if found is None:
            found = min((p for p in self._packed if p & able == able), key=lambda p: (p.bit_count(), p))
            if found not in self._read:
                self._unfold(found)
            self._nearest[able] = found
        return found

    def worths(self, able: int, price: int, asked: int, seen: Any) -> Any:
        """Of stopping (0) and of asking worker k (1 + k), from the regressors `seen` after the workers of `asked` were asked.

        `able`: who was asked and who may be asked yet. `price`: a place on the dial; a smaller pool has the nearest of its
        own, of two the lower one, which asks more. `NEVER`: what cannot be done.
        """
        pool = self.pool(able)
        found = self._never.copy()
        if asked not in self._read[pool]:
            found[0] = 0.0  # nobody is left to ask
            return found
        found[self._columns[pool][asked]] = seen @ self._read[pool][asked][self._place(pool, price)]
        return found

    def _place(self, pool: int, price: int) -> int:
        if pool == self._everybody:
            return price
        places = self._packed[pool]["places"]
        return min(range(len(places)), key=lambda k: (abs(places[k] - price), places[k]))

    def _unfold(self, pool: int) -> None:
        row = self._packed[pool]
        steps, scales = unpacked(row["weights"]).astype("f8"), unpacked(row["scales"])
        weights: dict[int, Any] = {}
        columns: dict[int, list[int]] = {}
        begun = 0
        for number, asked in enumerate(parts(pool)):
            columns[asked] = [0] if asked else []
            columns[asked] += [1 + k for k in members(pool & ~asked)]
            rows, width = self._rows[asked > 0], len(columns[asked])
            block = steps[:, begun : begun + rows * width] * scales[:, number : number + 1]
            weights[asked] = block.reshape(-1, rows, width)
            begun += rows * width
        self._read[pool], self._columns[pool] = weights, columns


@dataclass(frozen=True, slots=True)
class Openings:
    """At one price, the batches that two rounds may begin with: of each its mask, the masks that may be added then, and their
    weights (added, regressors); and `weights` (regressors, batches), of what beginning with each is worth.
    """

    firsts: Sequence[int]
    added: Sequence[Sequence[int]]
    after: Sequence[Any]
    weights: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Openings":
        """From an artefact's data. One of an older kind has a single batch, the same for every prompt."""
        batches = data.get("batches", [data])
        return cls(
            [int(batch["first"]) for batch in batches],
            [batch["added"] for batch in batches],
            [unpacked(batch["weights"]) for batch in batches],
            unpacked(data["weights"]) if "batches" in data else None,
        )

    def first(self, able: int, seen: Any) -> int:
        """The worthiest batch that is within `able`, from the regressors before any reply; 0: there is none."""
        worths = [0.0] * len(self.firsts) if self.weights is None else (seen @ self.weights).tolist()
        possible = [(w, -k) for k, w in enumerate(worths) if self.firsts[k] & ~able == 0]
        return self.firsts[-max(possible)[1]] if possible else 0

    def additions(self, first: int, seen: Any) -> dict[int, float]:
        """What each subset that may be added is worth, nobody (0) among them, from the regressors after a first batch."""
        place = self.firsts.index(first)
        return dict(zip(self.added[place], (self.after[place] @ seen).tolist(), strict=True))
