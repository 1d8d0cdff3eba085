"""Fuse: several answers to one question, and one of them (or the one most agree on) goes out.

The panel may be different workers, or one worker several times: resamples with distinct seeds (Self-MoA).
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from stretto.policies import judging
from stretto.policies.outlooks import beside, maybe, of_ask, then
from stretto.policies.signals import confidence, final_value
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Quotes, Step, put
from stretto.types import Answer, Failure, Request

__all__ = ["Fuse"]


@dataclass(frozen=True, slots=True)
class Fuse:
    """Ask the `panel` side by side, then `vote` or let a judge `select`.

    A worker named more than once in the panel is resampled: `temperature`, a seed of its own each time. `weigh`: a vote counts
    heads (`count`) or each worker's own confidence in its answer (`confidence`, the probability of its least certain token).
    `quorum`: go on when that many have answered; `within`: or after so many seconds. A judge is not asked when all agree. When
    the judge is refused by a limit, fails, or names nobody, the panel's vote decides and the answer says so. Failed members are
    named.
    """

    CODE: ClassVar[str] = "1"
    panel: tuple[str, ...]
    how: Literal["vote", "select"] = "vote"
    weigh: Literal["count", "confidence"] = "count"
    judge: str = ""
    quorum: int | None = None
    within: float | None = None
    temperature: float = 0.8
    judge_tokens: int = 256  # a worker that thinks before it names a number must get that far
    wording: str = field(default=judging.WORDING)

    def _members(self, request: Request) -> tuple[Ask, ...]:
        able = [w for w in self.panel if request.card(w)]
        often = Counter(able)
        want: Literal["logprobs", "text"] = "logprobs" if self.weigh == "confidence" else "text"
        asks = []
        for number, worker in enumerate(able, 1):
            reason = f"panel member {number} of {len(able)}"
            if often[worker] > 1:
                warm = {"temperature": self.temperature}
                asks.append(
                    Ask(
                        worker,
                        want=want,
                        speaks=True,
                        params=warm,
                        seed="step",
                        reason=f"{reason}, a resample",
                    )
                )
            else:
                asks.append(Ask(worker, want=want, speaks=True, reason=reason))
        return tuple(asks)

    def plan(self, request: Request) -> Plan:
        """One fork, then a vote; or one fork and one judge."""
        members = self._members(request)
        if not members:
            names = ", ".join(self.panel)
            return Answer(
                error=Failure("denied", f"nobody of the panel may be used for this request: {names}")
            )
        answers: tuple[Answer, ...] = yield Fork(members, self.quorum, self.within)
        came = [a for a in answers if a.error is None]
        lost = "; ".join(
            f"{m.worker} {_lost(a.error.kind)}"
            for m, a in zip(members, answers, strict=True)
            if a.error is not None
        )
        if not came:
            return _nobody(members, answers)
        if len(came) == 1:
            return _because(came[0], f"the only one of {len(members)} that answered", lost)
        if self.how == "vote":
            return (yield from self._vote(came, lost))
        if len({final_value(a.text) for a in came}) == 1:
            return _because(came[0], f"all {len(came)} agree, so the judge was not asked", lost)
        return (yield from self._select(request, came, lost))

    def _vote(self, came: Sequence[Answer], lost: str, because: str = "") -> Generator[Step, Any, Answer]:
        votes: dict[str, list[Answer]] = {}
        for answer in came:
            votes.setdefault(final_value(answer.text), []).append(answer)
        weights = {value: sum(map(self._weight, group)) for value, group in votes.items()}
        picked = max(
            weights, key=lambda v: weights[v]
        )  # equal weights: the one whose member stands first in the panel
        names = {value: ", ".join(a.worker for a in group) for value, group in votes.items()}
        options = tuple(
            Option(
                names[value],
                {"votes": float(len(group)), "weight": round(weights[value], 4)},
                ""
                if value == picked
                else f"weight {weights[value]:.2f} < {weights[picked]:.2f}"
                if weights[value] < weights[picked]
                else "equal weight, later in the panel",
            )
            for value, group in votes.items()
        )
        winner = max(votes[picked], key=self._weight)
        heads = f"{len(votes[picked])} of {len(came)} agree" if len(votes) < len(came) else "no two agree"
        reason = (
            heads
            if self.weigh == "count"
            else f"{heads}, weight {weights[picked]:.2f} of {sum(weights.values()):.2f}"
        )
        yield Note(Choice(names[picked], options, reason=reason, by=f"vote by {self.weigh}"))
        return _because(winner, f"{because}{reason}", lost)

    def _weight(self, answer: Answer) -> float:
        if self.weigh == "count":
            return 1.0
        sure = confidence(answer.logprobs)
        return 0.5 if sure is None else sure

    def _select(self, request: Request, came: Sequence[Answer], lost: str) -> Generator[Step, Any, Answer]:
        reply = yield from put(self._judging(request, came))
        if reply.error is not None:
            because = f"the judge {self.judge} gave no verdict ({reply.error.kind}: {reply.error.message}); by vote: "
            return (yield from self._vote(came, lost, because))
        index = judging.pick(reply.text, len(came))
        if index is None:
            because = f"the judge {self.judge} named nobody; by vote: "
            return (yield from self._vote(came, lost, because))
        options = tuple(
            Option(f"{n}: {a.worker}", rejected="" if n == index + 1 else "the judge preferred another")
            for n, a in enumerate(came, 1)
        )
        yield Note(
            Choice(
                options[index].name, options, reason=f"the judge {self.judge} said {index + 1}", by=self.judge
            )
        )
        return _because(came[index], f"picked by the judge {self.judge} from {len(came)}", lost)

    def _judging(self, request: Request, came: Sequence[Answer]) -> Ask:
        return Ask(
            self.judge,
            judging.select_messages(request, came),
            role="judge",
            max_tokens=self.judge_tokens,
            params={"temperature": 0},
            reason=f"picks the best of {len(came)}",
        )

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The whole panel side by side; the judge, if there is one, unless all agree (even odds assumed)."""
        members = self._members(request)
        panel = beside(of_ask(quotes(m)) for m in members)
        if self.how == "vote" or not members:
            return panel
        short, long = (
            quotes(self._judging(request, [answer] * len(members)))
            for answer in (Answer(), judging.longest())
        )
        return then(panel, maybe(of_ask(short, long), 0.5))


def _lost(kind: str) -> str:
    """What became of a member without an answer."""
    if kind == "dropped":
        return "was not waited for"
    return f"was refused ({kind})" if kind in ("limit", "denied") else f"failed ({kind})"


def _because(answer: Answer, why: str, lost: str) -> Answer:
    return replace(answer, why="; ".join(w for w in (why, lost) if w))


def _nobody(members: Sequence[Ask], answers: Sequence[Answer]) -> Answer:
    """One failure that names each cause, without upstreams' own words; a limit if that is what stopped them all."""
    errors = [a.error for a in answers if a.error is not None]
    told = "; ".join(
        f"{m.worker}: {e.kind}" + (f": {e.message}" if e.kind in ("limit", "denied") else "")
        for m, e in zip(members, errors, strict=True)
    )
    kinds = {e.kind for e in errors}
    kind = errors[0].kind if len(kinds) == 1 else "unavailable"
    return Answer(error=Failure(kind, f"nobody of the panel answered ({told})"))
