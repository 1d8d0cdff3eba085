"""The money of the keys: ceilings in total, per UTC month and per UTC day, exact across every process on one data folder.

A process leases *slabs* of what remains (`ledger.book`) and reserves out of them in memory: a subtraction. Only when a slab
runs dry is there a transaction, on a thread of its own, for all who wait. A slab is at most 5 % of what remains and ten
times what is asked, so that near the ceiling leases become exact amounts, one by one, returned as soon as they settle.
Whoever still finds too little asks the other processes to return what they hold unused, waits for their answers, and is
refused only if the money is truly spent or held by attempts under way.

The database knows within a second what was settled. When a process dies, its journal is the truth: what was settled is
charged at its cost, an attempt without an outcome at what was reserved for it.
"""

import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from stretto.errors import LedgerUnavailable
from stretto.ledger.book import Book, Lease, Slab, Statement, Want, Window, day_of
from stretto.ledger.doorbell import Doorbell
from stretto.ledger.journal import SlabUse, slab_use
from stretto.ledger.process import alive
from stretto.ledger.slabs import Account, Due, Held, Waiter, restore
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.steps import Hold
from stretto.types import Failure, Key

__all__ = ["MemoryAccounts", "SqliteAccounts"]

T = TypeVar("T")

_PATIENCE = 2.0  # seconds that others have to answer a recall
_DEAREST = 10**18  # pico-dollars; sums of such costs still fit SQLite's integers
_LOOK_AGAIN = 0.05  # seconds after which to look without a ring: rings may get lost


class MemoryAccounts:
    """Accounts of one process, kept in memory (`stretto.steps.Accounts`)."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._day = ""
        self._spent: Counter[tuple[str, str]] = Counter()
        self._reserved: Counter[tuple[str, str]] = Counter()

    def try_reserve(self, key: Key, amount: int) -> Hold | None:
        """Set money aside; `None` if a ceiling forbids it."""
        if not key.metered:
            return Hold(key.id, "", amount)
        left = self.statement(key).left
        if amount < 0 or left is None or amount > max(0, left):
            return None
        for period in _periods(self._day):
            self._reserved[key.id, period] += amount
        return Hold(key.id, self._day, amount)

    async def reserve(self, key: Key, amount: int, deadline: float | None) -> Hold | Failure:
        """Set money aside; a `limit` failure if a ceiling forbids it. Never waits."""
        if amount < 0:
            raise ValueError(f"an amount to reserve is never negative: {amount}")
        hold = self.try_reserve(key, amount)
        return Failure("limit", self.statement(key).refusal(key, amount)) if hold is None else hold

    def settle(self, hold: Hold, cost: int) -> None:
        """End a hold, once only, at the true cost; it counts in the windows in which the money was set aside."""
        if hold.slab:
            for period in _periods(hold.slab):
                self._reserved[hold.key, period] -= hold.amount
                self._spent[hold.key, period] += max(cost, 0)

    def left(self, key: Key) -> int | None:
        """What the key may still spend; `None` without a ceiling."""
        left = self.statement(key).left
        return None if left is None else max(0, left)

    def statement(self, key: Key) -> Statement:
        """The money of a key at this instant."""
        self._day = max(self._day, day_of(self._clock()))
        total, month, day = (
            Window(name, ceiling, self._spent[key.id, name], self._reserved[key.id, name])
            for name, ceiling in zip(_periods(self._day), (key.total, key.month, key.day), strict=True)
        )
        return Statement(key.id, total, month, day)

    def close(self) -> None:
        """Nothing to return."""


def _periods(day: str) -> tuple[str, str, str]:
    return ("total", day[:7], day)


def _refuse(account: Account, waiter: Waiter, lease: Lease, remark: str = "") -> None:
    message = lease.statement.refusal(account.key, waiter.amount) + remark
    waiter.future.set_result(Failure("limit", message))


def _fail(waiters: list[Waiter], error: LedgerUnavailable) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)
    waiters.clear()


def _afterwards(loop: asyncio.AbstractEventLoop, work: Future[T], call: Callable[[Future[T]], None]) -> None:
    """`call(work)` on the loop, as soon as a thread has done the work; never, if the loop ends before."""

    def tell(done: Future[T]) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(call, done)

    work.add_done_callback(tell)


class SqliteAccounts:
    """Accounts shared by all processes on one data folder (`stretto.steps.Accounts`). For one event loop at a time.

    `open` is the usual way to make one. `connect` opens the database with its tables made; it is called once, and its connection
    used on one thread only. `folder` is where the processes' bells hang; the rest is as in `ledger.book.Book`.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        process: str,
        folder: Path,
        *,
        alive: Callable[[str], bool],
        used: Callable[[str], Mapping[str, SlabUse]],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        patience: float = 5.0,
        tick: float = 1.0,
    ) -> None:
        self._clock = clock
        self._tick_seconds = tick
        self._accounts: dict[str, Account] = {}
        self._current: dict[str, Held] = {}  # by key
        self._slabs: dict[str, Held] = {}  # by slab
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Handle | Future[list[tuple[str, int]]] | None = None
        self._dirty: set[Account] = set()
        self._renew = False
        self._closed = False
        self._bell = Doorbell(folder, process)
        self._thread = ThreadPoolExecutor(1, "stretto-accounts")
        try:
            self._book = self._thread.submit(
                lambda: Book(
                    connect(),
                    process,
                    self._bell.path,
                    alive=alive,
                    used=used,
                    clock=clock,
                    steady=steady,
                    patience=patience,
                )
            ).result()
            self._thread.submit(self._book.reap)  # reading journals of the dead need not hold up the start
            self._thread.submit(self._bell.sweep, alive)
        except BaseException:
            self._bell.close()
            self._thread.shutdown()
            raise

    @classmethod
    def open(
        cls,
        data: str | os.PathLike[str],
        process: str,
        *,
        durability: Literal["process", "power"] = "process",
        clock: Callable[[], float] = time.time,
    ) -> "SqliteAccounts":
        """The accounts of a data folder, for the process of this name, which must show its sign of life already.

        Raises `LedgerCorrupt` and `LedgerUnavailable` as `ledger.sqlite.connect` does.
        """

        def connection() -> sqlite3.Connection:
            made = connect(index_path(data))
            migrate(made)
            if durability == "power":
                made.execute("PRAGMA synchronous = FULL")
            return made

        return cls(
            connection,
            process,
            Path(data) / "bells",
            alive=lambda other: alive(data, other),
            used=lambda other: slab_use(data, other),
            clock=clock,
        )

    # --- the fast path ---

    def try_reserve(self, key: Key, amount: int) -> Hold | None:
        """Set money aside out of what this process has leased, at once; `None` if that does not suffice."""
        slab = self._current.get(key.id)
        if slab is None or not 0 <= amount <= slab.free or self._clock() >= slab.until:
            return Hold(key.id, "", amount) if slab is None and amount >= 0 and not key.metered else None
        slab.free -= amount
        slab.held += amount
        return Hold(key.id, slab.id, amount)

    def settle(self, hold: Hold, cost: int) -> None:
        """End a hold, once only, at the true cost in pico-dollars; the rest becomes free.

        A cost above the hold is charged in full, up to a million dollars: what an upstream reports is not to be trusted further.
        """
        slab = self._slabs.get(hold.slab)
        if slab is None:
            return  # no ceiling, or settled after `close`: then the journal tells
        if not 0 <= cost <= _DEAREST:
            cost = min(max(cost, 0), _DEAREST)
        slab.held -= hold.amount
        slab.free += hold.amount - cost
        slab.spent += cost
        if slab.eager or slab.free < 0:
            self._write_soon(slab.account)

    def left(self, key: Key) -> int | None:
        """About how much the key may still spend, by what this process last saw; `None` without a ceiling. Pico-dollars."""
        if not key.metered:
            return None
        account, slab = self._accounts.get(key.id), self._current.get(key.id)
        left = account.left if account is not None else None
        if left is None:
            left = min(c for c in (key.total, key.month, key.day) if c is not None)
        return max(0, left + (slab.free if slab is not None else 0))

    # --- the slow path ---

    async def reserve(self, key: Key, amount: int, deadline: float | None) -> Hold | Failure:
        """Set `amount` pico-dollars aside, leasing more or recalling what other processes hold unused.

        A failure of kind `limit` names the ceiling that forbids it; one of kind `timeout` says that `deadline` (event loop time)
        passed first. Raises `LedgerUnavailable` when the accounts cannot be written.
        """
        if amount < 0:
            raise ValueError(f"an amount to reserve is never negative: {amount}")
        if (hold := self.try_reserve(key, amount)) is not None:
            return hold
        loop = self._attach()
        account = self._accounts.get(key.id)
        if account is None:
            account = self._accounts[key.id] = Account(key)
        account.key = key
        waiter = Waiter(amount, loop.create_future(), loop.time() + _PATIENCE)
        account.waiters.append(waiter)
        account.wake.set()
        if account.pump is None:
            account.pump = loop.create_task(self._pump(account))
        timeout = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            await asyncio.wait({waiter.future}, timeout=timeout)
        except asyncio.CancelledError:
            if not waiter.future.cancel() and waiter.future.exception() is None:
                got = waiter.future.result()
                if isinstance(got, Hold):
                    self.settle(got, 0)
            raise
        if waiter.future.cancel():
            return Failure("timeout", "the deadline passed before money of the key could be set aside")
        return waiter.future.result()

    def statement(self, key: Key) -> Statement:
        """The money of a key at this instant, across all processes, with what this one has settled up to now. Blocks shortly."""
        account = self._accounts.get(key.id)
        gives = account.news() if account is not None else []
        try:
            if gives:
                self._thread.submit(self._book.give, gives).result()
        except LedgerUnavailable:
            restore(gives, self._slabs)
            raise
        return self._thread.submit(self._book.statement, key).result()

    def close(self) -> None:
        """Return everything that no attempt holds, and stop. Blocks shortly. What is still held is settled from the journal."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and not self._loop.is_closed():
            for account in self._accounts.values():
                _fail(account.waiters, LedgerUnavailable("the accounts have been closed"))
                if account.pump is not None:
                    account.pump.cancel()
        self._writing = None  # what the thread has been given it writes before the end
        self._current.clear()
        for slab in self._slabs.values():
            slab.eager = True
        gives = [give for account in self._accounts.values() for give in account.returns(None)]
        held = [slab.id for slab in self._slabs.values() if slab.held]
        self._slabs.clear()
        try:
            self._thread.submit(self._book.leave, gives, held).result()
        finally:
            self._thread.submit(self._book.end)
            self._thread.shutdown()
            self._bell.close()

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise LedgerUnavailable("the accounts have been closed")
        if loop is not self._loop:
            for account in self._accounts.values():  # whatever waited, waited on a loop that has ended
                account.waiters, account.pump, account.wake = [], None, asyncio.Event()
                account.leasing = False
            if self._loop is not None:
                self._thread.submit(self._book.drop, list(self._slabs))  # leased, and never taken
            self._loop, self._writing, self._timer = loop, None, None
            self._bell.listen(loop, self._rung)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_seconds, self._tick)
        return loop

    async def _run(self, work: Callable[[], T]) -> T:
        assert self._loop is not None
        if self._closed:
            raise LedgerUnavailable("the accounts have been closed")
        return await self._loop.run_in_executor(self._thread, work)

    # --- leasing ---

    async def _pump(self, account: Account) -> None:
        """Serve those who wait for one key, until nobody does."""
        try:
            while account.waiters:
                await self._round(account)
        except LedgerUnavailable as error:
            _fail(account.waiters, error)
        finally:
            account.pump = None
            _fail(account.waiters, LedgerUnavailable("the accounts stopped while money was being leased"))

    async def _round(self, account: Account) -> None:
        assert self._loop is not None
        account.wake.clear()
        account.waiters = [waiter for waiter in account.waiters if not waiter.future.done()]
        waiters = list(account.waiters)
        if not waiters:
            return
        lease = await self._lease(account, waiters)
        short = []
        for waiter, served, hopeless in zip(waiters, lease.served, lease.hopeless, strict=True):
            if waiter.future.done():
                continue
            if served:
                slab = self._current[account.key.id]
                slab.free -= waiter.amount
                slab.held += waiter.amount
                waiter.future.set_result(Hold(account.key.id, slab.id, waiter.amount))
            elif hopeless:
                _refuse(account, waiter, lease)
            else:
                short.append(waiter)
        if (current := self._current.get(account.key.id)) is not None:
            current.eager = current.eager or lease.exact
            if current.eager and current.free:
                self._write_soon(account)
        if not short or await self._run(lambda: self._book.reap(account.key.id)):
            return
        for waiter in (w for w in short if not w.future.done()):  # callers may have left meanwhile
            if lease.answered is None or 0 < waiter.recall <= lease.answered:
                _refuse(account, waiter, lease)
            elif self._loop.time() >= waiter.patience:
                _refuse(account, waiter, lease, " (a part by a process that does not answer)")
            elif waiter.recall == 0:
                waiter.recall = lease.recall
        if any(not waiter.future.done() for waiter in short):
            for bell in lease.bells:
                self._bell.ring(bell, f"recall {lease.recall} {account.key.id}")
            try:
                await asyncio.wait_for(account.wake.wait(), _LOOK_AGAIN)
            except TimeoutError:
                return

    async def _lease(self, account: Account, waiters: list[Waiter]) -> Lease:
        """One transaction for all `waiters`. Meanwhile the unused part of the slab is in its hands, so nobody jumps the queue."""
        if account.recall:
            await self._write_once({account})  # or one lease after the other would keep it unanswered
        current = self._current.get(account.key.id)
        pot = max(0, current.free) if current is not None else 0
        gives = account.news()
        wants = [Want(waiter.amount, waiter.recall) for waiter in waiters]
        slab = None
        if current is not None:
            current.free -= pot
            slab = Slab(current.id, current.day, pot)
        account.leasing = True
        key, cases = account.key, account.appetite(time.monotonic())
        try:
            lease = await self._run(lambda: self._book.lease(key, slab, gives, wants, cases))
        except LedgerUnavailable:
            if current is not None:
                current.free += pot
            restore(gives, self._slabs)
            raise
        finally:
            account.leasing = False
        if current is not None and lease.day != current.day:
            current.eager = True  # its pot went back with the lease; the rest follows as its attempts end
            del self._current[key.id]
            current = None
            self._write_soon(account)
        elif current is not None:
            current.free += pot
        if current is None and lease.slab:
            current = Held(account, lease.slab, lease.day)
            account.slabs.append(current)
            self._slabs[current.id] = self._current[key.id] = current
        if current is not None:
            current.free += lease.granted
            current.eager = False
            current.idle = -1
        account.left = lease.statement.left
        if account.recall:
            self._write_soon(account)  # a recall that came in meanwhile is still to be answered
        return lease

    # --- giving back ---

    def _write_soon(self, account: Account) -> None:
        self._dirty.add(account)
        if self._writing is None and self._loop is not None and not (self._closed or self._loop.is_closed()):
            self._writing = self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write what is due until nothing is. No task: one that has not begun when its loop ends would be lost with a warning."""
        self._writing = None
        if self._loop is None or self._closed or not (self._dirty or self._renew):
            return
        due, self._dirty, self._renew = Due.of(self._dirty, self._current), set(), False
        self._writing = self._thread.submit(self._book.give, due.gives)
        _afterwards(self._loop, self._writing, partial(self._wrote, due))

    def _wrote(self, due: Due, done: Future[list[tuple[str, int]]]) -> None:
        if self._writing is not done:
            return  # the accounts are closed, or have gone on to another loop
        self._writing = None
        try:
            self._given(due, done.result())
        except LedgerUnavailable:
            due.kept(self._slabs)
        else:
            self._write()

    async def _write_once(self, accounts: set[Account]) -> None:
        due = Due.of(accounts, self._current)
        try:
            missed = await self._run(lambda: self._book.give(due.gives))
        except LedgerUnavailable:
            due.kept(self._slabs)
        else:
            self._given(due, missed)

    def _given(self, due: Due, missed: Iterable[tuple[str, int]]) -> None:
        """It has been written; `missed` are recalls that came in meanwhile, by key."""
        for give in due.gives:
            if give.close and (slab := self._slabs.pop(give.slab, None)) is not None:
                slab.account.slabs.remove(slab)
        for account, waiting in due.callers:
            for path in waiting:
                self._bell.ring(path, f"answer 0 {account.key.id}")
        for key, number in missed:
            self._recalled(key, number, "")

    def _rung(self, text: str, caller: str) -> None:
        """Another process asks for unused money of a key, or has answered such a recall."""
        word, _, rest = text.partition(" ")
        number, _, key = rest.partition(" ")
        if word == "recall" and number.isdecimal():
            self._recalled(key, int(number), caller)
        elif word == "answer" and key in self._accounts:
            self._accounts[key].wake.set()

    def _recalled(self, key: str, number: int, caller: str) -> None:
        account = self._accounts.get(key)
        if account is None:
            self._bell.ring(caller, f"answer 0 {key}")
            return
        account.recall = max(account.recall, number)
        for slab in account.slabs:
            slab.eager = True
        if caller:
            account.callers.add(caller)
        self._write_soon(account)

    def _tick(self) -> None:
        """Once a second: tell what was spent, renew the lease, and return slabs that nobody uses."""
        assert self._loop is not None
        for key, account in list(self._accounts.items()):
            slab = self._current.get(key)
            if slab is not None and not slab.held and account.pump is None:
                if slab.idle == slab.free or self._clock() >= slab.until:
                    slab.eager = True
                    del self._current[key]
                slab.idle = slab.free
            elif slab is not None:
                slab.idle = -1
            if account.slabs:
                self._write_soon(account)
            elif account.pump is None:
                del self._accounts[key]
        self._renew = bool(self._accounts)
        self._timer = self._loop.call_later(self._tick_seconds, self._tick) if self._accounts else None
