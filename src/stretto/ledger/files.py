"""The files of a chain: append-only segments that are either whole or as they were, and the thread that makes them durable.

<data>/ledger/<process>/000001.jsonl            records, one a line, each with the SHA-256 of the line before it
<data>/ledger/<process>/content-000001.jsonl    what is kept apart: texts and the secrets that key their digests
<data>/ledger/checkpoints.jsonl                 the heads of all chains (`ledger.checkpoints`)
"""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from stretto.errors import LedgerUnavailable

__all__ = ["FIRST", "GroupSync", "Segment", "content_name", "record_name", "segments"]

FIRST = "0" * 64
"""What stands for the hash of the line before the first one."""

Write = Callable[[int, bytes], int]
Sync = Callable[[int], None]


def record_name(number: int) -> str:
    """The file name of a segment of records; segments count from 1."""
    return f"{number:06d}.jsonl"


def content_name(number: int) -> str:
    """The file name of a segment of contents; segments count from 1."""
    return f"content-{number:06d}.jsonl"


def segments(folder: Path) -> list[int]:
    """The numbers of the record segments in a chain's folder, in order."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name[:-6]) for name in names if name.endswith(".jsonl") and name[:-6].isdigit())


class Segment:
    """One append-only file. `append` writes all or nothing; `size` counts whole appends."""

    __slots__ = ("_write", "descriptor", "number", "path", "size", "torn")

    def __init__(self, path: Path, number: int, write: Write = os.write) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self.descriptor = os.open(path, flags, 0o600)
        self.path = path
        self.number = number
        self.size = 0
        self.torn = False
        self._write = write

    def append(self, data: bytes) -> None:
        """Write `data` in one call. Raises `LedgerUnavailable`, leaving the file as it was, when that fails."""
        if self.torn:
            self.cut()
        try:
            written = self._write(self.descriptor, data)
        except OSError as error:
            self.torn = True
            self._cut_quietly()
            raise LedgerUnavailable(f"{self.path} cannot be written ({error.strerror})") from error
        if written != len(data):
            self.torn = True
            self._cut_quietly()
            raise LedgerUnavailable(f"{self.path} cannot be written: the disk is full or a quota is reached")
        self.size += written

    def back(self, size: int) -> None:
        """Take back whole appends, down to `size` bytes."""
        self.size = size
        self.torn = True
        self._cut_quietly()

    def cut(self) -> None:
        """Remove what a failed append may have left. Raises `LedgerUnavailable` when that fails too."""
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError as error:
            raise LedgerUnavailable(f"{self.path} cannot be repaired ({error.strerror})") from error
        self.torn = False

    def gone(self) -> bool:
        """Whether somebody has deleted or replaced the file."""
        try:
            return os.stat(self.path).st_ino != os.fstat(self.descriptor).st_ino
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)

    def _cut_quietly(self) -> None:
        try:
            self.cut()
        except LedgerUnavailable:
            pass  # still marked torn: the next append tries again before it writes


class GroupSync:
    """Group commit: one thread calls fdatasync for everyone who waits, and wakes them all at once.

    After a failed fdatasync nobody knows what is on the disk, so all later waits fail too, until a restart begins a new chain.
    """

    def __init__(self, sync: Sync = os.fdatasync) -> None:
        self.failed = ""
        self._sync = sync
        self._queue: SimpleQueue[tuple[asyncio.Future[None] | None, tuple[Segment, ...], bool]] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def wait_for(self, *files: Segment) -> "asyncio.Future[None] | None":
        """A future that is done when what has been appended to `files` is on the disk; outside an event loop, wait here."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if error := self._flush(files):
                raise LedgerUnavailable(error) from None
            return None
        future = loop.create_future()
        self._put(future, files, False)
        return future

    def retire(self, file: Segment) -> None:
        """Sync and close a file that will not be written again, after those who still wait for it."""
        self._put(None, (file,), True)

    def close(self) -> None:
        """Serve everyone who waits, then end the thread."""
        if self._thread is not None:
            self._queue.put((None, (), True))
            self._thread.join()
            self._thread = None

    def _put(self, future: "asyncio.Future[None] | None", files: tuple[Segment, ...], last: bool) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="stretto-fdatasync", daemon=True)
            self._thread.start()
        self._queue.put((future, files, last))

    def _serve(self) -> None:
        while True:
            group = [self._queue.get()]
            for _ in range(self._queue.qsize()):
                group.append(self._queue.get())
            files = tuple(dict.fromkeys(file for _, several, _ in group for file in several))
            error = self._flush(files)
            _wake([future for future, _, _ in group if future is not None], error)
            for _, several, last in group:
                if last and several:
                    several[0].close()
            if any(last and not several for _, several, last in group):
                return

    def _flush(self, files: tuple[Segment, ...]) -> str:
        for file in files:
            if self.failed:
                break
            try:
                self._sync(file.descriptor)
            except OSError as error:
                self.failed = (
                    f"{file.path} cannot be made durable ({error.strerror}); restart to begin a new one"
                )
        return self.failed


def _wake(futures: "list[asyncio.Future[None]]", error: str) -> None:
    """Tell every waiter, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        by_loop.setdefault(future.get_loop(), []).append(future)
    for loop, waiters in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, waiters, error)
        except RuntimeError:
            pass  # the loop has been closed, and with it everyone who waited


def _resolve(waiters: "list[asyncio.Future[None]]", error: str) -> None:
    for future in waiters:
        if future.done():
            continue
        if error:
            future.set_exception(LedgerUnavailable(error))
        else:
            future.set_result(None)
