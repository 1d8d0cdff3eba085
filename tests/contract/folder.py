"""A data folder whose processes, journals and clock a test has in its hand."""

import sqlite3
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from stretto.errors import LedgerError
from stretto.ledger.accounts import SqliteAccounts
from stretto.ledger.book import Statement, day_of, statement
from stretto.ledger.journal import SlabUse
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.steps import Hold
from stretto.types import Key

NOON = 1_795_176_000.0
"""2026-11-20 12:00 UTC."""

DAY = 86_400.0


class Mortal(sqlite3.Connection):
    """A connection that can die with its process."""

    dead = False

    def execute(self, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        """Like the original, while alive; a transaction that has begun still ends."""
        if self.dead and not self.in_transaction:
            error = sqlite3.OperationalError("this process has been killed")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return super().execute(*args)  # type: ignore[arg-type]


class Folder:
    """What several processes share: the database, their journals, whether they live, and two clocks."""

    day = staticmethod(day_of)

    def __init__(self, path: Path, clock: list[float]) -> None:
        self.path = path
        self.clock = clock
        self.steady = 0.0
        self.journals: dict[str, dict[str, SlabUse]] = defaultdict(dict)
        self.unreadable: set[str] = set()
        self.connections: dict[str, Mortal] = {}
        self.opened: list[SqliteAccounts] = []
        self.reader = connect(index_path(path))
        migrate(self.reader)

    def open(
        self, process: str, *, tick: float = 3600.0, folder: str = "run", patience: float = 5.0
    ) -> SqliteAccounts:
        """The accounts as a process of that name has them."""

        def connection() -> sqlite3.Connection:
            made = sqlite3.connect(
                index_path(self.path),
                isolation_level=None,
                check_same_thread=False,
                factory=Mortal,
            )
            self.connections[process] = made
            return made

        accounts = SqliteAccounts(
            connection,
            process,
            self.path / folder,
            alive=lambda name: not self.connections[name].dead,
            used=self.used,
            clock=lambda: self.clock[0],
            steady=lambda: self.steady,
            patience=patience,
            tick=tick,
        )
        self.opened.append(accounts)
        return accounts

    def used(self, process: str) -> dict[str, SlabUse]:
        """What a process wrote into its journal: settled and unknown, by slab."""
        if process in self.unreadable:
            raise LedgerError(f"the journal of {process} is damaged")
        return self.journals[process]

    def kill(self, process: str) -> None:
        """End a process without a word."""
        self.connections[process].dead = True

    def intend(self, hold: Hold) -> None:
        """Write down that an attempt begins."""
        use = self._journal(hold).get(hold.slab, SlabUse())
        self._journal(hold)[hold.slab] = replace(use, unknown=use.unknown + hold.amount)

    def conclude(self, hold: Hold, cost: int) -> None:
        """Write down how it ended."""
        use = self._journal(hold)[hold.slab]
        self._journal(hold)[hold.slab] = SlabUse(use.settled + cost, use.unknown - hold.amount)

    def _journal(self, hold: Hold) -> dict[str, SlabUse]:
        return self.journals[hold.slab.split("/")[1]]

    def statement(self, key: Key) -> Statement:
        """What the database says of a key, to one who belongs to no process."""
        return statement(self.reader, key, self.clock[0])

    def close(self) -> None:
        """Close what is open; the dead cannot write any more."""
        for accounts in self.opened:
            try:
                accounts.close()
            except LedgerError:
                assert any(connection.dead for connection in self.connections.values())
        self.reader.close()
