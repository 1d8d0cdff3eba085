"""Fallback: workers in order, the next one only when the one before has failed."""

from dataclasses import dataclass
from typing import ClassVar

from stretto.policies.outlooks import maybe, of_ask, then
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Quotes, put
from stretto.types import Answer, Failure, Request

__all__ = ["Fallback"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """Ask `workers` in order until one answers. The last one is a tail ask."""

    CODE: ClassVar[str] = "1"
    workers: tuple[str, ...]

    def plan(self, request: Request) -> Plan:
        """At most one ask a worker; every failure is noted with its reason."""
        able = [w for w in self.workers if request.card(w)]
        if not able:
            return Answer(
                error=Failure("denied", f"none of {', '.join(self.workers)} may be used for this request")
            )
        failed: list[Option] = []
        for worker in able[:-1]:
            reply = yield from put(self._ask(worker, failed))
            if reply.error is None:
                return Answer.of(reply)
            if reply.error.kind == "limit":
                return Answer(error=reply.error)
            failed.append(Option(worker, rejected=f"{reply.error.kind}: {reply.error.message}"))
            rest = able[len(failed) :]
            yield Note(
                Choice(
                    rest[0], (*failed, *(Option(w) for w in rest)), reason=f"{worker} failed", by="fallback"
                )
            )
        return self._ask(able[-1], failed)

    def _ask(self, worker: str, failed: list[Option]) -> Ask:
        reason = f"after {', '.join(o.name for o in failed)} failed" if failed else "first in line"
        return Ask(worker, speaks=True, reason=reason)

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The first worker; the others in case of failure (expected: not needed)."""
        asks = [of_ask(quotes(self._ask(w, []))) for w in self.workers if request.card(w)]
        return then(*asks[:1], *(maybe(a, 0.0) for a in asks[1:]))
