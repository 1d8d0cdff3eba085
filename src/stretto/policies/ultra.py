"""Ultra: the best answer within the limits. A workflow, checked; where it does not pass, further answers, and one made of all.

What `stretto-ultra` stands for. Each stage is taken only while the limits leave room for it, and what was left out is on record.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from stretto.policies.answers import said
from stretto.policies.carrying import surety
from stretto.policies.conductor import Conductor
from stretto.policies.judging import STANDARD, Wordings, longest, verdict
from stretto.policies.outlooks import beside, maybe, of_ask, then
from stretto.policies.panel.members import because, members
from stretto.policies.panel.vote import Vote
from stretto.policies.panel.writing import Writer
from stretto.policies.settle import settle
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Quotes, Step, put
from stretto.types import Answer, Request

__all__ = ["Ultra"]


@dataclass(frozen=True, slots=True)
class Ultra:
    """The `conductor`'s answer, checked; if it does not pass, those of the `panel` beside it.

    `check`: `confidence`, the least sure of its steps is at least `threshold` sure of its reply; `verifier`, a worker that did
    not write it says yes. Answers that can be compared are then voted on (weighed by confidence, where all tell it); from free
    text the `writer` makes one. Tool calls go out as they are: what they bring comes back to the worker that made them.

    Where the limits leave no call for a check, the conductor answers alone, and may stream; where they leave none for a plan, the
    best single worker does. A stage that a limit refuses, or that fails, leaves the answer that there is.
    """

    CODE: ClassVar[str] = "1"
    conductor: Conductor
    check: Literal["confidence", "verifier"] = "verifier"
    threshold: float = 0.3
    verifier: str = ""
    panel: tuple[str, ...] = ()
    writer: str = ""
    wordings: Wordings = STANDARD
    verifier_tokens: int = 256

    def plan(self, request: Request) -> Plan:
        """Stage after stage."""
        most = request.limits.calls
        if most is not None and most < self._least:
            rejected = Option(
                "a checked workflow", rejected=f"takes at least {self._least} calls, {most} allowed"
            )
            yield Note(
                Choice(
                    "the conductor", (Option("the conductor"), rejected), reason=rejected.rejected, by="ultra"
                )
            )
            return (yield from self.conductor.plan(request))
        answer = yield from settle(self.conductor.plan(request))
        if answer.error is not None:
            return answer if answer.error.kind == "limit" else (yield from self._more(request, answer, ""))
        if answer.message.tool_calls:
            return because(answer, "its tool calls go out as they are")
        passed, why = yield from self._checked(request, answer)
        yield Note(self._verdict(passed, why))
        if passed or passed is None:
            return because(answer, answer.why, why)
        return (yield from self._more(request, answer, why))

    @property
    def _least(self) -> int:
        """Calls of a workflow of one step and its check."""
        return 3 if self.check == "verifier" else 2

    # --- the check ---

    def _checked(self, request: Request, answer: Answer) -> Generator[Step, Any, tuple[bool | None, str]]:
        """Whether the answer passes, and why; `None` where nothing can be said of it, or a limit forbids to ask."""
        if self.check == "confidence":
            sure = surety(answer)
            if sure is None:
                return None, "its workers do not tell how sure they are: unchecked"
            return sure >= self.threshold, f"its least sure step is {sure:.2f} sure"
        verifier = self._verifier(request, answer)
        if not verifier:
            return None, "nobody but its author may check it: unchecked"
        reply = yield from put(self._verifying(request, answer, verifier))
        if reply.error is not None:
            return None, f"unchecked: {verifier} gave no verdict ({reply.error.kind})"
        said_ = verdict(reply.text)
        if said_ is None:
            return None, f"unchecked: {verifier} said neither yes nor no"
        return said_, f"{verifier} said {'yes' if said_ else 'no'}"

    def _verifier(self, request: Request, answer: Answer) -> str:
        """Who checks: the configured worker, but never the author of the answer."""
        if self.verifier and self.verifier != answer.worker:
            return self.verifier
        return next((w for w in self.panel if w != answer.worker and request.card(w) is not None), "")

    def _verifying(self, request: Request, answer: Answer, verifier: str) -> Ask:
        return Ask(
            verifier,
            self.wordings.verifying(request, answer),
            role="verifier",
            max_tokens=self.verifier_tokens,
            params={"temperature": 0},
            reason="checks the workflow's answer",
        )

    def _verdict(self, passed: bool | None, why: str) -> Choice:
        accept, ask = "the workflow's answer", "further answers"
        rejected = why if passed is False else ""
        options = (Option(accept, rejected=rejected), Option(ask, rejected="" if rejected else why))
        return Choice(ask if rejected else accept, options, reason=why, by=self.check)

    # --- further answers ---

    def _more(self, request: Request, answer: Answer, why: str) -> Plan:
        """The panel answers too, and one answer comes of all: by vote where they can be compared, else the writer's."""
        writer = self.writer if self.writer and request.card(self.writer) is not None else ""
        asks = self._asks(request, answer.worker, written=bool(writer) and not _comparable((answer,)))
        if not asks:
            return answer if answer.error is not None else because(answer, answer.why, why)
        asks = asks[: max(1, request.limits.fanout)]
        opinions: tuple[Answer, ...] = yield Fork(asks)
        came = [a for a in opinions if a.error is None]
        told = "; ".join(w for w in (answer.why, why) if w)
        if not came:
            lost = opinions[0].error
            return because(answer, told, f"no further answer came ({lost.kind if lost else ''})")
        answers = [*([answer] if answer.error is None else ()), *came]
        if writer and not _comparable(answers):
            last = Writer(writer, self.wordings)
            return (yield from last.write(request, answers, why=told, more=answer.more))
        if len(answers) == 1:
            return because(answers[0], told)
        sure = all(a.logprobs for a in answers)
        ranked = yield from Vote("confidence" if sure else "count").choose(request, answers)
        return replace(because(ranked.order[0], ranked.why, told), more=answer.more)

    def _asks(self, request: Request, author: str, *, written: bool) -> tuple[Ask, ...]:
        """The panel but for the author. `written`: a writer makes one answer of theirs, so they are drafts."""
        asks, _ = members(
            request,
            [worker for worker in self.panel if worker != author],
            speaks=not written,
            want="logprobs",
            temperature=0.8,
            wordings=self.wordings,
            params={},
            max_tokens=None,
        )
        return asks

    # --- what it would take ---

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The conductor; at even odds (a guess) the panel and the writer after it."""
        found = self.conductor.outlook(request, quotes)
        most = request.limits.calls
        if most is not None and most < self._least:
            return found
        if self.check == "verifier":
            asks = [
                of_ask(*(quotes(self._verifying(request, a, w)) for a in (Answer(), longest(self.wordings))))
                for w in dict.fromkeys((self.verifier, *self.panel))
                if w
            ]
            found = then(found, *(maybe(ask, 1.0 / len(asks)) for ask in asks))
        able = [w for w in self.panel if request.card(w) is not None]
        both = [self._asks(request, "", written=written) for written in (True, False)]
        parts = [max((of_ask(quotes(a)), of_ask(quotes(b))), key=_most) for a, b in zip(*both, strict=True)]
        found = then(found, maybe(beside(parts), 0.5))
        if self.writer and request.card(self.writer) is not None and able:
            found = then(
                found, maybe(Writer(self.writer, self.wordings).outlook(request, len(able) + 1, quotes), 0.5)
            )
        return found


def _most(outlook: Outlook) -> float:
    return outlook.usd.most


def _comparable(answers: Sequence[Answer]) -> bool:
    """Whether equality says anything about these answers."""
    return all(a.error is None and said(a.message, last_line=True) is not None for a in answers)
