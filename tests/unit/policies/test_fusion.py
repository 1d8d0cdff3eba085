"""Fusion, driven by hand: who decides, and what the panel is asked."""

import json
from typing import Any

import pytest

from stretto.policies.fuse import Fuse
from stretto.policies.fusion import Fusion
from stretto.steps import Ask, Choice, Fork, Note
from stretto.testing import by_hand, said
from stretto.types import Answer, Card, Failure, Message, Reply, Request, ToolCall

PANEL = Fuse(("a", "b"), how="synthesise", judge="j", writer="w", analysis=True)
ABLE = frozenset({"text", "tools"})


def request(**fields: Any) -> Request:
    """The question, with everybody in the pool; only the writer can call tools."""
    cards = (Card("a"), Card("b"), Card("j"), Card("w", abilities=ABLE))
    return Request(messages=(Message("user", "Why?"),), pool=cards, **fields)


def calling(*arguments: str, name: str = "fusion") -> Reply:
    """The outer model calls the panel."""
    calls = tuple(ToolCall(f"c{n}", name, text) for n, text in enumerate(arguments))
    return Reply(message=Message("assistant", None, calls), finish="tool_calls", worker="w")


def play(opening: Reply, policy: Fusion | None = None, asked: Request | None = None) -> tuple[list[Any], Any]:
    """A run whose outer model opens with this."""

    def answer(step: Any) -> Reply:
        if step.worker == "w":
            return opening
        return said('{"consensus": ["yes"]}' if step.role == "judge" else step.worker, step.worker)

    return by_hand((policy or Fusion(PANEL)).plan(asked or request()), answer)


def picked(steps: list[Any]) -> Choice:
    """The first recorded choice."""
    return next(s.choice for s in steps if isinstance(s, Note))


def test_the_outer_model_that_does_not_call_the_panel_answers_alone() -> None:
    """One call, and the record says that the panel was there."""
    steps, last = play(said("because", "w"))

    assert isinstance(last, Answer)
    assert (last.text, last.more) == ("because", {})
    assert [type(step) for step in steps] == [Ask, Note]
    assert picked(steps).picked == "answer alone"


def test_the_opening_holds_the_callers_tools_and_the_panel() -> None:
    """It speaks, since its answer may be the run's; a tool of the caller's of the same name is not hidden."""
    tool = {"type": "function", "function": {"name": "fusion"}}
    mine = request(tools=(tool,))

    steps, _ = play(said("because", "w"), Fusion(PANEL, tool_choice="required"), mine)

    bound = steps[0].bound(mine, "0")
    assert [t["function"]["name"] for t in bound.tools] == ["fusion", "stretto_fusion"]
    assert bound.tool_choice == "required"
    steps, last = play(calling("{}", name="fusion"), None, mine)
    assert isinstance(last, Answer)
    assert last.message.tool_calls[0].name == "fusion"


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        ("{}", "Why?"),
        ("", "Why?"),
        ("no json", "Why?"),
        ('{"prompt": "  "}', "Why?"),
        ('{"prompt": "Why is the sky blue?"}', "Why is the sky blue?"),
    ],
)
def test_the_panel_is_asked_what_the_outer_model_put_to_it_or_the_conversation(
    arguments: str, question: str
) -> None:
    """In the end the outer model answers the conversation, with the analysis and without the panel among its tools."""
    steps, last = play(calling(arguments))

    fork = next(step for step in steps if isinstance(step, Fork))
    assert [plan.messages for plan in fork.plans if isinstance(plan, Ask)] == [
        (Message("user", question),)
    ] * 2
    assert isinstance(last, Ask)
    bound = last.bound(request(), "9")
    assert (bound.tools, (bound.messages or ())[-1].text) == ((), "Why?")
    assert last.more["fusion"]["analysis"]["consensus"] == ["yes"]
    assert picked(steps).picked == "ask the panel"


def test_a_second_call_of_the_panel_in_one_turn_does_not_count() -> None:
    """At most once, and it is on record."""
    steps, _ = play(calling("{}", "{}"))

    assert len([step for step in steps if isinstance(step, Fork)]) == 1
    assert "2 times, which counts once" in picked(steps).reason


def test_a_panel_that_is_forced_convenes_without_asking() -> None:
    """The caller has decided."""
    steps, last = play(said("never", "w"), Fusion(PANEL, asks=False))

    assert isinstance(steps[0], Fork)
    assert isinstance(last, Ask)


def test_an_outer_model_that_cannot_call_tools_gets_the_panel() -> None:
    """It could not ask for it."""
    steps, _ = play(
        said("never", "w"), asked=Request(messages=request().messages, pool=tuple(map(Card, "abjw")))
    )

    assert isinstance(steps[0], Fork)


def test_an_opening_that_fails_convenes_the_panel_and_one_that_a_limit_refuses_ends_the_run() -> None:
    """A broken outer model is no reason not to answer: the best draft stands behind it."""
    steps, last = play(Reply(error=Failure("overloaded", "busy")))
    refused, ended = play(Reply(error=Failure("limit", "calls")))

    assert isinstance(last, Ask)
    assert last.otherwise is not None
    assert last.otherwise.text == "a"
    assert "w failed (overloaded: busy)" in picked(steps).reason
    assert (len(refused), ended.error.kind) == (1, "limit")


def test_the_result_is_json() -> None:
    """It goes into the answer as it is."""
    _, last = play(calling("{}"))

    assert json.loads(json.dumps(last.more)) == last.more
