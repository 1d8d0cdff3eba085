"""Which endpoints may be tried: cool-down after a 429, ejection after failures in a row, and one probe before coming back.

The scheme and its numbers follow Envoy's outlier detection (consecutive failures, time out of the pool that grows) with
the half-open probe of circuit breakers. All times are seconds of one monotonic clock, given by the caller.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from stretto.types import FailureKind

__all__ = ["FAILURES", "Health", "Standing", "retry_after"]

FAILURES: Final = 5
"""Failures in a row that take an endpoint out."""
FIRST_EJECTION: Final = 5.0
LONGEST_EJECTION: Final = 30.0
FIRST_COOLDOWN: Final = 1.0
LONGEST_COOLDOWN: Final = 60.0
PROBE_SECONDS: Final = 1.0
"""How long an offered probe may take to begin before it is offered again."""

_LONGEST_RETRY_AFTER: Final = 86_400.0

_COUNTED: Final[frozenset[FailureKind]] = frozenset(
    {"unavailable", "overloaded", "upstream_error", "upstream_auth", "timeout", "cut", "protocol"}
)

Standing = Literal["fit", "probe", "ejected", "cooling"]


@dataclass(slots=True)
class Health:
    """How one endpoint has been doing.

    A rate limit cools it down until the time the upstream named (at most 60 s; without one 1 s, doubling). Five failures in a row
    eject it, for 5 s and then twice as long each time, at most 30 s. After that one call probes it: success brings it back.
    """

    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    cooled_until: float = 0.0
    rate_limits: int = 0
    last: FailureKind | None = None
    clear: bool = True
    _offered: float = 0.0
    _probing: bool = False

    def standing(self, now: float) -> Standing:
        """Whether it may be tried: `probe` means that one call should find out."""
        if self.clear:
            return "fit"
        if now < self.cooled_until:
            return "cooling"
        if self.failures < FAILURES:
            return "fit"
        if now < self.ejected_until or self._probing or now < self._offered + PROBE_SECONDS:
            return "ejected"
        return "probe"

    def offer(self, now: float) -> None:
        """It was named as the endpoint to probe: nobody else is told so for a moment."""
        self._offered = now

    def begin(self) -> None:
        """A call begins; if the endpoint was out, this is its probe."""
        if self.failures >= FAILURES:
            self._probing = True

    def leave(self) -> None:
        """A call ended without telling anything about the endpoint (it was cancelled)."""
        self._probing = False

    def succeed(self, now: float) -> None:
        """A call ended well. A cool-down that another call has brought about goes on."""
        self.failures = self.ejections = self.rate_limits = 0
        self.ejected_until = self._offered = 0.0
        self._probing = False
        self.last = None
        self.clear = now >= self.cooled_until

    def fail(self, kind: FailureKind, now: float, retry_after: float | None = None) -> bool:
        """A call failed. Returns whether that has ejected the endpoint."""
        self._probing = False
        if kind == "rate_limited":
            pause = FIRST_COOLDOWN * 2**self.rate_limits if retry_after is None else retry_after
            self.rate_limits = min(self.rate_limits + 1, 6)
            self.cooled_until = max(self.cooled_until, now + min(pause, LONGEST_COOLDOWN))
            self.clear = False
            return False
        if kind not in _COUNTED:
            return False
        self.last = kind
        self.failures += 1
        self.clear = False
        if self.failures < FAILURES or now < self.ejected_until:
            return False
        self.ejected_until = now + min(FIRST_EJECTION * 2**self.ejections, LONGEST_EJECTION)
        self.ejections = min(self.ejections + 1, 10)
        return True


def retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """How long the upstream asks us to wait, in seconds; a date counts from the answer's own `Date`, whatever our clock says."""
    millis = headers.get(b"retry-after-ms")
    if millis is not None and millis.isdigit():
        return min(int(millis[:12]) / 1000, _LONGEST_RETRY_AFTER)
    value = headers.get(b"retry-after")
    if value is None:
        return None
    try:
        seconds = float(value[:32])
    except ValueError:
        until = _date(value)
        since = _date(headers.get(b"date", b""))
        if until is None:
            return None
        seconds = until - (time.time() if since is None else since)
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER) if seconds == seconds else None


def _date(value: bytes) -> float | None:
    import email.utils  # late: 10 ms, and hardly ever needed

    try:
        return email.utils.parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
