"""What must be known again for a while: tool loops under way, stored responses. Encrypted at rest, gone when its time is up.

This is not the record (that is the journal) but what a later request goes on from. It stands in a file of its own,
`states.sqlite3`, which may be deleted at any time: whoever comes back then is served as if for the first time. Bodies are
sealed with AES-256-GCM under the data folder's `state.key`; deleting that file makes everything unreadable at once.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from stretto.errors import LedgerCorrupt, LedgerUnavailable
from stretto.ledger.sqlite import connect

__all__ = ["MemoryStates", "SqliteStates"]

T = TypeVar("T")

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS state (
    id TEXT NOT NULL, key TEXT NOT NULL, expires REAL, body BLOB NOT NULL, PRIMARY KEY (id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS state_expires ON state (expires) WHERE expires IS NOT NULL;
"""
_PURGE_EVERY: Final = 60.0
_NONCE: Final = 12


class MemoryStates:
    """States of one process (`stretto.steps.States`), gone with it. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[float | None, bytes]] = {}

    async def put(self, id: str, key: str, body: bytes, lifetime: float | None) -> None:
        """As `States.put`."""
        await self.purge()
        self._kept[id, key] = (None if lifetime is None else self._clock() + lifetime, body)

    async def get(self, id: str, key: str) -> bytes | None:
        """As `States.get`."""
        expires, body = self._kept.get((id, key), (0.0, b""))
        return None if expires is not None and expires <= self._clock() else body

    async def get_all(self, ids: Sequence[str], key: str) -> dict[str, bytes]:
        """As `States.get_all`."""
        return {id: body for id in ids if (body := await self.get(id, key)) is not None}

    async def delete(self, id: str, key: str) -> bool:
        """As `States.delete`."""
        found = await self.get(id, key) is not None
        self._kept.pop((id, key), None)
        return found

    async def purge(self) -> int:
        """Forget what has expired; how many there were."""
        now = self._clock()
        gone = [at for at, (expires, _) in self._kept.items() if expires is not None and expires <= now]
        for at in gone:
            del self._kept[at]
        return len(gone)

    def close(self) -> None:
        """Nothing to do."""


class SqliteStates:
    """States in a data folder (`stretto.steps.States`), shared by all its processes. `clock` gives Unix seconds.

    Everything happens on a thread of its own, and nothing before the first use: a gateway that never sees a tool call makes no
    file. What cannot be decrypted (another `state.key`) counts as not there. Expired states are deleted at a `put`, at most once
    a minute. Raises `LedgerUnavailable` when the file cannot be used.
    """

    def __init__(self, data: str | os.PathLike[str], clock: Callable[[], float] = time.time) -> None:
        self.path = Path(data) / "states.sqlite3"
        self._secret = Path(data) / "state.key"
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stretto-states")
        self._connection: sqlite3.Connection | None = None
        self._cipher: Any = None
        self._purged = 0.0

    async def put(self, id: str, key: str, body: bytes, lifetime: float | None) -> None:
        """As `States.put`."""

        def put() -> None:
            connection = self._open()
            nonce = os.urandom(_NONCE)
            sealed = nonce + self._cipher.encrypt(nonce, body, _context(id, key))
            now = self._clock()
            connection.execute(
                "INSERT OR REPLACE INTO state (id, key, expires, body) VALUES (?, ?, ?, ?)",
                (id, key, None if lifetime is None else now + lifetime, sealed),
            )
            if not 0 <= now - self._purged < _PURGE_EVERY:
                self._purge(connection, now)

        await self._run(put)

    async def get(self, id: str, key: str) -> bytes | None:
        """As `States.get`."""

        return await self._run(lambda: self._get(self._open(), id, key))

    async def get_all(self, ids: Sequence[str], key: str) -> dict[str, bytes]:
        """As `States.get_all`: one visit to the thread for all of them."""

        def get() -> dict[str, bytes]:
            connection = self._open()
            return {id: body for id in ids if (body := self._get(connection, id, key)) is not None}

        return await self._run(get)

    async def delete(self, id: str, key: str) -> bool:
        """As `States.delete`."""

        def delete() -> bool:
            found = self._open().execute(
                "DELETE FROM state WHERE id = ? AND key = ? RETURNING expires", (id, key)
            )
            return any(row["expires"] is None or row["expires"] > self._clock() for row in found.fetchall())

        return await self._run(delete)

    async def purge(self) -> int:
        """Delete what has expired; how many there were."""
        return await self._run(lambda: self._purge(self._open(), self._clock()))

    def close(self) -> None:
        """Wait for what is under way, and close the file."""
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- on the thread ---

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except LedgerCorrupt as error:
            raise self._damaged(error) from error
        except sqlite3.OperationalError as error:
            raise LedgerUnavailable(
                f"{self.path} cannot be used ({error}): check its permissions and the disk"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"{self.path} is damaged ({str(error).splitlines()[0]}): stop the gateway and delete it"
            " (lost are stored responses and which worker a tool loop under way belongs to)"
        )

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            connection = connect(self.path, rebuild=True)  # journals beside it do not make it a lost index
            try:
                connection.executescript(_TABLE)
                self._cipher = AESGCM(_secret_in(self._secret))
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _get(self, connection: sqlite3.Connection, id: str, key: str) -> bytes | None:
        row = connection.execute(
            "SELECT expires, body FROM state WHERE id = ? AND key = ?", (id, key)
        ).fetchone()
        if row is None or (row["expires"] is not None and row["expires"] <= self._clock()):
            return None
        return self._unsealed(row["body"], _context(id, key))

    def _unsealed(self, sealed: bytes, context: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            body: bytes = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError):
            return None
        return body

    def _purge(self, connection: sqlite3.Connection, now: float) -> int:
        self._purged = now
        return connection.execute("DELETE FROM state WHERE expires <= ?", (now,)).rowcount


def _context(id: str, key: str) -> bytes:
    """What a body is sealed for: it cannot be passed off as another state's, or another key's."""
    return f"{id}\0{key}".encode()


def _secret_in(path: Path) -> bytes:
    """The key in this file; made, for its owner only, by whichever process comes first. Raises `LedgerUnavailable`."""
    try:
        if not path.exists():
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # appears whole, or not at all
            except FileExistsError:
                pass  # another process was quicker
            finally:
                fresh.unlink()
        secret = path.read_bytes()
    except OSError as error:
        raise LedgerUnavailable(
            f"{path} cannot be used ({error}): check the folder and its permissions"
        ) from error
    if len(secret) != 32:
        raise LedgerUnavailable(f"{path} does not hold a key of 32 bytes: delete it, and a new one is made")
    return secret
