"""Ceilings of one run's whole call tree, and the budget that keeps retries from becoming a storm."""

from stretto.steps import Quote
from stretto.types import Failure, Left, Limits, usd

__all__ = ["Budget", "RetryBudget", "fitting"]

LEAST_ANSWER = 64
"""An output cap is never lowered below this many tokens to make an ask fit: an answer cut that short helps nobody."""


def fitting(quote: Quote, output_price: int, left: int) -> int | None:
    """The largest output cap below the quoted one with which the ask would fit the money `left`, if that is any use."""
    if output_price <= 0:
        return None
    fits = quote.max_tokens + (left - quote.worst) // output_price
    return fits if LEAST_ANSWER <= fits < quote.max_tokens else None


class Budget:
    """Money, calls and time of one run. Money is held before an attempt at its worst case, settled at its true cost."""

    __slots__ = ("calls", "deadline", "held", "limits", "spent")

    def __init__(self, limits: Limits, now: float, *, spent: int = 0, calls: int = 0) -> None:
        self.limits = limits
        self.deadline = None if limits.seconds is None else now + limits.seconds
        self.spent = spent
        self.held = 0
        self.calls = calls

    def refuse(self, quote: Quote, now: float) -> Failure | None:
        """Why an attempt with this quote may not be made, or `None`."""
        limits = self.limits
        if limits.calls is not None and self.calls >= limits.calls:
            return Failure("limit", f"calls: all {limits.calls} are used")
        if self.deadline is not None and now >= self.deadline:
            return Failure("limit", f"seconds: all {limits.seconds:g} are used")
        if limits.usd is not None:
            if not quote.priced:
                return Failure(
                    "limit", "usd: this worker has no known price; set `price` in its [[worker]] table"
                )
            if self.spent + self.held + quote.worst > limits.usd:
                return Failure(
                    "limit",
                    f"usd: this call may cost up to {_dollars(quote.worst)}, "
                    f"of {_dollars(limits.usd)} there is {_dollars(limits.usd - self.spent - self.held)} left",
                )
        return None

    def fitting(self, quote: Quote, output_price: int) -> int | None:
        """As `fitting`, for the money left of this run."""
        if self.limits.usd is None:
            return None
        return fitting(quote, output_price, self.limits.usd - self.spent - self.held)

    def hold(self, amount: int) -> None:
        """Set `amount` aside and count the call."""
        self.held += amount
        self.calls += 1

    def withdraw(self, amount: int) -> None:
        """End the hold of a call that was not made, and does not count."""
        self.held -= amount
        self.calls -= 1

    def settle(self, held: int, cost: int) -> None:
        """End a hold at its true cost."""
        self.held -= held
        self.spent += cost

    def left(self, now: float) -> Left:
        """What is left of each ceiling."""
        limits = self.limits
        return Left(
            None if limits.usd is None else max(0, limits.usd - self.spent - self.held),
            None if limits.calls is None else max(0, limits.calls - self.calls),
            None if self.deadline is None else max(0.0, self.deadline - now),
        )


def _dollars(pico: int) -> str:
    """Dollars for reading, as short as they are exact to three significant digits."""
    value = usd(pico)
    return (
        f"{value:.2f}"
        if value >= 100
        else f"{value:.3g}"
        if value >= 0.001
        else f"{value:.12f}".rstrip("0").rstrip(".")
    )


class RetryBudget:
    """A token bucket per worker: calls earn `share` of a retry each and time one a second; a retry spends one.

    Bounds the load that retries add to an upstream in trouble (Finagle's retry budget; RELIABILITY.md P1).
    """

    __slots__ = ("_share", "_size", "_stock")

    def __init__(self, share: float = 0.2, size: float = 10.0) -> None:
        self._share = share
        self._size = size
        self._stock: dict[str, tuple[float, float]] = {}

    def earn(self, worker: str, now: float) -> None:
        """A first attempt was made."""
        self._stock[worker] = (min(self._size, self._level(worker, now) + self._share), now)

    def spend(self, worker: str, now: float) -> bool:
        """Whether one more retry is within the budget; takes it if so."""
        level = self._level(worker, now)
        if level < 1.0:
            return False
        self._stock[worker] = (level - 1.0, now)
        return True

    def _level(self, worker: str, now: float) -> float:
        level, at = self._stock.get(worker, (self._size, now))
        return min(self._size, level + (now - at))
