"""How long a reply to this prompt will be: what a plan is expected to cost, before anything is called.

A worker's usual length is the pool's to know (what the ledger has seen of late). What is learned here is how many times that
length a prompt asks for, from its words. Numpy only, imported late; the fit is `learning.evidence.lengths`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from stretto.artifacts import unpacked
from stretto.steps import Ask, Quote, Quotes
from stretto.types import Request

__all__ = ["MOST", "Lengths"]

MOST: Final = 8.0
"""A reply is foretold to be at most so many times as long as usual, or as short."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many times as long as usual each worker's reply to a prompt will be.

    From an artefact's data: `weights` (a column a worker, the constant first) of the logarithm of that, over the features of the
    prompt's text. A worker whose lengths could not be foretold has zeros.
    """

    workers: tuple[str, ...]
    weights: Any

    @classmethod
    def of(cls, data: Mapping[str, Any], workers: tuple[str, ...]) -> "Lengths":
        """From an artefact's data."""
        import numpy as np

        return cls(workers, unpacked(data["weights"]).astype(np.float64))

    def times(self, x: Any) -> dict[str, float]:
        """Of a prompt with features `x`, by worker."""
        import numpy as np

        found = np.exp(x @ self.weights[1:] + self.weights[0])
        return dict(zip(self.workers, np.clip(found, 1 / MOST, MOST).tolist(), strict=True))

    def quoting(self, request: Request, quotes: Quotes, x: Any) -> Quotes:
        """The quotes of a request whose prompt has features `x`: what is expected of an answer to it is moved, nothing else."""
        times = self.times(x)

        def quote(ask: Ask) -> Quote:
            found, card = quotes(ask), request.card(ask.worker)
            if ask.messages is not None or card is None or ask.worker not in times:
                return found
            output = min(found.max_tokens, found.output * times[ask.worker])
            more = round((output - found.output) * card.price.output)
            return replace(found, expected=min(found.worst, max(0, found.expected + more)), output=output)

        return quote
