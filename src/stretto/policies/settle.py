"""Composition: run another policy's plan inside a plan and get an answer, whether it returns one or a last ask."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from stretto.steps import Ask, Plan, Step, put
from stretto.types import Answer

__all__ = ["only", "settle", "with_otherwise"]


def settle(plan: Plan) -> Generator[Step, Any, Answer]:
    """`answer = yield from settle(policy.plan(request))`: a tail ask becomes an ordinary one, so it does not stream."""
    last = yield from plan
    if isinstance(last, Answer):
        return last
    reply = yield from put(last)
    if reply.error is not None and last.otherwise is not None:
        other: Answer | Ask | None = last.otherwise
        if isinstance(other, Ask) and reply.error.kind not in ("limit", "misfit"):
            return (yield from settle(only(other)))
        while isinstance(other, Ask):
            other = other.otherwise
        if other is not None:
            return other
    return Answer.of(reply, last.reason, last.more)


def only(last: Ask) -> Plan:
    """A plan that is one last ask."""
    return last
    yield  # a generator without steps


def with_otherwise(last: Answer | Ask, best: Answer | None, why: str) -> Answer | Ask:
    """The end of a plan that has a fallback answer in hand: used if the last ask brings none."""
    if best is None:
        return last
    if isinstance(last, Answer):
        return replace(best, why=why) if last.error is not None else last
    return last if last.otherwise is not None else replace(last, otherwise=replace(best, why=why))
