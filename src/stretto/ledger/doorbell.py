"""A bell between processes on one machine: a Unix datagram socket each. A ring says "look at the database"; it may get lost."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["Doorbell"]

_LONGEST = 100  # bytes of a path; the kernels' limits are 104 (macOS) and 108 (Linux), the final NUL included


class Doorbell:
    """This process's bell: `path` is where others ring it."""

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{process}.bell"
        self._made: str | None = None
        if len(os.fsencode(path)) > _LONGEST:
            self._made = tempfile.mkdtemp(prefix="stretto-")
            path = Path(self._made) / "bell"
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, rung: Callable[[str, str], None]) -> None:
        """From now on call `rung(text, caller's path)` on `loop` for every ring."""
        self._silence()
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._receive, rung)

    def ring(self, path: str, text: str) -> None:
        """Ring another bell; without effect when nobody is there or too many rings wait."""
        try:
            self._socket.sendto(text.encode(), path)
        except OSError:
            return

    def close(self) -> None:
        """Take the bell down."""
        self._silence()
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def _silence(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._loop = None

    def _receive(self, rung: Callable[[str, str], None]) -> None:
        while True:
            try:
                data, caller = self._socket.recvfrom(4096)
            except BlockingIOError:
                return
            rung(data.decode(errors="replace"), caller or "")
