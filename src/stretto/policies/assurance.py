"""How sure a worker was of its reply, as evidence: the log-odds that the reply is right, given prompt and log-probabilities.

What is read off a reply is the probability of its least certain token (`signals.confidence`). Numpy only, imported late.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import packed, unpacked

__all__ = ["Assurance", "terms"]

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
