"""The unmodified OpenAI SDK against a real gateway on the models that ship with Stretto: right answers, receipts that add up."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from stretto.sparring.graders import grade
from stretto.sparring.pool import entries
from stretto.sparring.problems import Problem, problems
from stretto.types import PICO
from tests.acceptance.records import books
from tests.acceptance.served import Caller, Served, make_key, served
from tests.acceptance.upstream import Does, upstream

LETTERS, NUMBERS = ("spell-backward", "sort-letters"), ("addition", "to-binary")
SKILLS = {"string-north": LETTERS, "number-north": NUMBERS, "general-large": ("to-binary",)}
POLICIES = ("route", "cascade", "fuse", "stretto")
WORKERS = tuple(SKILLS)
POOL = {entry.id for entry in entries()}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with zero configuration but for a scratch folder, in an empty home, without any key in its environment."""
    with served(tmp_path_factory.mktemp("home"), "[pool]\ndiscover = false\n") as it:
        asyncio.run(it.started())
        yield it
        assert it.stop() == 0
        assert "Traceback" not in it.told()


@pytest.fixture(scope="module")
def client(gateway: Served) -> Iterator[openai.OpenAI]:
    """The SDK as people use it."""
    with openai.OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0) as it:
        yield it


def posed(model: str) -> list[Problem]:
    """Problems that were never trained on, and that the model can do."""
    return problems(SKILLS.get(model, LETTERS + NUMBERS), "test", 4, 1)


def ask(client: openai.OpenAI, model: str, prompt: str, **more: Any) -> Any:
    """The SDK's answer, with what Stretto adds to it."""
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], temperature=0, **more
    )


def receipt_of(client: openai.OpenAI, run: str) -> dict[str, Any]:
    """GET /v1/runs/{id}."""
    return client.get(f"/runs/{run}", cast_to=dict[str, Any])


def check_receipt(gateway: Served, receipt: dict[str, Any], usage: Any, block: dict[str, Any]) -> None:
    """Every attempt is there, complete; their sums are the usage and the cost that were told, and what the journal says."""
    attempts = receipt["attempts"]
    assert receipt["status"] == "finished"
    assert receipt["consistent"] is True
    assert len(attempts) == receipt["calls"] == block["calls"]
    for attempt in attempts:
        assert attempt["worker"] in POOL
        assert attempt["role"]
        assert attempt["outcome"] == "answered"
        assert attempt["usage"]["input"] > 0
        assert attempt["usage"]["output"] > 0
        assert attempt["cost_pico"] > 0
        assert attempt["seconds"] > 0
    for name, told in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
        assert sum(attempt["usage"][name] for attempt in attempts) == receipt["usage"][name] == told
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    cost = sum(attempt["cost_pico"] for attempt in attempts)
    assert cost == receipt["cost_pico"] == round(block["cost_usd"] * PICO)
    written = books(gateway.data).finished[receipt["run_id"]]
    assert (written["cost"], written["calls"]) == (cost, len(attempts))
    assert (written["usage"]["input"], written["usage"]["output"]) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    time = receipt["time"]
    assert time["gateway_seconds"] > 0
    assert time["total_seconds"] == pytest.approx(time["gateway_seconds"] + time["upstream_seconds"])


def check_choices(model: str, receipt: dict[str, Any]) -> None:
    """What was chosen, what was not and why."""
    if model in WORKERS:
        (attempt,) = receipt["attempts"]
        assert attempt["worker"] == receipt["served_by"] == model
        return
    assert receipt["choices"]
    for choice in receipt["choices"]:
        assert choice["reason"]
        assert choice["by"]
    options = [option for choice in receipt["choices"] for option in choice["options"]]
    rejected = [option for option in options if option["rejected"]]
    assert all(option["name"] for option in rejected)
    if model == "route":
        assert len(rejected) == 6  # of the seven solvers; the thinker and the checker are no candidates
    elif model == "stretto":  # first its ways, then the other six solvers
        assert sum(1 for option in receipt["choices"][1]["options"] if option["rejected"]) == 6
    if model == "fuse":
        assert len({attempt["worker"] for attempt in receipt["attempts"]}) == 4
        assert all(attempt["reason"].startswith("panel member") for attempt in receipt["attempts"])


@pytest.mark.parametrize("model", [*WORKERS, *POLICIES])
def test_right_answers_whose_receipts_add_up(gateway: Served, client: openai.OpenAI, model: str) -> None:
    """Whatever `model` names, held-out problems are solved, and the receipt tells every attempt, to the last token and cent."""
    for problem in posed(model):
        answer = ask(client, model, problem.prompt)
        assert grade(problem, answer.choices[0].message.content) == 1.0
        assert answer.model == model
        assert answer.choices[0].finish_reason == "stop"
        block = answer.model_extra["stretto"]
        receipt = receipt_of(client, block["run_id"])
        assert receipt["served_by"] == block["served_by"]
        check_receipt(gateway, receipt, answer.usage, block)
        check_choices(model, receipt)


@pytest.mark.parametrize("model", [*WORKERS, *POLICIES])
def test_streams_say_the_same(gateway: Served, client: openai.OpenAI, model: str) -> None:
    """A stream brings the same right answer, its usage when that is asked for, and a receipt that adds up."""
    for problem in posed(model):
        chunks = list(ask(client, model, problem.prompt, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert grade(problem, text) == 1.0
        assert len({c.id for c in chunks}) == 1
        assert {c.model for c in chunks} == {model}
        assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
            "stop"
        ]
        assert [bool(c.choices) for c in chunks] == [True] * (len(chunks) - 1) + [False]
        (block,) = (c.model_extra["stretto"] for c in chunks if c.model_extra and "stretto" in c.model_extra)
        receipt = receipt_of(client, block["run_id"])
        check_receipt(gateway, receipt, chunks[-1].usage, block)
        check_choices(model, receipt)


def test_a_stream_without_usage_has_none(client: openai.OpenAI) -> None:
    """Clients that did not ask for it get no usage chunk, which some of them could not read."""
    chunks = list(ask(client, "string-north", "Spell the word planet backward.", stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "tenalp"
    assert all(c.usage is None for c in chunks)


def test_names_are_listed_and_explained(client: openai.OpenAI) -> None:
    """Workers and policies are models; a name that means nothing is a 404 that says where to look."""
    names = [model.id for model in client.models.list()]
    assert {*WORKERS, *POLICIES} <= set(names)
    assert client.models.retrieve("string-north").id == "string-north"
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        client.models.retrieve("string-z")
    with pytest.raises(openai.NotFoundError, match="string-north") as caught:
        ask(client, "string-nort", "x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("model", ["string-north", "route", "cascade", "fuse"])
def test_a_replay_gives_the_same_answer_without_a_call(
    gateway: Served, client: openai.OpenAI, model: str
) -> None:
    """A recorded run comes out the same again, its record unchanged and nobody asked; feedback lands in its receipt."""
    answer = ask(client, model, "Spell the word planet backward.")
    run = answer.model_extra["stretto"]["run_id"]
    asked = books(gateway.data).asked
    again: dict[str, Any] = client.post(f"/runs/{run}/replay", body={}, cast_to=dict[str, Any])
    assert again["choices"][0]["message"]["content"] == answer.choices[0].message.content == "tenalp"
    assert again["stretto"]["replay"] is True
    assert again["stretto"]["missing"] == []
    assert books(gateway.data).asked == asked
    client.post("/feedback", body={"run_id": run, "score": 1.0, "comment": "right"}, cast_to=dict[str, Any])
    (score,) = receipt_of(client, run)["scores"]
    assert (score["score"], score["comment"]) == (1.0, "right")


def test_a_plan_calls_nobody(gateway: Served, client: openai.OpenAI) -> None:
    """POST /v1/plans says who may play and what it may take, and leaves no trace in the ledger."""
    asked = books(gateway.data).asked
    message = {"role": "user", "content": "Spell the word planet backward."}
    plan = client.post("/plans", body={"model": "fuse", "messages": [message]}, cast_to=dict[str, Any])
    assert {card["id"] for card in plan["candidates"]} == POOL | {"coordinator", "planner"}
    assert plan["outlook"]["calls"]["most"] >= 3
    assert plan["outlook"]["usd"]["most"] > 0
    assert books(gateway.data).asked == asked


SCRIPTED = """
[pool]
discover = false
sparring = false

[[worker]]
id = "far"
model = "far-model"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 4.0 }}
abilities = ["text", "tools", "json"]
"""

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"in": {"type": "string"}}},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"in": "Rome"}'}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "n", "strict": True, "schema": {"type": "object", "properties": {}}},
}


def test_tools_and_formats_go_through(tmp_path: Path) -> None:
    """Asked of one worker, tools, their results and the answer's format reach the upstream as the caller wrote them.

    The caller meets the call under an id of ours, the worker under its own.
    """

    async def run() -> None:
        says = iter((Does(message={"tool_calls": [CALL]}), Does(text="sunny"), Does(text='{"n": 4}')))
        async with upstream(lambda body: next(says), keep=True) as up:
            with served(tmp_path, SCRIPTED.format(url=up.base_url)) as gateway:
                await gateway.started()
                async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="none") as client:
                    messages: list[Any] = [{"role": "user", "content": "Weather in Rome?"}]
                    tools: Any = {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False}
                    first = await client.chat.completions.create(model="far", messages=messages, **tools)
                    assert first.choices[0].finish_reason == "tool_calls"
                    (call,) = first.choices[0].message.tool_calls or ()
                    assert call.to_dict() == {**CALL, "id": call.id}
                    messages += [
                        {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]},
                        {"role": "tool", "tool_call_id": call.id, "content": "25 degrees"},
                    ]
                    second = await client.chat.completions.create(model="far", messages=messages, **tools)
                    assert second.choices[0].message.content == "sunny"
                    format: Any = FORMAT
                    await client.chat.completions.create(
                        model="far", messages=messages[:1], response_format=format, max_completion_tokens=9
                    )
                asked, told, formatted = up.bodies
                assert asked["model"] == "far-model"
                assert asked["tools"] == told["tools"] == [TOOL]
                assert (asked["tool_choice"], asked["parallel_tool_calls"]) == ("auto", False)
                assert told["messages"][1]["tool_calls"] == [CALL]
                assert told["messages"][2] == {**messages[2], "tool_call_id": "call_1"}
                assert formatted["response_format"] == FORMAT
                assert "tools" not in formatted

    asyncio.run(run())


def test_keys_see_only_their_own_runs(tmp_path: Path) -> None:
    """A wrong key is a 401, another key's run a 404 as if there were none; each key sees its own."""

    async def run() -> None:
        async with upstream(lambda body: Does()) as up:
            with served(tmp_path, SCRIPTED.format(url=up.base_url)) as gateway:
                (_, alice), (_, bob) = make_key(gateway, "alice"), make_key(gateway, "bob")
                await gateway.started()

                def client(key: str) -> openai.AsyncOpenAI:
                    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key)

                async with client("sk-stretto-wrong") as nobody:
                    with pytest.raises(openai.AuthenticationError):
                        await nobody.chat.completions.create(
                            model="far", messages=[{"role": "user", "content": "x"}]
                        )
                async with client(alice) as hers, client(bob) as his:
                    answer = await hers.chat.completions.create(
                        model="far", messages=[{"role": "user", "content": "x"}]
                    )
                    run_id = (answer.model_extra or {})["stretto"]["run_id"]
                    mine = await hers.get(f"/runs/{run_id}", cast_to=dict[str, Any])
                    assert mine["run_id"] == run_id
                    for path in (f"/runs/{run_id}", f"/runs/{run_id}/events", "/runs/run_nothing"):
                        with pytest.raises(openai.NotFoundError) as caught:
                            await his.get(path, cast_to=dict[str, Any])
                        assert caught.value.code == "run_not_found"
                    with pytest.raises(openai.NotFoundError):
                        await his.post(f"/runs/{run_id}/replay", body={}, cast_to=dict[str, Any])
                    with pytest.raises(openai.NotFoundError):
                        await his.post(
                            "/feedback", body={"run_id": run_id, "score": 0}, cast_to=dict[str, Any]
                        )
                caller = Caller(gateway.port)
                assert (await caller.call("GET", f"/v1/runs/{run_id}")).status == 401
                caller.close()

    asyncio.run(run())
