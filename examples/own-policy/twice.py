"""A policy of your own: ask one worker twice, and a referee only if the two answers differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from stretto.policies.outlooks import beside, maybe, of_ask, then
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Request


@dataclass(frozen=True, slots=True)
class Twice:
    """`CODE` is raised whenever the same settings would ask something else: it is part of the recorded version."""

    CODE: ClassVar[str] = "1"
    worker: str
    referee: str

    def _opinion(self) -> Ask:
        return Ask(self.worker, speaks=True, params={"temperature": 0.8}, seed="step", reason="one of two")

    def _judge(self) -> Ask:
        return Ask(self.referee, speaks=True, reason=f"the two answers of {self.worker} differ")

    def plan(self, request: Request) -> Plan:
        """Two asks side by side, and perhaps a tail ask."""
        first, second = yield Fork((self._opinion(), self._opinion()))
        if first.error is None and first.text == second.text:
            return replace(first, why="both answers are the same")
        differ = Option(self.worker, rejected="its two answers differ")
        yield Note(Choice(self.referee, (differ, Option(self.referee)), reason="a referee is needed"))
        return self._judge()

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """Two calls for certain, a third at even odds."""
        opinion = of_ask(quotes(self._opinion()))
        return then(beside([opinion, opinion]), maybe(of_ask(quotes(self._judge())), 0.5))


def build(options: Mapping[str, Any], policies: Callable[[str], Policy]) -> Policy:
    """What the entry point names: from the options of a `[policy.NAME]` table to a policy."""
    if set(options) != {"worker", "referee"}:
        raise ValueError("needs the keys `worker` and `referee`, and no others")
    return Twice(options["worker"], options["referee"])
