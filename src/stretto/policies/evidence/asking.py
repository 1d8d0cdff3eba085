"""One request on its way through the sequential policy: who has answered, who may be asked yet, and what that amounts to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stretto.policies.evidence.beliefs import Beliefs, Posterior
from stretto.policies.evidence.equivalence import Compared
from stretto.steps import Option
from stretto.types import Answer

__all__ = ["Asking", "Heard", "Replies"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply, and all that is read off it: the value that it comes to (`None`: it cannot be compared), how much longer it is
    than the worker's usual ones (in deviations), how sure the worker was of it (nan: it did not say), the marks of its text.
    """

    answer: Answer
    value: str | None
    long: float = 0.0
    sure: float = math.nan
    read: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Replies:
    """What some replies come to, one row an array: the posterior that they call for, which worker gave which answer, the log-odds
    of the workers, who was asked, how long the replies are; and the chance of each answer, where their values tell them apart.
    """

    posterior: Posterior
    classes: Any
    odds: Any
    asked: Any
    lengths: Any
    chance: Any


@dataclass(slots=True)
class Asking:
    """One request on its way: who may be asked yet, who has answered, what that amounts to, and the last failure.

    `listener` makes what was heard of a worker, its answer and how many tokens that was; `tell` are those who are asked how sure
    they are; `replies` and `believed` are what all of `heard` comes to, `None` before anybody has answered;
    `gaps` (a mask) are those of `open` at the start that were not always there when it was learned; `vain` are those who could
    not change the answer; `near` says how near the prompt is to each known task.
    """

    price: int
    logits: Any
    open: list[int]
    listener: Callable[[int, Answer, int], Heard]
    tell: frozenset[int] = frozenset()
    gaps: int = 0
    heard: dict[int, Heard] = field(default_factory=dict)
    replies: Replies | None = None
    believed: Beliefs | None = None
    failed: Answer | None = None
    compared: list[Option] = field(default_factory=list)
    same: Compared = field(default_factory=Compared)
    vain: frozenset[int] = frozenset()
    near: Any = None

    @property
    def mask(self) -> int:
        """Who has answered."""
        return sum(1 << k for k in self.heard)

    @property
    def able(self) -> int:
        """Who has answered, and who may be asked yet: a worker that has failed counts as one that cannot be asked.

        But for one with gaps: that it may not be there has gone into the values.
        """
        return self.mask | self.gaps | sum(1 << k for k in self.open)

    @property
    def limited(self) -> str:
        """What a limit said, if one ended the asking."""
        failures = (self.same.failed, self.failed.error if self.failed is not None else None)
        error = next((e for e in failures if e is not None and e.kind == "limit"), None)
        return error.message if error is not None else ""

    def take(self, worker: int, answer: Answer, tokens: int) -> None:
        """What came of asking a worker."""
        self.open.remove(worker)
        if answer.error is not None:
            self.failed = answer
        else:
            self.heard[worker] = self.listener(worker, answer, tokens)
