"""An event loop whose clock jumps: what waits for a time has it at once, so minutes of silence cost a test nothing."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Never waits where a time is given: it moves the clock by that time, unless something has happened already."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0 if timeout is None or timeout > 0 else timeout)
        if not found and timeout is None:
            return super().select(None)
        if not found and timeout is not None and timeout > 0:
            self.now += timeout
        return found


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop on virtual seconds, from 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(main)
