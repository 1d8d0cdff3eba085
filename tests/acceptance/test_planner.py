"""A general model as planner, end to end: a real gateway, the OpenAI SDK, and upstreams that write as sloppily as models do."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.served import served
from tests.acceptance.upstream import Does, Upstream, upstream

CONFIG = """
[pool]
discover = false
sparring = false

[[worker]]
id = "opus"
model = "opus"
description = "Strong at plans and careful prose. Dear."
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 5.0, output = 25.0 }}
abilities = ["text", "tools"{json}]
context = 200000

[[worker]]
id = "flash"
model = "flash"
description = "Fast and cheap. Knows many facts."
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 0.1, output = 0.4 }}
abilities = ["text"]

[[worker]]
id = "cook"
model = "cook"
description = "Knows recipes and nothing else."
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 0.2, output = 0.8 }}
abilities = ["text"]

[policy.team]
type = "conductor"
planner = "opus"
alone = 0.9
"""
ASKED: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What do the Danes eat at Christmas, and how long does it take to cook?"},
]
ROAST = "Duck takes two hours and a half."

SLOPPY = {
    "thinks aloud, fences, quotes as it likes": """<think>Cards... flash knows facts, model_id = [9]? No.</think>
Sure! Two facts, then the answer:

```python
model_id = [{flash}, {cook},]
subtasks = ['Say what the Danes eat at Christmas', "It's about cooking: say how long that takes, \\"whole\\""]
access_list = [[], ['all']]
```
Let me know if you'd like changes!""",
    "JSON where lists were asked for": """Here is the workflow as JSON:
{"model_id": ["{flash}", "{cook}"], "subtasks": ["Say what the Danes eat", "Say how long"], "access_list": [[], "all"]}""",
    "bold labels, no brackets around words": """**Reasoning:** facts first.

**model_id** = [{flash}, {cook}]
**subtasks** = ["Say what the Danes eat", "Say how long it takes"]
**access_list** = [[], [0]]""",
}


def numbers(body: Mapping[str, Any]) -> dict[str, int]:
    """The numbers under which a planner was told of the workers, by a word of their descriptions."""
    told = "\n".join(message["content"] for message in body["messages"])
    lines = [line for line in told.splitlines() if line.startswith("Model ") and ":" in line]
    words = {"opus": "careful prose", "flash": "Fast and cheap", "cook": "recipes"}
    return {
        name: next((n for n, line in enumerate(lines) if word in line), -1) for name, word in words.items()
    }


def playing(*plans: str) -> Any:
    """What the upstream says: `opus` writes these plans, one after the other; `flash` knows what is eaten, `cook` how long."""
    left = list(plans)

    def script(body: Mapping[str, Any]) -> Does:
        if body["model"] == "opus":
            plan = left.pop(0)
            for name, number in numbers(body).items():
                plan = plan.replace(f"{{{name}}}", str(number))
            return Does(text=plan)
        return Does(text="Roast duck." if body["model"] == "flash" else ROAST)

    return script


async def talked(
    home: Path, plans: tuple[str, ...], *, json_able: bool = False, **fields: Any
) -> tuple[Any, Any, Upstream]:
    """The answer (the chunks where it streams), its receipt with texts, and the upstream after it."""
    async with upstream(playing(*plans), keep=True) as it:
        config = CONFIG.format(url=it.base_url, json=', "json"' if json_able else "")
        with served(home, config) as gateway:
            await gateway.started()
            async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as sdk:
                answer: Any = await sdk.chat.completions.create(model="team", messages=ASKED, **fields)
                if fields.get("stream"):
                    answer = [chunk async for chunk in answer]
                    run = answer[-1].model_extra["stretto"]["run_id"]
                else:
                    run = answer.model_extra["stretto"]["run_id"]
                told = await sdk.get(f"/runs/{run}?content=true", cast_to=dict[str, Any])
            assert gateway.stop() == 0
            assert "Traceback" not in gateway.told()
        return answer, told, it


def check(told: Any, planned: int) -> None:
    """The receipt: so many asks of the planner, then the two steps; the workflow is a choice, and who saw what is there."""
    assert [a["role"] for a in told["attempts"]] == ["planner"] * planned + ["worker", "worker"]
    chosen = next(c for c in told["choices"] if c["picked"] == "a workflow of 2 steps")
    assert [o["name"] for o in chosen["options"]] == ["step 1: flash", "step 2: cook, sees step 1"]
    assert chosen["texts"]["step 1"].startswith("Say what the Danes eat")
    last = told["attempts"][-1]["texts"]["asked"]
    assert last[0]["content"] == "Be brief."
    assert "Roast duck." in last[-1]["content"]
    assert told["consistent"]


@pytest.mark.parametrize("plan", SLOPPY.values(), ids=SLOPPY)
def test_what_models_really_write_is_carried_out(tmp_path: Path, plan: str) -> None:
    """Thinking aloud, fences, JSON in the place of lists, bold labels: the first ask of the planner is enough."""
    answer, told, it = asyncio.run(talked(tmp_path, (plan,)))
    assert answer.choices[0].message.content == ROAST
    assert [(s["worker"], s["sees"]) for s in answer.model_extra["stretto"]["workflow"]] == [
        ("flash", []),
        ("cook", [1]),
    ]
    check(told, 1)
    planner = it.bodies[0]
    assert "response_format" not in planner
    assert "at least" not in planner["messages"][0]["content"]
    assert (
        "reads up to 200000 tokens; costs 5 and 25 USD per million tokens"
        in planner["messages"][-1]["content"]
    )
    assert "What do the Danes eat" in planner["messages"][-1]["content"]


def test_a_fault_is_told_once_and_the_mended_plan_streams(tmp_path: Path) -> None:
    """A step that sees a later one is no workflow: the planner is told so, and then the last step's words stream."""
    broken = "model_id = [{flash}, {cook}]\nsubtasks = ['a', 'b']\naccess_list = [[1], []]"
    mended = SLOPPY["thinks aloud, fences, quotes as it likes"]
    chunks, told, it = asyncio.run(
        talked(tmp_path, (broken, mended), stream=True, extra_body={"stretto": {"explain": True}})
    )
    pieces = [c.delta.content for chunk in chunks for c in chunk.choices if c.delta.content]
    assert "".join(pieces).replace(" ", "") == ROAST.replace(" ", "")
    assert len(pieces) > 3
    check(told, 2)
    again = it.bodies[1]["messages"]
    assert again[-2]["role"] == "assistant"
    assert "That is not a workflow that can be carried out" in again[-1]["content"]
    assert it.bodies[-1]["stream"] is True
    assert "stream" not in it.bodies[0] or not it.bodies[0]["stream"]


def test_a_planner_that_knows_schemas_is_held_to_one_and_may_be_sloppy_still(tmp_path: Path) -> None:
    """The form is sent along; what comes in a code fence with a word before it is read all the same."""
    steps = [
        '{"model_id": {flash}, "subtask": "Say what the Danes eat", "access_list": []}',
        '{"model_id": {cook}, "subtask": "Say how long it takes", "access_list": "all"}',
    ]
    plan = f'{{"reasoning": "facts first", "steps": [{", ".join(steps)}]}}'
    answer, told, it = asyncio.run(talked(tmp_path, (f"Here you go:\n```json\n{plan}\n```",), json_able=True))
    assert answer.choices[0].message.content == ROAST
    check(told, 1)
    form = it.bodies[0]["response_format"]["json_schema"]
    assert form["strict"] is True
    assert "steps" in form["schema"]["required"]
    assert all("response_format" not in body for body in it.bodies[1:])


def test_a_planner_that_never_writes_a_plan_costs_two_calls(tmp_path: Path) -> None:
    """It answers the question itself, twice: the dearest worker then answers alone, and the receipt says why."""
    answer, told, it = asyncio.run(
        talked(tmp_path, ("Duck, two hours.", "Duck, really.", "Duck. Two hours and a half."))
    )
    assert answer.choices[0].message.content == "Duck. Two hours and a half."
    assert [a["role"] for a in told["attempts"]] == ["planner", "planner", "solver"]
    assert any("is no workflow" in c["reason"] for c in told["choices"])
    assert len(it.bodies) == 3
