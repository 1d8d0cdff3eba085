"""The accounts in SQLite: what keys have spent and what processes have leased. Every method is one transaction.

The rule that everything rests on: in each window of a key, what is spent for good plus what all open slabs were granted never
passes the ceiling. A process spends only out of its slabs, so it needs no transaction to do so.
"""

import calendar
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stretto.errors import LedgerError, LedgerUnavailable
from stretto.ledger.journal import SlabUse
from stretto.types import Key

__all__ = [
    "WORST_CASES",
    "Book",
    "Give",
    "Lease",
    "Slab",
    "Statement",
    "Want",
    "Window",
    "day_of",
    "end_of",
    "statement",
]

LEASE_SECONDS = 10.0
"""How long a process is taken to be there after it last showed up."""

_SCARCE_SECONDS = (
    2.0  # exact leases for this long after a recall, so that no new slab swallows what others gave back
)
_BUSY_SLEEP = 0.0003  # seconds; on the accounts' own thread, never the loop's. SQLite's own back-off waits ten times as long
_SHARE = 20  # a slab is at most one part in so many of what remains,
_MOST = 1 << 62  # SQLite's integers have 63 bits
WORST_CASES = 10  # and for a start at most so many times what is asked for now


@dataclass(frozen=True, slots=True)
class Window:
    """One ceiling of a key: `name` is `total`, a month (YYYY-MM) or a day (YYYY-MM-DD), in UTC. Pico-dollars."""

    name: str
    ceiling: int | None
    spent: int
    reserved: int

    @property
    def left(self) -> int | None:
        """What is neither spent nor reserved; `None` without a ceiling, negative when an attempt cost more than its hold."""
        return None if self.ceiling is None else self.ceiling - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Statement:
    """The money of a key at one instant, across all processes. Leased slabs count as reserved, used or not."""

    key: str
    total: Window
    month: Window
    day: Window

    @property
    def windows(self) -> tuple[Window, Window, Window]:
        """The three windows, longest first."""
        return (self.total, self.month, self.day)

    @property
    def left(self) -> int | None:
        """The least that any ceiling leaves; `None` without a ceiling."""
        return min((w.left for w in self.windows if w.left is not None), default=None)

    def refusal(self, key: Key, amount: int) -> str:
        """Why `amount` more does not fit: the ceiling that leaves least, and what stands against it."""
        short = [w for w in self.windows if w.left is not None and w.left < amount]
        window = min(short or [w for w in self.windows if w.left is not None], key=lambda w: w.left or 0)
        when = {"total": "total", self.month.name: "monthly", self.day.name: "daily"}[window.name]
        return (
            f"the {when} ceiling of key {key.name or key.id!r} is {_dollars(window.ceiling or 0)}: "
            f"{_dollars(window.spent)} spent, {_dollars(window.reserved)} reserved by calls under way, "
            f"{_dollars(amount)} asked for this one at worst"
        )


@dataclass(frozen=True, slots=True)
class Slab:
    """A slab by name: the day whose windows it counts in, and what of it this process holds unused just now."""

    id: str
    day: str
    pot: int


@dataclass(frozen=True, slots=True)
class Give:
    """News of one slab: `back` is returned (negative: a call cost more than its hold), `spent` so far, `answered` a recall."""

    slab: str
    back: int
    spent: int
    answered: int = 0
    close: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """One reservation that waits for money. `recall` is the recall that was made for it, 0 if none was."""

    amount: int
    recall: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease brought. `served` and `hopeless` go with the wants: the first fit, the second cannot fit whatever is returned.

    `recall` is the number of the latest recall, `answered` the last one that every process with money has answered
    (`None`: no other has any), `bells` where to ring those that have not.
    """

    slab: str
    day: str
    granted: int
    served: tuple[bool, ...]
    hopeless: tuple[bool, ...]
    exact: bool
    recall: int
    answered: int | None
    bells: tuple[str, ...]
    statement: Statement


@dataclass(frozen=True, slots=True)
class _Open:
    id: str
    process: str
    day: str
    granted: int
    spent: int
    answered: int


def day_of(now: float) -> str:
    """The UTC day of a point in time, as YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def end_of(day: str) -> float:
    """When a UTC day ends."""
    return calendar.timegm(time.strptime(day, "%Y-%m-%d")) + 86400.0


def statement(connection: sqlite3.Connection, key: Key, now: float) -> Statement:
    """The money of a key, from one read transaction. Keys without a ceiling are not accounted for: theirs is all zero."""
    connection.execute("BEGIN")
    try:
        return _statement(key, _latest(connection, now), *_standing(connection, key.id))
    finally:
        connection.execute("COMMIT")


class Book:
    """The accounts as one process sees and changes them. Not for two threads at a time.

    `alive(process)` tells whether another process lives; `used(process)` reads from a dead one's journal, by slab, what its
    settled attempts cost and what was reserved for those whose outcome is unknown. `clock` says which day it is; `steady`,
    which all processes of a machine share and nobody sets, how long ago something was. `patience` is how many seconds other
    writers may keep this one waiting.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        process: str,
        bell: str,
        *,
        alive: Callable[[str], bool],
        used: Callable[[str], Mapping[str, SlabUse]],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        patience: float = 5.0,
    ) -> None:
        self._connection = connection
        self._process = process
        self._bell = bell
        self._alive = alive
        self._used = used
        self._clock = clock
        self._steady = steady
        self._patience = patience
        self._slabs = 0
        connection.execute("PRAGMA busy_timeout = 0")

    # --- leasing ---

    def lease(
        self,
        key: Key,
        current: Slab | None,
        gives: Sequence[Give],
        wants: Sequence[Want],
        cases: int = WORST_CASES,
    ) -> Lease:
        """Lease money of `key` for `wants`, in their order, after taking note of `gives`; asks others to give back when short.

        While there is plenty, up to `cases` times what is wanted is leased, and at most a twentieth of what remains.
        The pot of `current` counts as available, if its day is still open; else it is returned.
        """
        with self._transaction():
            now = self._steady()
            day = self._advance(self._clock())
            self._show_up(now)
            for give in gives:
                self._take(give)
            if current is not None and current.day != day:
                self._connection.execute(
                    "UPDATE slabs SET granted = granted - ? WHERE id = ?", (current.pot, current.id)
                )
                current = None
            spent, slabs = _standing(self._connection, key.id)
            before = _statement(key, day, spent, slabs)
            room = min(max(0, before.left or 0), _MOST)
            pot = current.pot if current is not None else 0
            taken, served = _first_fit(room + pot, wants)
            number, scarce = self._recalls(key.id)
            others = [slab for slab in slabs if slab.process != self._process]
            hopeless = _hopeless(before, pot, others, wants, served)
            waiting = zip(wants, served, hopeless, strict=True)
            if others and any(want.recall == 0 for want, fits, never in waiting if not (fits or never)):
                number, scarce = number + 1, now + _SCARCE_SECONDS
                self._connection.execute(
                    "INSERT INTO recalls VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET number = ?2, scarce = ?3",
                    (key.id, number, scarce),
                )
            size = taken
            if all(served) and not 0 < scarce - now <= _SCARCE_SECONDS:
                size = max(taken, min(room // _SHARE, max(taken, 1) * cases))
            granted = min(max(0, size - pot), room)
            slab = current.id if current is not None else ""
            if granted or (any(served) and not slab):
                slab = self._grant(slab, key.id, day, granted, number)
            answered, bells = self._answers(others, number, now)
            after = _statement(key, day, *_standing(self._connection, key.id))
        return Lease(slab, day, granted, served, hopeless, size <= taken, number, answered, bells, after)

    def _grant(self, slab: str, key: str, day: str, granted: int, recall: int) -> str:
        if slab:
            self._connection.execute("UPDATE slabs SET granted = granted + ? WHERE id = ?", (granted, slab))
            return slab
        self._slabs += 1
        slab = f"{day}/{self._process}/{self._slabs}"
        self._connection.execute(
            "INSERT INTO slabs VALUES (?, ?, ?, ?, ?, 0, ?)", (slab, key, self._process, day, granted, recall)
        )
        return slab

    def _recalls(self, key: str) -> tuple[int, float]:
        row = self._connection.execute("SELECT number, scarce FROM recalls WHERE key = ?", (key,)).fetchone()
        return (row[0], row[1]) if row is not None else (0, 0.0)

    def _answers(
        self, others: Sequence[_Open], number: int, now: float
    ) -> tuple[int | None, tuple[str, ...]]:
        """Which recall all other processes have answered, and the bells of those that have not answered the latest.

        A process that has not shown up for a whole lease (stopped, its machine asleep) is not waited for. Its money is not taken
        either: it may go on at any moment with attempts under way, and what they cost will have to fit.
        """
        answered: int | None = None
        bells = []
        for slab in others:
            row = self._connection.execute(
                "SELECT bell, expires FROM lessees WHERE process = ?", (slab.process,)
            ).fetchone()
            if row is None or row[1] < now:
                continue
            answered = slab.answered if answered is None else min(answered, slab.answered)
            if slab.answered < number:
                bells.append(row[0])
        return answered, tuple(dict.fromkeys(bells))

    # --- giving back ---

    def give(self, gives: Sequence[Give]) -> list[tuple[str, int]]:
        """Take note of `gives` and show that this process is there; returns the recalls (key, number) it has not answered yet."""
        with self._transaction():
            for give in gives:
                self._take(give)
            self._show_up(self._steady())
            return [
                (row[0], row[1])
                for row in self._connection.execute(
                    "SELECT DISTINCT s.key, r.number FROM slabs s JOIN recalls r ON r.key = s.key"
                    " WHERE s.process = ? AND s.answered < r.number",
                    (self._process,),
                )
            ]

    def drop(self, keep: Sequence[str]) -> None:
        """Close every slab of this process that is not among those to keep."""
        with self._transaction():
            self._drop(keep)

    def leave(self, gives: Sequence[Give], keep: Sequence[str]) -> None:
        """Take note of `gives`, close every slab of this process that is not to keep, and take no more rings."""
        with self._transaction():
            for give in gives:
                self._take(give)
            self._drop(keep)
            self._connection.execute("DELETE FROM lessees WHERE process = ?", (self._process,))

    def reap(self, key: str | None = None) -> bool:
        """Settle the slabs of dead processes that hold money of `key` (`None`: of any). Whether there were any.

        The journal of the dead says what was spent; an attempt without an outcome is charged at what was reserved for it. The
        rest is free again. Death is proven by the lock, never by the clock. A journal that cannot be read leaves its slabs
        reserved as they are.
        """
        where, args = ("WHERE key = ?", (key,)) if key is not None else ("", ())
        rows = self._connection.execute(f"SELECT DISTINCT process FROM slabs {where}", args).fetchall()
        if key is None:
            rows += self._connection.execute("SELECT process FROM lessees").fetchall()
        found = False
        for process in {row[0] for row in rows} - {self._process}:
            if self._alive(process):
                continue
            try:
                # What it has is asked only now that it is dead: since the rows were read it may have leased and begun attempts.
                used = self._used(process) if self._of(process) else {}
            except (LedgerError, OSError):
                with self._transaction():  # nobody will answer there
                    self._connection.execute("DELETE FROM lessees WHERE process = ?", (process,))
                continue
            found = self._settle_dead(process, used) or found
        return found

    def _settle_dead(self, process: str, used: Mapping[str, SlabUse]) -> bool:
        with self._transaction():
            slabs = self._of(process)
            for slab in slabs:
                use = used.get(slab.id, SlabUse())
                # Money that the slab has given back was free by its owner's knowledge, which may have been a moment ahead of
                # its journal. So unknown outcomes are charged out of what the slab still had, and the ceiling holds.
                spent = max(use.settled, slab.spent, min(use.settled + use.unknown, slab.granted))
                self._close(slab.id, spent)
            row = self._connection.execute(
                "DELETE FROM lessees WHERE process = ? RETURNING bell", (process,)
            ).fetchone()
        if row is not None:
            Path(row[0]).unlink(missing_ok=True)
        return bool(slabs)

    def statement(self, key: Key) -> Statement:
        """The money of a key."""
        with self._transaction():
            day = _latest(self._connection, self._clock())
            return _statement(key, day, *_standing(self._connection, key.id))

    def end(self) -> None:
        """Close the connection."""
        self._connection.close()

    # --- rows ---

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._begin()
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the accounts cannot be written: {error}") from error

    def _begin(self) -> None:
        """Begin to write. SQLite's own patience sleeps up to a tenth of a second between looks; ours does not."""
        until = time.monotonic() + self._patience
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            time.sleep(_BUSY_SLEEP)

    def _advance(self, now: float) -> str:
        """Today, by this clock or by the latest day that anyone has seen: a window that has ended never opens again."""
        day = _latest(self._connection, now)
        self._connection.execute(
            "INSERT INTO calendar VALUES (1, ?1) ON CONFLICT DO UPDATE SET day = ?1 WHERE day < ?1", (day,)
        )
        return day

    def _show_up(self, now: float) -> None:
        self._connection.execute(
            "INSERT INTO lessees VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET expires = ?3",
            (self._process, self._bell, now + LEASE_SECONDS),
        )

    def _drop(self, keep: Sequence[str]) -> None:
        for slab in self._of(self._process):
            if slab.id not in keep:
                self._close(slab.id, slab.spent)

    def _take(self, give: Give) -> None:
        self._connection.execute(
            "UPDATE slabs SET granted = granted - ?, spent = ?, answered = max(answered, ?) WHERE id = ?",
            (give.back, give.spent, give.answered, give.slab),
        )
        if give.close:
            self._close(give.slab, give.spent)

    def _close(self, slab: str, spent: int) -> None:
        row = self._connection.execute(
            "DELETE FROM slabs WHERE id = ? RETURNING key, day", (slab,)
        ).fetchone()
        if row is None:
            return  # already settled by another
        key, day = row
        for period in ("total", day[:7], day):
            self._connection.execute(
                "INSERT INTO spending VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET spent = spent + ?3",
                (key, period, spent),
            )

    def _of(self, process: str) -> list[_Open]:
        rows = self._connection.execute(
            "SELECT id, process, day, granted, spent, answered FROM slabs WHERE process = ?", (process,)
        )
        return [_Open(*row) for row in rows]


def _latest(connection: sqlite3.Connection, now: float) -> str:
    row = connection.execute("SELECT day FROM calendar").fetchone()
    today = day_of(now)
    return max(today, row[0]) if row is not None else today


def _standing(connection: sqlite3.Connection, key: str) -> tuple[dict[str, int], list[_Open]]:
    spent = dict(connection.execute("SELECT period, spent FROM spending WHERE key = ?", (key,)).fetchall())
    rows = connection.execute(
        "SELECT id, process, day, granted, spent, answered FROM slabs WHERE key = ?", (key,)
    )
    return spent, [_Open(*row) for row in rows]


def _statement(key: Key, day: str, spent: Mapping[str, int], slabs: Sequence[_Open]) -> Statement:
    def window(name: str, ceiling: int | None) -> Window:
        within = [slab for slab in slabs if name == "total" or slab.day.startswith(name)]
        return Window(
            name,
            ceiling,
            spent.get(name, 0) + sum(slab.spent for slab in within),
            sum(max(0, slab.granted - slab.spent) for slab in within),
        )

    return Statement(key.id, window("total", key.total), window(day[:7], key.month), window(day, key.day))


def _first_fit(room: int, wants: Sequence[Want]) -> tuple[int, tuple[bool, ...]]:
    """What fits of `wants`, taken in order; those that do not fit are passed over."""
    taken, served = 0, []
    for want in wants:
        fits = taken + want.amount <= room
        taken += want.amount if fits else 0
        served.append(fits)
    return taken, tuple(served)


def _hopeless(
    now: Statement, pot: int, others: Sequence[_Open], wants: Sequence[Want], served: Sequence[bool]
) -> tuple[bool, ...]:
    """Which wants would not fit even if every other process gave back all that is not known to be spent."""
    most = pot + sum(max(0, slab.granted - slab.spent) for slab in others) + (now.left or 0)
    return tuple(not ok and want.amount > most for want, ok in zip(wants, served, strict=True))


def _dollars(pico: int) -> str:
    whole, rest = divmod(pico, 10**12)
    cents = f"{rest:012d}".rstrip("0")
    return f"${whole:,}.{cents:0<2}"
