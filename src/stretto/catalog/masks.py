"""Who is left out for a while: `DATA/artifacts/masks.json`, which every process on a data folder follows within a second."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from stretto.errors import ConfigError

__all__ = ["Mask", "Masks"]

_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Mask:
    """A worker is left out from `time` to `until` (Unix seconds), and why."""

    worker: str
    why: str
    time: float
    until: float


class Masks:
    """The masks of a data folder. `clock` gives Unix seconds."""

    def __init__(self, data: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = data / "artifacts" / "masks.json"
        self._clock = clock
        self._looked = -_LOOK
        self._seen: tuple[int, int] | None = None
        self._all: tuple[Mask, ...] = ()

    def all(self) -> tuple[Mask, ...]:
        """All that are on record, past ones included. Raises `ConfigError` if the file is none of ours."""
        try:
            rows = json.loads(self._file.read_text(encoding="utf-8"))
            return tuple(Mask(**row) for row in rows)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError):
            raise ConfigError(f"{self._file}: cannot be read; move it away, and nobody is left out") from None

    def current(self) -> tuple[tuple[str, str], ...]:
        """Who is left out now, and why. A file that cannot be read leaves nobody out."""
        now = self._clock()
        if abs(now - self._looked) >= _LOOK:
            self._looked = now
            self._look()
        return tuple((m.worker, m.why) for m in self._all if m.time <= now < m.until)

    def put(self, mask: Mask) -> None:
        """Leave a worker out; a later mask of the same worker takes the place of what is left of an earlier one."""
        kept = [m for m in self.all() if m.worker != mask.worker or m.until <= mask.time]
        self._write([*kept, mask])

    def lift(self, worker: str) -> bool:
        """Let a worker play again from now on; whether it was left out."""
        now, found = self._clock(), self.all()
        masked = [m for m in found if m.worker == worker and m.until > now]
        if masked:
            self._write([Mask(m.worker, m.why, m.time, now) if m in masked else m for m in found])
        return bool(masked)

    def _look(self) -> None:
        try:
            stat = os.stat(self._file)
        except OSError:
            self._seen, self._all = None, ()
            return
        seen = stat.st_mtime_ns, stat.st_ino
        if seen != self._seen:
            try:
                self._seen, self._all = seen, self.all()
            except ConfigError:
                self._seen, self._all = seen, ()

    def _write(self, masks: list[Mask]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(m) for m in masks], indent=1) + "\n", encoding="utf-8")
        partial.replace(self._file)
        self._looked = -_LOOK
