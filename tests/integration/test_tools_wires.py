"""Tool loops across wire formats: any client's result finds its worker, and each side sees ids and seals of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stretto.app import World, open_world
from stretto.config import parse
from tests.asgi import Exchange
from tests.unit.pool.upstream import Says, Upstream, answer, completion, upstream

PARAMETERS = {"type": "object", "properties": {"at": {"type": "string"}}}
CHAT_TOOLS = [{"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}]
MESSAGES_TOOLS = [{"name": "look", "input_schema": PARAMETERS}]
BROKEN = answer({"error": {"message": "no"}}, 400)


def chat_calling() -> Says:
    """A chat upstream asks for the tool."""
    body = completion(None, "tool_calls")
    function = {"name": "look", "arguments": '{"at":"map"}'}
    body["choices"][0]["message"]["tool_calls"] = [{"id": "own", "type": "function", "function": function}]
    return answer(body)


def messages_saying(*content: Mapping[str, Any], stop: str = "end_turn") -> Says:
    """A Messages upstream answers."""
    usage = {"input_tokens": 5, "output_tokens": 3}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    return answer({**head, "content": list(content), "stop_reason": stop, "usage": usage})


THINKING = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
USE = {"type": "tool_use", "id": "toolu_own", "name": "look", "input": {"at": "map"}}


@asynccontextmanager
async def gateway(folder: Path, one: tuple[str, Upstream], two: tuple[str, Upstream]) -> AsyncIterator[World]:
    """Two workers, each with its wire, and a policy that asks them in turn."""
    text = '[server]\ndata = "data"\n[policy.line]\ntype = "fallback"\nworkers = ["one", "two"]\n'
    for name, (wire, asked) in (("one", one), ("two", two)):
        text += (
            f'[[worker]]\nid = "{name}"\nwire = "{wire}"\nendpoints = [{{ base_url = "{asked.base_url}" }}]\n'
        )
    file = folder / "stretto.toml"
    file.write_text(text)
    async with open_world(parse(text, file=str(file))) as world:
        yield world


async def post(world: World, path: str, body: Mapping[str, Any]) -> Any:
    """One request and its JSON."""
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    done = await Exchange(world.gateway(), "POST", path, json.dumps(body).encode(), headers).run()
    assert done.status == 200, done.body
    return done.json


async def chat_loop(world: World, model: str) -> Any:
    """A chat client asks, runs the tool, and sends its result with what chat clients keep."""
    asked = {"model": model, "messages": [{"role": "user", "content": "where?"}], "tools": CHAT_TOOLS}
    message = (await post(world, "/v1/chat/completions", asked))["choices"][0]["message"]
    (call,) = message["tool_calls"]
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "here"}
    told = {**asked, "messages": [*asked["messages"], said, result]}
    return call["id"], await post(world, "/v1/chat/completions", told)


async def messages_loop(world: World, model: str) -> Any:
    """A Messages client does the same, and brings everything back as it came."""
    user = {"role": "user", "content": "where?"}
    asked = {"model": model, "max_tokens": 100, "messages": [user], "tools": MESSAGES_TOOLS}
    first = await post(world, "/v1/messages", asked)
    (use,) = [block for block in first["content"] if block["type"] == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "here"}
    turns = [user, {"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    return use["id"], await post(world, "/v1/messages", {**asked, "messages": turns})


@pytest.mark.parametrize("loop", [chat_loop, messages_loop])
def test_a_chat_worker_is_found_by_any_client(loop: Any, tmp_path: Path) -> None:
    """Ids fit the client's format, and the worker sees its own."""

    async def scene() -> None:
        async with (
            upstream(BROKEN) as one,
            upstream(chat_calling(), answer(completion("there"))) as two,
            gateway(tmp_path, ("chat", one), ("chat", two)) as world,
        ):
            id, second = await loop(world, "line")
            assert id.startswith("call_")
            assert "there" in json.dumps(second)
            seen = two.bodies[-1]["messages"]
            assert [call["id"] for m in seen for call in m.get("tool_calls", ())] == ["own"]
            assert [m["tool_call_id"] for m in seen if m["role"] == "tool"] == ["own"]
            assert len(one.requests) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("loop", [chat_loop, messages_loop])
def test_a_messages_worker_gets_its_sealed_thinking_back(loop: Any, tmp_path: Path) -> None:
    """Its signature comes back to it unchanged: from the client where that keeps it, else from the state."""

    async def scene() -> None:
        there = messages_saying({"type": "text", "text": "there"})
        async with (
            upstream(BROKEN) as one,
            upstream(messages_saying(THINKING, USE, stop="tool_use"), there) as two,
            gateway(tmp_path, ("chat", one), ("messages", two)) as world,
        ):
            _, second = await loop(world, "line")
            assert "there" in json.dumps(second)
            (said,) = [m for m in two.bodies[-1]["messages"] if m["role"] == "assistant"]
            assert said["content"] == [THINKING, USE]
            (result,) = two.bodies[-1]["messages"][-1]["content"]
            assert result["tool_use_id"] == "toolu_own"

    asyncio.run(scene())


@pytest.mark.parametrize("loop", [chat_loop, messages_loop])
def test_a_loop_that_changes_hands_takes_no_seal_along(loop: Any, tmp_path: Path) -> None:
    """When the worker fails another gets the transcript under our ids; a signature that is not its own never reaches it."""

    async def scene() -> None:
        async with (
            upstream(BROKEN, messages_saying({"type": "text", "text": "taken over"})) as one,
            upstream(messages_saying(THINKING, USE, stop="tool_use"), BROKEN) as two,
            gateway(tmp_path, ("messages", one), ("messages", two)) as world,
        ):
            id, second = await loop(world, "line")
            assert "taken over" in json.dumps(second)
            (said,) = [m for m in one.bodies[-1]["messages"] if m["role"] == "assistant"]
            assert [block["type"] for block in said["content"]] == ["tool_use"]
            assert said["content"][0]["id"] == id
            assert b"c2lnbmVk" not in one.requests[-1]

    asyncio.run(scene())


# --- encrypted reasoning of Responses ----------------------------------------------------------------------------

RESPONSES_TOOLS = [{"type": "function", "name": "look", "parameters": PARAMETERS}]
SEALED = {
    "type": "reasoning",
    "id": "rs_own",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "c2VhbGVk",
}
CALLED = {
    "type": "function_call",
    "id": "fc_own",
    "call_id": "call_own",
    "name": "look",
    "arguments": '{"at":"map"}',
    "status": "completed",
}


def responses_saying(*output: Mapping[str, Any]) -> Says:
    """A Responses upstream answers."""
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    head = {"id": "resp_own", "object": "response", "status": "completed", "model": "m", "error": None}
    return answer({**head, "output": list(output), "usage": usage})


def written(text: str) -> Mapping[str, Any]:
    """A message of a Responses upstream."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_own", "role": "assistant", "status": "completed", "content": [part]}


async def responses_loop(world: World, model: str) -> Any:
    """A Responses client that keeps its own conversation, as Codex does: it sends back every item as it came."""
    user = {"type": "message", "role": "user", "content": "where?"}
    asked = {
        "model": model,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"summary": "auto"},
        "input": [user],
        "tools": RESPONSES_TOOLS,
    }
    first = await post(world, "/v1/responses", asked)
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "here"}
    return call["call_id"], await post(
        world, "/v1/responses", {**asked, "input": [user, *first["output"], result]}
    )


def reasoning_of(asked: Upstream) -> list[Any]:
    """What came back of the sealed reasoning in the last request of a Responses worker."""
    return [item for item in asked.bodies[-1]["input"] if item.get("type") == "reasoning"]


@pytest.mark.parametrize("loop", [responses_loop, messages_loop, chat_loop])
def test_a_responses_worker_gets_its_encrypted_reasoning_back(loop: Any, tmp_path: Path) -> None:
    """Unchanged and under its own id, whatever the client speaks: from the client where that keeps it, else from the state."""

    async def scene() -> None:
        async with (
            upstream(BROKEN) as one,
            upstream(responses_saying(SEALED, CALLED), responses_saying(written("there"))) as two,
            gateway(tmp_path, ("chat", one), ("responses", two)) as world,
        ):
            _, second = await loop(world, "line")
            assert "there" in json.dumps(second)
            (back,) = reasoning_of(two)
            assert (back["id"], back["encrypted_content"]) == ("rs_own", "c2VhbGVk")
            outputs = [i for i in two.bodies[-1]["input"] if i.get("type") == "function_call_output"]
            assert [item["call_id"] for item in outputs] == ["call_own"]

    asyncio.run(scene())


@pytest.mark.parametrize("other", ["responses", "messages", "chat"])
@pytest.mark.parametrize("loop", [responses_loop, messages_loop, chat_loop])
def test_encrypted_reasoning_never_reaches_another_worker(loop: Any, other: str, tmp_path: Path) -> None:
    """Another worker, of the same format too, gets the transcript without the seal: it could not open it, and would refuse."""
    takes = {
        "responses": responses_saying(written("taken over")),
        "messages": messages_saying({"type": "text", "text": "taken over"}),
        "chat": answer(completion("taken over")),
    }

    async def scene() -> None:
        async with (
            upstream(BROKEN, takes[other]) as one,
            upstream(responses_saying(SEALED, CALLED), BROKEN) as two,
            gateway(tmp_path, (other, one), ("responses", two)) as world,
        ):
            _, second = await loop(world, "line")
            assert "taken over" in json.dumps(second)
            assert b"c2VhbGVk" not in one.requests[-1]
            assert b"rs_own" not in one.requests[-1]

    asyncio.run(scene())


def test_a_responses_client_carries_the_signatures_of_a_messages_worker(tmp_path: Path) -> None:
    """Its thinking comes as a reasoning item with encrypted content, and goes back as thinking with its signature."""

    async def scene() -> None:
        there = messages_saying({"type": "text", "text": "there"})
        async with (
            upstream(BROKEN) as one,
            upstream(messages_saying(THINKING, USE, stop="tool_use"), there) as two,
            gateway(tmp_path, ("chat", one), ("messages", two)) as world,
        ):
            _, second = await responses_loop(world, "line")
            assert "there" in json.dumps(second)
            (said,) = [m for m in two.bodies[-1]["messages"] if m["role"] == "assistant"]
            assert said["content"] == [THINKING, USE]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("wire", "first"),
    [
        ("messages", messages_saying(THINKING, {"type": "text", "text": "at first"})),
        ("responses", responses_saying(SEALED, written("at first"))),
    ],
)
@pytest.mark.parametrize("same", [True, False])
def test_a_seal_outlives_the_turn_only_with_its_worker(
    wire: str, first: Says, same: bool, tmp_path: Path
) -> None:
    """Without any tool: the client's next turn brings the seal back to the worker that made it, and to nobody else."""
    then = {
        "messages": messages_saying({"type": "text", "text": "then"}),
        "responses": responses_saying(written("then")),
    }[wire]

    async def scene() -> None:
        async with (
            upstream(first, then) as one,
            upstream(then) as two,
            gateway(tmp_path, (wire, one), (wire, two)) as world,
        ):
            user = {"type": "message", "role": "user", "content": "where?"}
            include = {
                "store": False,
                "include": ["reasoning.encrypted_content"],
                "reasoning": {"summary": "auto"},
            }
            said = await post(world, "/v1/responses", {"model": "one", "input": [user], **include})
            assert any(item.get("encrypted_content") for item in said["output"])
            model, asked = ("one", one) if same else ("two", two)
            await post(
                world, "/v1/responses", {"model": model, "input": [user, *said["output"], user], **include}
            )
            seal = b"c2lnbmVk" if wire == "messages" else b"c2VhbGVk"
            assert (seal in asked.requests[-1]) is same
            assert b"stretto." not in asked.requests[-1]

    asyncio.run(scene())
