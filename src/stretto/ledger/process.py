"""Who writes: a name for each start of a process, and whether that process still lives.

A process shows that it lives by an exclusive `flock` on `<data>/ledger/<process>/alive.lock`. The kernel gives it up when the
process ends, however it ends, so a process killed with -9 is seen as dead at once, with no clock and no heartbeat.
"""

import fcntl
import os
import re
import socket
import time
from pathlib import Path
from types import TracebackType

from stretto.errors import LedgerBusy

__all__ = ["Presence", "alive", "hold", "process_id", "processes"]

_LOCK = "alive.lock"


def process_id() -> str:
    """A new name for this start of this process; sorts by start time, safe as a file name. Ask once a start and pass it on."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-")[:24] or "host"
    return f"{int(time.time() * 1000):013d}-{host}-{os.getpid()}-{os.urandom(3).hex()}"


class Presence:
    """The sign of life of a process, held until `close` or the end of the process."""

    def __init__(self, process: str, descriptor: int) -> None:
        self.process = process
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Give the sign up: from now on `alive` is false. May be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Presence":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold(data: str | os.PathLike[str], process: str) -> Presence:
    """Show that `process` lives, making its folder if there is none.

    Raises `OSError` when the data folder cannot be written, `LedgerBusy` when somebody shows that already.
    """
    folder = Path(data) / "ledger" / process
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(100):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Presence(process, descriptor)
        except BlockingIOError:
            time.sleep(0.01)  # a reader's look in `alive` takes microseconds; an owner keeps it
    os.close(descriptor)
    raise LedgerBusy(f"{folder} belongs to a process that lives")


def alive(data: str | os.PathLike[str], process: str) -> bool:
    """Whether the process of that name lives, on this machine. False when nothing is known of it."""
    try:
        descriptor = os.open(Path(data) / "ledger" / process / _LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def processes(data: str | os.PathLike[str]) -> list[str]:
    """Every process that has written to this data folder, oldest first."""
    try:
        return sorted(entry.name for entry in os.scandir(Path(data) / "ledger") if entry.is_dir())
    except FileNotFoundError:
        return []
