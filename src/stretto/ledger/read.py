"""Readings of the record: receipts, lists of runs, and a reader that shows each key its own runs only.

Everything here is plain data, ready for JSON. Money is in USD (float) and, where sums must be exact, also in pico-dollars.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from stretto.errors import RunNotFound
from stretto.ledger.codec import shape
from stretto.ledger.events import (
    Answered,
    Asked,
    Chose,
    Event,
    Finished,
    Joined,
    Opened,
    Refused,
    Resumed,
    Scored,
)
from stretto.types import Failure, Left, Limits, Usage, usd

__all__ = ["Reader", "Source", "Status", "Summary", "event_json", "receipt", "summary"]

Status = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a list. `cost` in pico-dollars over all attempts, `calls` attempts, `score` the latest one."""

    run: str
    time: float
    model: str
    policy: str
    version: str
    purpose: str
    key: str
    status: Status
    worker: str = ""
    cost: int = 0
    calls: int = 0
    seconds: float = 0.0
    score: float | None = None


class Source(Protocol):
    """What readings are made from: every store of this package, and `Archive`."""

    def events(self, run: str) -> Sequence[Any]:
        """All events of a run, in order. Raises `RunNotFound`."""
        ...

    def runs(
        self,
        limit: int = 50,
        before: str | None = None,
        key: str | None = None,
        purpose: str | None = None,
    ) -> list[Summary]:
        """Runs, newest first."""
        ...

    def live(self, run: str) -> bool:
        """Whether the process that took the run up last still lives."""
        ...


class Reader:
    """The record as its callers may see it. `key` is the id of the asking key; `None` sees everything."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def events(self, run: str, key: str | None = None) -> Sequence[Event]:
        """The events of a run. Raises `RunNotFound` when there is none, or when it is not this key's."""
        try:
            events: Sequence[Event] = self._source.events(run)
        except RunNotFound:
            raise RunNotFound from None  # in the same words as for a run of somebody else
        if key is not None and next((e.key for e in events if isinstance(e, Opened)), None) != key:
            raise RunNotFound
        return events

    def receipt(self, run: str, key: str | None = None, *, include_content: bool = False) -> dict[str, Any]:
        """The receipt of a run. Raises `RunNotFound` like `events`."""
        events = self.events(run, key)
        live = any(isinstance(e, Finished) for e in events) or self._source.live(run)
        return receipt(events, live=live, include_content=include_content)

    def runs(
        self,
        limit: int = 50,
        before: str | None = None,
        key: str | None = None,
        purpose: str | None = None,
    ) -> list[dict[str, Any]]:
        """Runs as plain data, newest first; of `key`, those before the run `before`, of one purpose."""
        return [
            asdict(found) | {"cost_usd": usd(found.cost)}
            for found in self._source.runs(limit, before, key, purpose)
        ]


def summary(events: Iterable[Event], *, live: bool = True) -> Summary:
    """A run in one line. Raises `RunNotFound` without an `opened`."""
    story = _Story(events)
    opened, finished = story.opened, story.finished
    return Summary(
        run=opened.run,
        time=opened.time,
        model=opened.model,
        policy=opened.policy,
        version=opened.version,
        purpose=opened.purpose,
        key=opened.key,
        status=_status(finished, live),
        worker=finished.worker if finished else "",
        cost=finished.cost if finished else sum(a.cost for a in story.answered.values()),
        calls=finished.calls if finished else len(story.asked),
        seconds=finished.seconds if finished else 0.0,
        score=story.scores[-1].score if story.scores else None,
    )


def receipt(events: Iterable[Event], *, live: bool = True, include_content: bool = False) -> dict[str, Any]:
    """The run as its caller may see it, JSON-ready: what was asked of whom, why, and what it took.

    `usage`, `cost_usd` and `calls` are the settled figures of the run, or the sums so far while it has not ended; `consistent`
    says whether the attempts add up to them exactly. An attempt without a recorded outcome is `unknown` and costs what was
    reserved. `started` is seconds after the run began. `live=False`: no process works on it any more. Raises `RunNotFound`
    without an `opened`.
    """
    story = _Story(events)
    opened, finished = story.opened, story.finished
    attempts = [_attempt(asked, story, include_content) for asked in story.asked]
    usage = sum((a.usage for a in story.answered.values()), Usage())
    unknown = sum(asked.reserved for asked in story.asked if (asked.at, asked.attempt) not in story.answered)
    cost = sum(a.cost for a in story.answered.values()) + unknown
    consistent = finished is None or (
        (finished.usage, finished.cost, finished.calls) == (usage, cost, len(attempts))
    )
    told: dict[str, Any] = {
        "run_id": opened.run,
        "status": _status(finished, live),
        "model": opened.model,
        "policy": opened.policy,
        "version": opened.version,
        "purpose": opened.purpose,
        **({"beside": opened.beside} if opened.beside else {}),
        "created": opened.time,
        "served_by": finished.worker if finished else None,
        "served_at": finished.at if finished else None,
        "why": finished.why if finished else "",
        "finish": finished.finish if finished else None,
        "error": _failure(finished.error if finished else None),
        "usage": _usage(finished.usage if finished else usage),
        "cost_usd": usd(finished.cost if finished else cost),
        "cost_pico": finished.cost if finished else cost,
        "calls": finished.calls if finished else len(attempts),
        "consistent": consistent,
        "attempts": attempts,
        "choices": [_choice(choice, include_content) for choice in story.chose],
        "refused": [_refusal(refused) for refused in story.refused],
        "joined": [
            {"at": joined.at, "arrived": list(joined.arrived), "dropped": list(joined.dropped)}
            for joined in story.joined
        ],
        "denied": [{"worker": denied.worker, "reason": denied.reason} for denied in opened.denied],
        "limits": _limits(opened.limits),
        "left": _left(story.left),
        "time": _times(story),
        "scores": [
            {"score": s.score, "by": s.by, "at": s.at, "time": s.time, "comment": s.content or ""}
            for s in story.scores
        ],
        "pool": opened.pool,
        "seed": opened.seed,
        "resumed": len(story.resumed),
        "content_kept": opened.content is not None,
    }
    if include_content:
        told["request"] = _plain(opened.content)
        told["answer"] = _plain(finished.content if finished and finished.content else _said(story, finished))
    return told


def event_json(event: Event, *, include_content: bool = True) -> dict[str, Any]:
    """An event as plain data: its kind and fields, never a run's secret."""
    found: dict[str, Any] = {"kind": event.kind}
    kind: Any = type(event)
    form = shape(kind)
    found |= {name: _plain(getattr(event, name)) for name in form.names}
    if form.content and include_content:
        found["content"] = _plain(getattr(event, "content", None))
    return found


# --- inside ------------------------------------------------------------------------------------------------------


class _Story:
    """The events of one run, sorted out."""

    def __init__(self, events: Iterable[Event]) -> None:
        opened: Opened | None = None
        self.finished: Finished | None = None
        self.asked: list[Asked] = []
        self.answered: dict[tuple[str, int], Answered] = {}
        self.chose: list[Chose] = []
        self.refused: list[Refused] = []
        self.joined: list[Joined] = []
        self.resumed: list[Resumed] = []
        self.scores: list[Scored] = []
        self.left = Left()
        self.parts: list[
            list[float]
        ] = []  # when it was begun or taken up, and the last that was heard of it then
        for event in events:
            if isinstance(event, Opened | Resumed):
                self.parts.append([event.time, event.time])
            elif self.parts and not isinstance(event, Scored):
                self.parts[-1][1] = event.time
            match event:
                case Opened():
                    opened = event
                case Asked():
                    self.asked.append(event)
                case Answered():
                    self.answered[event.at, event.attempt] = event
                    self.left = event.left
                case Refused():
                    self.refused.append(event)
                    self.left = event.left
                case Chose():
                    self.chose.append(event)
                case Joined():
                    self.joined.append(event)
                case Resumed():
                    self.resumed.append(event)
                    self.finished = None
                case Finished():
                    self.finished = event
                case Scored():
                    self.scores.append(event)
                case _:
                    pass
        if opened is None:
            raise RunNotFound
        self.opened = opened


def _status(finished: Finished | None, live: bool) -> Status:
    if finished is None:
        return "running" if live else "interrupted"
    return "finished" if finished.error is None else "failed"


def _attempt(asked: Asked, story: _Story, include_content: bool) -> dict[str, Any]:
    answered = story.answered.get((asked.at, asked.attempt))
    told: dict[str, Any] = {
        "at": asked.at,
        "attempt": asked.attempt,
        "worker": asked.worker,
        "endpoint": asked.endpoint,
        "role": asked.role,
        "reason": asked.reason,
        "labels": dict(asked.labels),
        "want": asked.want,
        "max_tokens": asked.max_tokens,
        "reserved_usd": usd(asked.reserved),
        "started": max(0.0, asked.time - story.opened.time),
    }
    if answered is None:
        told |= {"outcome": "unknown", "cost_usd": usd(asked.reserved), "cost_pico": asked.reserved}
        told |= {"usage": _usage(Usage()), "seconds": None, "first_byte_seconds": None}
        told |= {"finish": None, "model": "", "dropped": [], "error": None}
    else:
        error = answered.error
        told |= {
            "outcome": "answered"
            if error is None
            else "cancelled"
            if error.kind == "cancelled"
            else "failed",
            "cost_usd": usd(answered.cost),
            "cost_pico": answered.cost,
            "usage": _usage(answered.usage),
            "seconds": answered.seconds,
            "first_byte_seconds": answered.first_byte,
            "finish": answered.finish or None,
            "model": answered.model,
            "dropped": list(answered.dropped),
            "error": _failure(error),
        }
    if include_content:
        told["texts"] = {
            "asked": None if asked.content is None else [_plain(message) for message in asked.content],
            "answered": _plain(answered.content.message if answered and answered.content else None),
        }
    return told


def _said(story: _Story, finished: Finished | None) -> Any:
    """The message that was the answer: what the last attempt at the settled step said."""
    if finished is None:
        return None
    for (at, _), answered in reversed(story.answered.items()):
        if at == finished.at and answered.content is not None:
            return answered.content.message
    return None


def _choice(chose: Chose, include_content: bool) -> dict[str, Any]:
    texts = {"texts": dict(chose.content)} if include_content and chose.content else {}
    return {
        "at": chose.at,
        "picked": chose.picked,
        "probability": chose.probability,
        "reason": chose.reason,
        "by": chose.by,
        "options": [
            {"name": name, "estimates": dict(estimates), "rejected": rejected}
            for name, estimates, rejected in chose.options
        ],
        **texts,
    }


def _refusal(refused: Refused) -> dict[str, Any]:
    return {
        "at": refused.at,
        "worker": refused.worker,
        "role": refused.role,
        "error": _failure(refused.error),
        "left": _left(refused.left),
    }


def _times(story: _Story) -> dict[str, float]:
    """`upstream_seconds`: when at least one attempt was under way. The rest of the total is the gateway's own.

    A run that settled in one go has both as they were measured; else they are taken from the times of its records, without
    the time between a cut and its resumption.
    """
    finished = story.finished
    if finished is not None and not story.resumed:
        total, own = finished.seconds, finished.own
        return {"total_seconds": total, "upstream_seconds": max(0.0, total - own), "gateway_seconds": own}
    total = sum(max(0.0, end - start) for start, end in story.parts)
    upstream, until = 0.0, story.opened.time
    for asked in sorted(story.asked, key=lambda asked: asked.time):
        if (answered := story.answered.get((asked.at, asked.attempt))) is not None:
            end = asked.time + answered.seconds
            upstream += max(0.0, end - max(asked.time, until))
            until = max(until, end)
    upstream = min(upstream, total)
    return {"total_seconds": total, "upstream_seconds": upstream, "gateway_seconds": total - upstream}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input": usage.input,
        "output": usage.output,
        "cached": usage.cached,
        "reasoning": usage.reasoning,
        "total": usage.input + usage.output,
        "estimated": usage.estimated,
    }


def _failure(error: Failure | None) -> dict[str, Any] | None:
    return (
        None if error is None else {name: value for name, value in asdict(error).items() if value is not None}
    )


def _limits(limits: Limits) -> dict[str, Any]:
    return asdict(limits) | {"usd": None if limits.usd is None else usd(limits.usd)}


def _left(left: Left) -> dict[str, Any]:
    return asdict(left) | {"usd": None if left.usd is None else usd(left.usd)}


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and sets as plain JSON data."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
