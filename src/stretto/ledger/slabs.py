"""What one process knows of the money it has leased: plain state in memory, touched by the event loop alone."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from stretto.ledger.book import WORST_CASES, Give, end_of
from stretto.steps import Hold
from stretto.types import Failure, Key

__all__ = ["Account", "Due", "Held", "Waiter", "restore"]

_HURRY = 1.0  # a slab that lasts for less than this many seconds is too small for the traffic,
_MOST_CASES = 10_000  # and the next one twice as large, up to so many worst cases


class Held:
    """A slab in the hands of this process. What it was granted is `free + held + spent`; `back` is on its way out."""

    __slots__ = ("account", "back", "day", "eager", "free", "held", "id", "idle", "spent", "until", "written")

    def __init__(self, account: "Account", id: str, day: str) -> None:
        self.account = account
        self.id = id
        self.day = day
        self.until = end_of(day)
        self.free = 0
        self.held = 0
        self.spent = 0
        self.back = 0
        self.written = 0  # the `spent` that the database knows
        self.eager = False  # what becomes free is returned at once
        self.idle = -1  # what was free a tick ago, while nothing was held

    def part(self) -> None:
        """Send what is unused on its way back; what is missing (a call cost more than its hold) is fetched instead."""
        self.back += self.free
        if self.account.left is not None:
            self.account.left += self.free
        self.free = 0

    def give(self, answered: int = 0, close: bool = False) -> Give:
        """What the database is to be told; afterwards it is taken to know."""
        give = Give(self.id, self.back, self.spent, answered, close)
        self.back, self.written = 0, self.spent
        return give


class Waiter:
    """A reservation that waits for money."""

    __slots__ = ("amount", "future", "patience", "recall")

    def __init__(self, amount: int, future: "asyncio.Future[Hold | Failure]", patience: float) -> None:
        self.amount = amount
        self.future = future
        self.patience = patience  # loop time until which a recall may take
        self.recall = 0


class Account:
    """What this process knows of one key."""

    __slots__ = (
        "callers",
        "cases",
        "key",
        "leased",
        "leasing",
        "left",
        "pump",
        "recall",
        "slabs",
        "waiters",
        "wake",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.slabs: list[Held] = []  # the current one, and those of ended days whose attempts still run
        self.waiters: list[Waiter] = []
        self.pump: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.leasing = False
        self.leased = float("-inf")  # when the last lease was taken,
        self.cases = (
            WORST_CASES  # and for how many worst cases: a slab that did not last is followed by a larger one
        )
        self.left: int | None = None  # what no process had leased, when last looked
        self.recall = 0  # the latest recall heard of
        self.callers: set[str] = set()  # whom to tell when it is answered

    def appetite(self, now: float) -> int:
        """How many worst cases to lease now, `now` in monotonic seconds: twice as many if the last lease did not last."""
        self.cases = min(self.cases * 2, _MOST_CASES) if now - self.leased < _HURRY else WORST_CASES
        self.leased = now
        return self.cases

    def news(self) -> list[Give]:
        """What the slabs have spent since the database was told, and what is on its way back already."""
        gives = []
        for slab in self.slabs:
            if slab.free < 0:
                slab.part()
            if slab.back or slab.spent != slab.written:
                gives.append(slab.give())
        return gives

    def returns(self, current: Held | None) -> list[Give]:
        """`news`, with what eager slabs hold unused, the answer to a recall, and an end to slabs that are done.

        While a lease is under way a recall stays unanswered: what the lease brings may turn out to be unused.
        """
        answered = 0 if self.leasing else self.recall
        self.recall -= answered
        gives = []
        for slab in self.slabs:
            done = slab is not current and not slab.held
            if slab.eager or answered or done or slab.free < 0:
                slab.part()
            if slab.back or slab.spent != slab.written or answered or done:
                gives.append(slab.give(answered, done))
        return gives


class Due(NamedTuple):
    """What one transaction is to tell the database, and whom to tell of it: callers' bells, by account."""

    gives: list[Give]
    callers: list[tuple[Account, set[str]]]

    @classmethod
    def of(cls, accounts: Iterable[Account], current: Mapping[str, Held]) -> "Due":
        """What is due of `accounts`; it is taken to be told. `current` are the slabs that stay in use, by key."""
        gives = [give for account in accounts for give in account.returns(current.get(account.key.id))]
        callers = [(account, account.callers) for account in accounts if not account.leasing]
        for account, _ in callers:
            account.callers = set()
        return cls(gives, callers)

    def kept(self, slabs: Mapping[str, Held]) -> None:
        """It could not be told: all of it is due again."""
        restore(self.gives, slabs)
        for account, waiting in self.callers:
            account.callers |= waiting


def restore(gives: Iterable[Give], slabs: Mapping[str, Held]) -> None:
    """Take back what could not be written; the next tick tries again. `slabs` by id."""
    for give in gives:
        if (slab := slabs.get(give.slab)) is not None:
            slab.back, slab.written = slab.back + give.back, -1
            slab.account.recall = max(slab.account.recall, give.answered)
