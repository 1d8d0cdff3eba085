"""Outright: who is known to be right answers alone, before anything is planned around it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from stretto.policies.outlooks import maybe, of_ask, then
from stretto.policies.route import Known, Table, words
from stretto.policies.situation import situation
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Request

__all__ = ["Outright"]

_FAILS: Final = 0.02
"""How often a worker brings nothing: a guess, for the outlook."""


@dataclass(frozen=True, slots=True)
class Outright:
    """Where the `table` knows an eligible worker to be right at least `least` of the time at what a prompt looks like, the best
    such worker answers alone: one call, which streams. Else `policy`, on record as `name`, does what it does.

    Left to the policy: a prompt that is like nothing that the table knows, one with words of other tasks (it may ask for more
    than one thing), tools and images. `among`: who may answer alone (empty: whoever writes text). `temperature` is the answer's
    where the caller names none. If that worker brings nothing, the next best one is asked.
    """

    CODE: ClassVar[str] = "1"
    WRAPS: ClassVar[bool] = True
    table: Table
    policy: Policy
    name: str
    least: float
    among: tuple[str, ...] = ()
    temperature: float | None = None

    def plan(self, request: Request) -> Plan:
        """A recorded choice, then one tail ask or the policy's plan."""
        known, alone, unlike = self._looked(request)
        yield Note(self._choice(known, alone, unlike))
        if alone:
            return self._ask(request, known, alone)
        return (yield from self.policy.plan(request))

    def _looked(self, request: Request) -> tuple[Known, str, str]:
        """What the table knows of a request, why the best worker does alone, and why the table knows nothing of it."""
        known = self.table.known(request, self.among)
        if unlike := situation(request).unlike_texts():
            return known, "", unlike
        if known.guess.strange:
            return known, "", f"like no task that the table knows ({_few(known.guess.strange)})"
        if not words(request.prompt):
            return known, "", "there are no words that the table could go by"
        if known.foreign:
            task = known.guess.task
            return known, "", f"looks like {task}, but no prompt of {task} ever said {_few(known.foreign)}"
        return known, known.alone(self.least), ""

    def _choice(self, known: Known, alone: str, unlike: str) -> Choice:
        """Who answers, beside what the table knows of everybody."""
        if unlike:
            return Choice(self.name, (Option(self.name),), reason=unlike, by=self.table.name)
        guess = known.guess
        best = next(iter(known.right), "")
        options = [Option(self.name, rejected=alone)]
        for worker, right in known.right.items():
            why = f"right {right:.0%} of the time, below {self.least:.0%}"
            if alone:
                why = "" if worker == best else f"{best} is right more often, or cheaper"
            options.append(Option(worker, {"success": round(right, 4)}, why))
        where = alone or f"nobody is right {self.least:.0%} of the time"
        reason = f"looks like {guess.task} ({guess.probability:.2f}), where {where}"
        return Choice(best if alone else self.name, tuple(options), reason=reason, by=self.table.name)

    def _ask(self, request: Request, known: Known, alone: str) -> Ask:
        """The best worker; if it brings nothing, the next best one."""
        own = self.temperature is not None and "temperature" not in request.params
        params: dict[str, Any] = {"temperature": self.temperature} if own else {}
        best, *others = (Ask(worker, speaks=True, params=params) for worker in known.right)
        best = replace(best, reason=f"answers alone: {alone}")
        if not others:
            return best
        return replace(
            best, otherwise=replace(others[0], reason=f"answers alone: {best.worker} brought nothing")
        )

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One call where somebody is known to be right, and one more should that fail; else the policy's: the choice is free."""
        known, alone, _ = self._looked(request)
        if not alone:
            return self.policy.outlook(request, quotes)
        ask = self._ask(request, known, alone)
        more = (of_ask(quotes(ask.otherwise)),) if isinstance(ask.otherwise, Ask) else ()
        return then(of_ask(quotes(ask)), *(maybe(part, _FAILS) for part in more))


def _few(strange: tuple[str, ...]) -> str:
    """The first of these words."""
    return ", ".join(dict.fromkeys(strange[:5]))
