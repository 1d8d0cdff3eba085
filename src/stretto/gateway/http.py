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
    Receive,
    Response,
    Send,
    Watchtower,
    repeated,
)
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
from stretto.ledger.read import Reader
from stretto.types import Key
from stretto.wire import FORMATS, chat, embeddings

__all__ = ["Gateway"]

_log = logging.getLogger("stretto.gateway")

Endpoint = Callable[[Call], Awaitable[Response | None]]
Lifespan = Callable[[], contextlib.AbstractAsyncContextManager[object]]

_LEFT: Final = 499
"""Counted for callers who left before their answer was whole."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What is at a path: endpoints by method. `open` needs no key, `scope` is what a key must have."""

    name: str
    methods: Mapping[str, Endpoint]
    open: bool = False
    scope: str = ""


class Gateway:
    """An ASGI application over an engine, a catalogue of names, the keys and a reader of the ledger.

    `lifespan`, if given, is entered when the server starts and left when it stops; a `StrettoError` from it stops the start
    with its text. Callers without a key are let in only with `settings.anonymous`.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        keys: Keys,
        reader: Reader,
        *,
        settings: Settings,
        lifespan: Lifespan | None = None,
    ) -> None:
        meters = Meters()
        tower = Watchtower(settings.notice)
        self._gate = Gate(keys, anonymous=settings.anonymous)
        self._meters = meters
        self._lifespan = lifespan
        models = {
            form.ROUTE: Inference(form, engine, catalog, reader, settings, tower, meters) for form in FORMATS
        }
        routes = Routes(
            engine, catalog, reader, models[chat.ROUTE], models[embeddings.ROUTE], settings, meters
        )
        self._operations = routes
        self._paths: dict[str, _Route] = {
            path: _Route(path, {"POST": endpoint}, scope="models") for path, endpoint in models.items()
        } | {
            "/": _Route("/", {"GET": routes.root}, open=True),
            "/health": _Route("/health", {"GET": routes.health}, open=True),
            "/metrics": _Route("/metrics", {"GET": routes.metrics}, scope="admin"),
            "/v1/models": _Route("/v1/models", {"GET": routes.models}),
            "/v1/runs": _Route("/v1/runs", {"GET": routes.runs}, scope="runs"),
            "/v1/plans": _Route("/v1/plans", {"POST": routes.plan}, scope="models"),
            "/v1/feedback": _Route("/v1/feedback", {"POST": routes.feedback}, scope="feedback"),
        }
        self._model = _Route("/v1/models/{id}", {"GET": routes.model})
        self._run = {
            "": _Route("/v1/runs/{id}", {"GET": routes.run}, scope="runs"),
            "events": _Route("/v1/runs/{id}/events", {"GET": routes.events}, scope="runs"),
            "replay": _Route("/v1/runs/{id}/replay", {"POST": routes.replay}, scope="runs"),
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI connection: HTTP, or the server's lifespan. Anything else is refused."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._live(receive, send)
            return
        call = Call(scope, receive, send)
        path = call.path
        route = self._paths.get(path) or self._find(path)
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

    async def _serve(
        self, call: Call, route: _Route | None, given: list[tuple[bytes, bytes]]
    ) -> Response | None:
        if route is None:
            return Response.of(unknown_path(call.path))
        endpoint = route.methods.get("GET" if call.method == "HEAD" else call.method)
        if endpoint is None:
            allow = ", ".join([*route.methods, "HEAD"] if "GET" in route.methods else route.methods)
            return Response.of(method_not_allowed(call.method, call.path, allow))
        call.headers = headers = dict(given)
        if len(headers) != len(given) and (problem := repeated(given)) is not None:
            return Response.of(problem)
        if not route.open:
            call.key = key = self._gate.admit(headers)
            if key is not None and route.scope and not _allows(key, route.scope):
                raise Forbidden(f"This key lacks the scope {route.scope!r} that {route.name} needs.")
        return await endpoint(call)

    def _find(self, path: str) -> _Route | None:
        if path.startswith("/v1/models/"):
            return self._model
        if path.startswith("/v1/runs/"):
            run_id, _, tail = path[len("/v1/runs/") :].partition("/")
            return self._run.get(tail) if run_id else None
        return self._paths.get(path.rstrip("/"))

    async def _tell(self, call: Call, problem: Problem) -> Response | None:
        """The answer that a problem makes; in-band, and `None`, when a stream has begun."""
        if call.started and call.in_band is not None:
            await call.in_band(problem)
            return None
        return Response.of(problem)

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
        except StrettoError as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _name(route: _Route | None) -> str:
    return route.name if route is not None else "unknown"


def _allows(key: Key, scope: str) -> bool:
    return scope in key.scopes or "admin" in key.scopes
