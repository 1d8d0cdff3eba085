"""A worker that waits for a tool goes on from what it had been asked, as long as the conversation before is the same."""

import asyncio

import pytest

from stretto.engine.reasked import difference, restored
from stretto.policies.carrying import Around, Carrying
from stretto.policies.forms import TAGGED
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.policies.workflow import Workflow, WorkflowStep
from stretto.steps import Outlook
from stretto.types import Message, Part, ToolCall
from tests.unit.engine.test_loops import World, asked, calls, with_results

OWN = (Message("system", "be brief"), Message("user", "where?"))
CALL = Message("assistant", None, (ToolCall("c", "look", "{}"),))
RESULT = Message("tool", "there", tool_call_id="c")


@pytest.mark.parametrize(
    "worded",
    [
        (OWN[0], Message("user", "STEP")),
        (Message("system", "be brief\n\nDRAFTS"), OWN[1]),
        (*OWN, Message("user", "STEP")),
        (Message("system", "DRAFTS"), *OWN),
    ],
    ids=["question replaced", "system extended", "one more behind", "one more before"],
)
def test_what_was_asked_comes_back_with_what_was_said_since(worded):
    """The kept difference over the caller's next conversation gives the worker's own one."""
    kept = difference(OWN, worded)

    assert restored((*OWN, CALL, RESULT), kept) == (*worded, CALL, RESULT)


def test_pictures_stay_in_a_question_that_was_reworded():
    """Only texts are kept; what else stood in the message is taken from the caller's."""
    picture = Part("image_url", data={"url": "data:,"})
    own = (Message("user", (Part("text", "what?"), picture)),)
    kept = difference(own, (Message("user", (Part("text", "STEP"), picture)),))

    assert restored((*own, CALL), kept)[0].content == (Part("text", "STEP"), picture)


@pytest.mark.parametrize(
    "worded",
    [OWN, (), (Message("user", "other"),), (*OWN, CALL, RESULT), (OWN[0], Message("user", "x" * 300_000))],
    ids=["the same", "nothing", "fewer", "more", "too long"],
)
def test_other_differences_are_not_kept(worded):
    """Then the worker goes on from the caller's conversation, as it always did."""
    assert difference(OWN, worded) is None


def test_a_conversation_that_was_changed_is_the_callers():
    """A caller who edits or compacts the past gets what it sends now."""
    kept = difference(OWN, (OWN[0], Message("user", "STEP")))

    assert restored((OWN[0], Message("user", "elsewhere?"), CALL, RESULT), kept) is None
    assert restored(OWN[:1], kept) is None


class Steps:
    """A policy that carries out one fixed workflow."""

    def plan(self, request):
        flow = Workflow((WorkflowStep("a", "find it"), WorkflowStep("b", "say it", "all")))
        return Carrying(request, flow, Around(), TAGGED, lambda text: (), None).plan()

    def outlook(self, request, quotes):
        return Outlook()


def test_a_step_of_a_workflow_goes_on_from_its_own_prompt_turn_after_turn():
    """Two tool turns in a row: both times the worker sees the sub-task and the reply that it was shown."""
    world = World({"a": ["FOUND"], "b": [calls("own1"), calls("own2"), "done"]})
    request = asked()
    first = world.run(Steps(), request, name="x")
    request = with_results(request, first.answer)
    second = world.run(Steps(), request, name="x")
    request = with_results(request, second.answer)
    third = world.run(Steps(), request, name="x")

    assert third.answer.text == "done"
    assert [ask.worker for ask in world.pool.asks] == ["a", "b", "b", "b"]
    for ask in world.pool.asks[2:]:
        assert "say it" in ask.messages[0].text
        assert "FOUND" in ask.messages[0].text
    assert [m.role for m in world.pool.asks[-1].messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert "goes on from what it was asked" in world.choices(third)[0].reason


def test_such_a_run_replays():
    """What the worker was asked is part of the recorded request, so the record alone gives the answer again."""
    world = World({"a": ["FOUND"], "b": [calls("own1"), "done"]})
    first = world.run(Steps(), asked(), name="x")
    second = world.run(Steps(), with_results(asked(), first.answer), name="x")
    made = len(world.pool.asks)

    again = asyncio.run(world.engine.replay(second.id, Steps()))

    assert again.answer.text == "done"
    assert len(world.pool.asks) == made


def test_a_writer_goes_on_from_its_drafts():
    """The same for every policy that words a speaking ask: a writer still sees the drafts after its tool call."""
    world = World({"a": ["draft A"], "b": ["draft B"], "w": [calls("own"), "done"]})
    policy = Fuse(("a", "b"), "synthesise", writer="w")
    first = world.run(policy, asked(), name="x")
    second = world.run(policy, with_results(asked(), first.answer), name="x")

    assert second.answer.text == "done"
    assert "draft A" in world.pool.asks[-1].messages[0].text


def test_an_ask_of_the_callers_own_is_as_before():
    """A worker that was asked the conversation itself goes on from the conversation itself."""
    world = World({"a": [calls("own"), "done"]})
    first = world.run(Solo("a"), asked(), name="x")
    request = with_results(asked(), first.answer)
    second = world.run(Solo("a"), request, name="x")

    assert second.answer.text == "done"
    assert world.pool.asks[-1].messages[0] == request.messages[0]
