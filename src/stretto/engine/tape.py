"""What the ledger holds of a run, ready to be fed back to its plan: replay and resume are one thing, a run that has a tape."""

import hashlib
from collections.abc import Iterable

from stretto.errors import ContentNotKept, Diverged
from stretto.ledger.events import Answered, Arrived, Asked, Chose, Event, Finished, Joined, Opened, Refused
from stretto.steps import Ask, Want
from stretto.types import NO_USAGE, Failure, Message, Reply, Request, Usage

__all__ = ["NOTHING_YET", "Recall", "Sums", "Tape", "fingerprint", "not_recorded"]

Sums = tuple[Usage, int, float]
"""Usage, cost and seconds of the attempts of an ask."""

NOTHING_YET: Sums = (NO_USAGE, 0, 0.0)
"""Those of an ask that has not been attempted."""


def fingerprint(ask: Ask, secret: str) -> str:
    """A keyed digest of everything that an ask asks (all but its reason and its `otherwise`), as the plan proposed it."""
    text = repr(
        (
            ask.worker,
            ask.role,
            ask.want,
            ask.speaks,
            ask.max_tokens,
            ask.seed,
            ask.params,
            ask.messages,
            ask.tools,
            ask.tool_choice,
            ask.response_format,
        )
    )
    return hashlib.blake2b(text.encode(), key=bytes.fromhex(secret), digest_size=16).hexdigest()


class Recall:
    """Answers for a replay under another policy: by who is asked what, not by where in the plan it was asked.

    Sampling parameters are not compared (the record holds outcomes, not counterfactual ones); equal questions are answered in
    the order in which they were recorded, each reply once.
    """

    def __init__(self) -> None:
        self._stock: dict[str, list[Reply]] = {}

    def add(self, worker: str, want: Want, messages: tuple[Message, ...], reply: Reply) -> None:
        """Remember a reply."""
        self._stock.setdefault(_question(worker, want, messages), []).append(reply)

    def take(self, ask: Ask) -> Reply | None:
        """The next recorded reply to this bound ask, or `None`."""
        replies = self._stock.get(_question(ask.worker, ask.want, ask.messages or ()))
        return replies.pop(0) if replies else None


def _question(worker: str, want: str, messages: tuple[Message, ...]) -> str:
    # An answer with log-probabilities serves where text alone is wanted, and the other way round.
    return repr((worker, want if want in ("embedding", "state") else "text", messages))


class Tape:
    """The record of one run by address: replies, refusals, joins and arrivals; and what it has spent.

    Raises `ContentNotKept` when an answer was recorded without its text.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.opened: Opened | None = None
        self.finished: Finished | None = None
        self.replies: dict[str, Reply] = {}
        self.abandoned: dict[str, Reply] = {}
        self.asks: dict[str, Asked] = {}
        self.chose: set[str] = set()
        self.joined: dict[str, Joined] = {}
        self.arrived: dict[str, Arrived] = {}
        self.attempts: dict[str, int] = {}
        self.usage = Usage()
        self.spent = 0
        self.calls = 0
        self.sums: dict[str, Sums] = {}
        self.served: dict[str, Usage] = {}
        pending: dict[tuple[str, int], int] = {}
        for event in events:
            if isinstance(event, Asked):
                self.asks[event.at] = event
                self.attempts[event.at] = event.attempt
                self.calls += 1
                pending[event.at, event.attempt] = event.reserved
            elif isinstance(event, Answered):
                pending.pop((event.at, event.attempt), None)
                self._answered(event)
            elif isinstance(event, Refused):
                usage, cost, seconds = self.sums.get(event.at, NOTHING_YET)
                self.replies[event.at] = Reply(
                    worker=event.worker,
                    at=event.at,
                    usage=usage,
                    cost=cost,
                    seconds=seconds,
                    attempts=self.attempts.get(event.at, 0),
                    left=event.left,
                    error=event.error,
                )
            elif isinstance(event, Chose):
                self.chose.add(event.at)
            elif isinstance(event, Joined):
                self.joined[event.at] = event
            elif isinstance(event, Arrived):
                self.arrived[event.at] = event
            elif isinstance(event, Opened):
                self.opened = event
            elif isinstance(event, Finished):
                self.finished = event
        self.spent += sum(pending.values())

    def _answered(self, event: Answered) -> None:
        usage, cost, seconds = self.sums.get(event.at, NOTHING_YET)
        sums = self.sums[event.at] = (usage + event.usage, cost + event.cost, seconds + event.seconds)
        self.usage += event.usage
        self.spent += event.cost
        if not event.final:
            return
        self.served[event.at] = event.usage
        said = event.content
        if said is None and event.error is None:
            raise ContentNotKept
        reply = Reply(
            said.message if said else Message("assistant", ""),
            event.finish,
            event.worker,
            event.at,
            *sums,
            attempts=event.attempt,
            left=event.left,
            error=event.error,
            logprobs=said.logprobs if said else (),
            embeddings=said.embeddings if said else (),
            state=said.state if said else (),
        )
        shelf = self.abandoned if event.error and event.error.kind == "cancelled" else self.replies
        shelf[event.at] = reply

    def reply(self, ask: Ask, at: str, secret: str) -> Reply | None:
        """The recorded reply at an address, or `None` if the tape ends there. Raises `Diverged` if something else was asked."""
        asked = self.asks.get(at)
        if asked is not None and asked.fingerprint != fingerprint(ask, secret):
            raise Diverged(
                f"at step {at} the plan asks {ask.worker} as {ask.role}, which is not what the ledger holds there"
            )
        reply = self.replies.get(at)
        if reply is not None and asked is None and reply.worker != ask.worker:
            raise Diverged(
                f"at step {at} the plan asks {ask.worker}, the ledger holds a refusal of {reply.worker}"
            )
        return reply

    def recall(self, request: Request) -> Recall:
        """The tape's replies by content; `request` is the recorded request, for asks that put its own messages."""
        recall = Recall()
        for at, asked in self.asks.items():
            if at in self.replies:
                recall.add(asked.worker, asked.want, asked.content or request.messages, self.replies[at])
        return recall


def not_recorded(ask: Ask, at: str) -> Reply:
    """The reply of a replay that has no record to answer from."""
    message = f"the ledger holds no answer of {ask.worker} to this at step {at}"
    return Reply(worker=ask.worker, at=at, error=Failure("not_recorded", message))
