"""Public doubles and tools for tests, of Stretto and of what people build on it: nothing here needs a network, a disk or a model.

`ScriptedPool` answers from a table or a function, `MemoryStore` and `MemoryAccounts` keep everything in memory, and `by_hand`
plays the engine for one plan.
"""

from collections.abc import Callable, Mapping
from typing import Any

from stretto.ledger.accounts import MemoryAccounts
from stretto.ledger.memory import MemoryStore
from stretto.pool.scripted import ScriptedPool
from stretto.steps import Ask, Fork, Note, Plan, Step
from stretto.types import Answer, Card, Message, Price, Reply, Request, TokenLogprob

__all__ = ["MemoryAccounts", "MemoryStore", "ScriptedPool", "by_hand", "question", "said"]


def question(text: str, *workers: str, prices: Mapping[str, Price] | None = None, **fields: Any) -> Request:
    """A request with one user message and a pool of cards for `workers`."""
    pool = tuple(Card(w, (prices or {}).get(w, Price())) for w in workers)
    return Request(messages=(Message("user", text),), pool=pool, **fields)


def said(text: str, worker: str = "", *, logprob: float | None = None, **fields: Any) -> Reply:
    """A reply with this text; `logprob` is that of its only token."""
    logprobs = () if logprob is None else (TokenLogprob(text, logprob),)
    return Reply(message=Message("assistant", text), worker=worker, logprobs=logprobs, **fields)


def by_hand(plan: Plan, answer: Callable[[Step], Any]) -> tuple[list[Step], Answer | Ask]:
    """Drive a plan without an engine: `answer(step)` gives what is sent back for each `Ask`, `Fork`, `Begin` and `Next`.

    For a fork of asks it is called once an ask, and the replies are joined. Returns the steps that the plan yielded, and what
    it returned.
    """
    steps: list[Step] = []
    sent: Any = None
    while True:
        try:
            step = plan.send(sent)
        except StopIteration as stop:
            return steps, stop.value
        steps.append(step)
        if isinstance(step, Note):
            sent = None
        elif isinstance(step, Fork):
            sent = tuple(
                Answer.of(answer(p)) if isinstance(p, Ask) else _settled(p, answer) for p in step.plans
            )
        else:
            sent = answer(step)


def _settled(plan: Plan, answer: Callable[[Step], Any]) -> Answer:
    _, last = by_hand(plan, answer)
    return last if isinstance(last, Answer) else Answer.of(answer(last))
