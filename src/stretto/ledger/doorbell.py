"""A bell between processes on one machine: a Unix datagram socket each. A ring says "look at the database"; it may get lost."""

import asyncio
import os
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
        self._folder = folder
        # the bell itself or, if its path were too long, a note where it is
        self._sign = path = folder / f"{process}.bell"
        if len(os.fsencode(path)) > _LONGEST:
            made = tempfile.mkdtemp(prefix="stretto-")
            path.write_text(made)
            path = Path(made) / "bell"
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
        _take_down(self._sign)

    def sweep(self, alive: Callable[[str], bool]) -> None:
        """Take down the bells of processes that have died without doing so."""
        for sign in self._folder.glob("*.bell"):
            if not alive(sign.stem):
                _take_down(sign)

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


def _take_down(sign: Path) -> None:
    try:
        if not sign.is_socket():
            made = Path(sign.read_text())
            (made / "bell").unlink(missing_ok=True)
            made.rmdir()
    except OSError:
        pass  # somebody has tidied up already
    sign.unlink(missing_ok=True)
