"""Solo: one worker answers, and its answer streams live."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from stretto.policies.outlooks import of_ask
from stretto.steps import Ask, Outlook, Plan, Quotes, Want
from stretto.types import Request

__all__ = ["Solo"]


@dataclass(frozen=True, slots=True)
class Solo:
    """Ask `worker`.

    `params` override the request's sampling parameters; `seed="step"` makes each place in a plan a new sample.
    """

    CODE: ClassVar[str] = "1"
    EMBEDS: ClassVar[bool] = True
    worker: str
    want: Want = "text"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | Literal["step"] | None = None
    reason: str = "asked for by name"

    def ask(self) -> Ask:
        """The one ask."""
        return Ask(
            self.worker, want=self.want, speaks=True, params=self.params, seed=self.seed, reason=self.reason
        )

    def plan(self, request: Request) -> Plan:
        """One tail ask."""
        return self.ask()
        yield  # a generator without steps

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One call, exactly."""
        return of_ask(quotes(self.ask()))
