"""The gateway spoken to in Anthropic's way: answers, streams, errors, keys, counting, and the probes of its clients."""

import asyncio
from typing import Any

import orjson
import pytest

from stretto.steps import Ask, Outcome
from stretto.types import Delta, Key, Message, Thought, ToolCall, Usage
from stretto.wire.sse import SseParser
from tests.asgi import Exchange, call
from tests.gateway_world import World, fails, forever, hello, says

ROUTE = "/v1/messages"
KEY = {"sk-1": Key("k1", models=("a",))}


def asks(**fields: Any) -> dict[str, Any]:
    return hello(**{"max_tokens": 64, **fields})


def named(exchange: Exchange) -> list[str]:
    return [(event.name or b"").decode() for event in SseParser().feed(exchange.body)]


def test_a_whole_answer() -> None:
    """A message with the run's id, true usage, and the id of the run where Anthropic's SDKs look for it."""
    world = World()
    got = asyncio.run(call(world.app, "POST", f"{ROUTE}?beta=true", asks(), anthropic_version="2023-06-01"))
    run = world.only_run()
    assert got.status == 200
    assert got.json["id"] == "msg_" + run.removeprefix("run_")
    assert got.json["content"] == [{"type": "text", "text": "a says hello"}]
    assert (got.json["model"], got.json["stop_reason"]) == ("a", "end_turn")
    assert (got.json["usage"]["input_tokens"], got.json["usage"]["output_tokens"]) == (3, 2)
    assert (got.json["stretto"]["run_id"], got.headers["request-id"]) == (run, run)


def test_a_stream_ends_once_the_run_is_recorded() -> None:
    """Named events from `message_start` to `message_stop`, with the `stretto` block beside the stop reason."""
    world = World()
    got = asyncio.run(call(world.app, "POST", ROUTE, asks(stream=True)))
    assert named(got)[:2] == ["message_start", "content_block_start"]
    assert named(got)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert got.events[-2]["stretto"]["run_id"] == world.only_run() == got.headers["request-id"]


def test_every_policy_answers() -> None:
    """A panel's answer, sent when it is known, is the same kind of stream; its usage says what orchestration took."""
    got = asyncio.run(call(World().app, "POST", ROUTE, asks(model="panel", stream=True)))
    assert named(got)[-1] == "message_stop"
    assert got.events[-2]["usage"]["orchestration_output_tokens"] > 0


def test_calls_and_thoughts_reach_the_caller() -> None:
    """Sealed thinking and tool calls go out as blocks; the caller's own tools and results reach the worker."""
    thought = Thought("hm", "sig", wire="messages")

    async def calls(ask: Ask, emit: Any, tally: Any) -> Outcome:
        message = Message(
            "assistant", None, (ToolCall("c1", "f", '{"x":1}'),), reasoning="hm", thoughts=(thought,)
        )
        return Outcome(message, "tool_calls", Usage(3, 2))

    world = World(calls)
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    results = [{"type": "tool_result", "tool_use_id": "c0", "content": "r"}, {"type": "text", "text": "on"}]
    history = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c0", "name": "f", "input": {}}]},
        {"role": "user", "content": results},
    ]
    got = asyncio.run(call(world.app, "POST", ROUTE, asks(messages=history, tools=tools)))
    assert got.status == 200
    assert [block["type"] for block in got.json["content"]] == ["thinking", "tool_use"]
    assert got.json["content"][1]["input"] == {"x": 1}
    assert got.json["stop_reason"] == "tool_use"
    sent = world.pool.asks[0]
    assert [message.role for message in sent.messages or ()] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (asks(messages=[]), {"x_api_key": "sk-1"}, 400, "invalid_request_error"),
        (b"{", {"x_api_key": "sk-1"}, 400, "invalid_request_error"),
        (asks(), {}, 401, "authentication_error"),
        (asks(), {"x_api_key": "wrong"}, 401, "authentication_error"),
        (asks(model="b"), {"x_api_key": "sk-1"}, 403, "permission_error"),
        (b"x" * 2000, {"x_api_key": "sk-1"}, 413, "request_too_large"),
        (asks(stretto={"limits": {"calls": 0}}), {"authorization": "Bearer sk-1"}, 429, "rate_limit_error"),
    ],
)
def test_every_error_has_anthropic_s_envelope(
    body: Any, headers: dict[str, str], status: int, kind: str
) -> None:
    """Refusals of keys, bodies and limits alike are what Anthropic's SDKs make their exceptions of."""
    world = World(keys=KEY, body_limit=1000)
    for path in (ROUTE, f"{ROUTE}/count_tokens") if status != 429 else (ROUTE,):
        got = asyncio.run(call(world.app, "POST", path, body, **headers))
        assert (got.status, got.json["type"], got.error["type"]) == (status, "error", kind)
        assert got.error["message"]


def test_unknown_models_and_paths_are_not_found() -> None:
    """404 in the same envelope, for a name and for an address below the route; another method is told what to use."""
    app = World().app
    got = asyncio.run(call(app, "POST", ROUTE, asks(model="nobody")))
    assert (got.status, got.error["type"], got.error["code"]) == (404, "not_found_error", "model_not_found")
    got = asyncio.run(call(app, "POST", f"{ROUTE}/batches", asks()))
    assert (got.status, got.json["type"], got.error["type"]) == (404, "error", "not_found_error")
    got = asyncio.run(call(app, "GET", ROUTE))
    assert (got.status, got.json["type"], got.headers["allow"]) == (405, "error", "POST")


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_run_says_which_it_was(stream: bool) -> None:
    """Before anything has been shown a failure is an HTTP error, with the run to look at and word that a retry is of no use."""

    async def down(ask: Ask, emit: Any, tally: Any) -> Outcome:
        return fails("overloaded")

    world = World(down)
    got = asyncio.run(call(world.app, "POST", ROUTE, asks(stream=stream)))
    assert (got.status, got.error["type"], got.error["code"]) == (
        503,
        "overloaded_error",
        "upstream_overloaded",
    )
    assert got.json["request_id"] == got.json["stretto"]["run_id"] == world.only_run()
    assert got.headers["x-should-retry"] == "false"


def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    """After the first piece a failure is `event: error`, and no `message_stop` follows."""

    async def breaks(ask: Ask, emit: Any, tally: Any) -> Outcome:
        tally.emitted = True
        await emit([Delta("so far")])
        return fails("cut")

    got = asyncio.run(call(World(breaks).app, "POST", ROUTE, asks(stream=True)))
    assert named(got)[-1] == "error"
    assert "message_stop" not in named(got)
    assert got.events[-1]["error"]["type"] == "api_error"


def test_a_silent_stream_pings() -> None:
    """While nothing comes there are pings, the first of them after `message_start`."""

    async def run() -> list[str]:
        async def waits(ask: Ask, emit: Any, tally: Any) -> Outcome:
            await forever()
            return says("never")

        world = World(waits, first_beat=0.001, beat=0.001)
        exchange = Exchange(world.app, "POST", ROUTE, orjson.dumps(asks(stream=True)))
        task = asyncio.create_task(exchange.run())
        while exchange.body.count(b"event: ping") < 2:
            exchange.more.clear()
            await exchange.more.wait()
        exchange.leave()
        await task
        return named(exchange)

    names = asyncio.run(run())
    assert names[:3] == ["message_start", "ping", "ping"]
    assert names.count("message_start") == 1


def test_betas_reach_workers_of_the_format() -> None:
    """What the `anthropic-beta` header names goes along with the request, and nowhere else."""
    world = World()
    asyncio.run(call(world.app, "POST", ROUTE, asks(), anthropic_beta="one-2025, two-2026"))
    asyncio.run(call(world.app, "POST", "/v1/chat/completions", hello(), anthropic_beta="one-2025"))
    assert [ask.extra for ask in world.pool.asks] == [{"betas": ["one-2025", "two-2026"]}, {}]


def test_tokens_are_counted() -> None:
    """The count for the worker that would be asked, and whether a tokeniser or an estimate gave it; nothing is recorded."""
    world = World()
    body = {"model": "a", "messages": [{"role": "user", "content": "one two three"}], "system": "four five"}
    got = asyncio.run(call(world.app, "POST", f"{ROUTE}/count_tokens?beta=true", body))
    assert got.json == {"input_tokens": 5, "stretto": {"estimated": False}}
    got = asyncio.run(call(world.app, "POST", f"{ROUTE}/count_tokens", {**body, "model": "panel"}))
    assert got.json == {"input_tokens": 5, "stretto": {"estimated": True}}
    assert list(world.store.runs()) == []


def test_the_probes_of_clients_are_answered() -> None:
    """Claude Code begins with `HEAD /`; the SDK's list of models is read in Anthropic's shape when it says who it is."""
    app = World().app
    assert asyncio.run(call(app, "HEAD", "/")).status == 200
    got = asyncio.run(call(app, "GET", "/v1/models", anthropic_version="2023-06-01"))
    assert [m["id"] for m in got.json["data"]][:3] == ["a", "b", "org/c"]
    assert {m["type"] for m in got.json["data"]} == {"model"}
    assert asyncio.run(call(app, "GET", "/v1/models")).json["object"] == "list"
    for name in ("a", "org/c"):
        one = asyncio.run(call(app, "GET", f"/v1/models/{name}", anthropic_version="2023-06-01"))
        assert one.json in got.json["data"]
    one = asyncio.run(call(app, "GET", "/v1/models/nobody", anthropic_version="2023-06-01"))
    assert (one.status, one.json["type"], one.error["type"]) == (404, "error", "not_found_error")
