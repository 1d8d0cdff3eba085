"""Auto, what `stretto` stands for: the owner's rules, then learned evidence where it fits the request, else a prior and checks.

The ladder is answer, verify, escalate; and plan, where nobody alone is known to be right. Each step of it is a recorded
choice: which way is taken, whom it asks first, and after every answer whether that was enough.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from stretto.policies.route import Rule, Table
from stretto.policies.situation import Situation, situation
from stretto.policies.solo import Solo
from stretto.steps import Choice, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Request

__all__ = ["Auto", "Planned", "Way"]


_PLAN_CALLS: Final = 3
"""A plan, and two steps."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to answer, under a name. `about` says what it rests on; `learned`: on evidence about the workers' answers.

    Learned evidence serves where its workers may be used and the request is of a form that it has seen: `workers` are those it
    knows, `forms` those of the requests that it was learned from (none told: any but calls of functions).
    """

    name: str
    policy: Policy
    about: str
    learned: bool = False
    workers: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()

    def unfit(self, request: Request, seen: Situation) -> str:
        """Why this way cannot be taken for a request, or ""."""
        if not self.learned:
            return ""
        if why := seen.unlike(self.forms) if self.forms else seen.unlike_texts():
            return why
        if self.workers and not any(request.card(name) is not None for name in self.workers):
            return f"none of {', '.join(self.workers)} may be used for this request"
        return ""

    def because(self, request: Request) -> str:
        """Why it is taken where it fits."""
        return self.about


@dataclass(frozen=True, slots=True)
class Planned(Way):
    """A workflow of several workers, for what nobody alone is known to be good at: where by the `table` the best eligible worker
    is right less often than half the dial, or where the prompt has words of such a task that the task it looks like never had.
    So at dial 0 nothing is planned, at 1 what is more often wrong than right. `planner`: who has to be there.
    """

    table: Table | None = None
    planner: str = ""

    def unfit(self, request: Request, seen: Situation) -> str:
        """Why one worker does, or why a workflow will not."""
        if why := Way.unfit(self, request, seen):
            return why
        plain = (
            request.response_format is None
        )  # else its planner may be missing because it cannot write JSON, and need not
        if self.planner and plain and request.card(self.planner) is None:
            return f"{self.planner}, which would plan, may not be used for this request"
        if (most := request.limits.calls) is not None and most < _PLAN_CALLS:
            return f"a workflow takes {_PLAN_CALLS} calls at least, {most} allowed"
        assert self.table is not None
        known = self.table.known(request)
        if known.guess.strange:
            return f"it is like no task that the {self.table.name} knows"
        alone = known.alone(request.dial / 2)
        return "" if alone and self.table.beyond(request, known, request.dial / 2) else alone

    def because(self, request: Request) -> str:
        """Who is known to be right nowhere near often enough, or which words ask for more than the task that somebody knows."""
        assert self.table is not None
        known = self.table.known(request)
        words = self.table.beyond(request, known, request.dial / 2)
        if not words or not known.alone(request.dial / 2):
            return self.about
        task = known.guess.task
        return f"looks like {task}, but no prompt of {task} ever said {', '.join(words)}, by the {self.table.name}"


@dataclass(frozen=True, slots=True)
class Auto:
    """The first rule that holds decides; else the first of `ways` that fits the request. The last one always fits."""

    CODE: ClassVar[str] = "4"
    rules: tuple[Rule, ...]
    ways: tuple[Way, ...]

    def plan(self, request: Request) -> Plan:
        """A recorded choice of the rule or the way, with those that were passed over, then its plan."""
        policy, choice = self._choose(request)
        yield Note(choice)
        return (yield from policy.plan(request))

    def _choose(self, request: Request) -> tuple[Policy, Choice]:
        passed: list[Option] = []
        for number, rule in enumerate(self.rules, 1):
            why = rule.when.holds(request)
            if why and isinstance(rule.policy, Solo) and request.card(rule.policy.worker) is None:
                out = f"rule {number} holds, but {rule.policy.worker} is not eligible"
                passed.append(Option(rule.use, rejected=out))
            elif why:
                others = (Option(way.name, rejected="a rule holds") for way in self.ways)
                options = (*passed, Option(rule.use), *others)
                return rule.policy, Choice(rule.use, options, reason=f"rule {number}: {why}", by="rules")
        seen = situation(request)
        for place, way in enumerate(self.ways):
            why = way.unfit(request, seen) if place + 1 < len(self.ways) else ""
            if why:
                passed.append(Option(way.name, rejected=why))
                continue
            rest = (Option(w.name, rejected=f"{way.name} serves") for w in self.ways[place + 1 :])
            reason = way.because(request)
            if passed:
                reason = f"{reason}; {passed[-1].name}: {passed[-1].rejected}"
            return way.policy, Choice(way.name, (*passed, Option(way.name), *rest), reason=reason, by="auto")
        raise ValueError("auto needs a way")

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """That of the rule's policy or of the way, since the choice is free."""
        return self._choose(request)[0].outlook(request, quotes)
