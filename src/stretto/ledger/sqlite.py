"""The SQLite file of a data folder, `index.sqlite3`: how it is opened, and its tables.

It holds the index over the journals, which can be rebuilt from them at any time, and the accounts (keys, slabs), which cannot.
"""

import os
import sqlite3
import time
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from stretto.errors import LedgerCorrupt, LedgerUnavailable

__all__ = ["VERSION", "check", "connect", "index_path", "migrate"]

VERSION = 1
"""Version of the tables, kept in the file as SQLite's `user_version`."""

_SCRIPTS = ("schema", "accounts")


def index_path(data: str | os.PathLike[str]) -> Path:
    """Where the SQLite file of a data folder is."""
    return Path(data) / "index.sqlite3"


def connect(
    path: str | os.PathLike[str], *, readonly: bool = False, rebuild: bool = False, timeout: float = 5.0
) -> sqlite3.Connection:
    """Open the SQLite file: WAL, autocommit (begin transactions with `BEGIN IMMEDIATE`), foreign keys, `timeout` seconds of
    patience with other writers, `sqlite3.Row` rows, usable from any one thread at a time.

    A file that is missing is made, unless journals stand beside it (`rebuild` makes it all the same). Raises `LedgerCorrupt`,
    naming the file, when it is missing beside journals or is not a whole SQLite file; `LedgerUnavailable` when it cannot be
    opened.
    """
    path = Path(path)
    if not path.exists():
        if readonly:
            raise LedgerUnavailable(
                f"{path} does not exist: nothing has been recorded in this data folder yet"
            )
        if not rebuild and any((path.parent / "ledger").glob("*/*.jsonl")):
            raise LedgerCorrupt(
                f"{path} is missing, but there are journals beside it: run `stretto runs reindex` to rebuild it"
                " (keys and their ceilings are kept in that file only; restore it from a backup if you have one)"
            )
    uri = f"file:{quote(str(path))}?mode={'ro' if readonly else 'rwc'}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not readonly and not path.exists():
            # For its owner only. Never open and close a file that is there: that would drop this process's locks on it.
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                pass  # another process was quicker
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except (OSError, sqlite3.OperationalError) as error:
        raise LedgerUnavailable(
            f"{path} cannot be opened ({error}): check the folder and its permissions"
        ) from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        if not readonly:
            _use_wal(connection, timeout)
            connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refusal(path, error) from error
    if version > VERSION:
        connection.close()
        raise LedgerUnavailable(
            f"{path} was written by a newer Stretto (tables {version}, this one knows {VERSION})"
        )
    return connection


def check(connection: sqlite3.Connection, path: Path, seconds: float = 0.5) -> None:
    """Look for damage inside the file, for at most so many seconds. Raises `LedgerCorrupt`, naming it."""
    until = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise _refusal(path, error) from error
        found = "ok"  # so far: a file too large to be read whole at every start
    except sqlite3.DatabaseError as error:
        raise _refusal(path, error) from error
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise _refusal(path, sqlite3.DatabaseError(found), damaged=True)


def migrate(connection: sqlite3.Connection) -> None:
    """Make the tables of every `sql/schema*.sql` and `sql/accounts*.sql` that are not there yet. May be repeated at any time."""
    for script in sorted(
        resources.files("stretto.ledger").joinpath("sql").iterdir(), key=lambda file: file.name
    ):
        if script.name.startswith(_SCRIPTS) and script.name.endswith(".sql"):
            connection.executescript(f"BEGIN IMMEDIATE;\n{script.read_text('utf-8')}\nCOMMIT;")
    if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch to write-ahead logging. SQLite does not wait for other openers while it switches, so this does."""
    until = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)  # at a start only, before anything is served


def _refusal(
    path: Path, error: sqlite3.DatabaseError, damaged: bool = False
) -> LedgerCorrupt | LedgerUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if damaged or code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        told = str(error).splitlines()[-1]
        return LedgerCorrupt(
            f"{path} is damaged ({told}): run `stretto runs reindex` to rebuild it from the journals"
            " and to take over what can still be read of its keys"
        )
    return LedgerUnavailable(f"{path} cannot be used ({error}): check its permissions and the disk")
