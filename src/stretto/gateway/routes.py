"""The routes beside inference: names, plans, runs and their receipts, replay, feedback, and what operations look at."""

import re
import time
from typing import Any, Final
from urllib.parse import parse_qsl

from stretto.engine.run import Engine, Preview
from stretto.errors import RequestError, UnknownModel
from stretto.gateway.auth import may_use
from stretto.gateway.call import Call, Response, json_response
from stretto.gateway.inference import Catalog, Inference, check_name
from stretto.gateway.meters import Meters
from stretto.gateway.settings import Settings
from stretto.ledger.read import Reader, event_json
from stretto.steps import Ask, Choice, Span
from stretto.types import PICO, Card, Key, Limits, Request, usd
from stretto.wire import chat, messages
from stretto.wire.base import Incoming, bounded_json, expect_number, expect_object, expect_text

__all__ = ["Routes"]

_SMALL: Final = 64 * 1024
_LIST_LIMIT: Final = 500
_TROUBLE_SECONDS: Final = 10.0
_TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_ROUTES: Final = {
    "POST /v1/chat/completions": "OpenAI chat completions, stream or not",
    "POST /v1/completions": "OpenAI's legacy completions, stream or not",
    "POST /v1/embeddings": "vectors of texts, by one worker that can do `embedding`",
    "POST /v1/responses": "OpenAI Responses; GET, DELETE, cancel and input_items below /v1/responses/{id}; a WebSocket, too",
    "POST /v1/responses/compact": "a summary in the place of a long conversation; /v1/responses/input_tokens counts one",
    "POST /v1/messages": "Anthropic Messages, stream or not; /v1/messages/count_tokens counts a request",
    "GET /v1/models": "workers and policies that `model` may name; /v1/models/{id} for one",
    "POST /v1/plans": "what a chat request would do and cost; nothing is called",
    "GET /v1/runs": "recent runs; /v1/runs/{id} for a receipt, /v1/runs/{id}/events for its record",
    "POST /v1/runs/{id}/replay": "the same run again, under another policy if you like, without any call",
    "POST /v1/feedback": "a score for a run: {run_id, score: 0..1, comment}",
    "GET /health": "whether this process is ready",
    "GET /metrics": "counters for Prometheus",
}


class Routes:
    """Endpoints; each takes a `Call` and returns a `Response`."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        reader: Reader,
        inference: Inference,
        vectors: Inference,
        settings: Settings,
        meters: Meters,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._reader = reader
        self._inference = inference
        self._vectors = vectors
        self._settings = settings
        self._meters = meters
        self._trouble_until = 0.0

    # --- operations ---

    async def root(self, call: Call) -> Response:
        """What this is and where to go on: JSON, or a page for browsers."""
        if b"text/html" in call.headers.get(b"accept", b""):
            rows = "".join(f"<tr><td><code>{k}</code></td><td>{v}</td></tr>" for k, v in _ROUTES.items())
            page = (
                "<!doctype html><html lang=en><meta charset=utf-8><title>Stretto</title>"
                f"<h1>Stretto {self._settings.version}</h1><p>Point the <code>base_url</code> of an OpenAI "
                f"client at <code>/v1</code> of this address, that of an Anthropic client at the address itself.</p>"
                f"<table>{rows}</table></html>"
            )
            policy = (b"content-security-policy", b"default-src 'none'")
            return Response(200, page.encode(), (policy,), _HTML)
        return json_response({"name": "stretto", "version": self._settings.version, "routes": _ROUTES})

    async def health(self, call: Call) -> Response:
        """Whether this process is ready. 503 while the ledger refuses to be written: no paid call is made then."""
        told = self._settings.health()
        degraded = time.monotonic() < self._trouble_until or told.get("ledger", "ok") != "ok"
        body = {
            "status": "degraded" if degraded else "ok",
            "version": self._settings.version,
            "config": self._settings.config,
            **told,
            "ledger": "unavailable" if degraded else "ok",
        }
        return json_response(body, 503 if degraded else 200)

    def ledger_failed(self) -> None:
        """The ledger has just refused a write or a reading; GET /health says so for a while."""
        self._trouble_until = time.monotonic() + _TROUBLE_SECONDS

    async def metrics(self, call: Call) -> Response:
        """Counters for Prometheus."""
        return Response(200, self._meters.text().encode(), (), _TEXT)

    # --- names ---

    async def models(self, call: Call) -> Response:
        """What this caller may name as `model`, in Anthropic's shape for those who speak it."""
        cards = [card for card in self._catalog.models() if may_use(call.key, card.id)]
        if b"anthropic-version" in call.headers:
            return Response(200, messages.render_models(cards))
        return Response(200, chat.render_models([_entry(card) for card in cards]))

    async def model(self, call: Call) -> Response:
        """One of them; its id may hold slashes."""
        name = call.path[len("/v1/models/") :]
        for card in self._catalog.models():
            if card.id == name and may_use(call.key, name):
                theirs = b"anthropic-version" in call.headers
                return json_response(messages.render_model(card) if theirs else _entry(card))
        raise UnknownModel(f"There is no model {name[:200]!r}; GET /v1/models lists them.", param="model")

    # --- plans ---

    async def plan(self, call: Call) -> Response:
        """What a chat request would do: who may play, what would be chosen and asked first, what it might take."""
        _, request, name, policy = await self._inference.parse(call)
        return json_response(_plan(name, self._engine.preview(policy, request, key=call.key)))

    # --- runs ---

    async def runs(self, call: Call) -> Response:
        """The caller's recent runs, newest first: `?limit=` (50), `?before=` a run id, `?purpose=`."""
        query = dict(parse_qsl(call.query.decode("latin-1")))
        text = query.get("limit", "50")
        if re.fullmatch("[0-9]{1,6}", text) is None or not 0 < int(text) <= _LIST_LIMIT:
            raise RequestError(f"`limit` must be a whole number from 1 to {_LIST_LIMIT}.", param="limit")
        found = self._reader.runs(int(text), query.get("before"), _owner(call.key), query.get("purpose"))
        return json_response({"object": "list", "data": found})

    async def run(self, call: Call) -> Response:
        """The receipt of a run; `?content=true` adds what was said."""
        texts = _flag(call, "content", False)
        return json_response(self._reader.receipt(_run_id(call), _owner(call.key), include_content=texts))

    async def events(self, call: Call) -> Response:
        """The record of a run, as it stands in the ledger; `?content=false` leaves out what was said."""
        run_id = _run_id(call)
        texts = _flag(call, "content", True)
        found = [event_json(e, include_content=texts) for e in self._reader.events(run_id, _owner(call.key))]
        return json_response({"object": "list", "run_id": run_id, "data": found})

    async def replay(self, call: Call) -> Response:
        """A recorded run once more, without any call; under another policy if the body names one."""
        run_id = _run_id(call)
        recorded = self._reader.receipt(run_id, _owner(call.key))
        body = await call.body(_SMALL, self._settings.patience)
        given = _object(body) if body.strip() else {}
        name = expect_text(
            given["policy"] if given.get("policy") is not None else recorded["policy"], "policy"
        )
        check_name(call.key, name)
        run = await self._engine.replay(run_id, self._catalog.resolve(name), name=name)
        more = {"replay": True, "missing": list(run.missing)}
        asked = Incoming(Request(messages=(), model=recorded["model"]))
        inference = self._vectors if run.answer.embeddings else self._inference
        return inference.whole(run, asked, more)

    async def feedback(self, call: Call) -> Response:
        """Record a score 0..1 for a run, with a comment if there is one."""
        given = _object(await call.body(_SMALL, self._settings.patience))
        for name in given:
            if name not in ("run_id", "score", "comment", "at"):
                raise RequestError(
                    f"`{name}` is not known; there are run_id, score, comment, at.", param=name
                )
        run_id = expect_text(given.get("run_id"), "run_id")
        score = float(expect_number(given.get("score"), "score", least=0, most=1))
        comment = expect_text(given.get("comment") or "", "comment")
        at = expect_text(given.get("at") or "", "at")
        self._reader.events(run_id, _owner(call.key))
        by = call.key.id if call.key is not None else ""
        await self._engine.score(run_id, score, by=by, comment=comment, at=at)
        return json_response({"object": "feedback", "run_id": run_id, "score": score})


def _owner(key: Key | None) -> str | None:
    """Whose runs a caller sees: its own; all of them for administrators, and for anonymous callers on loopback."""
    return None if key is None or "admin" in key.scopes else key.id


def _run_id(call: Call) -> str:
    return call.path.split("/", 4)[3]


def _flag(call: Call, name: str, otherwise: bool) -> bool:
    value = dict(parse_qsl(call.query.decode("latin-1"))).get(name)
    if value is None:
        return otherwise
    if value not in ("true", "false"):
        raise RequestError(f"`{name}` must be true or false.", param=name)
    return value == "true"


def _object(body: bytes) -> dict[str, Any]:
    try:
        return expect_object(bounded_json(body), "body")
    except ValueError as error:
        raise RequestError(f"The body is {error}.") from None


def _entry(card: Card) -> dict[str, Any]:
    return chat.render_model(card.id, 0, card.labels.get("vendor", "stretto"), card)


def _plan(name: str, seen: Preview) -> dict[str, Any]:
    outlook = seen.outlook
    return {
        "object": "plan",
        "policy": name,
        "type": seen.policy,
        "around": list(seen.around),
        "version": seen.version,
        "candidates": [_entry(card) for card in seen.eligible],
        "denied": [{"worker": d.worker, "reason": d.reason} for d in seen.denied],
        "choices": [_choice(choice) for choice in seen.choices],
        "first": [_ask(ask) for ask in seen.first],
        "outlook": {
            "calls": _span(outlook.calls),
            "usd": _span(outlook.usd, PICO),
            "seconds": _span(outlook.seconds),
        },
        "limits": _limits(seen.limits),
    }


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "picked": choice.picked,
        "probability": choice.probability,
        "reason": choice.reason,
        "by": choice.by,
        "options": [
            {"name": o.name, "estimates": dict(o.estimates), "rejected": o.rejected} for o in choice.options
        ],
    }


def _ask(ask: Ask) -> dict[str, Any]:
    return {"worker": ask.worker, "role": ask.role, "reason": ask.reason, "max_tokens": ask.max_tokens}


def _span(span: Span, unit: int = 1) -> dict[str, float]:
    return {"least": span.least / unit, "expected": span.expected / unit, "most": span.most / unit}


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "usd": None if limits.usd is None else usd(limits.usd),
        "calls": limits.calls,
        "seconds": limits.seconds,
        "depth": limits.depth,
        "fanout": limits.fanout,
    }
