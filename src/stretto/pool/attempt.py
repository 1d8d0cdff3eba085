"""One try of an ask at one endpoint: build the request, send it, read the answer, and say what went wrong if it did.

Whatever an upstream does wrong comes back as an `Outcome` with an `error`. Only cancellation passes through, after the
connection has been closed and the tally made true.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from stretto.errors import LocalModelError
from stretto.pool.estimate import input_tokens, likely, most_tokens
from stretto.pool.health import Health, retry_after
from stretto.pool.http import (
    HttpRequest,
    HttpResponse,
    Origin,
    Transport,
    TransportError,
    header_block,
    parse_url,
    run_out,
)
from stretto.pool.limits import Gate
from stretto.pool.native import as_chat, prompt_ids, purpose_of, raw_text, state_body, suited
from stretto.pool.pace import Pace
from stretto.steps import Ask, Emit, Endpoint, Outcome, Tally
from stretto.types import Card, Delta, Failure, FailureKind, Thought, Usage
from stretto.wire import embeddings, form_for
from stretto.wire.base import Completion, Format, Rendered, StreamReader, delta_of, redact
from stretto.wire.lengths import refusal
from stretto.wire.sse import SseError, SseParser
from stretto.wire.tools import Unwrapping, unwrapped

__all__ = ["Lane", "LocalModels", "Timeouts", "attempt", "count"]

_LOG: Final = logging.getLogger(__name__)

_ADDRESS: Final = re.compile(r" ?\('[^')]*', \d+[^)]*\)")
_ERROR_BODY: Final = 64 * 1024
_AFTER_FINISH: Final = 5.0
_LOCAL_SENDS: Final = 3
_TOKENS_A_SECOND: Final = 50.0
"""How fast a worker writes about whom nothing is known yet."""
_LATE: Final = 10.0
"""A caller's deadline that cut off a silent upstream counts against the upstream only if it was at least this long."""


class LocalModels(Protocol):
    """Where local files are served (`pool.local.LlamaRuntime`)."""

    async def socket_for(
        self,
        path: Path,
        *,
        purpose: Literal["text", "embedding", "mean"] = "text",
        deadline: float | None = None,
    ) -> str:
        """The Unix socket that serves the file. Raises `LocalModelError`, or `TimeoutError` at `deadline`."""
        ...

    def forget(self, path: Path, *, purpose: Literal["text", "embedding", "mean"] = "text") -> None:
        """The socket refused a connection: look again at the next call."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds an upstream may be silent: before a stream's first byte, between its pieces, and until a whole answer comes.

    A deadline of the run ends an attempt earlier.
    """

    first_byte: float = 120.0
    idle: float = 60.0
    whole: float = 600.0


@dataclass(slots=True, eq=False)
class Lane:
    """One endpoint at work: everything that an attempt there needs, made ready once, and how it has been doing.

    `origin` and `base` say where; for a local file (`gguf`) they follow from its socket.
    """

    endpoint: Endpoint
    form: Format
    model: str
    card: Card
    headers: bytes
    secret: str
    origin: Origin | None
    base: bytes
    gguf: Path | None
    lacks: frozenset[str]
    renames: Mapping[str, str]
    dense: bool
    timeouts: Timeouts
    pace: Pace
    gate: Gate | None = None
    health: Health = field(default_factory=Health)
    socket: Origin | None = None
    under_way: int = 0

    @property
    def counts(self) -> bool:
        """Whether a tokeniser can be asked here: a local model's, or that of a server which is known to be llama.cpp."""
        own = self.gguf is not None or self.card.labels.get("vendor") == "llamacpp"
        return own and self.form.NAME == "chat"

    @property
    def cold(self) -> bool:
        """Whether a local model would have to be loaded first, as far as is known here."""
        return self.gguf is not None and self.socket is None

    @property
    def load(self) -> int:
        """Calls under way here, and waiting to be."""
        return self.under_way if self.gate is None else self.gate.load


async def attempt(
    lane: Lane,
    ask: Ask,
    transport: Transport,
    local: LocalModels | None,
    clock: Callable[[], float],
    *,
    deadline: float | None,
    tally: Tally,
    emit: Emit | None,
) -> Outcome:
    """Try `ask` in `lane` once. See `steps.Pool.attempt`; `clock` is the pool's monotonic clock, for health and pace."""
    lane.under_way += 1
    lane.health.begin()
    gate, inside, ended = lane.gate, False, False
    one = _Try(lane, ask, local, tally, emit)
    one.clock = clock
    try:
        if gate is not None:
            try:
                await gate.enter(deadline)
            except TimeoutError:
                return one.failed("overloaded", "no place was free before the deadline")
            inside = True
        outcome = await one.run(transport, deadline)
        ended = True
    finally:
        lane.under_way -= 1
        if inside and gate is not None:
            gate.leave()
        if not ended:
            lane.health.leave()
            one.account()
    _judge(lane, one, outcome, clock)
    return outcome


async def count(
    lane: Lane, ask: Ask, transport: Transport, local: LocalModels | None, deadline: float
) -> int | None:
    """How many tokens a bound ask puts in, by the lane's own tokeniser (`Lane.counts`); `None` when that is not told in time."""
    return await _Try(lane, replace(ask, want="text"), local, Tally(), None).count(transport, deadline)


def _judge(lane: Lane, one: "_Try", outcome: Outcome, clock: Callable[[], float]) -> None:
    """What the outcome says about the endpoint's health."""
    error = outcome.error
    if error is None:
        lane.pace.note(one.loop.time() - one.started, outcome.usage.output, one.ask.role)
        if not lane.health.clear:
            lane.health.succeed(clock())
    elif one.blameless:
        lane.health.leave()
    elif lane.health.fail(error.kind, clock(), error.retry_after):
        _LOG.warning(
            "%s is taken out after repeated failures, the last one: %s", lane.endpoint.name, error.message
        )
    elif error.kind == "upstream_auth" and lane.health.failures == 1:
        _LOG.warning("%s", error.message)


class _Try:
    """One attempt under way."""

    __slots__ = (
        "ask",
        "blameless",
        "chunks",
        "clock",
        "custom",
        "emit",
        "first_byte",
        "form",
        "lane",
        "local",
        "loop",
        "reader",
        "sent",
        "since",
        "started",
        "tally",
    )

    def __init__(
        self, lane: Lane, ask: Ask, local: LocalModels | None, tally: Tally, emit: Emit | None
    ) -> None:
        self.lane = lane
        self.form = form_for(lane.form, ask.want)
        self.ask = ask
        self.local = local
        self.tally = tally
        self.emit = emit
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.clock: Callable[[], float] = time.monotonic
        self.first_byte: float | None = None
        self.sent = False
        self.since = self.started
        self.blameless = False
        self.reader: StreamReader | None = None
        self.chunks = 0
        self.custom: frozenset[str] = frozenset()

    # --- the request ---

    async def run(self, transport: Transport, deadline: float | None) -> Outcome:
        """Make the attempt."""
        lane, ask = self.lane, self.ask
        streaming = self.emit is not None and ask.want in ("text", "logprobs")
        try:
            request = self._rendered(streaming)
        except ValueError as error:
            self.blameless = True
            return self.failed("bad_request", str(error))
        self.custom = request.custom
        origin, base = lane.origin, lane.base
        if origin is None:
            found = await self._local_origin(deadline)
            if isinstance(found, Failure):
                return self._outcome(found, retryable=found.kind == "timeout")
            origin = found
        response: HttpResponse | None = None
        try:
            if ask.want == "state":
                try:
                    request = await self._for_state(transport, origin, request, deadline)
                except ValueError as error:
                    return self.failed("upstream_error", str(error))
            path = request.path.encode()
            path = base.removesuffix(b"/v1") + path if path.startswith(b"/v1/") else base + path
            call = self._call(origin, path, request.body, deadline, streaming)
            if request.headers:
                call = call._replace(headers=call.headers + header_block(request.headers))
            self.sent, self.since = True, self.clock()
            response = await self._send(transport, call)
            if 200 <= response.status < 300:
                found_ = await (self._stream(response) if streaming else self._whole(response))
                outcome = self._answer(found_, response, request.dropped)
            else:
                outcome = await self._refusal(response)
        except TransportError as error:
            outcome = self._broken(error, origin)
        finally:
            if response is not None:
                response.cancel()
        self.tally.usage = outcome.usage
        return outcome

    def _rendered(self, streaming: bool) -> Rendered:
        """The request to send; of an ask for a state, the chat request whose state is meant. Raises `ValueError`."""
        lane, ask = self.lane, self.ask
        if ask.want == "state":
            if lane.gguf is None:
                raise ValueError("hidden states can be had of local models only")
            raw, ask = raw_text(ask), as_chat(ask)
            if raw is not None:
                return raw
        if lane.counts and ask.want != "embedding":
            ask = suited(ask, lane.card.max_output if lane.gguf is not None else None)
        return self.form.render_ask(
            ask, lane.model, lane.card, stream=streaming, lacks=lane.lacks, renames=lane.renames
        )

    def _call(
        self, origin: Origin, path: bytes, body: bytes, deadline: float | None, streaming: bool = False
    ) -> HttpRequest:
        lane, timeouts = self.lane, self.lane.timeouts
        patience = timeouts.first_byte if streaming else timeouts.whole
        return HttpRequest(
            b"POST", origin, path, lane.headers, body, deadline, patience, timeouts.idle, streaming
        )

    async def _for_state(
        self, transport: Transport, origin: Origin, chat: Rendered, deadline: float | None
    ) -> Rendered:
        """The request that brings the state of a chat request. Raises `ValueError`, `TransportError`."""
        ids = await self._ids(transport, origin, chat, deadline)
        return Rendered("/embeddings", state_body(ids, self.ask), chat.dropped)

    async def _ids(
        self, transport: Transport, origin: Origin, chat: Rendered, deadline: float | None
    ) -> list[int]:
        root = b"" if self.lane.gguf is not None else self.lane.base.removesuffix(b"/v1")

        def send(path: bytes, body: bytes) -> Awaitable[HttpResponse]:
            return self._send(transport, self._call(origin, root + path, body, deadline))

        return await prompt_ids(send, chat)

    async def count(self, transport: Transport, deadline: float) -> int | None:
        """The tokens that go in, by the endpoint's own tokeniser; `None` when it does not tell until the deadline."""
        try:
            chat = self._rendered(streaming=False)
            origin = self.lane.origin or await self._local_origin(deadline)
            if isinstance(origin, Failure):
                return None
            return len(await self._ids(transport, origin, chat, deadline))
        except (ValueError, TransportError):
            return None

    async def _send(self, transport: Transport, call: HttpRequest) -> HttpResponse:
        """Send it. A local model's process that ended meanwhile is replaced by its runtime, so there the call is sent again."""
        for _ in range(_LOCAL_SENDS - 1 if self.lane.gguf is not None else 0):
            try:
                return await transport.send(call)
            except TransportError as error:
                if error.phase not in ("connect", "send", "closed"):
                    raise
                self._forget()
                origin = await self._local_origin(call.deadline)
                if isinstance(origin, Failure):
                    raise
                call = call._replace(origin=origin)
        return await transport.send(call)

    def _forget(self) -> None:
        if self.local is not None and self.lane.gguf is not None:
            self.local.forget(self.lane.gguf, purpose=purpose_of(self.ask))

    async def _local_origin(self, deadline: float | None) -> Origin | Failure:
        lane, local = self.lane, self.local
        if local is None or lane.gguf is None:
            return Failure("unavailable", f"{lane.endpoint.name}: nothing here serves local models")
        try:
            socket = await local.socket_for(lane.gguf, purpose=purpose_of(self.ask), deadline=deadline)
            if lane.socket is None or lane.socket.socket_path != socket:
                lane.socket = parse_url("unix:" + socket)[0]
            return lane.socket
        except LocalModelError as error:
            return Failure("unavailable", str(error))
        except TimeoutError:
            self.blameless = True
            return Failure("timeout", f"{lane.endpoint.name}: the model was not loaded before the deadline")

    # --- the answer ---

    async def _whole(self, response: HttpResponse) -> Completion:
        if self.ask.want == "state":
            return embeddings.parse_reply(await response.read())
        found = self.form.parse_reply(await response.read(), self.ask.want)
        if self.custom:
            found.message = unwrapped(found.message, self.custom)
        if found.message.thoughts:
            found.message = replace(found.message, thoughts=self._ours(found.message.thoughts))
        if found.embeddings and (text := embeddings.misfit(self.ask, found)):
            found.error, found.embeddings = Failure("protocol", text), ()
        return found

    async def _stream(self, response: HttpResponse) -> Completion:
        """Read a stream to its end, passing its pieces on as they come; complete only if it says so itself."""
        emit, deltas = self.emit, list[Delta]()
        assert emit is not None
        kind = response.headers.get(b"content-type", b"text/event-stream").partition(b";")[0].strip().lower()
        if kind == b"application/json":  # some servers ignore `stream`
            found = await self._whole(response)
            if found.error is None:
                deltas = [delta_of(found.message, found.logprobs)]
                self._note(deltas)
                await emit(deltas)
            return found
        if kind != b"text/event-stream":
            text = f"answered with {redact(kind.decode('latin-1'))} instead of a stream"
            return Completion(error=Failure("protocol", text), retryable=True)
        reader = self.reader = self.form.reader()
        if self.custom:
            reader = self.reader = Unwrapping(reader, self.custom)
        parser = SseParser()
        try:
            while not reader.done:
                piece = await (self._after_finish(response) if reader.finished else response.next())
                if not piece:
                    break
                deltas = []
                for event in parser.feed(piece):
                    reader.feed(event.data, deltas)
                deltas = [replace(d, thoughts=self._ours(d.thoughts)) if d.thoughts else d for d in deltas]
                if deltas and (reader.error is None or self.tally.emitted):
                    self._note(deltas)
                    await emit(deltas)
        except SseError as error:
            if not reader.finished:
                found = reader.result()
                found.error, found.retryable = Failure("protocol", str(error)), True
                return found
        except TransportError:
            if not reader.finished:
                raise
        else:
            if reader.error is None and reader.done:
                await run_out(response)
        found = reader.result()
        if found.message.thoughts:
            found.message = replace(found.message, thoughts=self._ours(found.message.thoughts))
        return found

    def _ours(self, thoughts: tuple[Thought, ...]) -> tuple[Thought, ...]:
        """Thoughts with the name of the worker that sealed them."""
        return tuple([replace(thought, worker=self.lane.card.id) for thought in thoughts])

    @staticmethod
    async def _after_finish(response: HttpResponse) -> bytes:
        """The next bytes once the answer is whole and only its usage is still to come; b"" when that takes too long."""
        try:
            async with asyncio.timeout(_AFTER_FINISH):
                return await response.next()
        except TimeoutError:
            return b""

    def _note(self, deltas: list[Delta]) -> None:
        """Pieces are about to be passed on."""
        if self.first_byte is None:
            self.first_byte = self.loop.time() - self.started
        self.chunks += len(deltas)
        self.tally.emitted = True

    def _answer(self, found: Completion, response: HttpResponse, dropped: tuple[str, ...]) -> Outcome:
        error = found.error
        if error is not None:
            text = error.message
            if error.kind == "protocol":
                kind = response.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
                if kind.startswith(b"text/html"):
                    text = "answered with an HTML page instead of JSON; is the base URL right?"
                    self.sent = False  # something else than a model has answered
            error = self._failure(error.kind, text, error.status, error.retry_after)
        usage, state = found.usage, self.ask.want == "state"
        if usage is None:
            usage = self._estimated(found)
        return Outcome(
            found.message,
            found.finish,
            usage,
            error,
            error is not None and found.retryable and not self.tally.emitted,
            found.logprobs,
            () if state else found.embeddings,
            found.embeddings[0] if state and found.embeddings else (),
            found.model,
            self.first_byte,
            dropped,
        )

    async def _refusal(self, response: HttpResponse) -> Outcome:
        """An HTTP status that is no success."""
        status = response.status
        self.sent = False  # not charged
        try:
            body = await response.read(_ERROR_BODY)
        except TransportError:
            body = b""
        kind, said, retryable = refusal(status, body, self.form)
        text = f"answered {status}" + (f": {said}" if said else "")
        if 300 <= status < 400:
            text, retryable = f"answered {status}, a redirect; is the base URL right?", False
        if status == 404:
            text += "; are the base URL and the model's name right?"
        if kind == "upstream_auth":
            text = f"refused our key with {status}; check the key of this endpoint" + (
                f" ({said})" if said else ""
            )
        wait = retry_after(response.headers) if status in (429, 503, 529) else None
        return self._outcome(self._failure(kind, text, status, wait), retryable=retryable)

    # --- what went wrong ---

    def _broken(self, error: TransportError, origin: Origin) -> Outcome:
        """An exchange that failed below HTTP."""
        # whoever asks need not learn where our endpoints are
        text = _ADDRESS.sub("", str(error).removeprefix(origin.key + ": "))
        kind: FailureKind
        retryable = True
        match error.phase:
            case "connect" | "tls" | "send":
                kind, self.sent = "unavailable", False
                self._forget()
            case "first_byte" | "idle":
                kind = "timeout"
            case "total":
                kind, retryable = "timeout", False
                self.sent = self.sent and error.sent
                self.blameless = error.received or self.loop.time() - self.started < _LATE
            case "protocol" | "body_limit":
                kind = "protocol"
            case _:
                kind, self.sent = "cut", error.received
        if self.reader is not None:
            found = self.reader.result()
            found.error, found.retryable = self._failure(kind, text), retryable
            usage = found.usage or self._estimated(found)
            return Outcome(
                found.message,
                "",
                usage,
                found.error,
                retryable and not self.tally.emitted,
                found.logprobs,
                model=found.model,
                first_byte=self.first_byte,
            )
        outcome = self._outcome(self._failure(kind, text), retryable=retryable)
        return replace(outcome, usage=self._unseen()) if error.phase == "total" and self.sent else outcome

    def failed(self, kind: FailureKind, text: str, *, retryable: bool = False) -> Outcome:
        """An outcome without an answer."""
        return self._outcome(self._failure(kind, text), retryable=retryable)

    def _outcome(self, error: Failure, *, retryable: bool) -> Outcome:
        usage = Usage(self._input(), estimated=True) if self.sent else Usage()
        return Outcome(usage=usage, error=error, retryable=retryable, finish="", first_byte=self.first_byte)

    def _failure(
        self, kind: FailureKind, text: str, status: int | None = None, retry_after: float | None = None
    ) -> Failure:
        secret = self.lane.secret
        if secret:
            text = text.replace(secret, "[redacted]")
        return Failure(kind, f"{self.lane.endpoint.name}: {text}", retry_after, status)

    # --- what it used ---

    def account(self) -> None:
        """Make the tally true where the attempt stands now."""
        if self.sent:
            found = self.reader.result() if self.reader is not None else Completion()
            self.tally.usage = found.usage or self._estimated(found)
            if self.reader is None:
                self.tally.usage = self._unseen()

    def _input(self) -> int:
        return likely(input_tokens(self.ask, self.lane.dense), self.lane.dense)

    def _unseen(self) -> Usage:
        """What an upstream may have used by now for an answer that comes whole, and did not: as fast as it usually writes."""
        ask, pace = self.ask, self.lane.pace
        if self.emit is not None or ask.want in ("embedding", "state"):
            return Usage(self._input(), estimated=True)
        rate = pace.output / pace.seconds if pace.output and pace.seconds else _TOKENS_A_SECOND
        written = int(rate * (self.clock() - self.since))
        cap = self.lane.card.max_output if ask.max_tokens is None else ask.max_tokens
        return Usage(self._input(), written if cap is None else min(written, cap), estimated=True)

    def _estimated(self, found: Completion) -> Usage:
        """Usage that the upstream did not tell: input by the text, output by chunks and text, at most what was allowed."""
        if not self.sent:
            return Usage()
        ask, message = self.ask, found.message
        written = 0
        for text in (
            message.text,
            message.reasoning,
            message.refusal,
            *(c.arguments for c in message.tool_calls),
        ):
            written += most_tokens(text, self.lane.dense)
        written = max(likely(written, self.lane.dense), self.chunks)
        if ask.max_tokens is not None:
            written = min(written, ask.max_tokens)
        return Usage(self._input(), written, estimated=True)
