"""Masked: a policy that does without some workers for a while, because they have silently got worse."""

from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from stretto.steps import (
    Arrival,
    Ask,
    Begin,
    Choice,
    Fork,
    Next,
    Note,
    Option,
    Outlook,
    Plan,
    Policy,
    Quote,
    Quotes,
    Step,
)
from stretto.types import Answer, Card, Failure, Reply, Request

__all__ = ["Masked"]


@dataclass(frozen=True, slots=True)
class Masked:
    """`policy` in a pool without the workers of `why` (worker, reason): nobody asks them, in no role.

    What the policy would ask of one all the same (a planner, a judge, a comparer that its settings name) fails as `denied`
    without a call, so that it does what it does without that worker. Where nobody would be left to answer, those who answer stay.
    """

    CODE: ClassVar[str] = "2"
    WRAPS: ClassVar[bool] = True
    policy: Policy
    why: tuple[tuple[str, str], ...]

    def admitted(self, request: Request) -> Request:
        """The request in the smaller pool. Whoever asked for the tool results that come back has to be in it, too."""
        out = self._out(request)
        return replace(request, pool=tuple(c for c in request.pool if c.id not in out))

    def _out(self, request: Request) -> dict[str, str]:
        """Who is missing, and why: also who is not in the pool, since a planner need not be able to do what the request takes."""
        out = dict(self.why)
        if any(card.id not in out and _answers(card) for card in request.pool):
            return out
        answering = {card.id for card in request.pool if _answers(card)}
        return {worker: why for worker, why in out.items() if worker not in answering}

    def plan(self, request: Request) -> Plan:
        """A recorded choice that names who is left out and why, then the policy's plan."""
        out = self._out(request)
        if gone := {worker: why for worker, why in out.items() if request.card(worker) is not None}:
            picked = f"without {', '.join(gone)}"
            options = (Option(picked), *(Option(worker, rejected=why) for worker, why in gone.items()))
            yield Note(Choice(picked, options, reason="the drift monitor", by="drift"))
        if not out:
            return (yield from self.policy.plan(request))
        return (yield from _without(self.policy.plan(self.admitted(request)), out))

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """That of the policy, in the smaller pool, where who is left out costs nothing."""
        out = self._out(request)

        def without(ask: Ask) -> Quote:
            return Quote(0, 0, 0, 0, seconds=0.0) if ask.worker in out else quotes(ask)

        return self.policy.outlook(self.admitted(request), without)


def _answers(card: Card) -> bool:
    """Whether a worker is there to answer, and not for another job (label `role`)."""
    return "text" in card.abilities and card.labels.get("role", "solver") == "solver"


def _without(plan: Plan, out: Mapping[str, str]) -> Plan:
    """A plan in which asks of these workers fail at once, those of its branches and its last one included."""
    failed: deque[Arrival] = deque()
    begun = 0
    sent: Any = None
    try:
        while True:
            try:
                step = plan.send(sent)
            except StopIteration as stop:
                return _ended(stop.value, out)
            if isinstance(step, Ask) and step.worker in out:
                sent = _denied(step, out)
            elif isinstance(step, Begin) and step.ask.worker in out:
                begun += 1
                sent = f"left out {begun}"
                failed.append(Arrival(sent, _denied(step.ask, out)))
            elif isinstance(step, Next) and failed:
                sent = failed.popleft()
            elif isinstance(step, Fork):
                sent = yield replace(step, plans=tuple(_branch(each, out) for each in step.plans))
            else:
                sent = yield step
    finally:
        plan.close()


def _branch(plan: Plan | Ask, out: Mapping[str, str]) -> Plan | Ask:
    if isinstance(plan, Generator):
        return _without(plan, out)
    return _nothing(plan, out) if plan.worker in out else plan


def _nothing(ask: Ask, out: Mapping[str, str]) -> Generator[Step, Any, Answer | Ask]:
    return _ended(ask, out)
    yield  # a generator without steps


def _ended(last: Answer | Ask, out: Mapping[str, str]) -> Answer | Ask:
    """The end of a plan: who is left out gives way to whoever comes after."""
    if isinstance(last, Answer):
        return last
    if last.worker in out:
        if last.otherwise is None:
            return Answer.of(_denied(last, out), last.reason, last.more)
        return _ended(last.otherwise, out)
    if isinstance(last.otherwise, Ask):
        return replace(last, otherwise=_ended(last.otherwise, out))
    return last


def _denied(ask: Ask, out: Mapping[str, str]) -> Reply:
    why = f"{ask.worker} is left out for now: {out[ask.worker]}"
    return Reply(worker=ask.worker, error=Failure("denied", why))
