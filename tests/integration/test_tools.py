"""Tool loops and structured output end to end: the composed gateway over real HTTP upstreams, restarts and keys included."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stretto.app import World, open_world
from stretto.cli.main import stretto
from stretto.config import parse
from tests.asgi import Exchange
from tests.unit.pool.upstream import DONE, USAGE, Says, Upstream, answer, chunk, completion, stream, upstream

CHAT = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
ASKED = [{"role": "user", "content": "where?"}]


def call(id: str) -> dict[str, Any]:
    """A tool call as an upstream makes it."""
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": '{"at": "map"}'}}


def calling(*ids: str, **fields: Any) -> Says:
    """A whole answer with tool calls."""
    body = completion(None, "tool_calls")
    body["choices"][0]["message"] |= {"tool_calls": [call(id) for id in ids], **fields}
    return answer(body)


def calling_live(id: str) -> Says:
    """The same as a stream, the arguments in two pieces."""
    first = {"index": 0, "id": id, "type": "function", "function": {"name": "look", "arguments": '{"at": '}}
    more = {"index": 0, "function": {"arguments": '"map"}'}}
    pieces = [{"role": "assistant", "tool_calls": [first]}, {"tool_calls": [more]}]
    events = b"".join(chunk(piece) for piece in pieces)
    return stream(events + chunk({}, "tool_calls") + USAGE + DONE)


def saying(text: str) -> Says:
    """A whole answer."""
    return answer(completion(text))


def config(one: Upstream, two: Upstream, more: str = "") -> str:
    """Two workers, and a policy of each kind over them."""
    return f"""
[server]
data = "data"

[[worker]]
id = "one"
endpoints = [{{ base_url = "{one.base_url}" }}]
price = {{ input = 1, output = 2 }}

[[worker]]
id = "two"
endpoints = [{{ base_url = "{two.base_url}" }}]
price = {{ input = 2, output = 4 }}

[policy.line]
type = "fallback"
workers = ["one", "two"]

[policy.ladder]
type = "cascade"
rungs = ["one", "two"]
check = "agreement"

[policy.panel]
type = "fuse"
panel = ["one", "two"]
{more}
"""


@asynccontextmanager
async def gateway(folder: Path, text: str) -> AsyncIterator[World]:
    """A gateway process on the data folder."""
    file = folder / "stretto.toml"
    file.write_text(text)
    async with open_world(parse(text, file=str(file))) as world:
        yield world


async def post(world: World, body: Mapping[str, Any], key: str = "") -> Any:
    """One request; its JSON, or the events of its stream."""
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    done = await Exchange(world.gateway(), "POST", CHAT, json.dumps(body).encode(), headers).run()
    text = b"".join(done.chunks).decode()
    if not body.get("stream"):
        return json.loads(text)
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def asking(model: str, **fields: Any) -> dict[str, Any]:
    """The first request of a loop."""
    return {"model": model, "messages": ASKED, "tools": TOOLS, **fields}


def answering(asked: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    """The second: the transcript as clients send it, which leave reasoning out, and a result for each call."""
    said = {"role": "assistant", "content": message.get("content"), "tool_calls": message["tool_calls"]}
    results = [
        {"role": "tool", "tool_call_id": each["id"], "content": "here"} for each in message["tool_calls"]
    ]
    return {**asked, "messages": [*asked["messages"], said, *results]}


def ids(body: Mapping[str, Any]) -> list[str]:
    """The tool-call ids in an upstream's request, in order."""
    return [call["id"] for m in body["messages"] for call in m.get("tool_calls", ())] + [
        m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"
    ]


# The cheaper worker fails first, so that the dearer one holds the loop, against what the policy would choose next time.
BROKEN = answer({"error": {"message": "no"}}, 400)


@pytest.mark.parametrize("model", ["two", "line", "ladder", "panel"])
def test_a_loop_returns_to_its_worker_after_a_restart(model: str, tmp_path: Path) -> None:
    """Another process on the data folder finds the worker, and gives it its own ids, under every kind of policy."""

    async def scene() -> None:
        async with (
            upstream(BROKEN, saying("from one")) as one,
            upstream(calling("own-1", "own-2"), saying("there")) as two,
        ):
            text = config(one, two)
            async with gateway(tmp_path, text) as world:
                first = await post(world, asking(model))
            message = first["choices"][0]["message"]
            sent = [each["id"] for each in message["tool_calls"]]
            assert len(set(sent)) == 2
            assert all(len(id) <= 40 and id.startswith("call_") for id in sent)
            asked_one = len(one.requests)
            async with gateway(tmp_path, text) as world:
                second = await post(world, answering(asking(model), message))
                receipt = world.reader.receipt(second["stretto"]["run_id"])
            assert second["choices"][0]["message"]["content"] == "there"
            assert second["stretto"]["served_by"] == "two"
            assert ids(two.bodies[-1]) == ["own-1", "own-2", "own-1", "own-2"]
            assert len(one.requests) == asked_one
            (choice,) = receipt["choices"]
            assert (choice["picked"], choice["by"]) == ("two", "tool loop")
            assert first["stretto"]["run_id"] in choice["reason"]

    asyncio.run(scene())


@pytest.mark.parametrize("model", ["two", "line"])
def test_a_streamed_call_has_its_id_in_the_first_piece(model: str, tmp_path: Path) -> None:
    """Live pieces carry our id once and the arguments as they come; the result finds its way back."""

    async def scene() -> None:
        async with (
            upstream(BROKEN) as one,
            upstream(calling_live("own"), saying("there")) as two,
            gateway(tmp_path, config(one, two)) as world,
        ):
            events = await post(world, asking(model, stream=True))
            pieces = [
                piece
                for event in events
                for choice in event["choices"]
                for piece in choice["delta"].get("tool_calls", ())
            ]
            (id,) = [piece["id"] for piece in pieces if piece.get("id")]
            arguments = "".join(piece["function"].get("arguments", "") for piece in pieces)
            assert json.loads(arguments) == {"at": "map"}
            finish = [c["finish_reason"] for e in events for c in e["choices"] if c.get("finish_reason")]
            assert finish == ["tool_calls"]
            function = {"name": "look", "arguments": arguments}
            message = {"tool_calls": [{"id": id, "type": "function", "function": function}]}
            second = await post(world, answering(asking(model), message))
            assert second["choices"][0]["message"]["content"] == "there"
            assert ids(two.bodies[-1]) == ["own", "own"]

    asyncio.run(scene())


def test_two_processes_share_a_loop(tmp_path: Path) -> None:
    """The result may arrive at another gateway process than the one that sent the call."""

    async def scene() -> None:
        async with upstream(BROKEN) as one, upstream(calling("own"), saying("there")) as two:
            text = config(one, two)
            async with gateway(tmp_path, text) as left, gateway(tmp_path, text) as right:
                first = await post(left, asking("line"))
                second = await post(right, answering(asking("line"), first["choices"][0]["message"]))
            assert second["stretto"]["served_by"] == "two"
            assert ids(two.bodies[-1]) == ["own", "own"]

    asyncio.run(scene())


def test_reasoning_content_comes_back_to_a_worker_that_wants_it(tmp_path: Path) -> None:
    """Chat clients leave `reasoning_content` out; a worker with the ability `reasoning` gets it back within its loop."""

    async def scene() -> None:
        async with upstream(calling("own", reasoning_content="hm"), saying("there")) as one:
            able = 'abilities = ["text", "tools", "reasoning"]'
            text = config(one, one).replace('id = "one"', f'id = "one"\n{able}')
            async with gateway(tmp_path, text) as world:
                first = await post(world, asking("one"))
                await post(world, answering(asking("one"), first["choices"][0]["message"]))
            assert one.bodies[-1]["messages"][1]["reasoning_content"] == "hm"

    asyncio.run(scene())


def test_the_states_may_be_deleted(tmp_path: Path) -> None:
    """Without `states.sqlite3` a loop is decided afresh from its transcript: no error, the ids as the client has them."""

    async def scene() -> None:
        async with upstream(BROKEN, saying("from one")) as one, upstream(calling("own")) as two:
            text = config(one, two)
            async with gateway(tmp_path, text) as world:
                first = await post(world, asking("line"))
            for file in (tmp_path / "data").glob("states.sqlite3*"):
                file.unlink()
            message = first["choices"][0]["message"]
            async with gateway(tmp_path, text) as world:
                second = await post(world, answering(asking("line"), message))
            assert second["choices"][0]["message"]["content"] == "from one"
            assert ids(one.bodies[-1]) == [message["tool_calls"][0]["id"]] * 2

    asyncio.run(scene())


def test_the_configured_lifetime_counts(tmp_path: Path) -> None:
    """`state_lifetime` is what the state is kept for."""

    async def scene() -> None:
        week = 604_800
        async with (
            upstream(calling("own")) as one,
            gateway(tmp_path, config(one, one, f"[ledger]\nstate_lifetime = {week}")) as world,
        ):
            begun = time.time()
            await post(world, asking("one"))
            with contextlib.closing(sqlite3.connect(world.states.path)) as reader:
                (expires,) = reader.execute("SELECT expires FROM state").fetchone()
            assert begun + week <= expires <= time.time() + week

    asyncio.run(scene())


def test_erasing_a_run_erases_its_loop(tmp_path: Path) -> None:
    """`stretto runs erase` leaves nothing of the run's tool calls behind."""

    async def scene() -> str:
        async with upstream(calling("own")) as one, gateway(tmp_path, config(one, one)) as world:
            first = await post(world, asking("one"))
            return str(first["stretto"]["run_id"])

    run_id = asyncio.run(scene())
    done = CliRunner().invoke(stretto, ["runs", "erase", run_id, "--yes", "--data", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "states.sqlite3")) as reader:
        assert reader.execute("SELECT count(*) FROM state").fetchone() == (0,)


def test_a_key_cannot_go_on_with_anothers_loop(tmp_path: Path) -> None:
    """Ids that leaked lead another key nowhere; the owner's still work afterwards."""

    async def scene() -> None:
        async with (
            upstream(BROKEN, saying("from one")) as one,
            upstream(calling("own"), saying("there")) as two,
            gateway(tmp_path, config(one, two)) as world,
        ):
            _, alice = world.keys.create("alice")
            _, mallory = world.keys.create("mallory")
            first = await post(world, asking("line"), alice)
            told = answering(asking("line"), first["choices"][0]["message"])
            stolen = await post(world, told, mallory)
            assert stolen["stretto"]["served_by"] == "one"
            mine = await post(world, told, alice)
            assert mine["stretto"]["served_by"] == "two"

    asyncio.run(scene())


def test_what_a_worker_lacks_is_dropped_and_on_the_receipt(tmp_path: Path) -> None:
    """A parameter that does not concern the promise is left out for that worker, and the receipt names it."""

    async def scene() -> None:
        async with (
            upstream(saying("hi")) as one,
            gateway(tmp_path, config(one, one)) as world,
        ):
            body = {"model": "one", "messages": ASKED, "logprobs": True, "top_logprobs": 2}
            reply = await post(world, body)
            receipt = world.reader.receipt(reply["stretto"]["run_id"])
            assert "logprobs" not in one.bodies[0]
            assert sorted(receipt["attempts"][0]["dropped"]) == ["logprobs", "top_logprobs"]

    asyncio.run(scene())


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}


@pytest.mark.parametrize("live", [False, True])
def test_structured_output_is_repaired_before_anyone_sees_it(live: bool, tmp_path: Path) -> None:
    """The caller gets what fits, streamed or not; the upstream has been asked twice, and the receipt tells why."""

    async def scene() -> None:
        wrong, right = '{"x": "left"}', '{"x": 3}'
        async with (
            upstream(saying(wrong), saying(right)) as one,
            gateway(tmp_path, config(one, one)) as world,
        ):
            body = {"model": "one", "messages": ASKED, "response_format": SCHEMA, "stream": live}
            reply = await post(world, body)
            if live:
                text = "".join(c["delta"].get("content") or "" for e in reply for c in e["choices"])
            else:
                text = reply["choices"][0]["message"]["content"]
            assert text == right
            assert len(one.requests) == 2
            (summary,) = world.store.runs()
            (choice,) = world.reader.receipt(summary.run)["choices"]
            assert choice["by"] == "response format"
            assert 'is not of type "integer"' in choice["reason"]

    asyncio.run(scene())


def test_output_that_cannot_be_repaired_is_a_clear_error(tmp_path: Path) -> None:
    """502 `answer_misfit`, with what is wrong; a schema that is none is a 400 and costs nothing."""

    async def scene() -> None:
        async with upstream(saying("no JSON at all")) as one, gateway(tmp_path, config(one, one)) as world:
            reply = await post(world, {"model": "one", "messages": ASKED, "response_format": SCHEMA})
            assert reply["error"]["code"] == "answer_misfit"
            assert "not valid JSON" in reply["error"]["message"]
            assert len(one.requests) == 2
            bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}
            reply = await post(world, {"model": "one", "messages": ASKED, "response_format": bad})
            assert reply["error"]["code"] == "invalid_request"
            assert len(one.requests) == 2

    asyncio.run(scene())
