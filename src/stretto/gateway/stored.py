"""The stateful side of OpenAI Responses: what is kept, gone on from, run in the background, told again, compacted, deleted.

What a response is kept as stands in `shelf`, work without a caller in `background`, summaries in `compaction`. Every model call
goes through the engine, summaries included.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from stretto.engine.run import Engine, Run
from stretto.errors import LedgerError, RequestError, ResponseNotFound
from stretto.gateway.background import Background
from stretto.gateway.call import Call, Headers, Response, Watchtower, json_response
from stretto.gateway.compaction import (
    compaction_item,
    expanded,
    question,
    said_by_caller,
    split,
    threshold,
)
from stretto.gateway.errors import Problem, of_failure
from stretto.gateway.inference import Inference
from stretto.gateway.meters import Meters
from stretto.gateway.retold import retold
from stretto.gateway.settings import Settings
from stretto.gateway.shelf import ENDED, Item, Kept, Shelf, owner_of
from stretto.steps import Policy
from stretto.types import Delta, Key, Limits, Part, Request, new_run_id, record
from stretto.wire import responses
from stretto.wire.base import Incoming, StreamWriter
from stretto.wire.responses_fields import render_usage
from stretto.wire.responses_items import ITEM
from stretto.wire.responses_object import SEALS, fusion_item, hex_of, response_object
from stretto.wire.responses_output import unsealed
from stretto.wire.responses_stream import ResponsesStream

__all__ = ["Asked", "Stored", "Turn", "refuse"]

_EVENTS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_PAGE: Final = 20
_LONGEST_PAGE: Final = 100
_QUIET: Final = b": keep-alive\n\n"


class Turn:
    """One response on its way: `inference.Turn` for Responses. `items` is the conversation with its answer, once there is one.

    `context` are the items before the request's own input; `stores`: the response is kept.
    """

    def __init__(
        self,
        shelf: Shelf,
        owner: str,
        incoming: Incoming,
        context: Sequence[Item],
        *,
        stores: bool,
        limit: int | None = None,
    ) -> None:
        self.incoming = incoming
        self.context = context
        self.stores = stores
        self.limit = limit
        self.items: list[Item] | None = None
        self.writer: ResponsesStream | None = None
        self._stream: StreamWriter | None = None
        self._shelf = shelf
        self._owner = owner
        self._summary: Run | None = None
        self._item: Item | None = None
        self._instead: Sequence[Item] | None = None

    @property
    def whole(self) -> list[Item]:
        """The conversation that is to be answered."""
        return [*self.context, *self.incoming.more["input"]]

    def compacted(self, run: Run, item: Item, instead: Sequence[Item]) -> None:
        """The conversation was compacted by `run` into `item`; `instead` is what it became."""
        self._summary, self._item, self._instead = run, item, instead

    def kept(self, response: Item, run_id: str) -> Kept:
        """The response as it is kept."""
        logged = bool(response.get("background"))
        return Kept(response, responses.input_items(run_id, self.incoming), self._instead, logged)

    def stream(self, run_id: str, created: int) -> StreamWriter:
        """See `inference.Turn`. The same writer again, once there is one."""
        if self._stream is None:
            self.writer = writer = responses.stream(run_id, created, self.incoming)
            self._stream = writer if self._item is None else _Opened(writer, self._item)
        return self._stream

    def settled(self, run: Run) -> Run:
        """See `inference.Turn`."""
        if self._summary is None or self._item is None:
            return run
        done, message = self._summary, run.answer.message
        said = (Part("text", message.content),) if isinstance(message.content, str) else message.content or ()
        message = replace(message, content=(Part(ITEM, data=self._item), *said))
        return replace(
            run,
            answer=replace(run.answer, message=message),
            usage=run.usage + done.usage,
            cost=run.cost + done.cost,
            calls=run.calls + done.calls,
        )

    async def keep(self, run: Run, body: bytes) -> None:
        """See `inference.Turn`. An answer that cannot be kept is given all the same: it has been paid for."""
        response: Mapping[str, Any]
        if self.writer is not None and self.writer.final is not None:
            response, output = self.writer.final, self.writer.kept
        else:
            response = orjson.loads(body)
            fusion = fusion_item(run.id, self.incoming, response.get("stretto"))
            output = [] if fusion is None else [fusion]
            output += responses.output_items(run.id, self.incoming, run.answer)
        kept = self.kept({**response, "output": output}, run.id)
        before = () if self._instead is not None else self.context
        self.items = [*before, *kept.items]
        if self.stores:
            try:
                await self._shelf.put(kept, self._owner)
            except LedgerError:
                if self.incoming.more.get("background"):
                    raise


class _Opened:
    """A stream that begins with a compaction item."""

    def __init__(self, writer: ResponsesStream, item: Item) -> None:
        self._writer = writer
        self._item = item
        self._opening: tuple[Delta, ...] = (Delta(parts=(Part(ITEM, data=item),)),)
        self.error = writer.error
        self.keep_alive = writer.keep_alive
        self.progress = writer.progress

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """Pieces of the answer; the item comes before the first, and a whole answer brings it along itself."""
        opening, self._opening = self._opening, ()
        fresh = [replace(d, parts=tuple([p for p in d.parts if p.data is not self._item])) for d in deltas]
        return self._writer.deltas([*opening, *fresh])

    def end(self, *args: Any) -> bytes:
        """The end."""
        return self._writer.end(*args)


@record
class Asked:
    """What a request to Responses comes to."""

    turn: Turn
    request: Request
    name: str
    policy: Policy
    key: Key | None
    run_id: str


class Stored:
    """The routes of OpenAI Responses."""

    def __init__(
        self,
        inference: Inference,
        engine: Engine,
        shelf: Shelf,
        settings: Settings,
        tower: Watchtower,
        meters: Meters,
    ) -> None:
        self._inference = inference
        self._engine = engine
        self._shelf = shelf
        self._settings = settings
        self._tower = tower
        self._meters = meters
        self._background = Background(shelf, settings.tick)

    async def close(self) -> None:
        """Stop what runs in the background."""
        await self._background.close()

    async def put(self, kept: Kept, owner: str) -> None:
        """Keep a response that nobody has to answer."""
        await self._shelf.put(kept, owner)

    # --- create ---

    async def create(self, call: Call) -> Response | None:
        """`POST /v1/responses`."""
        incoming = responses.parse_request(
            await call.body(self._settings.body_limit, self._settings.patience)
        )
        asked = await self.asked(incoming, call.key, call.headers)
        if incoming.more.get("background"):
            return await self._begin(call, asked)
        if asked.turn.limit is not None:
            call.watch = watch = self._tower.enter(call.receive)
            try:
                asked = await self._compacted(asked)
            finally:
                self._tower.leave(watch)
        turn = asked.turn
        return await self._inference.answer(
            call, turn.incoming, asked.request, asked.name, asked.policy, turn
        )

    async def asked(
        self,
        incoming: Incoming,
        key: Key | None,
        headers: Headers,
        near: Mapping[str, Sequence[Item]] | None = None,
    ) -> Asked:
        """A request with the conversation that it goes on from; `near` holds conversations that are at hand."""
        more, owner = incoming.more, owner_of(key)
        refuse(more)
        stores = more.get("store") is not False and self._shelf.keeps
        if more.get("background") and not stores:
            raise RequestError(
                "A response in the background has to be stored, and this one is not to be.",
                param="background",
            )
        previous = more.get("previous_response_id")
        context = await self._shelf.context(previous, owner, near or {}) if previous else []
        own = more["input"]
        if more["references"]:
            own = await self._shelf.resolved(own, context, owner)
        if previous:
            _check_outputs(context, own)
        limit = threshold(incoming.request.extra)
        if "context_management" in incoming.request.extra:
            extra = {k: v for k, v in incoming.request.extra.items() if k != "context_management"}
            incoming = replace(incoming, request=replace(incoming.request, extra=extra))
        if not stores:
            incoming = replace(incoming, more={**more, "store": False})
        incoming = _going_on(incoming, context, own)
        incoming, request, name, policy = self._inference.prepare(incoming, key, headers)
        turn = Turn(self._shelf, owner, incoming, context, stores=stores, limit=limit)
        return Asked(turn, request, name, policy, key, new_run_id())

    async def play(self, asked: Asked, send: Callable[[bytes], Awaitable[None]]) -> Problem | None:
        """Answer a request whose caller is not a call: the stream goes to `send`."""
        asked = await self._compacted(asked)
        turn = asked.turn
        await send(turn.stream(asked.run_id, int(time.time())).keep_alive())
        return await self._inference.play(
            turn,
            turn.incoming,
            asked.request,
            asked.name,
            asked.policy,
            asked.key,
            asked.run_id,
            send,
        )

    # --- in the background ---

    async def _begin(self, call: Call, asked: Asked) -> Response | None:
        """Start to work on a response, and answer with it as it stands, or with its events."""
        turn, run_id = asked.turn, asked.run_id
        self._engine.preview(asked.policy, asked.request, key=asked.key)  # raises what the caller can mend
        created = int(time.time())
        status = "queued" if self._background.full else "in_progress"
        response = response_object(run_id, created, turn.incoming, status)

        def writer() -> ResponsesStream:
            return turn.writer or responses.stream(run_id, created, turn.incoming)

        owner = owner_of(asked.key)
        await self._background.start(turn.kept(response, run_id), owner, writer, partial(self.play, asked))
        if turn.incoming.stream:
            await self._tell(call, response["id"], owner, -1)
            return None
        return json_response(response)

    async def _tell(self, call: Call, id: str, owner: str, after: int) -> None:
        """Stream the events of a response that is (or was) worked on in the background, from the one after `after` on."""
        call.started, call.in_band = True, partial(_cut_off, call)
        call.watch = watch = self._tower.enter(call.receive)
        try:
            await call.send({"type": "http.response.start", "status": 200, "headers": list(_EVENTS)})
            number, quiet = 0, 0.0
            async for event in self._background.events(id, owner):
                quiet = 0.0 if event else quiet + self._settings.tick
                body = event if number > after else b""
                number += bool(event)
                if quiet >= self._settings.beat:
                    body, quiet = _QUIET, 0.0
                if body:
                    await call.send({"type": "http.response.body", "body": body, "more_body": True})
            await call.send({"type": "http.response.body", "body": b""})
        finally:
            self._tower.leave(watch)

    # --- compaction ---

    async def _compacted(self, asked: Asked) -> Asked:
        """The request with its conversation compacted, if it wants that and the conversation is long enough.

        If no summary can be had, the conversation stays as it is; one call is always left for the answer.
        """
        turn, request = asked.turn, asked.request
        if turn.limit is None:
            return asked
        count = await self._engine.count(asked.policy, request, key=asked.key)
        cut = split(turn.whole)
        if count.tokens < turn.limit or not cut.head:
            return asked
        calls = request.limits.calls
        spare = replace(request.limits, calls=None if calls is None else max(0, calls - 1))
        run = await self._summary(replace(asked, request=replace(request, limits=spare)), cut.head)
        if run.answer.error is not None:
            return asked
        item = compaction_item(f"cmp_{hex_of(run.id)}", run.answer.message.text, run.id)
        instead = [*cut.before, item, *cut.after]
        turn.compacted(run, item, instead)
        shorter = _going_on(turn.incoming, [], instead).request.messages
        limits = _left(request.limits, run)
        return replace(asked, request=replace(request, messages=shorter, limits=limits))

    async def _summary(self, asked: Asked, items: Sequence[Item]) -> Run:
        asks = question(asked.request, items)
        run = await self._engine.run(asked.policy, asks, name=asked.name, key=asked.key, purpose="compaction")
        self._meters.count(run)
        return run

    async def compact(self, call: Call) -> Response:
        """`POST /v1/responses/compact`: the caller's own words, and a summary of the conversation."""
        incoming = responses.parse_request(
            await call.body(self._settings.body_limit, self._settings.patience)
        )
        more = {**incoming.more, "store": False, "background": False}
        asked = await self.asked(replace(incoming, more=more), call.key, call.headers)
        items = asked.turn.whole
        if not items:
            raise RequestError("There is nothing to compact.", param="input")
        call.watch = watch = self._tower.enter(call.receive)
        try:
            run = await self._summary(asked, items)
        finally:
            self._tower.leave(watch)
        if run.answer.error is not None:
            return Response.of(of_failure(run.answer.error), run.id)
        own = replace(incoming, more={**incoming.more, "input": said_by_caller(items)})
        item = compaction_item(f"cmp_{hex_of(run.id)}", run.answer.message.text, run.id)
        body = {
            "id": f"resp_{hex_of(run.id)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [*responses.input_items(run.id, own), item],
            "usage": render_usage(run.usage, run.served),
            "stretto": {"run_id": run.id, "receipt": f"/v1/runs/{run.id}"},
        }
        return json_response(body)

    async def count(self, call: Call) -> Response:
        """`POST /v1/responses/input_tokens`."""
        incoming = responses.parse_request(
            await call.body(self._settings.body_limit, self._settings.patience)
        )
        more = {**incoming.more, "background": False}
        asked = await self.asked(replace(incoming, more=more), call.key, call.headers)
        count = await self._engine.count(asked.policy, asked.request, key=call.key)
        told = {"object": "response.input_tokens", "input_tokens": count.tokens}
        return json_response({**told, "stretto": {"exact": count.exact}})

    # --- what is kept ---

    async def get(self, call: Call) -> Response | None:
        """`GET /v1/responses/{id}`; with `?stream=true` its events again, those after `starting_after`."""
        id, query = _id(call), _Query(call)
        owner = owner_of(call.key)
        kept = await self._background.look(id, owner)
        if query.flag("stream"):
            after = query.whole("starting_after", -1, -1, 2**53)
            ended = kept.response["status"] in ENDED
            if kept.logged and (not ended or await self._shelf.logged(id, owner, 0)):
                await self._tell(call, id, owner, after)
                return None
            events = retold(query.shown(kept.response))
            return Response(200, b"".join(events[after + 1 :]), _EVENTS[1:], _EVENTS[0])
        return json_response(query.shown(kept.response))

    async def delete(self, call: Call) -> Response:
        """`DELETE /v1/responses/{id}`: it is gone, and what is under way for it is stopped."""
        id, owner = _id(call), owner_of(call.key)
        await self._background.forget(id, owner)
        if not await self._shelf.delete(id, owner):
            raise ResponseNotFound(f"Response with id {id[:100]!r} not found.", param="response_id")
        return json_response({"id": id, "object": "response", "deleted": True})

    async def cancel(self, call: Call) -> Response:
        """`POST /v1/responses/{id}/cancel`: stop one in the background. One that has ended is told as it is."""
        id, owner = _id(call), owner_of(call.key)
        kept = await self._background.look(id, owner)
        if not kept.response.get("background"):
            raise RequestError("Cannot cancel a synchronous response.", param="response_id")
        if kept.response["status"] not in ENDED:
            kept = await self._background.cancel(id, owner)
        return json_response(_Query(call).shown(kept.response))

    async def input_items(self, call: Call) -> Response:
        """`GET /v1/responses/{id}/input_items`: the input of its own request, the last first unless `order=asc`."""
        query = _Query(call)
        kept = await self._background.look(_id(call), owner_of(call.key))
        limit = query.whole("limit", _PAGE, 1, _LONGEST_PAGE)
        order = query.text("order") or "desc"
        if order not in ("asc", "desc"):
            raise RequestError("`order` must be asc or desc.", param="order")
        items = list(kept.input if order == "asc" else reversed(kept.input))
        if (after := query.text("after")) is not None:
            places = [index for index, item in enumerate(items) if item["id"] == after]
            if not places:
                raise RequestError(f"There is no item {after[:100]!r}.", param="after")
            items = items[places[0] + 1 :]
        page = items[:limit]
        return json_response(
            {
                "object": "list",
                "data": page if query.seals else [unsealed(item) for item in page],
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": len(items) > limit,
            }
        )


# --- what is asked -----------------------------------------------------------------------------------------------


def refuse(more: Mapping[str, Any]) -> None:
    """Refuse (`RequestError`) what is kept elsewhere and not here."""
    if more.get("conversation") is not None:
        raise RequestError(
            "Conversations are not kept here: go on with `previous_response_id`, or send the items.",
            param="conversation",
        )
    if more.get("prompt") is not None:
        raise RequestError("Prompts are not kept here: send `instructions` and `input`.", param="prompt")


def _check_outputs(context: Sequence[Item], own: Sequence[Item]) -> None:
    """Refuse the output of a tool that nobody called: the conversation is known, so this is a mistake."""
    called: set[Any] = {item.get("call_id") for item in context if item.get("type") not in _OUTPUTS}
    for index, item in enumerate(own):
        if item.get("type") not in _OUTPUTS:
            called.add(item.get("call_id"))
        elif item.get("call_id") not in called:
            raise RequestError(
                f"No tool call found for function call output with call_id {str(item.get('call_id'))[:64]}.",
                param=f"input[{index}].call_id",
            )


def _going_on(incoming: Incoming, context: Sequence[Item], own: Sequence[Item]) -> Incoming:
    """The request with the whole conversation as its messages, and its own items as they were given."""
    given = incoming.more["input"]
    if not context and own is given and not any(item.get("type") == "compaction" for item in own):
        return incoming
    whole = replace(incoming, more={**incoming.more, "input": expanded(own)})
    whole = responses.with_history(whole, expanded(context), {})
    return replace(whole, more={**whole.more, "input": list(own)})


def _left(limits: Limits, run: Run) -> Limits:
    """What a run has left of the limits."""
    return Limits(
        None if limits.usd is None else max(0, limits.usd - run.cost),
        None if limits.calls is None else max(0, limits.calls - run.calls),
        None if limits.seconds is None else max(0.0, limits.seconds - run.seconds),
        limits.depth,
        limits.fanout,
    )


async def _cut_off(call: Call, problem: Problem) -> None:
    """End the events of a response here; where they go on from can be asked."""
    await call.send({"type": "http.response.body", "body": b""})


def _id(call: Call) -> str:
    """The response id in the path of a call."""
    return call.path[len("/v1/responses/") :].partition("/")[0]


class _Query:
    """What the query of a call says."""

    def __init__(self, call: Call) -> None:
        pairs = parse_qsl(call.query.decode("latin-1"))
        self._given = dict(pairs)
        self.seals = any(name in ("include", "include[]") and SEALS in value for name, value in pairs)

    def text(self, name: str) -> str | None:
        """A value as it stands there."""
        return self._given.get(name)

    def flag(self, name: str) -> bool:
        """A value that is true or false."""
        value = self._given.get(name, "false").lower()
        if value not in ("true", "false"):
            raise RequestError(f"`{name}` must be true or false.", param=name)
        return value == "true"

    def whole(self, name: str, otherwise: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._given.get(name)
        if value is None:
            return otherwise
        if re.fullmatch("-?[0-9]{1,16}", value) is None or not least <= int(value) <= most:
            raise RequestError(f"`{name}` must be a whole number from {least} to {most}.", param=name)
        return int(value)

    def shown(self, response: Item) -> Item:
        """A response as the caller sees it: with encrypted reasoning only if it asks for that."""
        if self.seals:
            return response
        return {**response, "output": [unsealed(item) for item in response["output"]]}
