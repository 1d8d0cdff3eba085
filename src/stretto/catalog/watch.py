"""What a gateway looks after by itself: promises that are not kept, workers that have silently got worse, artefacts that change.

Whether a promise is kept takes reading the record, perhaps a long one: a process of its own does that (`stretto demote --check`,
`stretto drift --mask`), at low priority, for one gateway process of the data folder at a time. All of them follow what it did:
masks within a second (`catalog.masks`), artefacts within a few.
"""

import asyncio
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from stretto.config import WatchSettings
from stretto.errors import ConfigError

__all__ = ["FOLLOWED", "LOOK", "Watch", "asked"]

FOLLOWED: Final = ("evidence.json", "route-table.json", "thresholds.json")
"""The artefacts that may change while a gateway runs."""

LOOK: Final = 5.0
"""Seconds between two looks at those files."""

_COMMAND: Final = (sys.executable, "-c", "from stretto.cli import main; main()")
_PATIENCE: Final = 600.0
_LOW: Final = 10

_log = logging.getLogger("stretto.watch")


async def asked(arguments: Sequence[str]) -> bytes:
    """What a command of ours prints, run beside at low priority; nothing where it fails, which is logged. It ends with us."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _LOW)
        out, err = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except TimeoutError:
        _log.warning("stretto %s took more than %d seconds", " ".join(arguments[:2]), _PATIENCE)
        return b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        _log.warning("stretto %s failed: %s", " ".join(arguments[:2]), err.decode("utf-8", "replace").strip())
        return b""
    return out


class Watch:
    """One gateway process's part. `renew` makes the gateway serve the artefacts as they are now; it may raise `ConfigError`.

    `run` runs a command of ours, `pause` waits for so many seconds, `clock` gives seconds: seams for tests.
    """

    def __init__(
        self,
        data: Path,
        settings: WatchSettings,
        renew: Callable[[], None],
        *,
        run: Callable[[Sequence[str]], Awaitable[bytes]] = asked,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._folder = data / "artifacts"
        self._settings = settings
        self._renew = renew
        self._run = run
        self._pause = pause
        self._clock = clock
        self._seen = self._files()
        self._lock: int | None = None

    async def keep(self) -> None:
        """Look, at once and then every `LOOK` seconds, until cancelled. Nothing that goes wrong here reaches who is served."""
        due = self._clock()
        hours = self._settings.hours
        try:
            while True:
                try:
                    if hours and self._clock() >= due and self._leads():
                        due = self._clock() + hours * 3600
                        await self.check()
                    await self.follow()
                except (OSError, ValueError) as error:
                    _log.warning("%s", error)
                await self._pause(LOOK)
        finally:
            if self._lock is not None:
                os.close(self._lock)

    async def check(self) -> None:
        """Take back what does not keep its promise, and leave out who has got worse, as far as the settings want it."""
        where = ("--data", str(self._data), "--json")
        if self._settings.demote and (self._folder / "promotions.jsonl").exists():
            for row in _json(await self._run(("demote", "--check", *where))) or ():
                if row["demoted"]:
                    _log.warning("%s: %s", row["file"], row["told"])
        if self._settings.mask:
            hours = f"{self._settings.mask_hours:g}"
            told = _json(await self._run(("drift", "--mask", "--hours", hours, *where))) or {}
            for worker in told.get("newly", ()):
                _log.warning("%s is left out: %s", worker, told["left_out"].get(worker, ""))

    async def follow(self) -> None:
        """Serve the artefacts as they are, if they have changed. Those that cannot be read leave things as they were."""
        if (now := self._files()) == self._seen:
            return
        self._seen = now
        try:
            await asyncio.to_thread(self._renew)
        except ConfigError as error:
            _log.warning("what is served stays as it was: %s", error)
        else:
            _log.warning("the artefacts have changed: %s", ", ".join(f"{name}" for name, *_ in now) or "none")

    def _files(self) -> tuple[tuple[str, int, int], ...]:
        found = []
        for name in FOLLOWED:
            with suppress(OSError):
                stat = os.stat(self._folder / name)
                found.append((name, stat.st_mtime_ns, stat.st_ino))
        return tuple(found)

    def _leads(self) -> bool:
        """Whether this is the process that checks; who does so goes on until it ends."""
        if self._lock is None:
            if not self._folder.is_dir():
                return False  # nothing was ever promoted or left out
            handle = os.open(self._folder / ".watch", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                return False
            self._lock = handle
        return True


def _json(out: bytes) -> Any:
    return json.loads(out) if out.strip() else None
