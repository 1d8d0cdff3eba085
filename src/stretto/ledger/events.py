"""What is recorded of a run. Typed, frozen, append-only; receipts, replay, resume, billing and learning are readings of these.

Everything except `content` stands in the hash chain. `content` (texts: prompts, answers) is kept apart, or not at all; the chain
holds a keyed digest of it. `time` is Unix seconds; money is pico-dollars; `at` is a step's address (`stretto.steps`).

The events of a run, in the order they may come:

    opened  (chose | refused | asked answered | joined | arrived | resumed)*  finished  scored*

and, outside any run, `pooled` whenever the pool that runs see has changed.

An `asked` without an `answered` is a call whose outcome is unknown: its process died. It stays charged at what was reserved.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from stretto.steps import Want
from stretto.types import Card, Denied, Failure, Left, Limits, Message, Request, TokenLogprob, Usage, record

__all__ = [
    "SCHEMA",
    "Answered",
    "Arrived",
    "Asked",
    "Chose",
    "Event",
    "Finished",
    "Joined",
    "Opened",
    "Pooled",
    "Refused",
    "Resumed",
    "Said",
    "Scored",
]

SCHEMA = 1
"""Version of these shapes, written at the head of every journal segment."""


@record
class Said:
    """What an attempt said: the content of an `Answered`."""

    message: Message
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    state: tuple[float, ...] = ()


@record(kw_only=True)
class Pooled:
    """The workers that runs see from now on. `version` is a hash of the cards; `opened.pool` refers to it."""

    kind: ClassVar[str] = "pooled"
    run: str = ""
    time: float
    version: str
    cards: tuple[Card, ...]


@record(kw_only=True)
class Opened:
    """A run begins. `content`: the request, without its pool (`pool` names that, less the `denied`).

    `beside`: the run that served the same request, where this one only shows what its policy would have answered.
    `secret` (hex) keys the digests of this run's contents. It is kept with the content, never in the chain, and goes with it.
    """

    kind: ClassVar[str] = "opened"
    run: str
    time: float
    model: str
    policy: str
    version: str
    purpose: str = "serve"
    key: str = ""
    seed: int = 0
    limits: Limits = Limits()
    pool: str = ""
    denied: tuple[Denied, ...] = ()
    beside: str = ""
    secret: str = ""
    content: Request | None = None


@record(kw_only=True)
class Chose:
    """A plan chose: `options` are (name, estimates, why rejected). `content`: texts that belong to the choice, by name."""

    kind: ClassVar[str] = "chose"
    run: str
    time: float
    at: str
    picked: str
    probability: float = 1.0
    reason: str = ""
    by: str = ""
    options: tuple[tuple[str, Mapping[str, float], str], ...] = ()
    content: Mapping[str, str] | None = None


@record(kw_only=True)
class Asked:
    """The intent of one attempt, written before it is made. `slab` is where its money is held ("" if the key has no ceiling).

    `fingerprint` is a keyed digest of what is asked: replay compares it. `content`: the messages, unless they are the
    request's own.
    """

    kind: ClassVar[str] = "asked"
    run: str
    time: float
    at: str
    attempt: int
    worker: str
    endpoint: str
    role: str
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    want: Want = "text"
    max_tokens: int | None = None
    reserved: int = 0
    key: str = ""
    slab: str = ""
    fingerprint: str = ""
    content: tuple[Message, ...] | None = None


@record(kw_only=True)
class Answered:
    """The outcome of one attempt, its true usage and cost. `final`: no further attempt is made for this ask.

    `content`: what it said.
    """

    kind: ClassVar[str] = "answered"
    run: str
    time: float
    at: str
    attempt: int
    worker: str
    usage: Usage = Usage()
    cost: int = 0
    seconds: float = 0.0
    first_byte: float | None = None
    finish: str = ""
    model: str = ""
    dropped: tuple[str, ...] = ()
    error: Failure | None = None
    final: bool = True
    left: Left = Left()
    key: str = ""
    slab: str = ""
    content: Said | None = None


@record(kw_only=True)
class Refused:
    """A step that was not executed: a limit or a constraint forbade it, or no endpoint was to be had."""

    kind: ClassVar[str] = "refused"
    run: str
    time: float
    at: str
    worker: str
    role: str
    error: Failure
    left: Left = Left()


@record(kw_only=True)
class Joined:
    """A fork ended: which branches had answered, in the order they did, and which were dropped."""

    kind: ClassVar[str] = "joined"
    run: str
    time: float
    at: str
    arrived: tuple[int, ...]
    dropped: tuple[int, ...] = ()


@record(kw_only=True)
class Arrived:
    """What a `Next` came to: the ticket, or "" when its time passed or nothing was under way."""

    kind: ClassVar[str] = "arrived"
    run: str
    time: float
    at: str
    ticket: str


@record(kw_only=True)
class Resumed:
    """The run goes on in another process, or after a cut; `process` names who took it up. `secret` as in `Opened`."""

    kind: ClassVar[str] = "resumed"
    run: str
    time: float
    process: str = ""
    secret: str = ""


@record(kw_only=True)
class Finished:
    """A run ends. `at` and `worker` name the step that wrote the answer; sums are over all attempts.

    `own` is the gateway's own share of `seconds`: the time in which no attempt was under way. `content`: the answer,
    unless it is the reply at `at` as it stands.
    """

    kind: ClassVar[str] = "finished"
    run: str
    time: float
    at: str = ""
    worker: str = ""
    why: str = ""
    finish: str = ""
    usage: Usage = Usage()
    cost: int = 0
    calls: int = 0
    seconds: float = 0.0
    own: float = 0.0
    error: Failure | None = None
    key: str = ""
    content: Message | None = None


@record(kw_only=True)
class Scored:
    """Feedback on a run: a score 0..1 from a grader, a verifier or a person. `content`: a comment."""

    kind: ClassVar[str] = "scored"
    run: str
    time: float
    score: float
    by: str = ""
    at: str = ""
    content: str | None = None


Event = Pooled | Opened | Chose | Asked | Answered | Refused | Joined | Arrived | Resumed | Finished | Scored
