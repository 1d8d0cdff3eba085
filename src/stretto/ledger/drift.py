"""Which worker has silently got worse: agreement with the others, added up as a sequential likelihood-ratio test.

Each reply after the first is held against those before it: does it say what somebody has said? How likely that should be is
known from training (`expected`); how much rarer it would be if the reply were wrong by a fault, as a share of a faulty worker's
are, is arithmetic. The comparisons of one run are of the same reply of each worker, which is wrong by the fault or is not: they
are weighed together. The sum of the log-ratios, kept from falling below 0 (Page 1954), is the evidence against a worker; an alarm
is evidence of 1,000 to 1. Where only one reply was there before, a disagreement speaks against both, until a third sides with one
of them; only the one against whom most speaks is accused, and after an alarm what spoke against the others by its company is
forgotten.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from stretto.ledger.events import Chose, Event, Opened
from stretto.ledger.read import Source

__all__ = ["HEARD", "Alarm", "Compared", "Monitor", "State", "Watched", "compared", "watched"]

HEARD: Final = "heard"
"""What a choice gives as the reason beside an option that tells of a reply: `NEWCOMER with OTHER`, or `NEWCOMER with several`."""

_WITH: Final = " with "
_SEVERAL: Final = "several"
_PAGE: Final = 500
_NEVER: Final[Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True)
class Compared:
    """A reply of `worker` held against those before it, which may have been that of `beside` alone ("": several)."""

    worker: str
    agrees: bool
    expected: float
    beside: str = ""


@dataclass(slots=True)
class State:
    """What is known of a worker: replies held against others, how many agreed, how many should have, and the evidence (nats)."""

    seen: int = 0
    agreed: int = 0
    expected: float = 0.0
    evidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """Against whom the evidence has passed the bar, how strong it is, and on how many replies it rests."""

    worker: str
    evidence: float
    seen: int
    reason: str


@dataclass(slots=True)
class Monitor:
    """The test of every worker. `fault`: the share of wrong replies that it looks for; `luck`: how often a wrong one agrees."""

    odds: float = 1000.0
    fault: float = 0.3
    luck: float = 0.05
    lead: float = 1.0
    workers: dict[str, State] = field(default_factory=dict)

    def see(self, *run: Compared) -> Alarm | None:
        """Take what one run compared; an alarm if that proves it. The evidence of everybody starts anew then."""
        ratios: dict[str, float] = {}
        for one in run:
            state = self._state(one.worker)
            state.seen += 1
            state.agreed += one.agrees
            state.expected += one.expected
            healthy = min(0.99, max(0.02, one.expected))
            ratio = self.luck / healthy if one.agrees else (1 - self.luck) / (1 - healthy)
            for name in (one.worker, one.beside) if one.beside else (one.worker,):
                ratios[name] = ratios.get(name, 1.0) * ratio
        for name, ratio in ratios.items():
            each = self._state(name)
            each.evidence = max(0.0, each.evidence + math.log(1 - self.fault + self.fault * ratio))
        return self._alarm(ratios) if ratios else None

    def _alarm(self, touched: Iterable[str]) -> Alarm | None:
        worst = max(touched, key=lambda name: self.workers[name].evidence)
        state = self.workers[worst]
        if state.evidence < math.log(self.odds):
            return None
        rivals = [s.evidence for name, s in self.workers.items() if name != worst]
        if rivals and state.evidence < max(rivals) + self.lead:
            return None
        reason = (
            f"agreed {state.agreed} of {state.seen} times, {state.expected:.0f} were expected: "
            f"{self.odds:,.0f} to 1 that more than before is wrong"
        )
        alarm = Alarm(worst, state.evidence, state.seen, reason)
        for each in self.workers.values():
            each.evidence = 0.0
        return alarm

    def tied(self) -> list[str]:
        """The workers whose evidence is enough for an alarm, but too even to name one of them: [] where there is no such case."""
        most = max((s.evidence for s in self.workers.values()), default=0.0)
        if most < math.log(self.odds):
            return []
        return sorted(n for n, s in self.workers.items() if s.evidence > most - self.lead)

    def forget(self, worker: str) -> None:
        """Begin anew with a worker: it was mended, or is on probation."""
        self.workers[worker] = State()

    def _state(self, worker: str) -> State:
        return self.workers.setdefault(worker, State())


def compared(events: Iterable[Event]) -> Iterator[Compared]:
    """The comparisons that the choices of a run hold (`policies.sequential` records them when it stops)."""
    for event in events:
        if not isinstance(event, Chose):
            continue
        for name, numbers, why in event.options:
            worker, found, beside = name.rpartition(_WITH)
            if why == HEARD and found and "agrees" in numbers and "expected" in numbers:
                alone = "" if beside == _SEVERAL else beside
                yield Compared(worker, numbers["agrees"] > 0, numbers["expected"], alone)


@dataclass(frozen=True, slots=True)
class Watched:
    """What the record says of the workers: the monitor as it stands, and the alarms with their times (Unix seconds)."""

    monitor: Monitor
    alarms: tuple[tuple[float, Alarm], ...]


def watched(source: Source, *, since: float = 0.0, starts: Mapping[str, float] = _NEVER) -> Watched:
    """Go through the finished runs begun at `since` or later, oldest first; of a worker in `starts` what came after counts."""
    runs: list[str] = []
    before: str | None = None
    while page := source.runs(_PAGE, before):
        runs += [r.run for r in page if r.time >= since and r.status == "finished"]
        before = page[-1].run
        if page[-1].time < since:
            break
    monitor, alarms = Monitor(), list[tuple[float, Alarm]]()
    for run in reversed(runs):
        events = source.events(run)
        now = next((e.time for e in events if isinstance(e, Opened)), 0.0)
        heard = [
            one
            for one in compared(events)
            if now >= max(starts.get(one.worker, 0.0), starts.get(one.beside, 0.0))
        ]
        if (alarm := monitor.see(*heard)) is not None:
            alarms.append((now, alarm))
    return Watched(monitor, tuple(alarms))
