"""Auto: the owner's rules, then evidence bought answer by answer. What `stretto` stands for where evidence was learned."""

from dataclasses import dataclass
from typing import ClassVar

from stretto.policies.route import Rule
from stretto.policies.solo import Solo
from stretto.steps import Choice, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Request

__all__ = ["Auto"]


@dataclass(frozen=True, slots=True)
class Auto:
    """The first rule that holds decides; where none does, `otherwise`, known as `use`, does."""

    CODE: ClassVar[str] = "1"
    rules: tuple[Rule, ...]
    use: str
    otherwise: Policy

    def plan(self, request: Request) -> Plan:
        """A recorded choice of the rule or of `use`, with the rules that hold and cannot be followed, then its plan."""
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
                options = (*passed, Option(rule.use), Option(self.use, rejected="a rule holds"))
                return rule.policy, Choice(rule.use, options, reason=f"rule {number}: {why}", by="rules")
        reason = "no rule holds" if self.rules else "there are no rules"
        return self.otherwise, Choice(self.use, (*passed, Option(self.use)), reason=reason, by="rules")

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """That of the rule's policy or of `otherwise`, since the choice is free."""
        return self._choose(request)[0].outlook(request, quotes)
