"""Synthesis: a writer makes one answer of several, at once or window by window (Self-MoA-Seq: the context stays bounded)."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stretto.policies.judging import Wordings, longest
from stretto.policies.outlooks import of_ask, then
from stretto.policies.panel.members import because, draft
from stretto.steps import Ask, Outlook, Quotes, Step, put
from stretto.types import Answer, Request

__all__ = ["Writer"]


@dataclass(frozen=True, slots=True)
class Writer:
    """`worker` writes. It alone holds the caller's tools and speaks; what it is given are texts.

    `window`: at most so many answers at a time, the best so far among them; 0 is all at once.
    """

    worker: str
    wordings: Wordings
    window: int = 0

    def write(
        self,
        request: Request,
        answers: Sequence[Answer],
        *,
        findings: str = "",
        why: str = "",
        lost: str = "",
        more: Mapping[str, Any],
    ) -> Generator[Step, Any, Answer | Ask]:
        """A last ask that writes from `answers`, the best first. If it brings nothing, the first of them, or the last
        synthesis, stands.

        `findings`: what an analyst says of them. `why` and `lost` are told with the answer, `more` goes to the caller with it.
        """
        best, rest = answers[0], answers[1:]
        whose = "the first draft"
        while self.window and len(rest) >= self.window:
            chunk, rest = rest[: self.window - 1], rest[self.window - 1 :]
            reply = yield from put(self._between(request, (best, *chunk)))
            if reply.error is None:
                best, whose = Answer.of(reply), "the last synthesis"
            elif reply.error.kind == "limit":
                said = f"{self.worker} was refused ({reply.error.message}); {whose} stands"
                return replace(because(best, said, lost), more=more)
            else:
                lost = "; ".join(w for w in (lost, f"a synthesis failed ({reply.error.kind})") if w)
        told = "; ".join(w for w in (f"{self.worker} writes from {len(answers)} answers", why, lost) if w)
        stands = replace(because(best, f"{whose} stands", lost), more=more)
        return replace(self._last(request, (best, *rest), findings), reason=told, otherwise=stands, more=more)

    def _between(self, request: Request, answers: Sequence[Answer]) -> Ask:
        ask = draft(request, self.worker, f"writes the best so far from {len(answers)} answers", {})
        messages = self.wordings.writing(request, answers, tools=False)
        return replace(ask, messages=messages, role="synthesizer")

    def _last(self, request: Request, answers: Sequence[Answer], findings: str) -> Ask:
        messages = self.wordings.writing(request, answers, tools=True, findings=findings)
        return Ask(self.worker, messages, role="synthesizer", speaks=True)

    def outlook(self, request: Request, count: int, quotes: Quotes, *, findings: bool = False) -> Outlook:
        """The last ask, and before it one for each full window."""
        found = longest(self.wordings).text[: self.wordings.draft_chars] if findings else ""
        both = [(Answer(), ""), (longest(self.wordings), found)]
        step = max(1, self.window - 1)
        between = 0
        while self.window and count - 1 - between * step >= self.window:
            between += 1
        left = min(count, self.window) if self.window else count
        short, long = (quotes(self._last(request, [a] * left, f)) for a, f in both)
        alone = quotes(Ask(self.worker, speaks=True))
        last = of_ask(short, max(long, alone, key=lambda quote: quote.worst))
        if not between:
            return last
        once = of_ask(*(quotes(self._between(request, [a] * self.window)) for a, _ in both))
        return then(*[once] * between, last)
