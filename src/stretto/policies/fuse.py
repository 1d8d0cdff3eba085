"""Fuse: several answers to one question; one of them goes out, or one that a writer makes of them.

Three stages, each of which may be absent: a panel answers (in `layers`, each seeing the one before: Mixture-of-Agents), the
answers are ordered (vote, judge, council, pairs), a writer writes from them. One worker several times is a panel too
(Self-MoA).
"""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from stretto.policies.judging import STANDARD, Wordings, longest
from stretto.policies.outlooks import beside, of_ask, then
from stretto.policies.panel.analysis import Analyst, outcome
from stretto.policies.panel.blender import Pairs
from stretto.policies.panel.council import Council
from stretto.policies.panel.judge import Judge
from stretto.policies.panel.members import Asked, because, members
from stretto.policies.panel.vote import Ranked, Selector, Vote
from stretto.policies.panel.writing import Writer
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Quotes, Step
from stretto.types import Answer, Request

__all__ = ["Fuse", "How"]

How = Literal["vote", "select", "rank", "pairs", "synthesise"]


@dataclass(frozen=True, slots=True)
class Fuse:
    """Ask the `panel` side by side, order the answers, and let a `writer` (if there is one) write from them.

    `how`: `vote`; `select`, the `judge` picks; `rank`, the members rank each other's answers unnamed; `pairs`, the `judge`
    compares every two in both orders; `synthesise`, no order, the writer sees all. Each ends in a vote where nobody gives a
    verdict.

    A worker named more than once is resampled: `temperature`, a seed of its own each time. `weigh`: a vote counts heads
    (`count`) or each worker's own confidence (`confidence`). `quorum`: go on when that many have answered; `deadline`: or
    after so many seconds, in each round. `layers`: rounds in which everyone answers anew, seeing the answers of the round
    before without names. `window`: the writer sees so many answers at a time (0: all). `analysis`: an analyst (the judge, else
    the writer) compares them first, and its result goes to the writer and to the caller.

    With a writer only the writer holds the caller's tools and streams; without one, each member of the last layer holds them,
    and tool calls are compared by name and arguments. When the writer fails or a limit refuses it, the best answer before it
    stands. When nobody of the panel answers, the writer does so alone. Failed members are named.
    """

    CODE: ClassVar[str] = "2"
    panel: tuple[str, ...]
    how: How = "vote"
    weigh: Literal["count", "confidence"] = "count"
    judge: str = ""
    writer: str = ""
    layers: int = 1
    window: int = 0
    analysis: bool = False
    quorum: int | None = None
    deadline: float | None = None
    temperature: float = 0.8
    judge_tokens: int = 256  # a worker that thinks before it names a number must get that far
    review_tokens: int = 1024
    analysis_tokens: int = 4096
    draft_tokens: int | None = None
    draft_params: dict[str, Any] = field(default_factory=dict)
    wordings: Wordings = STANDARD

    def plan(self, request: Request) -> Plan:
        """The stages in their order."""
        return (yield from self.deliberate(request, request))

    def deliberate(self, request: Request, question: Request) -> Plan:
        """The same where the panel is asked something else (`question`) than the writer in the end (`request`)."""
        panel = yield from self._convene(question)
        if not panel.came:
            return (yield from self._without(request, panel))
        lost = panel.lost
        if self.writer and self.how == "synthesise":
            ranked = Ranked(panel.came, "")
        elif len(panel.came) == 1:
            ranked = Ranked(panel.came, f"the only one of {len(panel.members)} that answered")
        else:
            ranked = yield from self._selector.choose(question, panel.came)
        if not self.writer:
            return because(ranked.order[0], ranked.why, lost)
        more: dict[str, Any] = {}
        findings = ""
        if self.analysis:
            analysis = yield from self._analyst.analyse(question, panel.came)
            more = {"fusion": outcome(panel, analysis)}
            if analysis is not None:
                findings = json.dumps(analysis, ensure_ascii=False)[: self.wordings.draft_chars]
        return (
            yield from self._writes.write(
                request, ranked.order, findings=findings, why=ranked.why, lost=lost, more=more
            )
        )

    def _convene(self, request: Request) -> Generator[Step, Any, Asked]:
        """Layer after layer; a layer that brings nothing leaves the one before."""
        panel = Asked((), ())
        for layer in range(self.layers):
            asks, absent = self._asks(request, layer, panel.came)
            if not asks:
                return Asked((), (), absent)
            answers: tuple[Answer, ...] = yield Fork(asks, self.quorum, self.deadline)
            now = Asked(asks, answers, absent)
            if not now.came and panel.came:
                earlier, late = (
                    Option(f"layer {layer}"),
                    Option(f"layer {layer + 1}", rejected=now.nobody().message),
                )
                yield Note(
                    Choice(
                        earlier.name, (earlier, late), reason="the next layer brought nothing", by="layers"
                    )
                )
                return panel
            panel = now
            if not panel.came:
                return panel
        return panel

    def _asks(
        self, request: Request, layer: int, before: tuple[Answer, ...]
    ) -> tuple[tuple[Ask, ...], tuple[str, ...]]:
        last = layer == self.layers - 1
        return members(
            request,
            self.panel,
            speaks=last and not self.writer,
            want="logprobs" if last and self.weigh == "confidence" and self.how != "synthesise" else "text",
            temperature=self.temperature,
            wordings=self.wordings,
            params=self.draft_params,
            max_tokens=self.draft_tokens,
            before=before,
            where=f", layer {layer + 1} of {self.layers}" if self.layers > 1 else "",
        )

    def _without(self, request: Request, panel: Asked) -> Plan:
        """Nobody of the panel answered: the writer does, if there is one and it may."""
        failure = panel.nobody()
        more = {"fusion": outcome(panel, None)} if self.analysis else {}
        nobody = Answer(error=failure, more=more)
        if not self.writer or request.card(self.writer) is None:
            return nobody
        options = (Option("the panel", rejected=failure.message), Option(self.writer))
        yield Note(Choice(self.writer, options, reason=failure.message, by="fuse"))
        reason = f"{self.writer} answers alone: {failure.message}"
        return Ask(self.writer, speaks=True, reason=reason, otherwise=nobody, more=more)

    @property
    def _selector(self) -> Selector:
        vote = Vote(self.weigh)
        if self.how == "select":
            return Judge(self.judge, self.wordings, self.judge_tokens, vote)
        if self.how == "rank":
            return Council(self.wordings, self.review_tokens, vote, self.deadline)
        if self.how == "pairs":
            return Pairs(self.judge, self.wordings, self.judge_tokens, vote, self.deadline)
        return vote

    @property
    def _analyst(self) -> Analyst:
        return Analyst(self.judge or self.writer, self.wordings, self.analysis_tokens)

    @property
    def _writes(self) -> Writer:
        return Writer(self.writer, self.wordings, self.window and max(2, self.window))

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """Layer after layer, each side by side; then what the selection, the analyst and the writer take."""
        return self.outlook_of(request, request, quotes)

    def outlook_of(self, request: Request, question: Request, quotes: Quotes) -> Outlook:
        """The same where the panel is asked `question`."""
        asks, _ = self._asks(question, 0, ())
        if not asks:
            alone = self.writer and request.card(self.writer) is not None
            return of_ask(quotes(Ask(self.writer, speaks=True))) if alone else Outlook()
        parts = [beside(of_ask(quotes(ask)) for ask in asks)]
        for layer in range(1, self.layers):
            shorts, longs = (
                self._asks(question, layer, (a,) * len(asks))[0] for a in (Answer(), longest(self.wordings))
            )
            later = beside(of_ask(quotes(s), quotes(long)) for s, long in zip(shorts, longs, strict=True))
            parts.append(later)
        workers = [ask.worker for ask in asks]
        if self.how != "synthesise" and len(asks) > 1:
            parts.append(self._selector.outlook(question, workers, quotes))
        if self.writer:
            if self.analysis:
                parts.append(self._analyst.outlook(question, len(asks), quotes))
            parts.append(self._writes.outlook(request, len(asks), quotes, findings=self.analysis))
        return then(*parts)
