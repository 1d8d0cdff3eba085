"""`checkpoints.jsonl`: the heads of all chains, so that cutting the tail of a chain or deleting a whole one is found.

Every line counts up and carries the SHA-256 of the line before. A line lists those heads that are not yet listed: the writer's
own and, when a process starts, those of processes that died without listing theirs.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from stretto.errors import LedgerUnavailable
from stretto.ledger.files import FIRST, record_name, segments
from stretto.ledger.process import alive, processes

__all__ = ["Head", "Mark", "checkpoint", "checkpoints_path", "dead_heads", "last_mark"]


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain at some time: its number and the SHA-256 of its line."""

    process: str
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the checkpoints: its number and its SHA-256. Kept outside the data folder, it proves everything before it."""

    number: int = 0
    hash: str = FIRST


def checkpoints_path(data: str | os.PathLike[str]) -> Path:
    """Where the checkpoints of a data folder are."""
    return Path(data) / "ledger" / "checkpoints.jsonl"


def checkpoint(data: str | os.PathLike[str], by: str, heads: Iterable[Head], now: float) -> Mark:
    """Append a line that lists `heads`. Waits for other writers. Raises `LedgerUnavailable`."""
    path = checkpoints_path(data)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            last = _last(descriptor, mend=True)
            line = orjson.dumps(
                {
                    "number": last.number + 1,
                    "prev": last.hash,
                    "time": now,
                    "by": by,
                    "heads": [[head.process, head.sequence, head.hash] for head in heads],
                }
            )
            if os.write(descriptor, line + b"\n") != len(line) + 1:
                raise LedgerUnavailable(f"{path} cannot be written: the disk is full or a quota is reached")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerUnavailable(f"{path} cannot be written ({error.strerror})") from error
    return Mark(last.number + 1, hashlib.sha256(line).hexdigest())


def last_mark(data: str | os.PathLike[str]) -> Mark:
    """The last line of the checkpoints, or one shortly before it when somebody is writing."""
    try:
        descriptor = os.open(checkpoints_path(data), os.O_RDONLY)
    except FileNotFoundError:
        return Mark()
    try:
        return _last(descriptor, mend=False)
    finally:
        os.close(descriptor)


def _last(descriptor: int, *, mend: bool) -> Mark:
    """The last whole line. `mend` cuts off what a killed writer left behind it; hold the lock."""
    size = os.fstat(descriptor).st_size
    tail, step = b"", 1 << 16
    while True:
        start = max(0, size - step)
        tail = os.pread(descriptor, size - start, start)
        whole = tail[: tail.rfind(b"\n") + 1]
        if start == 0 or whole.count(b"\n") > 1:
            break
        step *= 4
    if mend and len(whole) < len(tail):
        os.ftruncate(descriptor, size - len(tail) + len(whole))
    if not whole:
        return Mark()
    line = whole[:-1].rsplit(b"\n", 1)[-1]
    try:
        return Mark(int(orjson.loads(line)["number"]), hashlib.sha256(line).hexdigest())
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Mark(whole.count(b"\n"), hashlib.sha256(line).hexdigest())  # edited: `verify` says so


def dead_heads(data: str | os.PathLike[str]) -> list[Head]:
    """The heads of chains whose process has died, as far as no checkpoint lists them yet."""
    listed: set[tuple[Any, ...]] = set()
    try:
        lines = checkpoints_path(data).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            listed.update(tuple(head) for head in orjson.loads(line)["heads"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue  # torn or edited: `verify` says so
    heads = (head for process in processes(data) if (head := _head(data, process)) is not None)
    return [
        head
        for head in heads
        if (head.process, head.sequence, head.hash) not in listed and not alive(data, head.process)
    ]


def _head(data: str | os.PathLike[str], process: str) -> Head | None:
    """The last whole record of a chain."""
    folder = Path(data) / "ledger" / process
    for number in reversed(segments(folder)):
        with open(folder / record_name(number), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            step = 1 << 14
            while True:
                file.seek(max(0, size - step))
                tail = file.read()
                if step >= size or tail.count(b"\n") > 1:
                    break
                step *= 8
        whole = tail[: tail.rfind(b"\n")] if b"\n" in tail else b""
        if whole:
            line = whole.rsplit(b"\n", 1)[-1]
            try:
                return Head(process, int(orjson.loads(line)["seq"]), hashlib.sha256(line).hexdigest())
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                return None
    return None
