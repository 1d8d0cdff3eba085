"""`conductor` and `stretto-ultra` over real HTTP with the OpenAI SDK: answers, streams, progress, limits, receipts, tools."""

import asyncio
import json
import threading
import urllib.request
from dataclasses import replace
from typing import Any

import openai
import pytest

from stretto.policies.conductor import Conductor
from stretto.policies.ultra import Ultra
from stretto.steps import Outcome
from stretto.types import Delta, Message, ToolCall, Usage
from tests.gateway_world import World, fails, says
from tests.integration.test_gateway import PATIENCE, client, served

TEAM = Conductor("a", workers=("b", "org/c"))
POLICIES = {"team": TEAM, "best": Ultra(TEAM, verifier="b", panel=("b", "org/c"), writer="a")}
PLAN = 'model_id = [0, 1]\nsubtasks = ["find the capital", "say it in one word"]\naccess_list = [[], "all"]'
ASKED: Any = [{"role": "user", "content": "What is the capital of France, in one word?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def acting(plan: str = PLAN, **said: Any) -> Any:
    """What each attempt does: `a` plans (or writes), `b` finds out (or checks), `org/c` says the last word, piece by piece."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        if ask.role == "planner":
            return says(plan)
        if ask.role == "verifier":
            return says(said.get("verdict", "yes"))
        found = said.get(
            ask.worker.rpartition("/")[2], {"b": "It is Paris.", "c": "Paris is it"}.get(ask.worker[-1], "?")
        )
        if isinstance(found, Outcome):
            return found
        if emit is not None:
            for piece in found.split(" "):
                tally.emitted = True
                await emit([Delta(f"{piece} ")])
        return says(found)

    return attempt


def world(plan: str = PLAN, **said: Any) -> World:
    return World(acting(plan, **said), policies=POLICIES)


def receipt(port: int, run: str, *, texts: bool = False) -> Any:
    """The receipt over HTTP."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/v1/runs/{run}?content={str(texts).lower()}"
    ) as found:
        return json.load(found)


@pytest.mark.parametrize("model", ["team", "best"])
def test_the_receipt_shows_the_whole_workflow_and_who_saw_what(model: str) -> None:
    """The answer is the last step's reply, untouched; the receipt lists the steps, what they see, and their sub-tasks."""
    made = world()
    with served(made) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as sdk:
        answer = sdk.chat.completions.create(model=model, messages=ASKED)
        block: Any = (answer.model_extra or {})["stretto"]
        told, texts = receipt(port, block["run_id"]), receipt(port, block["run_id"], texts=True)

    assert answer.choices[0].message.content == "Paris is it"
    assert [(s["worker"], s["sees"]) for s in block["workflow"]] == [("b", []), ("org/c", [1])]
    chosen = next(c for c in told["choices"] if c["picked"] == "a workflow of 2 steps")
    assert [o["name"] for o in chosen["options"]] == ["step 1: b", "step 2: org/c, sees step 1"]
    assert "texts" not in chosen
    shown = next(c for c in texts["choices"] if c["picked"] == "a workflow of 2 steps")
    assert shown["texts"] == {"step 1": "find the capital", "step 2": "say it in one word"}
    assert [a["role"] for a in told["attempts"]][:3] == ["planner", "worker", "worker"]
    last = next(a for a in texts["attempts"] if a["worker"] == "org/c")
    assert "<Agent 1 response>\nIt is Paris." in last["texts"]["asked"][-1]["content"]
    assert told["consistent"]


def streamed(model: str) -> tuple[list[str], str]:
    """The pieces of a streamed answer, and the lines of progress before; planner and verifier wait until a line was seen."""
    seen = threading.Event()
    act = acting()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        if ask.role in ("planner", "verifier"):
            await asyncio.get_running_loop().run_in_executor(None, seen.wait, PATIENCE)
            seen.clear()
        found: Outcome = await act(ask, emit, tally)
        return found

    pieces, lines = [], ""
    with client(World(attempt, policies=POLICIES)) as sdk:
        for chunk in sdk.chat.completions.create(model=model, messages=ASKED, stream=True):
            for delta in (choice.delta for choice in chunk.choices):
                pieces += [delta.content] if delta.content else []
                if line := (delta.model_extra or {}).get("reasoning_content"):
                    lines += line
                    if "plans" in line or "checks" in line:
                        seen.set()
    return pieces, lines


def test_the_last_step_of_a_workflow_streams_and_the_steps_before_it_are_told() -> None:
    """Pieces come as the last worker writes them; before, lines say who plans and works."""
    pieces, lines = streamed("team")

    assert pieces == ["Paris ", "is ", "it "]
    assert "a plans" in lines
    assert "b works" in lines


def test_ultra_streams_its_progress_and_then_the_checked_answer() -> None:
    """The answer had to be checked first: it comes after lines that say so."""
    pieces, lines = streamed("best")

    assert "".join(pieces) == "Paris is it"
    assert "b checks the answer" in lines


def test_ultra_asks_others_where_the_check_fails() -> None:
    """A rejected answer meets the panel: short answers are voted on, and the receipt has the verdict."""
    made = world(verdict="no", b="Paris is it")
    with served(made) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as sdk:
        answer = sdk.chat.completions.create(model="best", messages=ASKED)
        told = receipt(port, (answer.model_extra or {})["stretto"]["run_id"])

    assert answer.choices[0].message.content == "Paris is it"
    assert any(c["picked"] == "further answers" for c in told["choices"])
    assert "said no" in told["why"]


@pytest.mark.parametrize(
    ("calls", "roles"), [(1, ["solver"]), (2, ["planner", "solver"]), (3, ["planner", "worker", "worker"])]
)
def test_limits_hold_and_leave_an_answer(calls: int, roles: list[str]) -> None:
    """With one call the best single worker, with too few for the workflow the planner and the best single worker."""
    made = world()
    with client(made) as sdk:
        answer = sdk.chat.completions.create(
            model="team", messages=ASKED, extra_body={"stretto": {"limits": {"calls": calls}}}
        )

    assert answer.choices[0].message.content
    assert [ask.role for ask in made.pool.asks] == roles


HOSTILE = [
    "",
    "[" * 100_000,
    'model_id = [__import__("os").system("true")]\nsubtasks = ["x"]\naccess_list = [[]]',
    'model_id = [999999999]\nsubtasks = ["x"]\naccess_list = [[]]',
    'model_id = [0, 1]\nsubtasks = ["x", "y"]\naccess_list = [[1], [0]]',
    "<think>" * 5000,
]


@pytest.mark.parametrize("plan", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_planner_costs_two_calls_and_no_answer(plan: str) -> None:
    """Whatever it writes, the best single worker answers, and the record says what was wrong."""
    made = world(plan)
    with served(made) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as sdk:
        answer = sdk.chat.completions.create(model="team", messages=ASKED)
        told = receipt(port, (answer.model_extra or {})["stretto"]["run_id"])

    assert answer.choices[0].message.content == "It is Paris."
    assert [a["role"] for a in told["attempts"]] == ["planner", "planner", "solver"]
    assert any("no workflow" in c["reason"] for c in told["choices"])


def test_a_response_format_is_kept_by_whoever_speaks() -> None:
    """The last step is held to the schema, and asked to repair what does not fit."""
    replies = iter(['{"city": 1}', '{"city": "Paris"}'])

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        if ask.role == "planner":
            return says(PLAN)
        return says(next(replies)) if ask.worker == "org/c" else says("It is Paris.")

    form: Any = {
        "type": "json_schema",
        "json_schema": {
            "name": "city",
            "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    with client(World(attempt, policies=POLICIES)) as sdk:
        answer = sdk.chat.completions.create(model="team", messages=ASKED, response_format=form)

    assert json.loads(answer.choices[0].message.content or "") == {"city": "Paris"}


def test_a_tool_result_comes_back_to_the_step_that_asked() -> None:
    """The last step calls a tool of the caller's; that worker goes on from its own step, without a new plan."""
    call = Outcome(
        Message("assistant", None, (ToolCall("own", "look", '{"at": "map"}'),)), "tool_calls", Usage(3, 2)
    )
    made = World(acting(c=call), policies=POLICIES, loops=True)
    with client(made) as sdk:
        first = sdk.chat.completions.create(model="team", messages=ASKED, tools=TOOLS)
        message: Any = first.choices[0].message
        results = [{"role": "tool", "tool_call_id": c.id, "content": "Paris"} for c in message.tool_calls]
        made.pool._attempt = acting(c="So it is Paris")
        again = sdk.chat.completions.create(
            model="team", messages=[*ASKED, message.model_dump(exclude_none=True), *results], tools=TOOLS
        )

    assert again.choices[0].message.content == "So it is Paris"
    went_on = made.pool.asks[-1]
    assert went_on.worker == "org/c"
    assert [ask.role for ask in made.pool.asks].count("planner") == 1
    assert [m.role for m in went_on.messages or ()] == ["user", "assistant", "tool"]
    assert "It is Paris." in (went_on.messages or ())[0].text
    assert "say it in one word" in (went_on.messages or ())[0].text


def test_a_plan_shows_what_a_run_would_take_and_calls_nobody() -> None:
    """`POST /v1/plans`: the planner is who would be asked first; the outlook bounds the run that follows."""
    made = world()
    with served(made) as port:
        body = json.dumps({"model": "team", "messages": ASKED, "max_tokens": 20}).encode()
        sent = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/plans", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(sent) as found:
            told = json.load(found)

    assert made.pool.asks == []
    assert "planner" in json.dumps(told)
    assert told["outlook"]["calls"]["most"] >= 3


def test_a_step_that_fails_is_replaced_and_told() -> None:
    """The first step's worker is down: the other one does it, and the answer still comes."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        if ask.role == "planner":
            return says(PLAN)
        return fails("upstream_auth", "down") if ask.worker == "b" else says("Paris is it")

    made = World(attempt, policies={"team": replace(TEAM, repair=False)})
    with served(made) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as sdk:
        answer = sdk.chat.completions.create(model="team", messages=ASKED)
        told = receipt(port, (answer.model_extra or {})["stretto"]["run_id"])

    assert answer.choices[0].message.content == "Paris is it"
    assert any(c["reason"] == "step 1 failed" for c in told["choices"])
