"""How many calls may be under way at one endpoint; the others wait in the order in which they came."""

import asyncio
from collections import deque

__all__ = ["Gate"]


class Gate:
    """Lets at most `most` calls in at a time."""

    __slots__ = ("_waiting", "inside", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def load(self) -> int:
        """Calls inside and waiting."""
        return self.inside + len(self._waiting)

    async def enter(self, deadline: float | None) -> None:
        """Wait for a place until `deadline` (event loop time). Raises `TimeoutError`, and then holds nothing."""
        if self.inside < self.most and not self._waiting:
            self.inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place had been given just before
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to the next who waits, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
