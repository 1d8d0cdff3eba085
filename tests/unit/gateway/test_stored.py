"""Stored responses: kept, told again, gone on from, paged through, deleted; each for its owner only."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stretto.ledger.states import MemoryStates
from stretto.steps import Ask, Count, Emit, Outcome, Tally
from stretto.types import Key, Message, Thought, ToolCall, Usage
from tests.asgi import Exchange
from tests.gateway_world import World, fails, says

RESPONSES = "/v1/responses"


async def send(world: World, method: str, path: str, body: Any = None, key: str = "") -> Exchange:
    """One call."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    data = b"" if body is None else json.dumps(body).encode()
    return await Exchange(world.app, method, path, data, headers).run()


async def create(world: World, text: Any = "hello", key: str = "", **fields: Any) -> Any:
    """A response that must come about."""
    got = await send(world, "POST", RESPONSES, {"model": "a", "input": text, **fields}, key)
    assert got.status == 200, got.body
    return got.json


def played(test: Callable[[World], Awaitable[None]], world: World | None = None) -> None:
    """Run a test against a world of its own."""
    asyncio.run(test(world or World()))


def heard(world: World) -> list[list[tuple[str, str]]]:
    """What each ask said: roles and texts."""
    return [[(m.role, m.text) for m in ask.messages or ()] for ask in world.pool.asks]


def test_a_response_is_kept_as_it_was_answered() -> None:
    """GET gives the very object that the caller got, with `store` told back as true."""

    async def run(world: World) -> None:
        made = await create(world, metadata={"a": "b"})
        assert made["store"] is True
        assert made["output"][0]["content"][0]["text"] == "a says hello"
        got = await send(world, "GET", f"{RESPONSES}/{made['id']}")
        assert got.json == made

    played(run)


def test_a_stream_is_kept_as_its_last_event_told() -> None:
    """What `response.completed` told is what GET tells."""

    async def run(world: World) -> None:
        body = {"model": "a", "input": "hello", "stream": True}
        events = (await send(world, "POST", RESPONSES, body)).events
        final = events[-1]["response"]
        assert events[-1]["type"] == "response.completed"
        assert (await send(world, "GET", f"{RESPONSES}/{final['id']}")).json == final

    played(run)


def test_store_false_keeps_nothing() -> None:
    """A response that is not to be stored is not there, and leaves no state at all."""
    states = MemoryStates()

    async def run(world: World) -> None:
        made = await create(world, store=False)
        assert made["store"] is False
        got = await send(world, "GET", f"{RESPONSES}/{made['id']}")
        assert (got.status, got.error["code"]) == (404, "response_not_found")
        assert not states._kept

    played(run, World(states=states))


def test_a_lifetime_of_zero_turns_storing_off() -> None:
    """Where the operator keeps nothing, `store` is told back as false and a background response is refused."""

    async def run(world: World) -> None:
        made = await create(world)
        assert made["store"] is False
        assert (await send(world, "GET", f"{RESPONSES}/{made['id']}")).status == 404
        asked = {"model": "a", "input": "x", "background": True}
        assert (await send(world, "POST", RESPONSES, asked)).error["param"] == "background"

    played(run, World(response_lifetime=0.0))


def test_another_keys_response_is_not_there() -> None:
    """Reading, going on from, listing, cancelling and deleting another key's response all meet 'not found'."""
    world = World(keys={"one": Key("k1"), "two": Key("k2")})

    async def run(world: World) -> None:
        id = (await create(world, key="one"))["id"]
        for method, tail in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
            got = await send(world, method, f"{RESPONSES}/{id}{tail}", key="two")
            assert (got.status, got.error["code"]) == (404, "response_not_found")
        asked = {"model": "a", "input": "x", "previous_response_id": id}
        got = await send(world, "POST", RESPONSES, asked, "two")
        assert (got.status, got.error["code"]) == (400, "previous_response_not_found")
        assert (await send(world, "GET", f"{RESPONSES}/{id}", key="one")).status == 200

    played(run, world)


def test_a_conversation_goes_on_from_its_last_response() -> None:
    """History is rebuilt from stored items, over several turns; instructions count for their own request only."""

    async def run(world: World) -> None:
        first = await create(world, "one", instructions="be brief")
        second = await create(world, "two", previous_response_id=first["id"])
        assert second["previous_response_id"] == first["id"]
        await create(world, "three", previous_response_id=second["id"], instructions="be long")
        assert heard(world) == [
            [("system", "be brief"), ("user", "one")],
            [("user", "one"), ("assistant", "a says hello"), ("user", "two")],
            [
                ("system", "be long"),
                ("user", "one"),
                ("assistant", "a says hello"),
                ("user", "two"),
                ("assistant", "a says hello"),
                ("user", "three"),
            ],
        ]

    played(run)


def test_a_response_that_is_not_there_cannot_be_gone_on_from() -> None:
    """OpenAI's own error: status 400, code and param by which clients know it; nobody is asked."""

    async def run(world: World) -> None:
        asked = {"model": "a", "input": "x", "previous_response_id": "resp_nobody"}
        got = await send(world, "POST", RESPONSES, asked)
        assert got.status == 400
        assert got.error == {
            "message": "Previous response with id 'resp_nobody' not found.",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        }
        assert not world.pool.asks

    played(run)


def test_a_tools_result_finds_its_call_in_the_stored_turn() -> None:
    """With `previous_response_id` only the result is sent; a result that nobody asked for is refused."""

    async def calls(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        if any(m.role == "tool" for m in ask.messages or ()):
            return says("sunny")
        call = ToolCall("w1", "weather", '{"place":"Rome"}')
        return Outcome(Message("assistant", None, (call,)), "tool_calls", Usage(3, 2))

    async def run(world: World) -> None:
        tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
        first = await create(world, "weather?", tools=[tool])
        call = first["output"][0]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "20 C"}
        second = await create(world, [result], tools=[tool], previous_response_id=first["id"])
        assert second["output"][0]["content"][0]["text"] == "sunny"
        asked = {
            "model": "a",
            "input": [{**result, "call_id": "call_nobody"}],
            "previous_response_id": first["id"],
        }
        got = await send(world, "POST", RESPONSES, asked)
        assert (got.status, got.error["param"]) == (400, "input[0].call_id")

    played(run, World(calls))


def test_references_are_items_of_stored_responses() -> None:
    """`item_reference` names an item of any stored response of this caller; of nobody's it is an error."""

    async def run(world: World) -> None:
        first = await create(world, "one")
        id = first["output"][0]["id"]
        asked = [{"type": "item_reference", "id": id}, {"role": "user", "content": "go on"}]
        made = await create(world, asked)
        assert heard(world)[-1] == [("assistant", "a says hello"), ("user", "go on")]
        items = (await send(world, "GET", f"{RESPONSES}/{made['id']}/input_items?order=asc")).json["data"]
        assert [item["type"] for item in items] == ["message", "message"]
        asked[0]["id"] = "msg_" + "0" * 32 + "_0"
        got = await send(world, "POST", RESPONSES, {"model": "a", "input": asked})
        assert (got.status, got.error["param"]) == (400, "input[0].id")

    played(run)


def test_input_items_are_paged() -> None:
    """The last first by default, `order=asc` the other way; `limit`, `after` and `has_more` as OpenAI has them."""

    async def run(world: World) -> None:
        said = [{"role": "user", "content": f"word {n}"} for n in range(5)]
        id = (await create(world, said))["id"]
        at = f"{RESPONSES}/{id}/input_items"
        whole = (await send(world, "GET", at)).json
        assert [i["content"][0]["text"] for i in whole["data"]] == [f"word {n}" for n in (4, 3, 2, 1, 0)]
        assert (whole["object"], whole["has_more"]) == ("list", False)
        first = (await send(world, "GET", f"{at}?order=asc&limit=2")).json
        assert [i["content"][0]["text"] for i in first["data"]] == ["word 0", "word 1"]
        assert first["has_more"] is True
        assert (first["first_id"], first["last_id"]) == tuple(i["id"] for i in first["data"])
        after = (await send(world, "GET", f"{at}?order=asc&limit=9&after={first['last_id']}")).json
        assert [i["content"][0]["text"] for i in after["data"]] == ["word 2", "word 3", "word 4"]
        for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order")):
            assert (await send(world, "GET", f"{at}?{query}")).error["param"] == param
        assert (await send(world, "GET", f"{at}?after=msg_x")).error["param"] == "after"

    played(run)


def test_a_deleted_response_is_gone() -> None:
    """DELETE says so in OpenAI's words; then it can neither be read, nor gone on from, nor deleted again."""

    async def run(world: World) -> None:
        id = (await create(world))["id"]
        got = await send(world, "DELETE", f"{RESPONSES}/{id}")
        assert got.json == {"id": id, "object": "response", "deleted": True}
        assert (await send(world, "GET", f"{RESPONSES}/{id}")).status == 404
        assert (await send(world, "DELETE", f"{RESPONSES}/{id}")).status == 404

    played(run)


@pytest.mark.parametrize(
    "fields", [{"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}}, {"prompt": {"id": "p"}}]
)
def test_what_is_kept_elsewhere_is_refused(fields: dict[str, Any]) -> None:
    """Conversations and prompts by id are OpenAI's own stores: a clear 400 instead of an answer without them."""

    async def run(world: World) -> None:
        got = await send(world, "POST", RESPONSES, {"model": "a", "input": "x", **fields})
        assert (got.status, got.error["param"]) == (400, next(iter(fields)))

    played(run)


def test_a_failed_run_is_no_response() -> None:
    """An error is an HTTP error, and nothing is kept of it."""
    states = MemoryStates()

    async def broken(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        return fails("upstream_error")

    async def run(world: World) -> None:
        got = await send(world, "POST", RESPONSES, {"model": "a", "input": "x"})
        assert got.status == 502
        assert not states._kept

    played(run, World(broken, states=states))


def test_encrypted_reasoning_is_kept_and_shown_on_request() -> None:
    """A stored turn goes back to its worker with its seals, and GET shows them only to those who `include` them."""

    async def thinks(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        thought = Thought("hm", sealed="secret", id="rs_1", wire="responses", worker="a")
        return Outcome(Message("assistant", "yes", thoughts=(thought,)), "stop", Usage(3, 2))

    async def run(world: World) -> None:
        made = await create(world)
        assert "encrypted_content" not in made["output"][0]
        at = f"{RESPONSES}/{made['id']}"
        assert (await send(world, "GET", at)).json == made
        seen = (await send(world, "GET", f"{at}?include[]=reasoning.encrypted_content")).json
        assert seen["output"][0]["encrypted_content"]
        await create(world, "more", previous_response_id=made["id"])
        thoughts = [t for m in world.pool.asks[-1].messages or () for t in m.thoughts]
        assert [t.sealed for t in thoughts] == ["secret"]

    played(run, World(thinks))


def test_a_stored_response_is_streamed_again() -> None:
    """`?stream=true` tells its events with numbers from 0, ends with the response itself, and goes on after any of them."""

    async def run(world: World) -> None:
        made = await create(world)
        at = f"{RESPONSES}/{made['id']}?stream=true"
        events = (await send(world, "GET", at)).events
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        assert [e["type"] for e in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert events[-1]["response"] == made
        later = (await send(world, "GET", f"{at}&starting_after=5")).events
        assert later == events[6:]

    played(run)


def test_input_tokens_are_counted_without_a_call() -> None:
    """`/v1/responses/input_tokens` counts the whole conversation, and asks nobody."""

    async def run(world: World) -> None:
        async def count(ask: Ask) -> Count:
            return Count(len(ask.messages or ()), exact=True)

        world.pool.count = count  # type: ignore[attr-defined]
        first = await create(world, "one")
        asked = {"model": "a", "input": "two", "previous_response_id": first["id"]}
        got = await send(world, "POST", f"{RESPONSES}/input_tokens", asked)
        assert (got.json["object"], got.json["input_tokens"]) == ("response.input_tokens", 3)
        assert len(world.pool.asks) == 1

    played(run)
