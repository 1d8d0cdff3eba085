"""What every wire format offers: requests in, answers out, and the same two the other way round towards upstreams.

A format is a module with the names of `Format`. Two sides use it:

- the gateway: `parse_request`, then `render_response`, or `stream(...)` and its `deltas`, `end`, `error`; `render_error`
- the pool: `render_ask`, then `parse_reply`, or `reader()` fed with the data of one server-sent event after another

Parsing is strict towards callers (a `RequestError` that names the field) and lenient towards upstreams, whose answers are
parsed and rebuilt, never relayed. Nothing here does I/O.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from stretto.errors import RequestError
from stretto.types import (
    NO_LIMITS,
    PICO,
    Answer,
    Card,
    Delta,
    Failure,
    FailureKind,
    Limits,
    Message,
    Request,
    TokenLogprob,
    Usage,
    record,
)

__all__ = [
    "MAX_DEPTH",
    "Completion",
    "Format",
    "Incoming",
    "Options",
    "Question",
    "Rendered",
    "StreamReader",
    "StreamWriter",
    "bearer",
    "bounded_json",
    "cause_of_status",
    "delta_of",
    "expect_bool",
    "expect_list",
    "expect_number",
    "expect_object",
    "expect_text",
    "parse_options",
    "redact",
    "refuse_transport_fields",
]

MAX_DEPTH: Final = 64
"""How deeply JSON may be nested."""


# --- what a format turns requests and answers into ---------------------------------------------------------------


@record
class Options:
    """The request's `stretto` object (or `x-stretto-*` headers): what the caller allows and wishes.

    `policy` names a policy to use instead of the one that `model` names, `seed` and `dial` are `None` when not given,
    `score_with` is kept as it was sent. `progress`: whether a stream shows what orchestration is doing, `None`
    leaves it to its format.
    """

    limits: Limits = NO_LIMITS
    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policy: str | None = None
    dial: float | None = None
    seed: int | None = None
    explain: bool = False
    score_with: Any = None
    progress: bool | None = None


@record
class Incoming:
    """A caller's request, parsed. `ignored` names fields that were left out on purpose, `more` is what its format wants back
    when it renders the answer.

    `request` has the options' limits, constraints, dial and seed in it already. Without an own seed it has none:
    the engine draws one.
    """

    request: Request
    stream: bool = False
    include_usage: bool = False
    options: Options = Options()
    ignored: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class Question(Protocol):
    """What a format needs to know of a bound ask (`steps.Ask` is one)."""

    @property
    def messages(self) -> tuple[Message, ...] | None:
        """What is asked."""
        ...

    @property
    def want(self) -> str:
        """text, logprobs, embedding or state."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The most the answer may have."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """Sampling parameters by their Chat Completions names."""
        ...

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The tools on offer."""
        ...

    @property
    def tool_choice(self) -> Any:
        """Whether and which tool must be called."""
        ...

    @property
    def response_format(self) -> Mapping[str, Any] | None:
        """Structured output, as the caller asked for it."""
        ...

    @property
    def extra(self) -> Mapping[str, Any]:
        """Fields that Stretto does not interpret."""
        ...

    @property
    def wire(self) -> str:
        """The format that the caller spoke, and that uninterpreted fields belong to."""
        ...


@record
class Rendered:
    """A request for an upstream: `path` is appended to the base URL, `dropped` names parameters the worker lacks.

    `custom` are the functions that stand for custom tools; calls of them are turned back (`wire.tools`). `headers` go with this
    request beside the endpoint's own. A path that begins with `/v1/` takes the place of a base URL's own `/v1`.
    """

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    custom: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Completion:
    """What an upstream's answer says, whole or in pieces. `usage` is `None` when it did not tell.

    `error` is set when the answer is none: an error inside it, no choices, or something the protocol does not allow.
    `retryable` then says whether the same request may succeed elsewhere.
    """

    message: Message = Message("assistant", "")
    finish: str = ""
    usage: Usage | None = None
    model: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    error: Failure | None = None
    retryable: bool = False


class StreamReader(Protocol):
    """Puts an upstream's stream together. One for one stream."""

    finished: bool
    """The upstream said that the answer is complete (not just that it sends no more)."""
    done: bool
    """Nothing more is to be expected."""
    error: Failure | None

    def feed(self, data: bytes, into: list[Delta]) -> None:
        """Take the data of one event; add the pieces of the answer that it brings to `into`."""
        ...

    def result(self) -> Completion:
        """The answer as far as it came; with an `error` unless it is complete."""
        ...


class StreamWriter(Protocol):
    """Renders one streamed answer for a caller. One for one stream; each method returns bytes to send as they are."""

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """Pieces of the answer."""
        ...

    def end(self, answer: Answer, usage: Usage, served: Usage, stretto: Mapping[str, Any] | None) -> bytes:
        """Everything from the event that a client takes for the end."""
        ...

    def error(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """The protocol's own error event: the last thing on a stream that cannot be completed."""
        ...

    def progress(self, text: str) -> bytes:
        """A line about what orchestration is doing (`progress.line_of`), as reasoning that clients do not take for the answer.

        Nothing where the caller does not want it, cannot tell it from the answer, or the answer has begun.
        """
        ...

    def keep_alive(self) -> bytes:
        """Something that keeps the connection open and says nothing."""
        ...


class Format(Protocol):
    """A wire format, both ways. A module with these names is one."""

    NAME: str
    """Its name in the configuration (`wire = "..."`)."""
    ROUTE: str
    """The gateway's route for it."""

    def credentials(self, key: str) -> Mapping[str, str]:
        """The headers that carry an endpoint's key ("" for none), and those that go with every request of this format."""
        ...

    def parse_request(self, body: bytes) -> Incoming:
        """A caller's request. Raises `RequestError` with the name of the field that is wrong."""
        ...

    def render_response(
        self,
        id: str,
        created: int,
        incoming: Incoming,
        answer: Answer,
        usage: Usage,
        served: Usage,
        stretto: Mapping[str, Any] | None,
    ) -> bytes:
        """A whole answer to `incoming`. `usage` is of all attempts, `served` of the one that wrote the answer."""
        ...

    def stream(self, id: str, created: int, incoming: Incoming) -> StreamWriter:
        """A writer for one streamed answer to `incoming`."""
        ...

    def render_error(
        self, message: str, type: str, code: str | None = None, param: str | None = None
    ) -> bytes:
        """The body of an answer with an HTTP error status."""
        ...

    def render_ask(
        self,
        ask: Question,
        model: str,
        card: Card,
        *,
        stream: bool,
        lacks: frozenset[str],
        renames: Mapping[str, str],
    ) -> Rendered:
        """A bound ask as a request to an upstream. Raises `ValueError` when the format cannot say it.

        `lacks` are parameters that the worker does not know, `renames` those it knows by another name.
        """
        ...

    def parse_reply(self, body: bytes, want: str) -> Completion:
        """A whole answer of an upstream (HTTP 200). Never raises."""
        ...

    def reader(self) -> StreamReader:
        """A reader for one streamed answer."""
        ...

    def parse_failure(self, body: bytes) -> str:
        """What the body of an upstream's HTTP error says: one short line without secrets, or nothing."""
        ...


# --- JSON, checked -----------------------------------------------------------------------------------------------


def bounded_json(body: bytes, depth: int = MAX_DEPTH) -> Any:
    """Parse JSON that is nested at most `depth` levels. Raises `ValueError` with a text for the sender."""
    if not body:
        raise ValueError("empty, not JSON")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(
            f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    # each level needs a bracket of its own, so most bodies need no walk
    if body.count(b"{") + body.count(b"[") > depth and _deeper_than(depth, value):
        raise ValueError(f"nested more than {depth} levels deep")
    return value


def _deeper_than(depth: int, value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def expect_object(value: Any, where: str) -> dict[str, Any]:
    """`value`, which must be a JSON object."""
    if not isinstance(value, dict):
        raise RequestError(f"`{where}` must be an object, not {_kind(value)}.", param=where)
    return value


def expect_list(value: Any, where: str) -> list[Any]:
    """`value`, which must be a JSON array."""
    if not isinstance(value, list):
        raise RequestError(f"`{where}` must be an array, not {_kind(value)}.", param=where)
    return value


def expect_text(value: Any, where: str) -> str:
    """`value`, which must be a string."""
    if not isinstance(value, str):
        raise RequestError(f"`{where}` must be a string, not {_kind(value)}.", param=where)
    return value


def expect_bool(value: Any, where: str) -> bool:
    """`value`, which must be true or false."""
    if not isinstance(value, bool):
        raise RequestError(f"`{where}` must be true or false, not {_kind(value)}.", param=where)
    return value


_NUMBER: Final = (int, float)  # `int | float` would be made anew at each call


def expect_number(
    value: Any, where: str, *, least: float | None = None, most: float | None = None, whole: bool = False
) -> Any:
    """`value`, which must be a number within bounds. 5.0 is a whole number in JSON Schema, and 5 from here on."""
    if whole and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int if whole else _NUMBER):
        raise RequestError(
            f"`{where}` must be a {'whole ' if whole else ''}number, not {_shown(value)}.", param=where
        )
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {_plain(most)}"
        raise RequestError(f"`{where}` must be {bounds}, not {_plain(value)}.", param=where)
    return value


def _shown(value: Any) -> str:
    """A number as it was written, of others what they are."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return _plain(value) if number else _kind(value)


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


# --- what callers may say to Stretto, and may not say at all -----------------------------------------------------

_OPTIONS: Final = (
    "limits",
    "require",
    "exclude",
    "policy",
    "dial",
    "seed",
    "explain",
    "progress",
    "score_with",
)
_LIMITS: Final = ("usd", "calls", "seconds", "depth", "fanout")
_MOST_USD: Final = 1e9
_NOTHING_SAID: Final = Options()
SEED_BITS: Final = 63


def parse_options(value: Any, where: str = "stretto") -> Options:
    """The `stretto` object of a request. Raises `RequestError`; an unknown name is an error, since a limit may hide behind it."""
    if value is None:
        return _NOTHING_SAID
    given = {name: item for name, item in expect_object(value, where).items() if item is not None}
    _only(given, _OPTIONS, where)
    policy = dial = seed = None
    if "policy" in given:
        policy = expect_text(given["policy"], f"{where}.policy")
    if "dial" in given:
        dial = float(expect_number(given["dial"], f"{where}.dial", least=0, most=1))
    if "seed" in given:
        seed = expect_number(given["seed"], f"{where}.seed", least=0, most=2**SEED_BITS - 1, whole=True)
    return Options(
        limits=_limits(given["limits"], f"{where}.limits") if "limits" in given else NO_LIMITS,
        require=_constraint(given.get("require"), f"{where}.require"),
        exclude=_constraint(given.get("exclude"), f"{where}.exclude"),
        policy=policy,
        dial=dial,
        seed=seed,
        explain="explain" in given and expect_bool(given["explain"], f"{where}.explain"),
        score_with=given.get("score_with"),
        progress=expect_bool(given["progress"], f"{where}.progress") if "progress" in given else None,
    )


def _only(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            raise RequestError(
                f"`{where}.{name}` is not known; there are {', '.join(known)}.", param=f"{where}.{name}"
            )


def _limits(value: Any, where: str) -> Limits:
    given = {name: item for name, item in expect_object(value, where).items() if item is not None}
    _only(given, _LIMITS, where)
    usd = seconds = None
    if "usd" in given:
        usd = round(expect_number(given["usd"], f"{where}.usd", least=0, most=_MOST_USD) * PICO)
    if "seconds" in given:
        seconds = float(expect_number(given["seconds"], f"{where}.seconds", least=0))
    whole = {
        name: expect_number(given[name], f"{where}.{name}", least=0, whole=True)
        for name in ("calls", "depth", "fanout")
        if name in given
    }
    return Limits(usd=usd, seconds=seconds, **whole)


def _constraint(value: Any, where: str) -> Mapping[str, tuple[str, ...]]:
    if value is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for label, allowed in expect_object(value, where).items():
        here = f"{where}.{label}"
        values = allowed if isinstance(allowed, list) else [allowed]
        found[label] = tuple(expect_text(item, here) for item in values)
        if not found[label]:
            raise RequestError(f"`{here}` lists no value.", param=here)
    return found


_TRANSPORT: Final = re.compile(
    r"(?:api|aws|azure|vertex|litellm|openai|ssl)_.*"
    r"|base_?urls?|apikey|endpoint(?:_url)?|organization|authorization|cert|verify|client|model_list|user_config"
    r"|(?:[a-z]+_)*fallbacks"  # LiteLLM reads addresses and keys out of these two
    r"|(?:https?_)?prox(?:y|ies)|http_client|custom_llm_provider|(?:extra|default)_(?:headers|query)|headers"
)
_CLIENT_ONLY: Final = ("timeout", "max_retries", "num_retries", "extra_body")


def refuse_transport_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Refuse what would say where or as whom to call; name what only concerns the client and is left out.

    Where a worker is and which key opens it is the deployment's business (server-side request forgery otherwise). Names of
    fields are compared without regard to case and hyphens.
    """
    for name in body:
        if _TRANSPORT.fullmatch(name.lower().replace("-", "_")):
            raise RequestError(
                f"`{name}` is not accepted in a request: addresses and keys of workers come from the configuration.",
                param=name,
            )
    return tuple(name for name in _CLIENT_ONLY if name in body)


# --- towards upstreams -------------------------------------------------------------------------------------------

_SECRETS: Final = re.compile(
    r"(?:sk|pk|rk|gsk|xai|hf|AIza|ghp|key|pplx|AKIA)[-_A-Za-z0-9*.]{10,}"
    r"|(?i:bearer|basic)\s+[^\s\"',;]{6,}"
    r"|(?i:api[-_ ]?key|token|secret|password|authorization)[\"']?\s*(?:provided)?\s*[:=]\s*[\"']?"
    r"(?i:bearer\s+|basic\s+)?[^\s\"',;]{6,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]+"
    r"|[A-Za-z0-9_+/-]{40,}={0,2}"
    r"|(?<=://)[^/\s@]+@"
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONGEST: Final = 300


def redact(text: str) -> str:
    """An upstream's text, fit to be shown: one line, at most 300 characters, what looks like a secret replaced."""
    line = _UNPRINTABLE.sub(" ", text[: 4 * _LONGEST]).strip()
    line = _SECRETS.sub("[redacted]", line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def cause_of_status(status: int) -> tuple[FailureKind, bool]:
    """What an upstream's HTTP error status means, and whether the same request may succeed elsewhere."""
    if status in (401, 403):
        return "upstream_auth", False
    if status == 429:
        return "rate_limited", True
    if status in (503, 529):
        return "overloaded", True
    if status in (408, 504):
        return "timeout", True
    if status >= 500:
        return "upstream_error", True
    if status in (404, 405, 410):  # no such address or model there: not the request's fault
        return "upstream_error", False
    if status >= 400:
        return "bad_request", False
    return "protocol", True


def bearer(key: str) -> Mapping[str, str]:
    """OpenAI's way to carry a key. See `Format.credentials`."""
    return {"authorization": f"Bearer {key}"} if key else {}


def delta_of(message: Message, logprobs: tuple[TokenLogprob, ...] = ()) -> Delta:
    """A whole message as one piece, for an answer that was not streamed live."""
    calls = tuple(
        (index, call.id, call.name, call.arguments) for index, call in enumerate(message.tool_calls)
    )
    content = message.content if isinstance(message.content, tuple) else ()
    parts = tuple([part for part in content if part.kind != "text"])
    return Delta(message.text, message.reasoning, calls, message.refusal, logprobs, message.thoughts, parts)
