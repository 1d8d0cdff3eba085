"""The one idea: a policy proposes steps, an engine executes them, a store records everything. The shapes of all three.

A plan is a generator: it yields steps, is sent their results, and returns an `Answer` or one last `Ask`:

| step | means | what is sent back |
|---|---|---|
| `Ask` | one question to one worker in one role | `Reply` (a failure is data: `reply.error`) |
| `Fork` | sub-plans side by side, perhaps only until a quorum has answered | one `Answer` a plan, in order |
| `Note` | "I chose this, with this chance, for this reason" | `None` |
| `Begin` | start an ask and go on | a ticket (the address of the ask) |
| `Next` | wait for the next begun ask | `Arrival`, or `None` when `within` passed or nothing is under way |

A step's *address* is its path in the plan: the step's number, after the `step.branch` of every fork around it. `2` is
the third step of the outermost plan, `1.0/3` the fourth step of the first branch of the fork at `1`, `1.0/2.1/0` one
level further down.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from stretto.types import (
    Answer,
    Card,
    Delta,
    Failure,
    Key,
    Message,
    Reply,
    Request,
    TokenLogprob,
    Usage,
    Want,
    derive_seed,
    record,
)

__all__ = [
    "Accounts",
    "Arrival",
    "Ask",
    "Begin",
    "Choice",
    "Count",
    "Emit",
    "Endpoint",
    "Fork",
    "Hold",
    "Next",
    "Note",
    "Option",
    "Outcome",
    "Outlook",
    "Plan",
    "Policy",
    "Pool",
    "Quote",
    "Quotes",
    "Ready",
    "Role",
    "Span",
    "States",
    "Step",
    "Store",
    "Tally",
    "Want",
    "layers",
    "put",
    "spec",
    "version",
]

Role = Literal[
    "solver", "thinker", "worker", "verifier", "judge", "synthesizer", "planner", "router", "embedder"
]


# --- steps -------------------------------------------------------------------------------------------------------


@record
class Ask:
    """One question to one worker.

    `messages=None` asks the request's own messages. `speaks=True` marks a step whose answer may go to the caller: it carries
    the request's sampling parameters, tools, response format, `max_tokens` and uninterpreted fields, and wants what the request
    does, and may add `tools` or set the `tool_choice`; other steps carry their own `params` alone. `seed="step"` derives the
    sampling seed from the request's seed and the step's address, so that resamples of one model differ and still replay.
    `otherwise` is the answer to give when this, as a plan's last ask, brings none (refused by a limit, or failed before anything
    was shown), or whom to ask then instead (not after a refusal by a limit: then the answer at the end of the chain counts).
    `more` goes to the caller with its own, as `Answer.more`. `reason` says why this worker, for the receipt.
    """

    worker: str
    messages: tuple[Message, ...] | None = None
    role: Role = "solver"
    reason: str = ""
    want: Want = "text"
    speaks: bool = False
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | Literal["step"] | None = None
    otherwise: "Answer | Ask | None" = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    wire: str = "chat"
    more: Mapping[str, Any] = field(default_factory=dict)

    def capped(self, max_tokens: int) -> "Ask":
        """The same ask with an output cap. (Spelled out: `replace` costs 5 us, and the hot path does this.)"""
        return Ask(
            self.worker,
            self.messages,
            self.role,
            self.reason,
            self.want,
            self.speaks,
            max_tokens,
            self.params,
            self.seed,
            self.otherwise,
            self.tools,
            self.tool_choice,
            self.response_format,
            self.extra,
            self.wire,
            self.more,
        )

    def bound(self, request: Request, at: str) -> "Ask":
        """This ask with nothing left to look up: messages, parameters, tools and seed filled in for the step at `at`."""
        messages = self.messages if self.messages is not None else request.messages
        seed = derive_seed(request.seed, at) if self.seed == "step" else self.seed
        if not self.speaks:
            params = self.params if seed is None else {**self.params, "seed": seed}
            return replace(self, messages=messages, params=params, wire=request.wire)
        params = {**request.params, **self.params} if self.params else request.params
        if seed is not None:
            params = {**params, "seed": seed}
        return Ask(
            self.worker,
            messages,
            self.role if request.want == "text" else "embedder",
            self.reason,
            self.want if request.want == "text" else request.want,
            True,
            self.max_tokens if self.max_tokens is not None else request.max_tokens,
            params,
            None,
            self.otherwise,
            (*request.tools, *self.tools) if self.tools else request.tools,
            request.tool_choice if self.tool_choice is None else self.tool_choice,
            request.response_format,
            request.extra,
            request.wire,
            self.more,
        )


@record
class Option:
    """One thing a choice could have picked: its estimates (named numbers), and why it was passed over."""

    name: str
    estimates: Mapping[str, float] = field(default_factory=dict)
    rejected: str = ""


@record
class Choice:
    """A decision, as it is recorded: what there was, what was picked with which probability, why, and by what knowledge.

    `by` names the source: a rule, or an artefact with its hash. `texts`: what of it a caller or a model has written, by name; it
    is kept with the texts of the run, apart from the rest of the record.
    """

    picked: str
    options: tuple[Option, ...] = ()
    probability: float = 1.0
    reason: str = ""
    by: str = ""
    texts: Mapping[str, str] | None = None


@record
class Fork:
    """Sub-plans (or plain asks) side by side.

    With `quorum`, the fork ends when that many have answered without error; with `within`, when so many seconds have passed.
    What is still under way then is cancelled and comes back as an answer with error kind `dropped`. A branch that a limit refuses
    ends with that failure; the plan that forked may go on, since what the other branches held is free again.
    """

    plans: tuple["Plan | Ask", ...]
    quorum: int | None = None
    within: float | None = None


@record
class Note:
    """Record a choice."""

    choice: Choice


@record
class Begin:
    """Start an ask and go on; its reply is fetched with `Next`. What was begun and never fetched is cancelled at the end."""

    ask: Ask


@record
class Next:
    """Wait for the next begun ask of this plan, at most `within` seconds."""

    within: float | None = None


@record
class Arrival:
    """A begun ask that has come back: the ticket `Begin` gave, and its reply."""

    ticket: str
    reply: Reply


Step = Ask | Fork | Note | Begin | Next
Plan = Generator[Step, Any, Answer | Ask]


def put(ask: Ask) -> Generator[Step, Any, Reply]:
    """`reply = yield from put(ask)`: the typed way to ask inside a plan."""
    reply: Reply = yield ask
    return reply


# --- policies ----------------------------------------------------------------------------------------------------


@record
class Span:
    """The least, the expected and the most of something."""

    least: float = 0.0
    expected: float = 0.0
    most: float = 0.0

    def __add__(self, other: "Span") -> "Span":
        return Span(self.least + other.least, self.expected + other.expected, self.most + other.most)


@record
class Outlook:
    """What a plan would take before anything is called: calls, money (pico-dollars) and time (seconds)."""

    calls: Span = Span()
    usd: Span = Span()
    seconds: Span = Span()


@record
class Quote:
    """What one ask would cost: expected and at worst (pico-dollars), the tokens behind it, and expected seconds.

    `max_tokens` is the output cap that the worst case rests on, `output` how many tokens the expectation does. `priced=False`
    means that nobody knows this worker's price.
    """

    expected: int
    worst: int
    input_tokens: int
    max_tokens: int
    seconds: float = 1.0
    priced: bool = True
    output: float = 0.0


Quotes = Callable[[Ask], Quote]


@runtime_checkable
class Policy(Protocol):
    """A way to orchestrate. Pure: no I/O, no clock, randomness only from the request's seed and the step's path."""

    def plan(self, request: Request) -> Plan:
        """One run, as a generator of steps."""
        ...

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """What a run would take, before anything is called. `quotes` prices an ask bound to the request."""
        ...


def spec(policy: Any) -> Any:
    """What a policy is made of, as plain JSON data: its type, its code version and its settings, nested policies included."""
    if is_dataclass(policy) and not isinstance(policy, type):
        body: dict[str, Any] = {"type": type(policy).__name__}
        if (code := getattr(policy, "CODE", None)) is not None:
            body["code"] = code
        return body | {f.name: spec(getattr(policy, f.name)) for f in fields(policy)}
    if isinstance(policy, Mapping):
        return {str(k): spec(v) for k, v in policy.items()}
    if isinstance(policy, list | tuple | set | frozenset):
        items = [spec(v) for v in policy]
        return sorted(items, key=repr) if isinstance(policy, set | frozenset) else items
    return policy if isinstance(policy, str | int | float | bool | None) else repr(policy)


def layers(policy: Any) -> tuple[str, ...]:
    """The types of a policy from the outside in: what stands around it, then its own.

    What stands around another policy says so with `WRAPS`, and holds it as `policy`.
    """
    around: list[str] = []
    while getattr(policy, "WRAPS", False):
        around.append(type(policy).__name__.lower())
        policy = policy.policy
    return (*around, type(policy).__name__.lower())


def version(policy: Any) -> str:
    """A fingerprint of `spec(policy)` after its type: equal exactly if code version and settings are. Recorded; checked before
    a resume.
    """
    text = json.dumps(spec(policy), sort_keys=True, separators=(",", ":"))
    return f"{layers(policy)[-1]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


# --- the pool ----------------------------------------------------------------------------------------------------


@record
class Endpoint:
    """One place where a worker can be asked. `name` is unique in the pool; `labels` hold where it is."""

    name: str
    worker: str
    labels: Mapping[str, str] = field(default_factory=dict)


@record
class Ready:
    """The endpoints of a worker that may be tried now, best first; if none, how long until one may, and why.

    `kind` is what that is called: `rate_limited` while a provider's 429 lasts, else `unavailable`.
    """

    endpoints: tuple[Endpoint, ...] = ()
    retry_after: float | None = None
    reason: str = ""
    kind: Literal["unavailable", "rate_limited"] = "unavailable"


@record
class Count:
    """How many tokens an ask puts in. `exact`: by the worker's own tokeniser; otherwise an estimate, which errs high."""

    tokens: int
    exact: bool


@record
class Outcome:
    """What one attempt brought. `dropped` names parameters that the worker lacks; `model` is the upstream's own name.

    `billed` (pico-dollars) stands in the place of the card's price times the usage, where the upstream itself tells the cost.
    """

    message: Message = Message("assistant", "")
    finish: str = "stop"
    usage: Usage = Usage()
    error: Failure | None = None
    retryable: bool = False
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    state: tuple[float, ...] = ()
    model: str = ""
    first_byte: float | None = None
    dropped: tuple[str, ...] = ()
    billed: int | None = None


Emit = Callable[[Sequence[Delta]], Awaitable[None]]
"""Takes the pieces of the answer that streams live to the caller; waits while the caller is slow."""


class Tally:
    """What an attempt has used so far, kept by the pool while it runs: the truth when the attempt is cancelled midway."""

    __slots__ = ("emitted", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.emitted = False


class Pool(Protocol):
    """The workers of a deployment. It prices, names places, and makes one try; retries and ceilings are the engine's."""

    def cards(self) -> tuple[Card, ...]:
        """Every worker's card; the same tuple object until the pool changes."""
        ...

    def quote(self, ask: Ask) -> Quote:
        """The price of a bound ask; a worst case it may never exceed while the worker keeps to `max_tokens`."""
        ...

    def candidates(self, ask: Ask) -> Ready:
        """The endpoints that may be tried now, without those that cool down."""
        ...

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """The tokens that a bound ask puts in, by the worker's own tokeniser where that can be asked soon. Costs nothing.

        `warm`: no model is loaded for it.
        """
        ...

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        """One try of a bound ask at one endpoint, until `deadline` (event loop time). Failures are data, never raised.

        With `emit`, the answer's pieces are passed on as they come, all but the end. `tally` is kept true throughout.
        """
        ...


# --- memory and money --------------------------------------------------------------------------------------------


class Store(Protocol):
    """An append-only memory of events."""

    def append(self, batch: Sequence[Any]) -> Awaitable[None] | None:
        """Record events (`ledger.events`) in order, all or none. `None`: durable already; else await it before acting on it.

        Raises `LedgerUnavailable` when it cannot be written.
        """
        ...

    def events(self, run: str) -> Sequence[Any]:
        """All events of a run in the order they were written, with content where it was kept. Raises `RunNotFound`."""
        ...

    def cards(self, version: str) -> tuple[Card, ...]:
        """The pool that a `pooled` event recorded under this version. Raises `RunNotFound`."""
        ...


@record
class Hold:
    """Money of a key set aside for one attempt: `amount` pico-dollars out of `slab`."""

    key: str
    slab: str
    amount: int


class Accounts(Protocol):
    """The money of the keys, exact across every process on one data folder."""

    def try_reserve(self, key: Key, amount: int) -> Hold | None:
        """Set money aside out of what this process has leased, at once; `None` if that does not suffice."""
        ...

    async def reserve(self, key: Key, amount: int, deadline: float | None) -> Hold | Failure:
        """Set money aside, leasing more or recalling what others have leased; a `limit` failure if the ceiling forbids it."""
        ...

    def settle(self, hold: Hold, cost: int) -> None:
        """End a hold at the true cost; the rest becomes free."""
        ...

    def left(self, key: Key) -> int | None:
        """About how much the key may still spend, by what this process knows; `None` without a ceiling."""
        ...


class States(Protocol):
    """What later requests go on from, kept for a while and for one key: `key` is the id of a key, "" for callers without one.

    Raises `LedgerUnavailable` from its methods when it cannot be read or written.
    """

    async def put(self, id: str, key: str, body: bytes, lifetime: float | None) -> None:
        """Keep `body` under `id` for `lifetime` seconds (`None`: until it is deleted), in the place of what was there."""
        ...

    async def get(self, id: str, key: str) -> bytes | None:
        """What is kept under `id` for this key; `None` if nothing is, its time has passed, or it is another key's."""
        ...

    async def get_all(self, ids: Sequence[str], key: str) -> Mapping[str, bytes]:
        """What is kept under these ids for this key; ids for which `get` would give `None` are not in it."""
        ...

    async def delete(self, id: str, key: str) -> bool:
        """Forget it; whether there was anything."""
        ...
