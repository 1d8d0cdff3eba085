"""The routes that ask models: a request in a wire format becomes a run of a policy, its answer goes back in that format.

Whole answers leave after the run is recorded. Streams tell the truth: the head leaves with the first piece (or after
`Settings.first_beat` seconds), pieces leave as the engine emits them, and everything from the event that a client takes for
the end waits until the run is recorded. What fails before the head is an HTTP error, after it the format's own error event.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from stretto.engine.run import Engine, Run
from stretto.errors import Forbidden, RequestError, TooLong
from stretto.gateway.auth import may_use
from stretto.gateway.call import Call, Headers, Response, Watchtower
from stretto.gateway.embeddings import check_embeds
from stretto.gateway.errors import Problem, of_exception, of_failure
from stretto.gateway.fusion import wished
from stretto.gateway.meters import Meters
from stretto.gateway.options import from_headers, joined
from stretto.gateway.settings import Settings
from stretto.gateway.shadows import Shadows
from stretto.gateway.stream import Relay, Stream, shown
from stretto.gateway.wish import ALIASES, NAME, Wish
from stretto.ledger.read import Reader
from stretto.steps import Policy
from stretto.types import Card, Key, Request, new_run_id, usd
from stretto.wire import messages, responses
from stretto.wire.base import Format, Incoming, StreamWriter, delta_of

__all__ = ["Catalog", "Inference", "Turn", "check_name"]

_KNOWN_NAMES: Final = 4096
_NOTHING: Final[Mapping[str, Any]] = {}


class Catalog(Protocol):
    """What names on the wire mean."""

    def resolve(self, name: str) -> Policy:
        """The policy that a model name stands for: a worker's solo, or a configured one.

        Returns the same object for the same name until the configuration changes. Raises `UnknownModel` with near matches.
        """
        ...

    def fusion(self, wish: Wish, name: str) -> Policy | None:
        """The policy of a wish for fusion in a request to `name`; `None` if that is a worker that serves such requests itself."""
        ...

    def models(self) -> Sequence[Card]:
        """Everything that `resolve` knows, for GET /v1/models; policies carry the label `kind = "policy"`."""
        ...


class Turn(Protocol):
    """What a format that keeps answers does around a run."""

    def stream(self, run_id: str, created: int) -> StreamWriter:
        """The writer of the answer's stream."""
        ...

    def settled(self, run: Run) -> Run:
        """The run as it is told: what was done for the request beforehand belongs to it."""
        ...

    async def keep(self, run: Run, body: bytes) -> None:
        """Keep the answer, before its caller sees the end of it. `body` is the whole answer, nothing for a stream's."""
        ...


class Inference:
    """The route of one wire format."""

    def __init__(
        self,
        format: Format,
        engine: Engine,
        catalog: Catalog,
        reader: Reader,
        settings: Settings,
        tower: Watchtower,
        meters: Meters,
        shadows: Shadows,
    ) -> None:
        self._shadows = shadows
        self._format = format
        self._engine = engine
        self._catalog = catalog
        self._reader = reader
        self._settings = settings
        self._tower = tower
        self._meters = meters
        self._names: dict[str, bytes] = {}

    async def parse(self, call: Call) -> tuple[Incoming, Request, str, Policy]:
        """The request of a call with its options, the name of the policy it asks for, and that policy.

        Raises `RequestError` and its kin, `Forbidden` when the key may not use that name.
        """
        settings = self._settings
        incoming = self._format.parse_request(await call.body(settings.body_limit, settings.patience))
        return self.prepare(incoming, call.key, call.headers)

    def prepare(
        self, incoming: Incoming, key: Key | None, headers: Headers
    ) -> tuple[Incoming, Request, str, Policy]:
        """What a parsed request comes to with the options in its headers: see `parse`."""
        request, policy_name = incoming.request, incoming.options.policy
        if self._format is messages and (betas := headers.get(b"anthropic-beta")):
            request = messages.with_betas(request, betas.decode("latin-1"))
        if (given := from_headers(headers)) is not None:
            request = joined(request, incoming.options, given)
            policy_name = policy_name or given.policy
            if incoming.options.progress is None and given.progress is not None:
                incoming = replace(incoming, options=replace(incoming.options, progress=given.progress))
        if incoming.options.score_with is not None:
            raise RequestError("`stretto.score_with` is not served here.", param="stretto.score_with")
        name = policy_name or request.model
        if key is not None:
            check_name(key, request.model)
            check_name(key, name)
        policy = self._catalog.resolve(name)
        check_embeds(self._catalog.models, key, request, policy)
        if (found := wished(request, name, headers)) is not None:
            request, name, policy = self._fused(key, request, name, policy, *found)
        return incoming, request, name, policy

    def _fused(
        self,
        key: Key | None,
        request: Request,
        name: str,
        policy: Policy,
        plain: Request,
        wish: Wish | None,
    ) -> tuple[Request, str, Policy]:
        """The request, name and policy of a call that says something about fusion."""
        if wish is None:
            return plain, name, policy
        if key is not None:
            for each in wish.needed(name):
                check_name(key, each)
        fused = self._catalog.fusion(wish, name)
        if fused is None:
            return request, name, policy
        return plain, name if name in ALIASES else NAME, fused

    async def __call__(self, call: Call) -> Response | None:
        """Serve a call. `None` when the answer has been streamed."""
        return await self.answer(call, *await self.parse(call))

    async def answer(
        self,
        call: Call,
        incoming: Incoming,
        request: Request,
        name: str,
        policy: Policy,
        turn: "Turn | None" = None,
    ) -> Response | None:
        """Serve a call whose request has been read. `None` when the answer has been streamed."""
        if incoming.stream:
            return await self._stream(call, incoming, request, name, policy, turn)
        call.watch = watch = self._tower.enter(call.receive)
        try:
            run = await self._engine.run(policy, request, name=name, key=call.key)
        finally:
            self._tower.leave(watch)
        self._meters.count(run)
        call.afterwards = self._shadows.after(run, incoming, request, call.key)
        if turn is not None:
            run = turn.settled(run)
        response = self.whole(run, incoming, self._explained(incoming, run))
        if turn is not None and run.answer.error is None:
            await turn.keep(run, response.body)
        return response

    async def play(
        self,
        turn: "Turn",
        incoming: Incoming,
        request: Request,
        name: str,
        policy: Policy,
        key: Key | None,
        run_id: str,
        send: Callable[[bytes], Awaitable[None]],
    ) -> Problem | None:
        """A run whose stream goes to `send`, whoever that is. A problem, which has not been told there, if it failed."""
        writer, top = turn.stream(run_id, int(time.time())), _logprobs_wanted(request)
        relay = Relay(writer, send, top)
        run = await self._engine.run(
            policy, request, name=name, key=key, emit=relay.emit, tell=relay.tell, run_id=run_id
        )
        await relay.still()
        self._meters.count(run)
        afterwards = self._shadows.after(run, incoming, request, key)
        run = turn.settled(run)
        if run.answer.error is not None:
            return of_failure(run.answer.error)
        end = self._end(writer, incoming, run, top)
        await turn.keep(run, b"")
        await send(end)
        if afterwards is not None:
            afterwards()
        return None

    def whole(self, run: Run, incoming: Incoming, more: Mapping[str, Any] = _NOTHING) -> Response:
        """The answer of a settled run in one piece; `more` adds to the `stretto` block."""
        answer, headers = run.answer, self._headers(run)
        if answer.logprobs:
            answer = replace(answer, logprobs=shown(answer.logprobs, _logprobs_wanted(incoming.request)))
        if answer.error is not None:
            return Response.of(of_failure(answer.error), run.id, headers, more, self._format)
        block = {**_block(run), **more} if more else _block(run)
        body = self._format.render_response(
            run.id, int(time.time()), incoming, answer, run.usage, run.served, block
        )
        return Response(200, body, headers)

    async def _stream(
        self,
        call: Call,
        incoming: Incoming,
        request: Request,
        name: str,
        policy: Policy,
        turn: "Turn | None",
    ) -> Response | None:
        run_id, created = new_run_id(), int(time.time())
        writer = (
            self._format.stream(run_id, created, incoming) if turn is None else turn.stream(run_id, created)
        )
        early = [(b"x-stretto-run-id", run_id.encode()), (b"x-stretto-policy", self._value(name))]
        if self._format is messages:
            early.append((b"request-id", run_id.encode()))
        top = _logprobs_wanted(request)
        stream = Stream(call, writer, early, self._settings, top)
        call.in_band = stream.fail
        call.watch = watch = self._tower.enter(call.receive)
        try:
            run = await self._engine.run(
                policy,
                request,
                name=name,
                key=call.key,
                emit=stream.emit,
                tell=stream.tell,
                run_id=run_id,
            )
        except TooLong as error:
            if self._format is not responses:
                raise
            await stream.fail(of_exception(error))
            return None
        finally:
            self._tower.leave(watch)
            stream.quiet()
        await stream.still()
        self._meters.count(run)
        call.afterwards = self._shadows.after(run, incoming, request, call.key)
        if turn is not None:
            run = turn.settled(run)
        if run.answer.error is not None:
            problem = of_failure(run.answer.error)
            # Codex compacts a conversation that is too long only if the stream itself says so.
            if not call.started and not (problem.code == TooLong.code and self._format is responses):
                more = self._explained(incoming, run)
                return Response.of(problem, run.id, self._headers(run), more, self._format)
            await stream.fail(problem)
            return None
        end = self._end(writer, incoming, run, top)
        if turn is not None:
            await turn.keep(run, b"")
        await stream.end(end, self._headers(run))
        return None

    def _end(self, writer: StreamWriter, incoming: Incoming, run: Run, top: int) -> bytes:
        """What completes a stream: all of the answer if nothing of it has gone out, and the end."""
        answer, pieces = run.answer, b""
        if not run.streamed:
            pieces = writer.deltas([delta_of(answer.message, shown(answer.logprobs, top))])
        block = {**_block(run), **self._explained(incoming, run)}
        return pieces + writer.end(answer, run.usage, run.served, block)

    def _explained(self, incoming: Incoming, run: Run) -> Mapping[str, Any]:
        """With `stretto.explain`, the receipt itself, not only where it is."""
        return {"explain": self._reader.receipt(run.id)} if incoming.options.explain else _NOTHING

    def _headers(self, run: Run) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"x-stretto-run-id", run.id.encode()),
            (b"x-stretto-policy", self._value(run.policy)),
            (b"x-stretto-calls", b"%d" % run.calls),
            (b"x-stretto-cost-usd", _money(run.cost)),
        ]
        if self._format is messages:  # where Anthropic's SDKs look for it
            headers.append((b"request-id", run.id.encode()))
        if run.answer.worker:
            headers.append((b"x-stretto-served-by", self._value(run.answer.worker)))
        return headers

    def _value(self, name: str) -> bytes:
        """A name as a header value: printable ASCII, never a line end."""
        value = self._names.get(name)
        if value is None:
            if len(self._names) >= _KNOWN_NAMES:
                self._names.clear()
            shown = "".join(c if " " <= c <= "~" else "?" for c in name[:256])
            value = self._names[name] = shown.encode()
        return value


def check_name(key: Key | None, name: str) -> None:
    """Refuse (`Forbidden`) a model or policy that a key may not ask for."""
    if not may_use(key, name):
        raise Forbidden(f"This key may not use the model {name!r}; GET /v1/models lists what it may.")


def _logprobs_wanted(request: Request) -> int:
    """How many alternatives a token the caller wants to see beside its log-probability; -1: none of it.

    A policy may have asked for log-probabilities of its own: those are not the caller's.
    """
    return int(request.params.get("top_logprobs", 0)) if request.params.get("logprobs") else -1


def _block(run: Run) -> Mapping[str, Any]:
    """The `stretto` object of an answer."""
    answer = run.answer
    return {
        "run_id": run.id,
        "policy": run.policy,
        "served_by": answer.worker,
        "calls": run.calls,
        "cost_usd": usd(run.cost),
        "receipt": f"/v1/runs/{run.id}",
        "why": answer.why,
        **answer.more,
    }


def _money(pico: int) -> bytes:
    """Dollars, exact, without an exponent."""
    whole, part = divmod(pico, 1_000_000_000_000)
    return (b"%d.%012d" % (whole, part)).rstrip(b"0").rstrip(b".") if part else b"%d" % whole
