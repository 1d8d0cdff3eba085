"""A store that forgets when the process ends: for tests, notebooks, and runs that nobody will ask about."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from stretto.errors import RunError, RunNotFound
from stretto.ledger.events import Event, Finished, Opened, Pooled, Resumed
from stretto.ledger.read import Summary, summary
from stretto.types import Card

__all__ = ["MemoryStore"]


class MemoryStore:
    """Events in memory, with everything the journal offers but durability."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Event]] = {}
        self._cards: dict[str, tuple[Card, ...]] = {}

    def append(self, batch: Sequence[Event]) -> None:
        """Record events in order. Nothing to wait for."""
        for event in batch:
            if isinstance(event, Pooled):
                self._cards[event.version] = event.cards
            if event.run:
                self._runs.setdefault(event.run, []).append(event)

    def events(self, run: str) -> tuple[Event, ...]:
        """All events of a run in the order they were written. Raises `RunNotFound`."""
        try:
            return tuple(self._runs[run])
        except KeyError:
            raise RunNotFound(f"there is no run {run}") from None

    def cards(self, version: str) -> tuple[Card, ...]:
        """The pool that a `pooled` event recorded under this version. Raises `RunNotFound`."""
        try:
            return self._cards[version]
        except KeyError:
            raise RunNotFound(f"no pool was recorded under version {version}") from None

    def live(self, run: str) -> bool:
        """Whether the process that took the run up last still lives: yes, it is this one."""
        return run in self._runs

    def runs(
        self,
        limit: int = 50,
        before: str | None = None,
        key: str | None = None,
        purpose: str | None = None,
    ) -> list[Summary]:
        """Runs, newest first, from those before the run `before`; of one key (its id, "" for none), of one purpose."""
        opened = (
            summary(events)
            for run, events in sorted(self._runs.items(), reverse=True)
            if any(isinstance(event, Opened) for event in events) and (before is None or run < before)
        )
        asked_for = (
            found
            for found in opened
            if (key is None or found.key == key) and (purpose is None or found.purpose == purpose)
        )
        return list(islice(asked_for, limit))

    def erase(self, run: str) -> int:
        """Forget what was said in a run, not that it was; returns how many contents there were. Raises `RunNotFound`, and
        `RunError` while the run is under way.
        """
        events = self.events(run)
        if not any(isinstance(event, Finished) for event in events):
            raise RunError(f"run {run} is still under way: its contents can be erased when it has ended")
        erased = [_without_content(event) for event in events]
        self._runs[run] = erased
        return sum(a is not b for a, b in zip(events, erased, strict=True))

    def close(self) -> None:
        """Nothing to do; what was recorded stays readable."""


def _without_content(event: Event) -> Event:
    changes: dict[str, Any] = {}
    if getattr(event, "content", None) is not None:
        changes["content"] = None
    if isinstance(event, Opened | Resumed) and event.secret:
        changes["secret"] = ""
    return replace(event, **changes) if changes else event
