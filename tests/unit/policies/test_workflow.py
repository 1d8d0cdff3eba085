"""Workflows as values: who sees what, which steps are asked when, and what each worker is told."""

import random

import pytest

from stretto.policies.forms import GIVEN, TAGGED, Seen
from stretto.policies.workflow import (
    Allowed,
    Workflow,
    WorkflowStep,
    parse,
    schema,
    step_prompt,
    waves,
    written,
)
from stretto.sparring.wordings import WORKFLOW


def flow(*steps):
    return Workflow(tuple(WorkflowStep(w, s, a) for w, s, a in steps))


DEBATE = flow(("a", "solve it", ()), ("b", "solve it too", ()), ("c", "compare", "all"))


def test_steps_that_see_nothing_of_each_other_are_asked_at_the_same_time():
    """Two blind steps make one round; the one that sees both comes after."""
    assert waves(DEBATE) == ((0, 1), (2,))
    assert waves(flow(("a", "x", ()), ("b", "y", "all"), ("c", "z", "all"))) == ((0,), (1,), (2,))
    assert waves(Workflow()) == ()


def test_a_step_whose_reply_nobody_sees_is_not_asked():
    """The answer rests on the last step and on what it sees, directly or not; everything else would be paid for nothing."""
    plan = flow(("a", "x", ()), ("b", "unseen", ()), ("c", "z", (0,)))

    assert plan.needed() == {0, 2}
    assert waves(plan) == ((0,), (2,))


@pytest.mark.parametrize("seed", range(50))
def test_every_round_sees_only_earlier_rounds(seed):
    """For random workflows: each needed step is asked once, after all it sees; the last step is alone at the end."""
    rng = random.Random(seed)
    steps = [
        WorkflowStep("a", f"s{i}", rng.choice(["all", tuple(j for j in range(i) if rng.random() < 0.5)]))
        for i in range(rng.randint(1, 5))
    ]
    plan = Workflow(tuple(steps))
    asked = []
    for round_ in waves(plan):
        assert all(set(plan.sees(place)) <= set(asked) for place in round_)
        asked += round_

    assert sorted(asked) == sorted(plan.needed())
    assert waves(plan)[-1] == (len(steps) - 1,)


def test_a_worker_is_told_what_its_step_may_see_and_nothing_else():
    """Isolation: a reply reaches a later worker only through the access list; its number is that of its step."""
    plan = flow(("a", "one", ()), ("b", "two", (0,)), ("c", "three", (1,)))
    replies = {0: "FIRST", 1: "SECOND"}

    assert step_prompt("Q", plan, 0, {}, GIVEN) == "one"
    assert step_prompt("Q", plan, 1, replies, GIVEN) == "Given: FIRST\ntwo"
    assert step_prompt("Q", plan, 2, replies, GIVEN) == "Given: SECOND\nthree"
    text = step_prompt("Q", plan, 2, replies, TAGGED)
    assert "<Agent 2 response>\nSECOND" in text
    assert "FIRST" not in text
    assert TAGGED.last not in step_prompt("Q", plan, 1, replies, TAGGED)
    assert text.endswith(TAGGED.last)


def test_all_includes_what_an_earlier_workflow_came_to():
    """In a recursion round a step that sees all also sees the round before; a blind one does not."""
    before = (Seen(1, "the task", "EARLIER"),)
    plan = flow(("a", "one", ()), ("b", "two", "all"))

    assert step_prompt("Q", plan, 0, {}, GIVEN, before) == "one"
    assert step_prompt("Q", plan, 1, {0: "now"}, GIVEN, before) == "Given: EARLIER\nGiven: now\ntwo"


def test_a_reply_that_never_came_is_left_out():
    """A step whose fellow failed is told the rest."""
    assert step_prompt("Q", DEBATE, 2, {1: "only this"}, GIVEN) == "Given: only this\ncompare"


def test_what_is_written_is_read_again():
    """The three lists of a workflow, in the frozen wording that planners are trained on, parse to the same workflow."""
    plan = flow(("a", 'say "hi" \\ [x], {y}', ()), ("b", "it's\nÜ", "all"), ("c", "z", (0, 1)))
    text = written(plan, {"a": 0, "b": 1, "c": 2})

    assert parse(text, Allowed({0: "a", 1: "b", 2: "c"})) == plan
    assert written(flow(("b", "x", ()), ("a", "y", "all")), {"a": 0, "b": 1}) == WORKFLOW.format(
        models="1, 0", subtasks='"x", "y"', access='[], "all"'
    )


def test_the_schema_accepts_what_the_parser_reads():
    """A planner that is held to the schema writes workflows; one that may not be used is not in it."""
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(schema(Allowed({0: "a", 2: "c"}, count=3)))

    def fits(model, access):
        step = {"model_id": model, "subtask": "x", "access_list": access}
        return validator.is_valid({"reasoning": "", "steps": [step]})

    assert fits(0, [])
    assert fits(2, "all")
    assert fits(2, [0, 1])
    assert not fits(1, [])
    assert not fits(0, "some")


@pytest.mark.parametrize("seed", range(200))
def test_random_text_never_breaks_the_parser(seed):
    """Scrambled pieces of real outputs give a workflow or a fault, never an exception."""
    rng = random.Random(seed)
    pieces = [
        "model_id",
        "subtasks",
        "access_list",
        "steps",
        " = ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        '"',
        "'",
        "“",
        "`",
    ]
    pieces += [
        "\\",
        "\\u12",
        ",",
        "\n",
        "0",
        "1",
        "-1",
        "x",
        "all",
        "null",
        "<think>",
        "</think>",
        "#",
        "//",
        "- ",
        '"""',
        "é",
    ]
    text = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 300)))

    found = parse(text, Allowed({0: "a", 1: "b"}, returns=True))

    assert found is not None
