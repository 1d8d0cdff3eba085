"""The store on disk: one append-only, hash-chained journal for each start of a process, and the index behind it.

Truth is the journal. What must be kept apart (texts, secrets) is written before the record that holds its digest, so a record
never refers to what is not there. The index (`ledger.index`) is fed by a thread, out of the journal, and never waited for.
"""

import asyncio
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from stretto.errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable, RunError, RunNotFound
from stretto.ledger.archive import Archive
from stretto.ledger.checkpoints import Head, checkpoint, dead_heads, last_mark
from stretto.ledger.codec import content_line, digest, dumps, erased_line, shape
from stretto.ledger.events import SCHEMA, Event
from stretto.ledger.files import FIRST, GroupSync, Segment, content_name, record_name, segments
from stretto.ledger.index import catch_up, lines
from stretto.ledger.process import hold, process_id
from stretto.ledger.read import Summary
from stretto.ledger.sqlite import check, connect, index_path, migrate
from stretto.types import Card

__all__ = ["JournalStore", "SlabUse", "slab_use"]

_SEGMENT = 64 << 20
_OTHERS_EVERY = 40  # of our own turns at the index, one looks after chains whose process has died


class JournalStore:
    """A `Store` in a data folder; many processes may have one on the same folder.

    `durability="process"`: what `append` has returned from survives a kill of the process; `"power"`: what its future has
    resolved survives a loss of power. `content="full"` keeps texts, `"digest"` only their keyed digests. `process` names this
    start of the process (`process_id()`); the store holds its sign of life. `write` and `sync` are the two system calls, for
    tests of failing disks. Use it from one thread at a time.

    Raises `LedgerCorrupt`, naming the file, when the folder or its index is damaged, `LedgerUnavailable` when the disk is full.
    """

    def __init__(
        self,
        data: str | os.PathLike[str],
        *,
        process: str = "",
        durability: Literal["process", "power"] = "process",
        content: Literal["full", "digest"] = "full",
        segment_bytes: int = _SEGMENT,
        checkpoint_every: int = 1000,
        index_seconds: float = 0.25,
        clock: Callable[[], float] = time.time,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self.process = process or process_id()
        self.data = Path(data)
        self._folder = self.data / "ledger" / self.process
        self._durability = durability
        self._full = content == "full"
        self._segment_bytes = segment_bytes
        self._checkpoint_every = checkpoint_every
        self._clock = clock
        self._write = write
        self._lock = threading.Lock()
        self._secrets: dict[str, str] = {}
        self._refusal = self._trouble = self._lag = ""
        self._closed = self._headless = False
        self._sequence = 0
        self._last = FIRST
        self._listed = 0
        self._group = GroupSync(sync) if durability == "power" else None
        self._contents: Segment | None = None
        self._records: Segment
        self._archive = Archive(data)
        try:
            self._open()
        except PermissionError as error:
            raise LedgerCorrupt(
                f"the data folder {self.data} cannot be used ({error.strerror}: {error.filename})"
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise LedgerCorrupt(f"the data folder {self.data} is not a folder ({error.filename})") from error
        except OSError as error:
            raise LedgerUnavailable(f"the data folder {self.data} cannot be written ({error})") from error
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep_up, args=(index_seconds,), name="stretto-index", daemon=True
        )
        self._thread.start()

    # --- writing ---

    def append(self, batch: Sequence[Event]) -> "asyncio.Future[None] | None":
        """Record events in order, all or none, with one system call for the records and one for their contents.

        `None`: as durable as promised. Otherwise await what is returned before acting on it. Raises `LedgerUnavailable` when
        the disk does not take them (the journal is then as it was, and the next append tries again), `LedgerError` when an
        event holds what JSON cannot.
        """
        with self._lock:
            if self._refusal:
                raise LedgerUnavailable(self._refusal)
            try:
                self._roll_if_full()
                lines = self._encode(batch)
                touched = self._put(lines)
            except LedgerUnavailable as error:
                self._trouble = str(error)
                raise
            self._trouble = ""
            self._sequence += len(lines.records)
            self._last = lines.last
            if lines.secrets:
                self._secrets.update(lines.secrets)
            for run in lines.ended:
                self._secrets.pop(run, None)
        return None if self._group is None else self._group.wait_for(*touched)

    def _encode(self, batch: Sequence[Event]) -> "_Lines":
        sequence, last = self._sequence, self._last
        contents = self._contents
        at = contents.size if contents is not None else 0
        lines = _Lines()
        for event in batch:
            kind: Any = type(event)
            form = shape(kind)
            record = form.write(event, sequence, last)
            if form.content or form.secret:
                content = getattr(event, "content", None)
                secret: str = event.secret if form.secret else ""  # type: ignore[union-attr]
                if secret:
                    lines.secrets[event.run] = secret
                if content is not None or secret:
                    key = secret or lines.secrets.get(event.run) or self._secrets.get(event.run)
                    if key is None:  # feedback on a run that another process made, or that ended
                        key = "" if form.secret else os.urandom(16).hex()
                    text = dumps(content)
                    record["digest"] = digest(text, key)
                    if contents is not None:
                        apart = content_line(sequence, event.run, key, text)
                        record["kept"] = (contents.number, at, len(apart))
                        at += len(apart)
                        lines.contents.append(apart)
                if form.kind == "finished":
                    lines.ended.append(event.run)
            line = dumps(record)
            last = hashlib.sha256(line).hexdigest()
            sequence += 1
            lines.records.append(line)
        lines.last = last
        return lines

    def _put(self, lines: "_Lines") -> tuple[Segment, ...]:
        """Write the lines, contents first; both or neither."""
        records = b"\n".join(lines.records) + b"\n"
        if not lines.contents or self._contents is None:
            self._records.append(records)
            return (self._records,)
        before = self._contents.size
        self._contents.append(b"".join(lines.contents))
        try:
            self._records.append(records)
        except LedgerUnavailable:
            self._contents.back(before)
            raise
        return (self._contents, self._records)

    def _note(self, kind: str, **fields: Any) -> None:
        """Append a record of the journal's own."""
        line = dumps({"seq": self._sequence, "prev": self._last, "kind": kind, **fields})
        self._records.append(line + b"\n")
        self._sequence += 1
        self._last = hashlib.sha256(line).hexdigest()

    def _roll_if_full(self) -> None:
        """Begin new segments where the old ones are full; the chain goes on."""
        if self._contents is not None and self._contents.size >= self._segment_bytes:
            old = self._contents
            self._contents = self._segment(content_name, old.number + 1)
            self._retire(old)
        if self._records.size >= self._segment_bytes:
            old = self._records
            self._records = self._segment(record_name, old.number + 1)
            self._headless = True
            self._retire(old)
        if (
            self._headless
        ):  # for readers the old segment has ended: there is no way back to it, even if this fails
            self._note_head()
            self._headless = False

    def _segment(self, name: Callable[[int], str], number: int) -> Segment:
        path = self._folder / name(number)
        try:
            segment = Segment(path, number, self._write)
            if self._group is not None:
                folder = os.open(self._folder, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
        except OSError as error:
            raise LedgerUnavailable(f"{path} cannot be made ({error.strerror})") from error
        return segment

    def _retire(self, segment: Segment) -> None:
        if self._group is None:
            segment.close()
        else:
            self._group.retire(segment)

    # --- reading ---

    def events(self, run: str) -> tuple[Event, ...]:
        """All events of a run, whichever process wrote them, in order. Raises `RunNotFound`, `LedgerCorrupt`."""
        return self._archive.events(run)

    def cards(self, version: str) -> tuple[Card, ...]:
        """The pool that a `pooled` event recorded under this version. Raises `RunNotFound`."""
        return self._archive.cards(version)

    def runs(
        self,
        limit: int = 50,
        before: str | None = None,
        key: str | None = None,
        purpose: str | None = None,
    ) -> list[Summary]:
        """Runs, newest first, from those before the run `before`; of one key (its id, "" for none), of one purpose."""
        return self._archive.runs(limit, before, key, purpose)

    def live(self, run: str) -> bool:
        """Whether the process that took the run up last still lives."""
        return self._archive.live(run)

    @property
    def trouble(self) -> str:
        """Why nothing can be recorded just now, or why the index lags; "" when all is well."""
        return self._refusal or (self._group.failed if self._group else "") or self._trouble or self._lag

    # --- erasing ---

    def erase(self, run: str) -> int:
        """Overwrite a run's contents and secret for good, in every process's files; the chains stay valid.

        Returns how many contents were overwritten. Raises `RunNotFound`, and `RunError` while the run is under way.
        """
        places = self._archive.records(run)
        if not places:
            raise RunNotFound(f"there is no run {run}")
        if not any(place.record["kind"] == "finished" for place in places) and self._archive.live(run):
            raise RunError(f"run {run} is still under way: its contents can be erased when it has ended")
        with self._lock:  # recorded first: a filler that no record accounts for would look like tampering
            if self._refusal:
                raise LedgerUnavailable(self._refusal)
            self._roll_if_full()
            self._note("erased", run=run, time=self._clock())
            if self._group is not None:
                os.fdatasync(self._records.descriptor)
        erased = 0
        for place in places:
            if (kept := place.record.get("kept")) is not None:
                number, offset, length = kept
                erased += _overwrite(
                    self.data / "ledger" / place.process / content_name(number), offset, length
                )
        return erased

    # --- from start to end ---

    def close(self) -> None:
        """End the chain, list its head, and give everything back. Waits for a running fdatasync. May be called again."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._refusal:
                try:
                    self._roll_if_full()
                    self._note("closed", time=self._clock())
                    self._list(self._head())
                except LedgerUnavailable as error:
                    self._trouble = str(
                        error
                    )  # the chain ends unclosed, like that of a process that was killed
            self._refusal = "the ledger has been closed"
        self._catch_up(self.process)
        if self._group is not None:
            self._group.close()
        self._release()

    def _open(self) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.listdir(self.data)
        self._connection = connect(index_path(self.data))
        try:
            check(self._connection, index_path(self.data))
            migrate(self._connection)
            self._presence = hold(self.data, self.process)
        except BaseException:
            self._connection.close()
            raise
        try:
            if segments(self._folder):
                raise LedgerBusy(
                    f"{self._folder} is the chain of an earlier start; give this one a new process_id()"
                )
            self._contents = self._segment(content_name, 1) if self._full else None
            self._records = self._segment(record_name, 1)
            self._note_head()
            self._list(self._head(), *dead_heads(self.data))
        except BaseException:
            self._presence.close()
            self._connection.close()
            raise

    def _note_head(self) -> None:
        mark = last_mark(self.data)
        self._note(
            "head",
            schema=SCHEMA,
            process=self.process,
            segment=self._records.number,
            time=self._clock(),
            durability=self._durability,
            content="full" if self._full else "digest",
            checkpoint=(mark.number, mark.hash),
        )

    def _release(self) -> None:
        self._records.close()
        if self._contents is not None:
            self._contents.close()
        self._archive.close()
        self._connection.close()
        self._presence.close()

    # --- in the background ---

    def _keep_up(self, seconds: float) -> None:
        """Keep index and checkpoints close behind the journal, until `close`."""
        turn = indexed = 0
        while True:
            sequence = self._sequence
            everyone = turn % _OTHERS_EVERY == 0
            if (everyone or sequence != indexed) and self._catch_up(None if everyone else self.process):
                indexed = sequence
            turn += 1
            with self._lock:  # nobody closes the segment meanwhile
                gone = not self._closed and self._records.gone()
            if gone:
                self._refusal = (
                    f"{self._records.path} has been deleted or replaced: restart to begin a new journal"
                )
            if self._sequence - self._listed >= self._checkpoint_every:
                self._list_durably()
            if self._stop.wait(seconds):
                return

    def _catch_up(self, process: str | None) -> bool:
        """Index what is new; returns whether nothing was left to do."""
        pause = 0.0 if self._stop.is_set() else 0.001
        try:
            found = catch_up(self._connection, self.data, process, pause=pause)
            self._lag = ""
            return found == 0
        except sqlite3.OperationalError:
            pass  # somebody keeps the file locked, or the disk is full: the next turn goes on from here
        except OSError as error:
            self._lag = f"the journals cannot be read ({error})"
        except sqlite3.DatabaseError as error:
            self._lag = f"{index_path(self.data)} is damaged ({error}): run `stretto runs reindex`"
        return False

    def _head(self) -> Head:
        return Head(self.process, self._sequence - 1, self._last)

    def _list(self, *heads: Head) -> None:
        """Write a checkpoint of heads, this chain's first."""
        checkpoint(self.data, self.process, heads, self._clock())
        self._listed = heads[0].sequence + 1

    def _list_durably(self) -> None:
        """A checkpoint while others go on appending: it must not list what a loss of power could still take back."""
        with self._lock:
            head, descriptor = self._head(), os.dup(self._records.descriptor)
        try:
            if self._group is not None:
                os.fdatasync(descriptor)
            self._list(head)
        except (LedgerUnavailable, OSError) as error:
            self._lag = str(error)
        finally:
            os.close(descriptor)


class _Lines:
    """A batch as it is written: its lines, the hash of the last record, and the secrets of runs that begin and end with it."""

    __slots__ = ("contents", "ended", "last", "records", "secrets")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.contents: list[bytes] = []
        self.last = FIRST
        self.secrets: dict[str, str] = {}
        self.ended: list[str] = []


def _overwrite(path: Path, offset: int, length: int) -> int:
    """Put filler in place of a content line; returns 1, or 0 if that had been done before."""
    filler = erased_line(length)
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        if file.read(length) == filler:
            return 0
        file.seek(offset)
        file.write(filler)
        os.fdatasync(file.fileno())
    return 1


@dataclass(frozen=True, slots=True)
class SlabUse:
    """What a process did with one slab, in pico-dollars: `settled` at true cost, `unknown` as reserved, for lost outcomes."""

    settled: int = 0
    unknown: int = 0


def slab_use(data: str | os.PathLike[str], process: str) -> dict[str, SlabUse]:
    """What the journal of one process says about each slab it used. Read it once that process has died."""
    folder = Path(data) / "ledger" / process
    settled: dict[str, int] = {}
    pending: dict[tuple[str, str, int, str], int] = {}
    for number in segments(folder):
        for _, line in lines((folder / record_name(number)).read_bytes(), 0):
            if b'"slab":"' not in line or b'"slab":""' in line:
                continue
            try:
                record = orjson.loads(line)
                slab = record["slab"]
                attempt = (record["run"], record["at"], record["attempt"], slab)
                if record["kind"] == "asked":
                    pending[attempt] = record["reserved"]
                elif record["kind"] == "answered":
                    pending.pop(attempt, None)
                    settled[slab] = settled.get(slab, 0) + record["cost"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # edited: `verify` names it
    unknown: dict[str, int] = {}
    for (*_, slab), reserved in pending.items():
        unknown[slab] = unknown.get(slab, 0) + reserved
    return {slab: SlabUse(settled.get(slab, 0), unknown.get(slab, 0)) for slab in {**settled, **unknown}}
