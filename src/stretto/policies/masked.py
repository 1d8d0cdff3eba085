"""Masked: a policy that does without some workers for a while, because they have silently got worse."""

from dataclasses import dataclass, replace
from typing import ClassVar

from stretto.steps import Choice, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Request

__all__ = ["Masked"]


@dataclass(frozen=True, slots=True)
class Masked:
    """`policy` in a pool without the workers of `why` (worker, reason). Where nobody would be left, nobody is left out."""

    CODE: ClassVar[str] = "1"
    policy: Policy
    why: tuple[tuple[str, str], ...]

    def _without(self, request: Request) -> Request:
        out = {worker for worker, _ in self.why}
        left = tuple(card for card in request.pool if card.id not in out)
        answers = any("text" in card.abilities for card in left)
        return replace(request, pool=left) if answers and len(left) < len(request.pool) else request

    def plan(self, request: Request) -> Plan:
        """A recorded choice that names who is left out and why, then the policy's plan."""
        smaller = self._without(request)
        if smaller is not request:
            gone = [(worker, why) for worker, why in self.why if request.card(worker) is not None]
            names = ", ".join(worker for worker, _ in gone)
            picked = f"without {names}"
            options = (Option(picked), *(Option(worker, rejected=why) for worker, why in gone))
            yield Note(Choice(picked, options, reason="the drift monitor", by="drift"))
        return (yield from self.policy.plan(smaller))

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """That of the policy, in the smaller pool."""
        return self.policy.outlook(self._without(request), quotes)
