"""What planners are asked: the texts, the cards, the few among many, and the repair."""

import pytest

from stretto.artifacts import Artifact
from stretto.policies.planning import PROMPTED, Planning, response_format, shortlist
from stretto.policies.route import TABLE_SCHEMA, Table
from stretto.policies.workflow import Allowed, Fault, Workflow, parse
from stretto.sparring import wordings
from stretto.testing import question
from stretto.types import Card, Message, Price, Request, ToolCall

TRAINED = Planning.trained({"plan": wordings.PLANNER, "again": wordings.PLANNER_AGAIN}, "conductor x")
CARDS = {
    "big": Card(
        "big", Price.per_million(5, 25), abilities=frozenset({"text", "tools", "json"}), context=200_000,
        description="Strong at proofs.",
    ),
    "free": Card("free", Price()),
    "odd": Card("odd", priced=False),
}  # fmt: skip


def test_a_trained_planner_gets_the_frozen_wordings():
    """Numbers alone, and the last user message as it stands: the texts that it was trained on."""
    models = TRAINED.models({0: "big", 2: "free"}, CARDS)

    assert TRAINED.messages("Q?", models, 3) == (Message("user", "Models: 0 2\nTask: Q?\nPlan?"),)
    assert TRAINED.messages("Q?", models, 3, reply="7")[0].text == "Models: 0 2\nTask: Q?\nGiven: 7\nPlan?"


def test_a_general_planner_is_told_what_is_known_of_each_model():
    """Description or name, abilities, room and price; nothing is said of a price that nobody knows."""
    told = PROMPTED.models({0: "big", 1: "free", 2: "odd"}, CARDS).splitlines()

    assert told[0] == (
        "Model 0: Strong at proofs; can do json, tools; reads up to 200000 tokens; "
        "costs 5 and 25 USD per million tokens in and out"
    )
    assert told[1] == "Model 1: free; costs nothing"
    assert told[2] == "Model 2: odd"


@pytest.mark.parametrize("as_json", [False, True])
def test_the_worked_examples_are_workflows_in_the_form_that_is_asked_for(as_json):
    """Four examples, each of which the parser reads; what is taught is what is understood."""
    system = PROMPTED.messages("Q", "M", 5, as_json=as_json)[0].text
    examples = system.split("Example ")[1:]

    assert len(examples) == 4
    found = [parse(each, Allowed({n: str(n) for n in range(4)})) for each in examples]
    assert all(isinstance(each, Workflow) for each in found)
    assert {len(each.steps) for each in found} == {1, 2, 3, 4}
    assert "{most}" not in system
    assert "{form}" not in system


def test_a_question_cannot_fill_in_templates():
    """Curly braces of a caller are text in every prompt."""
    wild = "{models} {0} {question.__class__}"

    assert wild in PROMPTED.messages(wild, "M", 5)[1].text
    assert wild in TRAINED.messages(wild, "0", 5, reply=wild)[0].text
    assert wild in PROMPTED.repaired((), wild, Fault("missing", wild))[-1].text


def test_a_general_planner_sees_the_conversation_with_its_tool_calls():
    """Shared memory across turns: earlier calls and their results are part of what is planned for."""
    request = Request(
        messages=(
            Message("user", "weather in Ulm?"),
            Message("assistant", tool_calls=(ToolCall("c", "look", '{"city":"Ulm"}'),)),
            Message("tool", "rain", tool_call_id="c"),
            Message("assistant", "It rains."),
            Message("user", "and tomorrow?"),
        )
    )

    told = PROMPTED.question(request)

    assert "look" in told
    assert "rain" in told
    assert told.endswith("and tomorrow?")
    assert TRAINED.question(request) == "and tomorrow?"


def test_a_repair_quotes_the_fault_and_caps_what_was_said():
    """The planner sees its own text and the one line that says what is wrong with it."""
    asked = PROMPTED.messages("Q", "M", 5)

    sent = PROMPTED.repaired(asked, "x" * 50_000, Fault("steps", "there are 9 steps"))

    assert sent[: len(asked)] == asked
    assert len(sent[-2].text) == 8000
    assert "there are 9 steps" in sent[-1].text
    assert TRAINED.repaired(asked, "x", Fault("steps", "y")) == asked


def test_the_response_format_is_strict_and_knows_the_numbers():
    """A planner that is held to it can name nobody else."""
    form = response_format(Allowed({1: "a", 4: "b"}))

    assert form["json_schema"]["strict"] is True
    step = form["json_schema"]["schema"]["properties"]["steps"]["items"]
    assert step["properties"]["model_id"]["enum"] == [1, 4]


# --- who may play ---


def listed(prices, most, table=None, prompt="spell it", **fields):
    request = question(
        prompt, *prices, prices={w: Price.per_million(p, p) for w, p in prices.items()}, **fields
    )
    return shortlist(request, request.pool, table, most)


def test_few_workers_are_all_shown_and_nothing_is_recorded():
    """Where nobody is left out there is no choice."""
    found = listed({"a": 1, "b": 2}, 4)

    assert found.workers == ("b", "a")
    assert found.choice is None


def test_by_price_the_ends_and_the_middle_are_shown():
    """Without evidence the dearest comes first, and the others are as far apart as they lie."""
    found = listed({f"w{n}": n for n in range(10)}, 4)

    assert found.workers == ("w9", "w6", "w3", "w0")
    assert [o.name for o in found.choice.options if not o.rejected] == list(found.workers)


def test_by_the_table_those_who_are_right_most_often_are_shown():
    """A table that knows the kind of task goes before prices; of equals the cheaper one."""
    data = {
        "tasks": {
            "spell": {"prior": 1.0, "workers": {f"w{n}": [90 if n < 3 else 10, 100] for n in range(6)}}
        },
        "words": {"spell": {"spell": -1.0}, "it": {"spell": -1.0}},
        "unseen": {"spell": -6.0},
    }
    table = Table(Artifact(TABLE_SCHEMA, {}, data))

    found = listed({f"w{n}": 10 - n for n in range(6)}, 3, table)

    assert found.workers == ("w2", "w1", "w0")
    assert "looks like spell" in found.choice.reason
    assert found.choice.options[0].estimates["success"] > 0.8
