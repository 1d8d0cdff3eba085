"""The chat route: whole answers, streams that tell the truth, callers who leave."""

import asyncio
import json
import logging
from typing import Any

import pytest

from stretto.errors import LedgerUnavailable
from stretto.ledger.memory import MemoryStore
from stretto.policies.solo import Solo
from stretto.steps import Outcome
from stretto.types import Delta, Key, Limits, Message, TokenLogprob, ToolCall, Usage
from tests.asgi import Exchange, call, until
from tests.gateway_world import CHAT, World, fails, forever, hello, says


def stream(world: World, body: dict[str, Any]) -> Exchange:
    """A streaming call, not yet begun."""
    return Exchange(world.app, "POST", CHAT, json.dumps({**body, "stream": True}).encode())


# --- whole answers -----------------------------------------------------------------------------------------------


def test_an_answer_echoes_the_model_and_says_who_served_at_what_cost() -> None:
    """The body keeps to OpenAI's shape; headers and the `stretto` block tell the rest."""
    world = World()
    got = asyncio.run(call(world.app, "POST", CHAT, hello()))
    assert got.status == 200
    body, run_id = got.json, world.only_run()
    assert body["model"] == "a"
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "a says hello"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["completion_tokens"] == 2
    assert body["stretto"] == {
        "run_id": run_id,
        "policy": "a",
        "served_by": "a",
        "calls": 1,
        "cost_usd": 0.000007,
        "receipt": f"/v1/runs/{run_id}",
        "why": body["stretto"]["why"],
    }
    assert got.headers["x-stretto-run-id"] == run_id
    assert got.headers["x-stretto-served-by"] == "a"
    assert got.headers["x-stretto-calls"] == "1"
    assert got.headers["x-stretto-cost-usd"] == "0.000007"
    assert got.headers["x-stretto-policy"] == "a"
    assert got.headers["content-length"] == str(len(got.body))


def test_a_panel_counts_all_its_attempts() -> None:
    """An orchestrated answer names the policy that was asked for, and the money and calls of the whole tree."""
    got = asyncio.run(call(World().app, "POST", CHAT, hello("panel")))
    assert got.json["model"] == "panel"
    assert got.headers["x-stretto-policy"] == "panel"
    assert got.headers["x-stretto-calls"] == "3"
    assert got.json["usage"]["prompt_tokens"] == 9
    assert got.json["usage"]["prompt_tokens_details"]["orchestration_input_tokens"] == 6
    assert got.json["stretto"]["cost_usd"] == pytest.approx(0.000021)


def test_a_policy_option_decides_who_plays_and_the_model_is_echoed() -> None:
    """`stretto.policy` overrides what `model` stands for; the reply still carries the requested name."""
    got = asyncio.run(call(World().app, "POST", CHAT, hello("a", stretto={"policy": "b"})))
    assert (got.json["model"], got.json["stretto"]["served_by"]) == ("a", "b")


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_explains_itself_on_request(streaming: bool) -> None:
    """With `stretto.explain` the receipt comes along."""
    body = hello("panel", stream=streaming, stretto={"explain": True})
    got = asyncio.run(call(World().app, "POST", CHAT, body))
    block = (got.events[-2] if streaming else got.json)["stretto"]
    assert len(block["explain"]["attempts"]) == 3
    assert block["explain"]["consistent"] is True


def test_tools_reach_the_worker_and_its_calls_come_back() -> None:
    """Tools and the response format pass through in solo."""

    async def calls_tool(ask: Any, emit: Any, tally: Any) -> Outcome:
        message = Message("assistant", None, (ToolCall("t1", ask.tools[0]["function"]["name"], '{"x": 1}'),))
        return Outcome(message, "tool_calls", Usage(3, 2))

    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    world = World(calls_tool)
    got = asyncio.run(
        call(world.app, "POST", CHAT, hello(tools=tools, response_format={"type": "json_object"}))
    )
    choice = got.json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"x": 1}'}
    assert world.pool.asks[0].response_format == {"type": "json_object"}


@pytest.mark.parametrize("model", ["a", "panel"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("wish", "alternatives"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 2}, 2)],
)
def test_log_probabilities_are_shown_as_the_caller_asked(
    model: str, streaming: bool, wish: dict[str, Any], alternatives: int | None
) -> None:
    """A policy may want them for itself; the caller sees what it asked for, no more."""
    heard = (TokenLogprob("yes", -0.1, (("yes", -0.1), ("no", -2.0), ("maybe", -3.0))),)

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        if emit is not None:
            tally.emitted = True
            await emit([Delta("yes", logprobs=heard)])
        return Outcome(Message("assistant", "yes"), "stop", Usage(3, 1), logprobs=heard)

    got = asyncio.run(call(World(attempt).app, "POST", CHAT, hello(model, stream=streaming, **wish)))
    choice = (got.events[0] if streaming else got.json)["choices"][0]
    if alternatives is None:
        assert choice["logprobs"] is None
    else:
        (token,) = choice["logprobs"]["content"]
        assert len(token["top_logprobs"]) == alternatives


def test_headers_of_the_client_never_reach_a_worker() -> None:
    """Nothing of the client's headers is in what the pool is asked."""
    world = World()
    headers = {"authorization": "Bearer canary-1", "cookie": "canary-2", "x-stainless-lang": "canary-3"}
    asyncio.run(call(world.app, "POST", CHAT, hello(), **headers))
    assert "canary" not in repr(world.pool.asks)


# --- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("limit", 429, "limit_reached"),
        ("unavailable", 503, "upstream_unavailable"),
        ("rate_limited", 429, "rate_limit_exceeded"),
        ("upstream_auth", 502, "upstream_auth"),
        ("timeout", 504, "timeout"),
        ("bad_request", 400, "upstream_bad_request"),
        ("empty", 502, "empty_answer"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_failed_run_is_an_http_error_that_is_not_to_be_retried(
    kind: str, status: int, code: str, streaming: bool
) -> None:
    """Before the first byte a failure keeps its status, streaming or not, and tells SDKs not to multiply retries."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        return fails(kind, "our words", 3.2)

    world = World(attempt)
    got = asyncio.run(call(world.app, "POST", CHAT, hello(stream=streaming)))
    assert (got.status, got.error["code"]) == (status, code)
    assert got.headers["x-should-retry"] == "false"
    assert got.headers["retry-after"] == "4"
    assert got.headers["content-type"] == "application/json"
    assert got.json["stretto"]["receipt"] == f"/v1/runs/{world.only_run()}"
    assert got.headers["x-stretto-run-id"] == world.only_run()


@pytest.mark.parametrize(
    "kind", ["bad_request", "upstream_auth", "rate_limited", "overloaded", "upstream_error"]
)
@pytest.mark.parametrize("model", ["a", "panel"])
def test_what_an_upstream_said_stays_inside(kind: str, model: str) -> None:
    """Upstream words never become the error's text, of one worker or of a panel; the receipt has them."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        return fails(kind, "canary from upstream")

    world = World(attempt)
    got = asyncio.run(call(world.app, "POST", CHAT, hello(model)))
    assert "canary" not in got.body.decode()
    assert "canary" in asyncio.run(call(world.app, "GET", f"/v1/runs/{world.only_run()}")).body.decode()


def test_when_everybody_fails_the_error_names_each_cause() -> None:
    """A panel without a survivor says of each member why."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        return fails({"a": "timeout", "b": "overloaded"}.get(ask.worker, "cut"))

    got = asyncio.run(call(World(attempt).app, "POST", CHAT, hello("panel")))
    assert got.status >= 500
    for cause in ("a: timeout", "b: overloaded", "org/c: cut"):
        assert cause in got.error["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{nonsense", 400, None),
        (b"[]", 400, None),
        (b'{"messages": [], "model": "a", "x": ' + b"[" * 70 + b"]" * 70 + b"}", 400, None),
        (b'{"model": "a"}', 400, "messages"),
        (b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}', 404, "model"),
        (
            b'{"model": "a", "messages": [{"role": "user", "content": "x"}], "api_base": "http://x"}',
            400,
            "api_base",
        ),
        (
            b'{"model": "a", "messages": [{"role": "user", "content": "x"}], "stretto": {"score_with": "x"}}',
            400,
            "stretto.score_with",
        ),
    ],
)
def test_a_bad_request_names_what_is_wrong(body: bytes, status: int, param: str | None) -> None:
    """Bad bodies are refused before anything is called, with the name of the field."""
    world = World()
    got = asyncio.run(call(world.app, "POST", CHAT, body))
    assert (got.status, got.error["param"]) == (status, param)
    assert got.error["type"] == "invalid_request_error"
    assert world.pool.asks == []


def test_what_most_newcomers_meet_says_what_to_do() -> None:
    """No key, a wrong key, an empty body, a need that nobody meets: each error names the way out."""
    world = World()
    barred = World(keys={"sk-1": Key("k1")})
    texts = [
        asyncio.run(call(barred.app, "POST", CHAT, hello())).error["message"],
        asyncio.run(call(barred.app, "POST", CHAT, hello(), x_api_key="sk-2")).error["message"],
        asyncio.run(call(world.app, "POST", CHAT, hello(stretto={"require": {"region": "mars"}}))).error[
            "message"
        ],
        asyncio.run(call(world.app, "POST", CHAT, b"")).error["message"],
    ]
    assert ["stretto keys create" in text for text in texts[:2]] == [True, True]
    assert "stretto pool list" in texts[2]
    assert texts[3] == "The body is empty, not JSON."


def test_a_large_body_is_refused_before_it_is_read() -> None:
    """The announced length is enough to refuse; nothing of the body is taken."""
    world = World(body_limit=1000)
    exchange = Exchange(world.app, "POST", CHAT, b"x" * 1001)
    asyncio.run(exchange.run())
    assert (exchange.status, exchange.taken) == (413, 0)
    assert exchange.headers["connection"] == "close"


def test_a_large_body_without_a_length_is_refused_on_the_way() -> None:
    """A chunked body is read no further than the limit."""
    world = World(body_limit=1000)
    pieces = [b"x" * 400] * 10
    exchange = Exchange(world.app, "POST", CHAT, pieces=pieces)
    asyncio.run(exchange.run())
    assert (exchange.status, exchange.taken) == (413, 3)


def test_a_body_that_stops_on_the_way_is_not_waited_for() -> None:
    """408 when the next piece does not come within `patience`."""
    world = World(patience=0.001)
    exchange = Exchange(world.app, "POST", CHAT, pieces=[b'{"model":', b"never"])
    exchange.stalls_after = 1
    asyncio.run(exchange.run())
    assert (exchange.status, exchange.error["code"]) == (408, "request_timeout")
    assert exchange.headers["connection"] == "close"


def test_a_body_in_pieces_is_put_together() -> None:
    """A request may arrive in any number of pieces."""
    raw = json.dumps(hello()).encode()
    world = World()
    exchange = Exchange(world.app, "POST", CHAT, pieces=[raw[:10], b"", raw[10:30], raw[30:]])
    asyncio.run(exchange.run())
    assert exchange.status == 200


class Refusing(MemoryStore):
    """A store that cannot be written while `shut`; from `after` written batches on."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.left = after

    def append(self, batch: Any) -> None:
        """Write, or not."""
        if self.left <= 0:
            raise LedgerUnavailable("disk full at /secret/place")
        self.left -= 1
        super().append(batch)


def test_without_a_ledger_no_paid_call_is_made_and_reads_go_on() -> None:
    """503 with Retry-After, health says degraded, no path of the machine is told; what was recorded can still be read."""
    store = Refusing(after=2)
    world = World(store=store)

    async def main() -> None:
        first = await call(world.app, "POST", CHAT, hello())
        assert first.status == 200
        asked = len(world.pool.asks)
        got = await call(world.app, "POST", CHAT, hello())
        assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "ledger_unavailable", "1")
        assert "secret" not in got.body.decode()
        assert "x-should-retry" not in got.headers
        assert len(world.pool.asks) == asked
        health = await call(world.app, "GET", "/health")
        assert (health.status, health.json["ledger"]) == (503, "unavailable")
        receipt = await call(world.app, "GET", f"/v1/runs/{world.only_run()}")
        assert receipt.status == 200

    asyncio.run(main())


def test_a_defect_costs_one_call_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception becomes a plain 500; the log has it, the caller does not."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        raise ZeroDivisionError("canary")

    with caplog.at_level(logging.CRITICAL, logger="stretto.gateway"):
        got = asyncio.run(call(World(attempt).app, "POST", CHAT, hello()))
    assert (got.status, got.error["code"]) == (500, "internal_error")
    assert "canary" not in got.body.decode()


# --- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_brings_pieces_the_end_the_block_and_done() -> None:
    """Role first, content, a finish chunk with the `stretto` block, `[DONE]`; usage only on request."""
    world = World()
    got = asyncio.run(stream(world, hello()).run())
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.headers["x-stretto-run-id"] == world.only_run()
    assert got.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert got.text == "a says hello"
    assert got.events[-1] == "[DONE]"
    last = got.events[-2]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["stretto"]["run_id"] == world.only_run()
    assert last["stretto"]["calls"] == 1
    assert all("usage" not in event for event in got.events[:-1])


def test_a_stream_brings_usage_when_asked() -> None:
    """With `stream_options.include_usage` the last chunk has the usage and no choices."""
    got = asyncio.run(stream(World(), hello(stream_options={"include_usage": True})).run())
    assert got.events[-2]["choices"] == []
    assert got.events[-2]["usage"]["total_tokens"] == 5


def test_pieces_leave_as_they_come() -> None:
    """The client has the first words before the worker has said the last."""
    more = asyncio.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.emitted = True
        await emit([Delta("first")])
        await more.wait()
        await emit([Delta(" last")])
        return says("first last")

    async def main() -> None:
        exchange = stream(World(attempt), hello())
        task = asyncio.ensure_future(exchange.run())
        await until(exchange, b"first")
        assert b"last" not in exchange.body
        more.set()
        await task
        assert exchange.text == "first last"

    asyncio.run(main())


class Slow(MemoryStore):
    """A store that takes its time with the end of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def append(self, batch: Any) -> Any:
        """Record; the end only when told to go on."""
        if not any(event.kind == "finished" for event in batch):
            return super().append(batch)
        return self._later(batch)

    async def _later(self, batch: Any) -> None:
        self.reached.set()
        await self.go.wait()
        super().append(batch)


@pytest.mark.parametrize("model", ["a", "panel"])
def test_nothing_that_looks_like_an_end_leaves_before_the_run_is_recorded(model: str) -> None:
    """The finish chunk and `[DONE]` wait for the ledger."""

    async def main() -> None:
        store = Slow()
        exchange = stream(World(store=store), hello(model))
        task = asyncio.ensure_future(exchange.run())
        await store.reached.wait()
        assert b'"finish_reason":"' not in exchange.body
        assert b"[DONE]" not in exchange.body
        store.go.set()
        await task
        assert exchange.events[-1] == "[DONE]"

    asyncio.run(main())


def test_a_whole_answer_waits_for_the_record_too() -> None:
    """Without streaming, nothing at all leaves before the run is recorded."""

    async def main() -> None:
        store = Slow()
        world = World(store=store)
        task = asyncio.ensure_future(call(world.app, "POST", CHAT, hello()))
        await store.reached.wait()
        assert not task.done()
        store.go.set()
        assert (await task).status == 200

    asyncio.run(main())


def test_an_answer_that_could_not_stream_live_comes_at_the_end() -> None:
    """A panel's answer is sent as deltas once it stands; the head can then say everything."""
    got = asyncio.run(stream(World(), hello("panel")).run())
    assert got.text.endswith("says hello")
    assert got.headers["x-stretto-calls"] == "3"
    assert got.headers["x-stretto-served-by"] == got.events[-2]["stretto"]["served_by"]
    assert got.events[-1] == "[DONE]"


def test_a_failure_after_the_first_piece_is_an_error_event_without_done() -> None:
    """No client can take a broken stream for a whole answer."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.emitted = True
        await emit([Delta("half an")])
        return fails("cut")

    got = asyncio.run(stream(World(attempt), hello()).run())
    assert got.status == 200
    assert got.events[-1]["error"]["code"] == "upstream_cut"
    assert b"[DONE]" not in got.body
    assert b'"finish_reason":"' not in got.body
    assert got.complete


def test_a_silent_stream_is_kept_alive_and_then_fails_in_band() -> None:
    """After `first_beat` the head leaves with a comment, more follow; an error then can only be told in-band."""
    go = asyncio.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        await go.wait()
        return fails("overloaded")

    async def main() -> None:
        exchange = stream(World(attempt, first_beat=0.001, beat=0.001), hello())
        task = asyncio.ensure_future(exchange.run())
        await until(exchange, b": keep-alive")
        assert exchange.status == 200
        go.set()
        await task
        assert exchange.events[-1]["error"]["code"] == "upstream_overloaded"
        assert b"[DONE]" not in exchange.body

    asyncio.run(main())


def test_a_slow_panel_is_kept_alive_and_then_answers() -> None:
    """Orchestrated modes fall under the same rule, and their answer follows the keep-alives."""
    go = asyncio.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        await go.wait()
        return says("yes")

    async def main() -> None:
        exchange = stream(World(attempt, first_beat=0.001, beat=0.001), hello("panel"))
        task = asyncio.ensure_future(exchange.run())
        await until(exchange, b": keep-alive")
        go.set()
        await task
        assert exchange.text == "yes"
        assert exchange.events[-1] == "[DONE]"

    asyncio.run(main())


def test_a_ledger_that_fails_mid_stream_is_told_in_band() -> None:
    """The pieces have left, the record cannot be written: an error event, no `[DONE]`."""

    got = asyncio.run(stream(World(store=Refusing(after=1)), hello()).run())
    assert got.status == 200
    assert got.events[-1]["error"]["code"] == "ledger_unavailable"
    assert b"[DONE]" not in got.body


def test_a_slow_client_holds_the_worker_back() -> None:
    """`emit` returns only when the connection has taken the piece."""

    async def main() -> None:
        world = World()
        exchange = stream(world, hello())
        exchange.room = asyncio.Event()
        task = asyncio.ensure_future(exchange.run())
        await exchange.blocked.wait()
        assert exchange.chunks == []
        exchange.room.set()
        await task
        assert exchange.text == "a says hello"

    asyncio.run(main())


# --- callers who leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["a", "panel"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_caller_who_leaves_before_the_first_byte_cancels_everything(model: str, streaming: bool) -> None:
    """All attempts are cancelled, the ledger has the run, and nothing is sent."""
    asked = asyncio.Event()
    cancelled: list[str] = []

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.usage = Usage(5, 1)
        asked.set()
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(ask.worker)
            raise

    async def main() -> None:
        world = World(attempt)
        body = json.dumps(hello(model, stream=streaming)).encode()
        exchange = Exchange(world.app, "POST", CHAT, body)
        task = asyncio.ensure_future(exchange.run())
        await asked.wait()
        exchange.leave()
        await task
        assert task.cancelling() == 0
        assert len(cancelled) == (1 if model == "a" else 3)
        assert exchange.status == 0
        events = world.store.events(world.only_run())
        assert events[-1].kind == "finished"
        assert events[-1].error.kind == "cancelled"
        assert {e.error.kind for e in events if e.kind == "answered"} == {"cancelled"}
        assert sum(e.cost for e in events if e.kind == "answered") == events[-1].cost > 0
        metrics = await call(world.app, "GET", "/metrics")
        assert f'route="{CHAT}",status="499"}} 1' in metrics.body.decode()

    asyncio.run(main())


def test_a_caller_who_leaves_in_the_middle_cancels_the_worker() -> None:
    """Mid-stream, the same."""
    cancelled = asyncio.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        tally.emitted = True
        await emit([Delta("one")])
        try:
            await forever()
        finally:
            cancelled.set()

    async def main() -> None:
        exchange = stream(World(attempt), hello())
        task = asyncio.ensure_future(exchange.run())
        await until(exchange, b"one")
        exchange.leave()
        await task
        assert cancelled.is_set()
        assert not exchange.complete

    asyncio.run(main())


def test_a_caller_who_leaves_while_sending_the_body_is_let_go() -> None:
    """Nothing is asked, nothing is sent."""

    async def main() -> None:
        world = World()
        exchange = Exchange(world.app, "POST", CHAT, pieces=[b'{"model":', b"never"])
        exchange.stalls_after = 1
        task = asyncio.ensure_future(exchange.run())
        exchange.leave()
        await task
        assert exchange.status == 0
        assert world.pool.asks == []

    asyncio.run(main())


@pytest.mark.parametrize("started", [False, True])
def test_a_server_that_stops_says_so(started: bool) -> None:
    """When the server cancels a call, its client gets a 503, or an error event when the stream has begun."""
    asked = asyncio.Event()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Any:
        if started:
            tally.emitted = True
            await emit([Delta("one")])
        asked.set()
        await forever()

    async def main() -> None:
        exchange = stream(World(attempt), hello())
        task = asyncio.ensure_future(exchange.run())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if started:
            assert exchange.events[-1]["error"]["code"] == "shutting_down"
            assert b"[DONE]" not in exchange.body
        else:
            assert (exchange.status, exchange.error["code"]) == (503, "shutting_down")

    asyncio.run(main())


# --- options in headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_body", "in_header", "counts"), [(0.5, "0.25", 0.25), (0.25, "0.5", 0.25), (None, "0.5", 0.5)]
)
def test_the_stricter_limit_of_body_and_header_counts(
    in_body: float | None, in_header: str, counts: float
) -> None:
    """A limit may stand in both; neither can loosen the other."""
    world = World(limits=Limits(usd=10**12))
    body = hello() if in_body is None else hello(stretto={"limits": {"usd": in_body}})
    asyncio.run(call(world.app, "POST", CHAT, body, x_stretto_limits_usd=in_header))
    opened = next(e for e in world.store.events(world.only_run()) if e.kind == "opened")
    assert opened.limits.usd == int(counts * 10**12)


def test_constraints_of_header_and_body_add_up() -> None:
    """`require` of both must hold, `exclude` of either forbids."""
    world = World(labels={"a": {"region": "eu"}, "b": {"region": "us"}, "org/c": {"region": "eu"}})
    body = hello("panel", stretto={"require": {"region": ["eu", "us"]}})
    got = asyncio.run(
        call(
            world.app,
            "POST",
            CHAT,
            body,
            x_stretto_require="region=eu",
            x_stretto_exclude="worker=a, worker=nobody",
        )
    )
    assert got.status == 200
    assert [ask.worker for ask in world.pool.asks] == ["org/c"]


def test_constraints_that_leave_nobody_list_the_denied() -> None:
    """400 before anything is called, with everyone who was denied."""
    world = World(labels={"a": {"region": "us"}})
    got = asyncio.run(call(world.app, "POST", CHAT, hello(), x_stretto_require="region=eu"))
    assert (got.status, got.error["code"]) == (400, "no_candidate")
    assert "org/c" in got.error["message"]
    assert world.pool.asks == []


def test_other_options_may_stand_in_headers() -> None:
    """Policy, seed and dial; the body's own count more."""
    world = World()
    got = asyncio.run(
        call(
            world.app,
            "POST",
            CHAT,
            hello("a", stretto={"dial": 0.1}),
            x_stretto_policy="b",
            x_stretto_seed="7",
            x_stretto_dial="0.9",
        )
    )
    assert got.json["stretto"]["served_by"] == "b"
    request = next(e for e in world.store.events(world.only_run()) if e.kind == "opened").content
    assert (request.seed, request.dial) == (7, 0.1)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_stretto_limit_usd": "1"},
        {"x_stretto_limits_usd": "much"},
        {"x_stretto_limits_usd": "nan"},
        {"x_stretto_limits_usd": "-1"},
        {"x_stretto_limits_calls": "1.5"},
        {"x_stretto_require": "region"},
        {"x_stretto_dial": "2"},
    ],
)
def test_an_option_header_that_is_wrong_is_refused(headers: dict[str, str]) -> None:
    """A limit that was misspelt must not be overlooked."""
    world = World()
    got = asyncio.run(call(world.app, "POST", CHAT, hello(), **headers))
    assert got.status == 400
    assert "x-stretto" in got.error["message"]
    assert world.pool.asks == []


@pytest.mark.parametrize("name", ["authorization", "x-stretto-limits-usd", "x-api-key", "host"])
def test_a_header_that_counts_may_not_stand_twice(name: str) -> None:
    """Which of two values counts is never a matter of opinion."""
    exchange = Exchange(World().app, "POST", CHAT, b"{}", [(name, "1"), (name, "2")])
    asyncio.run(exchange.run())
    assert exchange.status == 400
    assert name in exchange.error["message"]


def test_odd_names_are_made_harmless_in_headers() -> None:
    """A name from outside never becomes a header line of its own."""
    got = asyncio.run(call(World(policies={"tête": Solo("a")}).app, "POST", CHAT, hello("tête")))
    assert got.status == 200
    assert got.headers["x-stretto-policy"] == "t?te"
