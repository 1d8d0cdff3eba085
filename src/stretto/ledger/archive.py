"""Reading a data folder: what the index knows, and the ends of the journals that it does not know yet.

Reading a run never writes and never waits for a writer: it is right however far the index lags behind. Listing runs brings the
index up to date first, unless somebody keeps it locked.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from stretto.errors import LedgerCorrupt, LedgerUnavailable, RunNotFound
from stretto.ledger.codec import digest, erased_line, from_record, text_of
from stretto.ledger.events import Event, Pooled
from stretto.ledger.files import content_name, record_name, segments
from stretto.ledger.index import catch_up, lines
from stretto.ledger.process import alive, processes
from stretto.ledger.read import Summary
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.types import Card

__all__ = ["Archive", "Place", "content_at"]


@dataclass(frozen=True, slots=True)
class Place:
    """A record as it stands on disk."""

    process: str
    record: Mapping[str, Any]


class Archive:
    """Everything a data folder remembers, read-only. Open it beside running gateways, or on a copy of their folder.

    Methods raise `LedgerCorrupt`, naming the file, when what is there is not what was written. For one thread at a time.
    """

    def __init__(self, data: str | os.PathLike[str]) -> None:
        self._data = Path(data)
        self._connection: sqlite3.Connection | None = None
        self._cards: dict[str, tuple[Card, ...]] = {}

    def close(self) -> None:
        """Give the files back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def events(self, run: str) -> tuple[Event, ...]:
        """All events of a run in the order they were written, with content where it was kept. Raises `RunNotFound`."""
        by_chain: dict[str, list[Event]] = {}
        for place in self.records(run):
            kept = content_at(self._data / "ledger" / place.process, place.record)
            if (event := from_record(place.record, kept)) is not None:
                by_chain.setdefault(place.process, []).append(event)
        if not by_chain:
            raise RunNotFound(f"there is no run {run}")
        return tuple(by_chain.popitem()[1] if len(by_chain) == 1 else _in_order(by_chain.values()))

    def cards(self, version: str) -> tuple[Card, ...]:
        """The pool recorded under this version. Raises `RunNotFound`."""
        if (known := self._cards.get(version)) is not None:
            return known
        needle = b'"version":' + orjson.dumps(version)
        for place in self._find(
            needle, "SELECT chain, segment, first, past FROM pools WHERE version = ?", version
        ):
            if place.record.get("kind") == "pooled" and place.record.get("version") == version:
                event = from_record(place.record)
                assert isinstance(event, Pooled)
                self._cards[version] = event.cards
                return event.cards
        raise RunNotFound(f"no pool was recorded under version {version}")

    def records(self, run: str) -> list[Place]:
        """The chained records of a run, chain by chain, each chain's in order."""
        needle = b'"run":' + orjson.dumps(run)
        sql = "SELECT chain, segment, first, past FROM places WHERE run = ? ORDER BY chain, segment, first"
        return [place for place in self._find(needle, sql, run) if place.record.get("run") == run]

    def live(self, run: str) -> bool:
        """Whether the process that took the run up last still lives."""
        taken = [p.process for p in self.records(run) if p.record["kind"] in ("opened", "resumed")]
        return bool(taken) and alive(self._data, taken[-1])

    def runs(
        self,
        limit: int = 50,
        before: str | None = None,
        key: str | None = None,
        purpose: str | None = None,
    ) -> list[Summary]:
        """Runs, newest first, from those before the run `before`; of one key (its id, "" for none), of one purpose."""
        if self._empty():
            return []
        self._refresh()
        where, values = ["r.time IS NOT NULL"], list[Any]()
        for column, sign, value in (("run", "<", before), ("key", "=", key), ("purpose", "=", purpose)):
            if value is not None:
                where.append(f"r.{column} {sign} ?")
                values.append(value)
        if key:
            where.append("r.key <> ''")  # lets SQLite use the index over keys
        rows = self._index().execute(
            f"""
            SELECT r.*, c.process, (SELECT sum(a.cost) FROM attempts a WHERE a.run = r.run) AS spent,
                (SELECT count(*) FROM attempts a WHERE a.run = r.run) AS tries
            FROM runs r LEFT JOIN chains c ON c.id = r.chain WHERE {" AND ".join(where)} ORDER BY r.run DESC LIMIT ?
            """,
            (*values, limit),
        )
        living: dict[str, bool] = {}
        return [self._summary(row, living) for row in rows]

    def _summary(self, row: sqlite3.Row, living: dict[str, bool]) -> Summary:
        status, process = row["status"], row["process"] or ""
        if status == "running":
            if process not in living:
                living[process] = alive(self._data, process)
            status = "running" if living[process] else "interrupted"
        ended = row["cost"] is not None
        return Summary(
            run=row["run"],
            time=row["time"],
            model=row["model"],
            policy=row["policy"],
            version=row["version"],
            purpose=row["purpose"],
            key=row["key"],
            status=status,
            worker=row["worker"] or "",
            cost=row["cost"] if ended else row["spent"] or 0,
            calls=row["calls"] if ended else row["tries"],
            seconds=row["seconds"] or 0.0,
            score=row["score"],
        )

    # --- inside ---

    def _index(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(index_path(self._data), readonly=True)
        return self._connection

    def _refresh(self) -> None:
        """Bring the index up to date, unless it is locked or cannot be written: then the list ends a little earlier."""
        try:
            writing = connect(index_path(self._data), timeout=1.0)
        except LedgerUnavailable:
            return
        try:
            migrate(writing)
            catch_up(writing, self._data)
        except sqlite3.OperationalError:
            pass
        finally:
            writing.close()

    def _empty(self) -> bool:
        return not index_path(self._data).exists() and not processes(self._data)

    def _find(self, needle: bytes, sql: str, value: str) -> list[Place]:
        """The records that hold `needle`: in the places that the index names, and beyond the index."""
        if self._empty():
            return []
        try:
            places, positions = self._look_up(sql, value)
        except sqlite3.DatabaseError as error:
            raise LedgerCorrupt(
                f"{index_path(self._data)} cannot be read ({error}): run `stretto runs reindex`"
            ) from error
        found: list[Place] = []
        names = {chain: process for process, (chain, _, _, _) in positions.items()}
        for chain, segment, first, past in places:
            path = self._data / "ledger" / names[chain] / record_name(segment)
            found += _matching(names[chain], _bytes(path, first, past), needle)
        for process in processes(self._data):
            _, segment, offset, ended = positions.get(process, (0, 0, 0, False))
            if ended:
                continue
            folder = self._data / "ledger" / process
            for number in segments(folder):
                if number >= segment:
                    tail = _tail(folder / record_name(number), offset if number == segment else 0)
                    if needle in tail:
                        found += _matching(process, tail, needle)
        return found

    def _look_up(
        self, sql: str, value: str
    ) -> tuple[list[tuple[int, int, int, int]], dict[str, tuple[int, int, int, bool]]]:
        """Places, and how far the index goes, from one snapshot."""
        index = self._index()
        index.execute("BEGIN")
        try:
            places = [tuple(row) for row in index.execute(sql, (value,))]
            positions = {
                row["process"]: (row["id"], row["segment"], row["offset"], bool(row["ended"]))
                for row in index.execute("SELECT * FROM chains")
            }
        finally:
            index.execute("COMMIT")
        return places, positions


def _in_order(chains: Iterable[list[Event]]) -> Iterator[Event]:
    """Events of one run out of several chains, as they were written.

    Each time the run is opened or taken up a part of it begins, and nothing of that comes before what the part before it did:
    a process takes up only what another has left, even if its clock says otherwise. Feedback goes by the clock.
    """
    parts: list[list[Event]] = []
    for chain in chains:
        parts.append([])
        for event in chain:
            if event.kind in ("opened", "resumed") and parts[-1]:
                parts.append([])
            parts[-1].append(event)
    parts.sort(key=lambda part: (part[0].kind != "opened", part[0].time))
    floor = parts[0][0].time
    timed: list[list[tuple[float, Event]]] = []
    for part in parts:
        timed.append([(max(event.time, floor), event) for event in part])
        floor = max([floor, *(time for time, event in timed[-1] if event.kind != "scored")])
    return (event for _, event in merge(*timed, key=itemgetter(0)))


def content_at(folder: Path, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was kept apart for a record; `None` if nothing was, or it was erased. Raises `LedgerCorrupt` if it is not that."""
    kept = record.get("kept")
    if kept is None:
        return None
    number, offset, length = kept
    path = folder / content_name(number)
    line = _bytes(path, offset, offset + length)
    if len(line) == length and line == erased_line(length):
        return None
    try:
        content: Mapping[str, Any] = orjson.loads(line)
        if content["seq"] == record["seq"] and digest(text_of(line), content["secret"]) == record["digest"]:
            return content
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        pass
    raise LedgerCorrupt(
        f"{path}, byte {offset}: this is not the content that was recorded for run {record.get('run')};"
        " `stretto runs verify` tells more"
    )


def _matching(process: str, chunk: bytes, needle: bytes) -> list[Place]:
    found = []
    for _, line in lines(chunk, 0):
        if needle in line:
            try:
                found.append(Place(process, orjson.loads(line)))
            except orjson.JSONDecodeError:
                continue  # edited: `verify` names it
    return found


def _bytes(path: Path, first: int, past: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(first)
            return file.read(past - first)
    except FileNotFoundError:
        raise LedgerCorrupt(f"{path} is missing, but records refer to it") from None


def _tail(path: Path, offset: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""
