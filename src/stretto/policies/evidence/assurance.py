"""How sure a worker was of its reply, as evidence: the log-odds that the reply is right, given prompt and log-probabilities.

What is read off a reply is the probability of its least certain token (`signals.confidence`). And how sure the policy is said
to be of the answer that it stopped at. Numpy only, imported late.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import packed, unpacked

__all__ = ["Assurance", "Stated", "terms"]

_EDGE: Final = 1e-3
_MOST: Final = 6.0


def terms(logits: Any, confidence: Any) -> Any:
    """What the log-odds after a reply are a sum of (items, workers, 5); where no confidence is known (nan), of 0.5."""
    import numpy as np

    known = np.clip(np.where(np.isnan(confidence), 0.5, confidence), _EDGE, 1 - _EDGE)
    z = np.log(known / (1 - known))
    return np.stack([np.ones_like(z), logits, z, np.maximum(z - 2.0, 0.0), logits * z / 4.0], axis=2)


@dataclass(frozen=True, slots=True)
class Assurance:
    """A logistic regression a worker over `terms`: a row a worker."""

    weights: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Assurance":
        """From an artefact's data."""
        return cls(unpacked(data["weights"]))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {"weights": packed(self.weights)}

    def after(self, logits: Any, confidence: Any) -> Any:
        """The log-odds of each worker once it has replied (items, workers); as before where it did not tell how sure it was."""
        import numpy as np

        found = (terms(logits, confidence) * self.weights[None]).sum(2)
        return np.where(np.isnan(confidence), logits, np.clip(found, -_MOST, _MOST))


@dataclass(frozen=True, slots=True)
class Stated:
    """From the posterior of the answer that was stopped at to how often such answers are right.

    The asking stops where the posterior is high, so at the stop it is high too often, the more so the dearer asking is. What is
    decided goes by the posterior, what is said by this: log-odds `constant` + `slope` * those of the posterior + `price` * the
    logarithm of the price. `silent`: how often it is right where no reply gave an answer that can be compared.
    """

    constant: float
    slope: float
    price: float
    silent: float

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Stated":
        """From an artefact's data."""
        return cls(*(float(data[name]) for name in ("constant", "slope", "price", "silent")))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        names = ("constant", "slope", "price", "silent")
        return {name: round(getattr(self, name), 6) for name in names}

    def chance(self, sure: float, u: float) -> float:
        """What is said where the posterior is `sure` and the price is `u`."""
        if sure <= 0:
            return self.silent
        known = min(1 - _EDGE, max(_EDGE, sure))
        z = self.constant + self.slope * math.log(known / (1 - known)) + self.price * math.log(u)
        return 1 / (1 + math.exp(-z))
