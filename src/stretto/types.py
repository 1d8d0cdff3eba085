"""The nouns everything else is written in: messages, requests, replies, money. Frozen, standard library only.

Money is an integer number of *pico-dollars* (1e-12 USD), so that sums are exact: a price of 1 USD per million tokens is
1,000,000 pico per token. Durations are seconds (float); points in time are Unix seconds.
"""

import hashlib
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, dataclass_transform, overload

__all__ = [
    "NO_LIMITS",
    "NO_USAGE",
    "PICO",
    "Answer",
    "Believed",
    "Card",
    "Continues",
    "Delta",
    "Denied",
    "Failure",
    "FailureKind",
    "Key",
    "Left",
    "Limits",
    "Message",
    "Part",
    "Price",
    "Reply",
    "Request",
    "Thought",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "Want",
    "derive_seed",
    "fresh_bytes",
    "new_run_id",
    "record",
    "usd",
]

T = TypeVar("T")

Want = Literal["text", "logprobs", "embedding", "state"]
"""What an ask is for: text, text with log-probabilities, a vector a message, or the model's hidden state."""


@overload
def record(kind: type[T], /) -> type[T]: ...


@overload
def record(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[T] | None = None, /, *, kw_only: bool = False) -> Any:
    """A frozen, slotted dataclass that takes half as long to make as `dataclass` itself would need.

    That sets each field through `object.__setattr__`, at 0.07 us, and a call through the gateway makes 200 of them. Here a new
    object belongs to an open twin of its class until its fields are set. (Measured on CPython 3.11: 14 fields 1.05 us against
    0.49, 5 fields 0.45 against 0.28.) Base classes and `__post_init__` are not for it.
    """
    if kind is None:
        return lambda kind: record(dataclass(frozen=True, slots=True, kw_only=kw_only)(kind))
    frozen: Any = kind if is_dataclass(kind) else dataclass(frozen=True, slots=True)(kind)
    twin = type(kind.__name__, (), {"__slots__": frozen.__slots__})
    scope: dict[str, Any] = {"become": vars(object)["__class__"].__set__, "twin": twin, "frozen": frozen}
    parameters, body = ["self"], ["become(self, twin)"]
    for each in fields(frozen):
        name, value, given = each.name, each.name, f"{each.name}_"
        if each.default_factory is not MISSING:
            scope[given], scope[f"make_{name}"] = MISSING, each.default_factory
            value = f"make_{name}() if {name} is {given} else {name}"
        elif each.default is not MISSING:
            scope[given] = each.default
        if each.kw_only and "*" not in parameters:
            parameters.append("*")
        parameters.append(f"{name}={given}" if given in scope else name)
        body.append(f"self.{name} = {value}")
    body.append("self.__class__ = frozen")
    # made as source, as `dataclass` does it
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body), scope)
    scope["__init__"].__qualname__ = f"{kind.__qualname__}.__init__"
    scope["__init__"].__annotations__ = frozen.__init__.__annotations__
    frozen.__init__ = scope["__init__"]
    return frozen


PICO: Final = 1_000_000_000_000
"""Pico-dollars in a dollar."""


def usd(pico: int) -> float:
    """Pico-dollars as a float of dollars, for display and JSON."""
    return pico / PICO


def derive_seed(seed: int | None, *path: object) -> int:
    """A 63-bit seed for one place in a run: equal inputs give equal seeds, different paths independent ones."""
    digest = hashlib.blake2b(repr((seed, path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Entropy:
    """The operating system's randomness, fetched a page at a time: one system call a number costs several microseconds."""

    def __init__(self) -> None:
        self._page = b""
        self._at = 0
        self._forks = False

    def take(self, count: int) -> bytes:
        """`count` (at most a page) fresh random bytes. A forked process starts with a page of its own."""
        at = self._at
        if at + count > len(self._page):
            if not self._forks:
                os.register_at_fork(after_in_child=self._forget)
                self._forks = True
            self._page, at = os.urandom(4096), 0
        self._at = at + count
        return self._page[at : at + count]

    def _forget(self) -> None:
        self._page = b""


fresh_bytes: Final = _Entropy().take
"""`fresh_bytes(count)`: unpredictable bytes for ids and secrets."""


def new_run_id() -> str:
    """A new run id: `run_` and 32 hexadecimal digits that sort by time (48 bits of milliseconds, 80 random)."""
    return f"run_{int(time.time() * 1000):012x}{fresh_bytes(10).hex()}"


# --- conversation ------------------------------------------------------------------------------------------------


@record
class Part:
    """One piece of a message's content: `text`, or another kind in `data`.

    `image_url`, `input_audio` and `file` are in Chat Completions' shape, whatever format they came in; images are addresses or
    data URLs, never fetched. Other kinds are kept as they were sent. `extra` holds fields of the caller's format beside these.
    """

    kind: str
    text: str = ""
    data: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@record
class Thought:
    """A block of reasoning as its provider sealed it: it must go back unchanged, to the same worker, or not at all.

    `signature` proves `text` (Anthropic), `sealed` stands for text that nobody else can read (redacted thinking, encrypted
    reasoning). `wire` is the format that knows the seal, `worker` whose upstream made it ("": not known).
    """

    text: str = ""
    signature: str = ""
    sealed: str = ""
    id: str = ""
    wire: str = ""
    worker: str = ""


@record
class ToolCall:
    """A call that a model asks its caller to make; `arguments` is the text as the model wrote it.

    That is JSON for a `function`, anything for a `custom` tool.
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"


@record
class Message:
    """One turn of a conversation. `extra` holds fields of the wire format that Stretto does not interpret.

    `reasoning` is what may be read of a model's thoughts; `thoughts` what has to go back to it.
    """

    role: str
    content: str | tuple[Part, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str = ""
    refusal: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    thoughts: tuple[Thought, ...] = ()

    @property
    def text(self) -> str:
        """The text of the message, its text parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


# --- tokens and money --------------------------------------------------------------------------------------------


@record
class Usage:
    """Tokens of one call or of many. `cached` is part of `input`, `reasoning` part of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        if self is NO_USAGE:
            return other
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
        )


NO_USAGE: Final = Usage()
"""Where a sum begins: adding to it costs nothing."""


@record
class Price:
    """What a worker charges, in pico-dollars per token. `cached` is the price of a cached input token."""

    input: int = 0
    output: int = 0
    cached: int | None = None

    @classmethod
    def per_million(cls, input: float, output: float, cached: float | None = None) -> "Price":
        """From USD per million tokens, the way price lists are written."""
        return cls(round(input * 1e6), round(output * 1e6), None if cached is None else round(cached * 1e6))

    def of(self, usage: Usage) -> int:
        """The cost of `usage` in pico-dollars. Never negative, since more cannot be cached than was put in."""
        cached, price = min(usage.cached, usage.input), self.input if self.cached is None else self.cached
        return (usage.input - cached) * self.input + cached * price + usage.output * self.output


@record
class Limits:
    """The caller's ceilings for the whole call tree. `None` means no ceiling; `usd` is in pico-dollars."""

    usd: int | None = None
    calls: int | None = None
    seconds: float | None = None
    depth: int = 8
    fanout: int = 32

    def tightened(self, other: "Limits") -> "Limits":
        """The stricter of the two, field by field: a request may only tighten what the deployment allows."""
        if other is NO_LIMITS:
            return self
        return Limits(
            _lower(self.usd, other.usd),
            _lower(self.calls, other.calls),
            _lower(self.seconds, other.seconds),
            min(self.depth, other.depth),
            min(self.fanout, other.fanout),
        )


NO_LIMITS: Final = Limits()
"""No ceilings but the usual depth and fan-out. Tightening by this very object costs nothing."""


@record
class Left:
    """What is left of each limit when a reply comes back; `None` where there is no ceiling."""

    usd: int | None = None
    calls: int | None = None
    seconds: float | None = None


# --- who can be asked --------------------------------------------------------------------------------------------


@record
class Believed:
    """How likely a worker is right, before anything is known of this pool: log-odds at a task as hard as usual, their standard
    error, and what that rests `on` (a model, its family). `measured`: this very model was, elsewhere.
    """

    odds: float
    error: float
    on: str
    measured: bool = True


@record
class Card:
    """What policies may know of a worker. `abilities`: text, tools, json, vision, logprobs, embedding, state, tokens, reasoning,
    grammar.

    `tokens`: it takes the token ids of its own tokeniser in the place of text. `reasoning`: it wants back what it
    thought earlier. `grammar`: it cannot write what a response format forbids, so structured output may stream.
    `context` is tokens in and out together, `max_output` the most it writes (`None`: unknown). `repute`: what is believed of
    a model of that name (`None`: nothing).
    """

    id: str
    price: Price = Price()
    labels: Mapping[str, str] = field(default_factory=dict)
    abilities: frozenset[str] = frozenset({"text"})
    context: int | None = None
    max_output: int | None = None
    description: str = ""
    priced: bool = True
    repute: Believed | None = None


@record
class Denied:
    """A worker that was taken out of a run's pool before the policy saw it, and why.

    `too_long`: only for its short context. `unable`: only for an ability that the answer takes, so it may still judge answers.
    """

    worker: str
    reason: str
    too_long: bool = False
    unable: bool = False


@record
class Key:
    """A virtual key as the gateway knows it: never the secret. Ceilings in pico-dollars, `None` for no ceiling.

    `models` are names or `prefix*` patterns the key may ask for (empty: all); `require`/`exclude` constrain its pool.
    """

    id: str
    name: str = ""
    scopes: frozenset[str] = frozenset({"models"})
    models: tuple[str, ...] = ()
    total: int | None = None
    day: int | None = None
    month: int | None = None
    expires: float | None = None
    revoked: float | None = None
    created: float = 0.0
    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def metered(self) -> bool:
        """Whether any money ceiling applies."""
        return self.total is not None or self.day is not None or self.month is not None


# --- one request -------------------------------------------------------------------------------------------------


@record
class Continues:
    """The step of an earlier run that this request goes on from: its tool result belongs to that worker.

    `asked`: how what the worker had been asked differs from the caller's conversation (`engine.reasked`), if it does.
    """

    run: str
    step: str
    worker: str
    asked: Mapping[str, Any] | None = None


@record(kw_only=True)
class Request:
    """What a caller asks, in no wire format.

    `params` are sampling parameters by their Chat Completions names (temperature, top_p, stop, ...); `extra` are fields
    that Stretto does not interpret and passes on within one format, `wire`, the one that the caller spoke. `pool` holds the
    cards of the workers that the request's constraints leave, set before a plan starts. `max_tokens` bounds the final answer
    only. `seed` is where every random choice of the run comes from; without one the engine derives it from the run's id, and
    records it. A request that wants an `embedding` has one message for each text, and gets a vector for each.
    """

    messages: tuple[Message, ...]
    model: str = "stretto"
    params: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    dial: float = 0.5
    limits: Limits = NO_LIMITS
    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    continues: Continues | None = None
    pool: tuple[Card, ...] = ()
    wire: str = "chat"
    want: Literal["text", "embedding"] = "text"

    @property
    def prompt(self) -> str:
        """The text of the last user message: what cheap features and rules look at."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""

    def random(self, *label: object) -> random.Random:
        """A generator of its own for one place in a plan: equal for equal seed and label."""
        return random.Random(derive_seed(self.seed, *label))

    def admitted(self, pool: tuple[Card, ...], limits: Limits, seed: int | None) -> "Request":
        """The request as a plan sees it: with its pool, effective limits and seed. (Spelled out: `replace` costs 5 us.)"""
        return Request(
            messages=self.messages,
            model=self.model,
            params=self.params,
            max_tokens=self.max_tokens,
            tools=self.tools,
            tool_choice=self.tool_choice,
            response_format=self.response_format,
            extra=self.extra,
            seed=seed,
            dial=self.dial,
            limits=limits,
            require=self.require,
            exclude=self.exclude,
            continues=self.continues,
            pool=pool,
            wire=self.wire,
            want=self.want,
        )

    def branch(self, label: object) -> "Request":
        """The same request with a seed of its own, for one branch of a fork."""
        return replace(self, seed=derive_seed(self.seed, label))

    def card(self, worker: str) -> Card | None:
        """The card of `worker`, or `None` if it is not in this request's pool."""
        for card in self.pool:
            if card.id == worker:
                return card
        return None


# --- what comes back ---------------------------------------------------------------------------------------------

FailureKind = Literal[
    "limit",  # a ceiling of the caller or the key refused the step
    "denied",  # the worker is outside the request's constraints, or unknown
    "unavailable",  # no endpoint could be reached
    "rate_limited",  # the upstream said 429
    "overloaded",  # the upstream said 503 or 529
    "upstream_error",  # the upstream failed (other 5xx, or an error inside an answer)
    "upstream_auth",  # the upstream refused our credentials
    "bad_request",  # the upstream refused the request as invalid
    "too_long",  # the request does not fit into the worker's context
    "timeout",  # a deadline passed: first byte, idle or total
    "cut",  # the connection broke, or a stream ended without saying that it was complete
    "protocol",  # the answer was not what the protocol promises
    "empty",  # a complete answer without content
    "misfit",  # the answer does not fit the response format that the caller asked for
    "cancelled",  # the caller left, or a quorum was reached without this one
    "dropped",  # a branch of a fork that was not waited for
    "policy",  # the plan itself broke a rule or failed
    "unknown",  # a call whose outcome was lost with the process that made it
    "not_recorded",  # a replay asked for something that the record does not hold
]


@record
class Failure:
    """Why a step has no answer. `retry_after` is seconds; `status` the upstream's HTTP status, if there was one."""

    kind: FailureKind
    message: str = ""
    retry_after: float | None = None
    status: int | None = None


@record
class TokenLogprob:
    """The log-probability (natural) of one token of an answer, and of its alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@record
class Delta:
    """A piece of an answer on its way. `tool_calls` are (index, id, name, arguments) fragments.

    `thoughts` are blocks of reasoning that end with this piece: their text has gone out as `reasoning`, or stands here.
    `parts` are pieces of content other than text, which only the format that they came in can say.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[tuple[int, str, str, str], ...] = ()
    refusal: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    thoughts: tuple[Thought, ...] = ()
    parts: tuple[Part, ...] = ()


@record
class Reply:
    """What one ask brought: an answer or an `error`. `cost` covers all its attempts, in pico-dollars.

    `logprobs`, `embeddings` (one for each message of the ask) and `state` are filled when the ask wanted them.
    """

    message: Message = Message("assistant", "")
    finish: str = "stop"
    worker: str = ""
    at: str = ""
    usage: Usage = Usage()
    cost: int = 0
    seconds: float = 0.0
    attempts: int = 0
    left: Left = Left()
    error: Failure | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    state: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """The text of the reply's message."""
        return self.message.text


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@record
class Answer:
    """What a plan comes to. `worker` and `at` name the step that wrote it, `why` says why this answer stands.

    `more` is what the policy tells the caller beside the message, as JSON data: it goes into the `stretto` block.
    """

    message: Message = Message("assistant", "")
    finish: str = "stop"
    worker: str = ""
    at: str = ""
    why: str = ""
    error: Failure | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the answer's message."""
        return self.message.text

    @classmethod
    def of(cls, reply: Reply, why: str = "", more: Mapping[str, Any] = _NOTHING) -> "Answer":
        """The answer that a reply makes, error included."""
        return cls(
            reply.message,
            reply.finish,
            reply.worker,
            reply.at,
            why,
            reply.error,
            reply.logprobs,
            reply.embeddings,
            more,
        )


def _lower(a: Any, b: Any) -> Any:
    """The smaller of two ceilings, where `None` is no ceiling."""
    if a is None:
        return b
    return a if b is None else min(a, b)
