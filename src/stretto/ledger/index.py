"""The index: rows made from journals, in transactions that also say how far they go. It may lag, it is never ahead, and it can
be made anew.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from stretto.errors import LedgerBusy, LedgerCorrupt
from stretto.ledger.files import record_name, segments
from stretto.ledger.process import alive, processes
from stretto.ledger.sqlite import connect, index_path, migrate

__all__ = ["Reindexed", "catch_up", "lines", "reindex"]

_CHUNK = 1 << 20
_MORSEL = 1 << 17
_NEAR = 1 << 16
_PATIENCE = 32

# A run belongs to the chain that took it up last (`taken`: 1 opened it, 2 resumed it). How it ended is for that chain to say,
# whatever the clocks are and whichever chain is indexed first.
_OWN = "excluded.taken = 2 OR runs.chain IS NULL OR runs.chain = excluded.chain"
_RUN = f"""
INSERT INTO runs (run, chain, taken, time, model, policy, version, purpose, key, status, worker, cost, calls, seconds, score)
VALUES (?)
ON CONFLICT (run) DO UPDATE SET
    chain = CASE WHEN {_OWN} THEN coalesce(excluded.chain, chain) ELSE chain END,
    taken = max(taken, excluded.taken),
    time = coalesce(excluded.time, time), model = coalesce(excluded.model, model),
    policy = coalesce(excluded.policy, policy), version = coalesce(excluded.version, version),
    purpose = coalesce(excluded.purpose, purpose), key = coalesce(excluded.key, key),
    status = CASE WHEN {_OWN} THEN coalesce(excluded.status, status) ELSE status END,
    worker = CASE WHEN {_OWN} THEN coalesce(excluded.worker, worker) ELSE worker END,
    cost = CASE WHEN {_OWN} THEN coalesce(excluded.cost, cost) ELSE cost END,
    calls = CASE WHEN {_OWN} THEN coalesce(excluded.calls, calls) ELSE calls END,
    seconds = CASE WHEN {_OWN} THEN coalesce(excluded.seconds, seconds) ELSE seconds END,
    score = coalesce(excluded.score, score)
"""
_ATTEMPT = """
INSERT INTO attempts (run, at, attempt, time, worker, endpoint, role, reserved, outcome, cost, input, output, seconds)
VALUES (?)
ON CONFLICT (run, at, attempt) DO UPDATE SET
    time = coalesce(excluded.time, time), worker = coalesce(excluded.worker, worker),
    endpoint = coalesce(excluded.endpoint, endpoint), role = coalesce(excluded.role, role),
    reserved = coalesce(excluded.reserved, reserved), outcome = coalesce(excluded.outcome, outcome),
    cost = coalesce(excluded.cost, cost), input = coalesce(excluded.input, input),
    output = coalesce(excluded.output, output), seconds = coalesce(excluded.seconds, seconds)
"""
_PLACE = "INSERT OR REPLACE INTO places (run, chain, segment, first, past) VALUES (?)"
_POOL = "INSERT OR IGNORE INTO pools (version, chain, segment, first, past) VALUES (?)"
_MOVE = "UPDATE chains SET segment = ?, offset = ? WHERE id = ? AND segment = ? AND offset = ?"

# Positions in the parameter lists of _RUN and _ATTEMPT
_CHAIN, _TAKEN, _STATUS, _WORKER, _SCORE = 1, 2, 9, 10, 14
_OUTCOME = 8


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What `reindex` did. `rescued` counts rows of accounts that were taken over from a damaged file, which is now at `aside`."""

    records: int
    chains: int
    seconds: float
    rescued: Mapping[str, int] = field(default_factory=dict)
    aside: str = ""


def lines(chunk: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines of `chunk`, which begins at byte `start` of its file: (offset, line without its newline)."""
    parts = chunk.split(b"\n")
    parts.pop()  # what follows the last newline is no line yet
    for line in parts:
        yield start, line
        start += len(line) + 1


def catch_up(
    connection: sqlite3.Connection,
    data: str | os.PathLike[str],
    process: str | None = None,
    progress: Callable[[int], None] | None = None,
    pause: float = 0.0,
) -> int:
    """Index what the journals hold beyond the index, of one process or of all; returns the number of records.

    With a `pause` (seconds) it goes in small pieces and rests after each, so that other threads hardly wait for it, unless it has
    fallen far behind.
    Several processes may do so at once, and be killed at any point. Raises `sqlite3.OperationalError` when another process
    keeps the file locked; what was indexed until then stays.
    """

    def greedy(steps: int) -> bool:
        return not pause or steps >= _PATIENCE

    known = {
        row["process"]: bool(row["ended"]) for row in connection.execute("SELECT process, ended FROM chains")
    }
    folder, done = Path(data) / "ledger", 0
    for name in [process] if process is not None else processes(data):
        if known.get(name):
            continue
        # Looked up first: what a dead process wrote is all there by then
        died = process is None and not alive(data, name)
        steps = 0
        while found := _step(connection, folder / name, name, _CHUNK if greedy(steps) else _MORSEL):
            done += found
            steps += 1
            if progress is not None:
                progress(found)
            if not greedy(steps):
                time.sleep(pause)  # on the index thread: leaves the interpreter to those who serve
            elif pause and steps >= 4 * _PATIENCE:
                break  # the caller has other things to do, too, and comes again
        else:
            if died:
                connection.execute("UPDATE chains SET ended = 1 WHERE process = ?", (name,))
    return done


def reindex(data: str | os.PathLike[str], progress: Callable[[int], None] | None = None) -> Reindexed:
    """Make the whole index anew from the journals; accounts in the same file stay. `progress` is told of records as it goes.

    A file that SQLite cannot read is put aside, and what can be read of its accounts is taken over. Raises `LedgerCorrupt` when
    there are no journals to build from, `LedgerBusy` when the damaged file is in use.
    """
    begun = time.monotonic()
    path, rescued, aside = index_path(data), dict[str, int](), ""
    if not (Path(data) / "ledger").is_dir():
        raise LedgerCorrupt(
            f"{Path(data) / 'ledger'} holds no journals: there is nothing to build an index from"
        )
    if path.exists() and _damaged(path):
        if living := [process for process in processes(data) if alive(data, process)]:
            raise LedgerBusy(
                f"{path} is damaged and in use by {living[0]}: stop every gateway on this folder first"
            )
        damaged = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            if (part := path.with_name(path.name + suffix)).exists():
                part.rename(damaged.with_name(damaged.name + suffix))
        aside = str(damaged)
    connection = connect(path, rebuild=True)
    try:
        migrate(connection)
        if aside:
            rescued = _rescue(connection, aside)
        connection.execute("BEGIN IMMEDIATE")
        for table in ("places", "pools", "attempts", "runs", "chains"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("COMMIT")
        records = catch_up(connection, data, progress=progress)
        chains = connection.execute("SELECT count(*) FROM chains").fetchone()[0]
    finally:
        connection.close()
    return Reindexed(records, chains, time.monotonic() - begun, rescued, aside)


# --- one stretch of one chain -------------------------------------------------------------------------------------


def _step(connection: sqlite3.Connection, folder: Path, process: str, size: int) -> int:
    """Index at most one chunk of a chain; returns how many records that were (0: it is all indexed)."""
    row = connection.execute(
        "SELECT id, segment, offset FROM chains WHERE process = ?", (process,)
    ).fetchone()
    if row is None:
        numbers = segments(folder)
        if not numbers:
            return 0
        insert = "INSERT OR IGNORE INTO chains (process, segment, offset) VALUES (?, ?, 0)"
        connection.execute(insert, (process, numbers[0]))
        return _step(connection, folder, process, size)
    number, segment, offset = row
    # Listed before it is read: a segment with a successor gets no more records, so its end is really its end
    later = [another for another in segments(folder) if another > segment]
    chunk = _read(folder / record_name(segment), offset, size)
    rows = _Rows(number, segment)
    end = offset
    for at, line in lines(chunk, offset):
        end = at + len(line) + 1
        rows.add(line, at, end)
    following = segment
    if end == offset:
        if not later:
            return 0
        following, end = later[0], 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute(_MOVE, (following, end, number, segment, offset)).rowcount:
            rows.write(connection)
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise
    return rows.count if following == segment else _step(connection, folder, process, size)


def _read(path: Path, offset: int, size: int) -> bytes:
    """A chunk of whole lines from `offset`; longer than usual when one line is."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            chunk = file.read(size)
            while chunk and b"\n" not in chunk and (more := file.read(_CHUNK)):
                chunk += more
    except FileNotFoundError:
        return b""
    return chunk[: chunk.rfind(b"\n") + 1]


class _Rows:
    """The rows of one stretch, gathered so that each run and each attempt is written once."""

    def __init__(self, chain: int, segment: int) -> None:
        self.count = 0
        self._chain = chain
        self._segment = segment
        self._runs: dict[str, list[Any]] = {}
        self._attempts: dict[tuple[str, str, int], list[Any]] = {}
        self._places: dict[str, list[list[int]]] = {}
        self._pools: list[tuple[Any, ...]] = []

    def add(self, line: bytes, first: int, past: int) -> None:
        """Take in one record. Lines that are no record are passed over: `verify` names them."""
        self.count += 1
        try:
            record = orjson.loads(line)
            kind, run = record["kind"], record.get("run", "")
            if kind == "pooled":
                self._pools.append((record["version"], self._chain, self._segment, first, past))
            if not run or kind == "erased":
                return
            known = _KINDS.get(kind)
            if known is not None:
                known(self, run, record)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return
        places = self._places.get(run)
        if places is None:
            self._places[run] = [[first, past]]
        elif first - places[-1][1] < _NEAR:
            places[-1][1] = past
        else:
            places.append([first, past])

    def write(self, connection: sqlite3.Connection) -> None:
        """Put the rows into the index."""
        _insert(connection, _RUN, list(self._runs.values()))
        _insert(connection, _ATTEMPT, list(self._attempts.values()))
        places = [
            (run, self._chain, self._segment, first, past)
            for run, several in self._places.items()
            for first, past in several
        ]
        _insert(connection, _PLACE, places)
        _insert(connection, _POOL, self._pools)

    def _run(self, run: str) -> list[Any]:
        row = self._runs.get(run)
        if row is None:
            row = self._runs[run] = [run, None, 0, *[None] * (_SCORE - _TAKEN)]
        return row

    def _opened(self, run: str, record: Mapping[str, Any]) -> None:
        row = self._run(run)
        row[_CHAIN : _STATUS + 1] = (
            self._chain,
            1,
            record["time"],
            record["model"],
            record["policy"],
            record["version"],
            record["purpose"],
            record["key"],
            "running",
        )

    def _resumed(self, run: str, record: Mapping[str, Any]) -> None:
        row = self._run(run)
        row[_CHAIN], row[_TAKEN], row[_STATUS] = self._chain, 2, "running"

    def _finished(self, run: str, record: Mapping[str, Any]) -> None:
        row = self._run(run)
        row[_CHAIN] = self._chain
        row[_STATUS] = "finished" if record["error"] is None else "failed"
        row[_WORKER:_SCORE] = record["worker"], record["cost"], record["calls"], record["seconds"]

    def _scored(self, run: str, record: Mapping[str, Any]) -> None:
        self._run(run)[_SCORE] = record["score"]

    def _asked(self, run: str, record: Mapping[str, Any]) -> None:
        at, attempt = record["at"], record["attempt"]
        self._attempts[run, at, attempt] = [
            run,
            at,
            attempt,
            record["time"],
            record["worker"],
            record["endpoint"],
            record["role"],
            record["reserved"],
            *[None] * 5,
        ]

    def _answered(self, run: str, record: Mapping[str, Any]) -> None:
        at, attempt = record["at"], record["attempt"]
        row = self._attempts.get((run, at, attempt))
        if row is None:
            row = self._attempts[run, at, attempt] = [run, at, attempt, *[None] * 10]
        error, usage = record["error"], record["usage"]
        row[_OUTCOME:] = (
            "answered" if error is None else error["kind"],
            record["cost"],
            usage["input"],
            usage["output"],
            record["seconds"],
        )


_KINDS: dict[str, Callable[[_Rows, str, Mapping[str, Any]], None]] = {
    "opened": _Rows._opened,
    "resumed": _Rows._resumed,
    "finished": _Rows._finished,
    "scored": _Rows._scored,
    "asked": _Rows._asked,
    "answered": _Rows._answered,
}


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, many with each statement: SQLite then works without the interpreter lock, instead of fighting for it at every
    row with a busy event loop.
    """
    done = 0
    for size in (64, 8, 1):
        while len(rows) - done >= size:
            some = rows[done : done + size]
            row = f"({', '.join('?' * len(some[0]))})"
            statement = sql.replace("(?)", ", ".join([row] * size))
            connection.execute(statement, list(chain.from_iterable(some)))
            done += size


# --- a damaged file -----------------------------------------------------------------------------------------------


def _damaged(path: Path) -> bool:
    try:
        connection = connect(path, rebuild=True)
    except LedgerCorrupt:
        return True
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError:
        return True
    finally:
        connection.close()


def _rescue(connection: sqlite3.Connection, damaged: str) -> dict[str, int]:
    """Copy what can be read of the tables that no journal can give back: accounts."""
    rescued: dict[str, int] = {}
    ours = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    kept = {"chains", "runs", "attempts", "places", "pools"}
    old = sqlite3.connect(damaged, isolation_level=None)
    try:
        for table in [row[0] for row in connection.execute(ours) if row[0] not in kept]:
            rescued[table] = 0
            try:
                for row in old.execute(f"SELECT * FROM {table}"):
                    marks = ", ".join("?" * len(row))
                    connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
                    rescued[table] += 1
            except sqlite3.DatabaseError:
                continue  # the rest of this table is lost; the count says how much was not
    finally:
        old.close()
    return rescued
