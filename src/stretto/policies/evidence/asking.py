"""One request on its way through the sequential policy: who has answered, who may be asked yet, and what that amounts to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stretto.policies.evidence.beliefs import Beliefs
from stretto.policies.evidence.equivalence import Compared
from stretto.steps import Option
from stretto.types import Answer, Message

__all__ = ["Asking", "Heard"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply, how many tokens it was, and what was read off it."""

    answer: Answer
    tokens: int
    read: Sequence[float] = ()


@dataclass(slots=True)
class Asking:
    """One request on its way: who may be asked yet, who has answered, what that amounts to, and the last failure.

    `tell` are those who are asked how sure they are; `reader` reads a reply's text, where that counts;
    `gaps` (a mask) are those of `open` at the start that were not always there when it was learned; `vain` are those who could
    not change the answer.
    """

    price: int
    logits: Any
    open: list[int]
    tell: frozenset[int] = frozenset()
    reader: Callable[[Message], Sequence[float]] | None = None
    gaps: int = 0
    heard: dict[int, Heard] = field(default_factory=dict)
    believed: Beliefs | None = None
    failed: Answer | None = None
    compared: list[Option] = field(default_factory=list)
    same: Compared = field(default_factory=Compared)
    vain: frozenset[int] = frozenset()

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
            read = () if self.reader is None else self.reader(answer.message)
            self.heard[worker] = Heard(answer, tokens, read)
