"""The ASGI application: which route a call goes to, who may, and what becomes of everything that goes wrong.

No framework: a path is found by one dictionary look-up, headers are read from one dictionary of bytes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.engine.run import Engine
from stretto.errors import Forbidden, LedgerError, StrettoError
from stretto.gateway.auth import Gate, Keys
from stretto.gateway.call import (
    Call,
    ClientDisconnected,
    Headers,
    Receive,
    Response,
    Send,
    Watchtower,
    repeated,
)
from stretto.gateway.counting import Counting
from stretto.gateway.errors import (
    CLOSING,
    INTERNAL,
    TOO_SLOW,
    Problem,
    method_not_allowed,
    of_exception,
    unknown_path,
)
from stretto.gateway.inference import Catalog, Inference
from stretto.gateway.meters import Meters
from stretto.gateway.routes import Routes
from stretto.gateway.settings import Settings
from stretto.gateway.shadows import Shadows
from stretto.gateway.shelf import Shelf
from stretto.gateway.socket import Socket
from stretto.gateway.stored import Stored
from stretto.ledger.read import Reader
from stretto.steps import States
from stretto.types import Key
from stretto.wire import FORMATS, chat, embeddings, messages, responses
from stretto.wire.base import Format

__all__ = ["Gateway"]

_log = logging.getLogger("stretto.gateway")

Endpoint = Callable[[Call], Awaitable[Response | None]]
Lifespan = Callable[[], contextlib.AbstractAsyncContextManager[object]]

_COUNT: Final = f"{messages.ROUTE}/count_tokens"
_LEFT: Final = 499
"""Counted for callers who left before their answer was whole."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What is at a path: endpoints by method. `open` needs no key, `scope` is what a key must have, `form` how errors look."""

    name: str
    methods: Mapping[str, Endpoint]
    open: bool = False
    scope: str = ""
    form: Format | None = None


class Gateway:
    """An ASGI application over an engine, a catalogue of names, the keys and a reader of the ledger.

    `lifespan`, if given, is entered when the server starts and left when it stops; a `StrettoError` from it stops the start
    with its text. Callers without a key are let in only with `settings.anonymous`. Responses are kept in `states`; without them
    none are. `close` stops what runs in the background.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        keys: Keys,
        reader: Reader,
        *,
        settings: Settings,
        states: States | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        meters = Meters()
        tower = Watchtower(settings.notice)
        self._gate = Gate(keys, anonymous=settings.anonymous)
        self._meters = meters
        self._lifespan = lifespan
        self.shadows = shadows = Shadows(engine, catalog, settings.shadow)
        meters.shadows = shadows.text
        models = {
            form.ROUTE: Inference(form, engine, catalog, reader, settings, tower, meters, shadows)
            for form in FORMATS
        }
        routes = Routes(
            engine, catalog, reader, models[chat.ROUTE], models[embeddings.ROUTE], settings, meters
        )
        self._operations = routes
        own = Inference(responses, engine, catalog, reader, settings, tower, meters, shadows)
        shelf = Shelf(states, settings.response_lifetime)
        self._stored = stored = Stored(own, engine, shelf, settings, tower, meters)
        self._socket = Socket(stored, self._admit_model, settings.body_limit)
        self._paths: dict[str, _Route] = {
            form.ROUTE: _Route(form.ROUTE, {"POST": models[form.ROUTE]}, scope="models", form=form)
            for form in FORMATS
        } | {
            _COUNT: _Route(
                _COUNT, {"POST": Counting(models[messages.ROUTE], engine)}, scope="models", form=messages
            ),
            "/": _Route("/", {"GET": routes.root}, open=True),
            "/health": _Route("/health", {"GET": routes.health}, open=True),
            "/metrics": _Route("/metrics", {"GET": routes.metrics}, scope="admin"),
            "/v1/models": _Route("/v1/models", {"GET": routes.models}),
            "/v1/runs": _Route("/v1/runs", {"GET": routes.runs}, scope="runs"),
            "/v1/plans": _Route("/v1/plans", {"POST": routes.plan}, scope="models"),
            "/v1/feedback": _Route("/v1/feedback", {"POST": routes.feedback}, scope="feedback"),
        }
        for path, endpoint in {
            "/v1/responses": stored.create,
            "/v1/responses/compact": stored.compact,
            "/v1/responses/input_tokens": stored.count,
        }.items():
            self._paths[path] = _Route(path, {"POST": endpoint}, scope="models")
        self._response = {
            "": _Route("/v1/responses/{id}", {"GET": stored.get, "DELETE": stored.delete}, scope="models"),
            "cancel": _Route("/v1/responses/{id}/cancel", {"POST": stored.cancel}, scope="models"),
            "input_items": _Route(
                "/v1/responses/{id}/input_items", {"GET": stored.input_items}, scope="models"
            ),
        }
        self._model = _Route("/v1/models/{id}", {"GET": routes.model})
        self._run = {
            "": _Route("/v1/runs/{id}", {"GET": routes.run}, scope="runs"),
            "events": _Route("/v1/runs/{id}/events", {"GET": routes.events}, scope="runs"),
            "replay": _Route("/v1/runs/{id}/replay", {"POST": routes.replay}, scope="runs"),
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI connection: HTTP, a WebSocket to /v1/responses, or the server's lifespan."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._live(receive, send)
            elif scope["type"] == "websocket":
                self._meters.answered(responses.ROUTE, await self._socket(scope, receive, send))
            return
        call = Call(scope, receive, send)
        path = call.path
        route = self._paths.get(path) or self._find(path)
        if path.startswith(messages.ROUTE) or (
            (route is None or path.startswith("/v1/models"))
            and any(name == b"anthropic-version" for name, _ in scope["headers"])
        ):
            call.form = messages
        elif route is not None:
            call.form = route.form
        try:
            response = await self._serve(call, route, scope["headers"])
        except StrettoError as error:
            response = await self._tell(call, self._problem(error, call))
        except TimeoutError:
            response = await self._tell(call, TOO_SLOW)
        except ClientDisconnected:
            self._meters.answered(_name(route), _LEFT)
            return
        except asyncio.CancelledError:
            if call.watch is None or not call.watch.left:
                if (response := await self._tell(call, CLOSING)) is not None:
                    await response.send(send)
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            self._meters.answered(_name(route), _LEFT)
            return
        except Exception:
            # the one boundary: a defect in here must cost one call, not the server
            _log.exception("a call to %s failed", _name(route))
            response = await self._tell(call, INTERNAL)
        if response is not None:
            self._meters.answered(_name(route), response.status)
            await response.send(send)
        else:
            self._meters.answered(_name(route), 200)
        if call.afterwards is not None:
            call.afterwards()

    async def _serve(
        self, call: Call, route: _Route | None, given: list[tuple[bytes, bytes]]
    ) -> Response | None:
        if route is None:
            return Response.of(unknown_path(call.path), form=call.form)
        endpoint = route.methods.get("GET" if call.method == "HEAD" else call.method)
        if endpoint is None:
            allow = ", ".join([*route.methods, "HEAD"] if "GET" in route.methods else route.methods)
            return Response.of(method_not_allowed(call.method, call.path, allow), form=call.form)
        call.headers = headers = dict(given)
        if len(headers) != len(given) and (problem := repeated(given)) is not None:
            return Response.of(problem, form=call.form)
        if not route.open:
            call.key = self._admit(headers, route.scope, route.name)
        return await endpoint(call)

    async def close(self) -> None:
        """Stop what runs in the background; each response says that it has failed."""
        await self.shadows.close()
        await self._stored.close()

    def _admit(self, headers: Headers, scope: str, name: str) -> Key | None:
        """The caller's key, which must have the scope. Raises `AccessError`."""
        key = self._gate.admit(headers)
        if key is not None and scope and not _allows(key, scope):
            raise Forbidden(f"This key lacks the scope {scope!r} that {name} needs.")
        return key

    def _admit_model(self, headers: Headers) -> Key | None:
        """The caller's key, for asking models."""
        return self._admit(headers, "models", responses.ROUTE)

    def _find(self, path: str) -> _Route | None:
        if path.startswith("/v1/models/"):
            return self._model
        if path.startswith("/v1/responses/"):
            id, _, tail = path[len("/v1/responses/") :].partition("/")
            return self._response.get(tail) if id else None
        if path.startswith("/v1/runs/"):
            run_id, _, tail = path[len("/v1/runs/") :].partition("/")
            return self._run.get(tail) if run_id else None
        return self._paths.get(path.rstrip("/"))

    async def _tell(self, call: Call, problem: Problem) -> Response | None:
        """The answer that a problem makes; in-band, and `None`, when a stream has begun."""
        if call.started and call.in_band is not None:
            await call.in_band(problem)
            return None
        return Response.of(problem, form=call.form)

    def _problem(self, error: StrettoError, call: Call) -> Problem:
        problem = of_exception(error)
        if problem is INTERNAL or isinstance(error, LedgerError):
            _log.error("a call to %s failed: %s: %s", call.path[:200], type(error).__name__, error)
            if isinstance(error, LedgerError):
                self._operations.ledger_failed()
        return problem

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        phase = "startup"
        try:
            async with self._lifespan() if self._lifespan is not None else contextlib.nullcontext():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
                await self.close()
        except StrettoError as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _name(route: _Route | None) -> str:
    return route.name if route is not None else "unknown"


def _allows(key: Key, scope: str) -> bool:
    return scope in key.scopes or "admin" in key.scopes
