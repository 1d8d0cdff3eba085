"""What an embedding worker makes of a prompt, in the place of its words: numbers that tell the chances of the workers.

The worker is asked before anybody else, through the same door. Where it may not be used, or fails, the prompt counts as any
other.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.artifacts import packed, unpacked
from stretto.policies.outlooks import of_ask
from stretto.steps import Ask, Outlook, Quotes, Step, put
from stretto.types import Failure, Message, Request

__all__ = ["Embedded", "shortened"]

_LONGEST: Final = 6000
"""So many characters of a prompt are embedded, of a longer one both ends."""


def shortened(prompt: str) -> str:
    """What of a prompt is embedded."""
    if len(prompt) <= _LONGEST:
        return prompt or " "
    return prompt[: _LONGEST // 2] + prompt[-_LONGEST // 2 :]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of `worker`, with mean 0 and deviation 1 over the prompts that this was learned on."""

    worker: str
    mean: Any
    deviation: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Embedded":
        """From an artefact's data."""
        return cls(data["worker"], unpacked(data["mean"]), unpacked(data["deviation"]))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {"worker": self.worker, "mean": packed(self.mean), "deviation": packed(self.deviation)}

    def features(self, vector: Sequence[float] | None) -> Any:
        """The features of a prompt from its vector; without one those of the average prompt."""
        import numpy as np

        if vector is None or len(vector) != len(self.mean):
            return np.zeros(len(self.mean))
        raw = np.asarray(vector, dtype=np.float64)
        return (raw / (float(np.sqrt(raw @ raw)) or 1.0) - self.mean) / self.deviation

    def _ask(self, request: Request) -> Ask:
        text = Message("user", shortened(request.prompt))
        return Ask(self.worker, (text,), role="embedder", want="embedding", reason="what the prompt is like")

    def _usable(self, request: Request) -> bool:
        """Not where the only call that is allowed would be spent on it. Whether the request may use it, the door says."""
        return request.limits.calls is None or request.limits.calls > 1

    def read(self, request: Request) -> Generator[Step, Any, Sequence[float] | Failure | None]:
        """The vector of a request's prompt; `None` where it is not to be had, the failure where a limit refused it."""
        if not self._usable(request):
            return None
        reply = yield from put(self._ask(request))
        if reply.error is not None:
            return reply.error if reply.error.kind == "limit" else None
        return reply.embeddings[0] if reply.embeddings else None

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One ask."""
        return of_ask(quotes(self._ask(request))) if self._usable(request) else Outlook()
