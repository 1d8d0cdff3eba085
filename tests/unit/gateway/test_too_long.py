"""A request that is too long, in the words that each format's clients act on: before a call and after an upstream's refusal."""

import asyncio
from typing import Any

import pytest

from tests.asgi import call
from tests.gateway_world import CHAT, World, fails, hello

WORDS = "word " * 9000
TOLD = "prompt is too long: 9000 tokens > 8000 maximum."
ALSO = "This model's maximum context length is 8000 tokens."
UPSTREAM = "here: answered 400: prompt is too long: 9000 tokens > 8000 maximum, says secret-vendor"


def asked(route: str, model: str, **more: Any) -> dict[str, Any]:
    """A long request in the format of the route."""
    body: dict[str, Any] = {"model": model, **more}
    if route == "/v1/responses":
        return {**body, "input": WORDS}
    return {**body, "max_tokens": 64, "messages": [{"role": "user", "content": WORDS}]}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("model", ["a", "panel"])
@pytest.mark.parametrize("route", [CHAT, "/v1/messages", "/v1/responses"])
def test_nobody_has_room(route: str, model: str, streaming: bool) -> None:
    """Nobody is called; status 400 with the numbers. A stream of Responses says it itself, since Codex looks only there."""
    world = World()
    got = asyncio.run(call(world.app, "POST", route, asked(route, model, stream=streaming)))
    assert world.pool.asks == []
    if route == "/v1/responses" and streaming:
        assert got.status == 200
        failed = got.events[-1]
        assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
        error = failed["response"]["error"]
    else:
        assert got.status == 400
        error = got.json["error"]
    assert error["message"].startswith(f"{TOLD} {ALSO}")
    if route == "/v1/messages":
        assert error["type"] == "invalid_request_error"
    else:
        assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("route", [CHAT, "/v1/messages", "/v1/responses"])
def test_an_upstream_has_said_so(route: str, streaming: bool) -> None:
    """The same words with the upstream's numbers, and none of its other words; the run is on record."""

    async def refuses(ask: Any, emit: Any, tally: Any) -> Any:
        return fails("too_long", UPSTREAM)

    world = World(refuses)
    body = asked(route, "a", stream=streaming) | ({"input": "hi"} if route == "/v1/responses" else {})
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": "hi"}]
    got = asyncio.run(call(world.app, "POST", route, body))
    assert b"secret-vendor" not in got.body
    in_band = route == "/v1/responses" and streaming
    assert got.status == (200 if in_band else 400)
    error = got.events[-1]["response"]["error"] if in_band else got.json["error"]
    assert error["message"].startswith(f"{TOLD} {ALSO}")
    assert len(world.pool.asks) == 1
    assert world.only_run()


def test_counting_tokens_is_no_question_of_room() -> None:
    """How long a conversation is may be asked most of all when it is too long."""
    got = asyncio.run(call(World().app, "POST", "/v1/messages/count_tokens", asked("/v1/messages", "a")))
    assert (got.status, got.json["input_tokens"]) == (200, 9000)


def test_a_dry_run_says_who_has_no_room() -> None:
    """`POST /v1/plans` refuses what a run would refuse."""
    got = asyncio.run(call(World().app, "POST", "/v1/plans", hello(messages=asked(CHAT, "a")["messages"])))
    assert (got.status, got.json["error"]["code"]) == (400, "context_length_exceeded")
