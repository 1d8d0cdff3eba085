"""Fuse, driven by hand: writers, councils, pairs, layers, windows, tools."""

import json
from typing import Any

import pytest

from stretto.policies.fuse import Fuse
from stretto.policies.judging import COMPACT
from stretto.policies.signals import same
from stretto.steps import Ask, Choice, Fork, Note
from stretto.testing import by_hand, question, said
from stretto.types import Answer, Failure, Message, Part, Reply, Request, ToolCall

TOOLS = ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},)


def failed(kind: Any = "overloaded") -> Reply:
    """A reply that is none."""
    return Reply(error=Failure(kind, "said so"))


def notes(steps: list[Any]) -> list[Choice]:
    """The recorded choices."""
    return [s.choice for s in steps if isinstance(s, Note)]


def asks(steps: list[Any]) -> list[Ask]:
    """Everything that was asked before the end, forks flattened."""
    found: list[Ask] = []
    for step in steps:
        if isinstance(step, Fork):
            found += [plan for plan in step.plans if isinstance(plan, Ask)]
        elif isinstance(step, Ask):
            found.append(step)
    return found


def calls(worker: str, name: str, arguments: str) -> Reply:
    """A reply that calls a tool."""
    message = Message("assistant", None, (ToolCall("c1", name, arguments),))
    return Reply(message=message, finish="tool_calls", worker=worker)


def echo(step: Any) -> Reply:
    """Everybody says who it is."""
    return said(f"{step.worker} says so", step.worker)


# --- the writer ---


def test_a_writer_ends_the_plan_with_a_live_ask_and_the_best_draft_behind_it() -> None:
    """The last ask speaks, so it streams and holds the tools. It carries the drafts, unnamed; the first stands if it fails."""
    request = question("Why?", "alpha", "beta", "w")

    _, last = by_hand(Fuse(("alpha", "beta"), how="synthesise", writer="w").plan(request), echo)

    assert isinstance(last, Ask)
    assert (last.worker, last.role, last.speaks) == ("w", "synthesizer", True)
    system, user = last.messages or ()
    assert (system.role, user) == ("system", request.messages[0])
    assert "alpha says so" in system.text
    assert 'name="1"' in system.text
    assert 'name="alpha"' not in system.text
    assert last.otherwise is not None
    assert (last.otherwise.text, last.otherwise.why) == ("alpha says so", "the first draft stands")


def test_drafts_are_written_without_tools_but_in_the_form_and_length_that_was_asked_for() -> None:
    """Only the step that speaks holds the tools; a draft may have to stand in for the answer, so it keeps format and cap."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    request = question(
        "q",
        "a",
        "b",
        tools=TOOLS,
        response_format=form,
        max_tokens=50,
        params={"temperature": 0.2, "logprobs": True, "parallel_tool_calls": False},
    )

    steps, last = by_hand(Fuse(("a", "b"), how="synthesise", writer="a").plan(request), echo)

    bound = [ask.bound(request, "0") for ask in asks(steps)]
    assert [(ask.tools, ask.response_format, ask.max_tokens, ask.params) for ask in bound] == [
        ((), form, 50, {"temperature": 0.2})
    ] * 2
    assert isinstance(last, Ask)
    final = last.bound(request, "1")
    assert (final.tools, final.response_format, final.max_tokens) == (TOOLS, form, 50)


def test_drafters_see_earlier_tool_calls_as_text_and_the_writer_as_they_were() -> None:
    """Upstreams refuse tool messages in a request without tools; the writer holds tools, so it gets the conversation itself."""
    request = Request(
        messages=(
            Message("developer", (Part("text", "Be brief."),)),
            Message("user", "Look twice."),
            Message("assistant", "I look.", (ToolCall("1", "look", '{"at": 1}'), ToolCall("2", "look", "x"))),
            Message("tool", "a cat", tool_call_id="1"),
            Message("tool", "a dog", tool_call_id="2"),
        ),
        pool=question("", "a", "b").pool,
        tools=TOOLS,
    )

    steps, last = by_hand(Fuse(("a", "b"), how="synthesise", writer="a").plan(request), echo)

    drafted = asks(steps)[0].messages or ()
    assert [m.role for m in drafted] == ["developer", "user", "assistant", "user"]
    assert drafted[2].text == 'I look.\n[calls look({"at":1})]\n[calls look(x)]'
    assert drafted[3] == Message("user", "[result of look]\na cat\n\n[result of look]\na dog")
    assert isinstance(last, Ask)
    assert (last.messages or ())[1:] == request.messages[1:]
    first = (last.messages or ())[0].content
    assert isinstance(first, tuple)
    assert first[0] == Part("text", "Be brief.")


def test_a_writer_that_a_panel_left_alone_answers_alone() -> None:
    """Nobody of the panel answered: that is recorded, and the writer is asked the question itself."""
    policy = Fuse(("a", "gone"), how="synthesise", writer="w", analysis=True)

    steps, last = by_hand(policy.plan(question("q", "a", "w")), lambda s: failed("timeout"))

    assert isinstance(last, Ask)
    assert (last.messages, last.speaks) == (None, True)
    assert last.otherwise is not None
    assert last.otherwise.error is not None
    assert last.otherwise.error.kind == "timeout"
    assert notes(steps)[-1].picked == "w"
    assert last.more["fusion"]["failure_reason"] == "all_panels_failed"
    assert [f["model"] for f in last.more["fusion"]["failed_models"]] == ["a", "gone"]


def test_a_writer_that_may_not_be_asked_leaves_the_panels_failure() -> None:
    """Nobody is left who could answer."""
    _, last = by_hand(
        Fuse(("a",), how="synthesise", writer="gone").plan(question("q", "a")), lambda s: failed("cut")
    )

    assert isinstance(last, Answer)
    assert last.error is not None
    assert last.error.kind == "cut"


def test_a_selection_before_a_writer_orders_what_it_sees() -> None:
    """The winner comes first in the writer's prompt, and is what stands if the writer fails."""
    policy = Fuse(("a", "b", "c"), how="select", judge="j", writer="w")

    _, last = by_hand(
        policy.plan(question("q", "a", "b", "c", "j", "w")),
        lambda s: said("2", "j") if s.role == "judge" else echo(s),
    )

    assert isinstance(last, Ask)
    prompt = (last.messages or ())[0].text
    assert prompt.index("b says so") < prompt.index("a says so") < prompt.index("c says so")
    assert last.otherwise is not None
    assert last.otherwise.text == "b says so"
    assert "picked by the judge j" in last.reason


def test_a_compact_wording_is_one_user_message_around_the_last_question() -> None:
    """A tiny model follows only the little it knows: no system message, no earlier turns."""
    policy = Fuse(("a", "b"), how="synthesise", writer="w", wordings=COMPACT)

    _, last = by_hand(policy.plan(question("2 + 2?", "a", "b", "w")), lambda s: said("4", s.worker))

    assert isinstance(last, Ask)
    assert last.messages == (Message("user", "Task: 2 + 2?\n1: 4\n2: 4\nGive the right answer."),)


# --- one window after the other ---


def window(step: Any) -> Reply:
    """Samples are numbered, syntheses say how many drafts they saw."""
    if step.role != "synthesizer":
        return said(f"sample {window.count()}", step.worker)  # type: ignore[attr-defined]
    return said(f"synthesis of {step.messages[0].text.count('<candidate ')}", step.worker)


def numbered() -> Any:
    """A fresh counter for `window`."""
    numbers = iter(range(1, 100))
    return lambda: next(numbers)


def test_a_sequential_writer_never_sees_more_than_a_window() -> None:
    """Self-MoA-Seq: each synthesis takes the best so far and a few new samples, so the context stays bounded."""
    window.count = numbered()  # type: ignore[attr-defined]
    policy = Fuse(("a",) * 8, how="synthesise", writer="a", window=4)

    steps, last = by_hand(policy.plan(question("q", "a")), window)

    between = [ask for ask in asks(steps) if ask.role == "synthesizer"]
    assert [ask.messages[0].text.count("<candidate ") for ask in between if ask.messages] == [4, 4]
    assert isinstance(last, Ask)
    prompt = (last.messages or ())[0].text
    assert "synthesis of 4" in prompt
    assert "sample 8" in prompt
    assert "sample 7" not in prompt
    assert last.otherwise is not None
    assert last.otherwise.text == "synthesis of 4"


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [("limit", "sample 1", "was refused (said so); the first draft stands"), ("cut", None, "failed (cut)")],
)
def test_a_window_that_fails_leaves_the_best_before_it(kind: str, text: str | None, told: str) -> None:
    """After a limit that is the answer; after another failure the next window goes on from it."""
    window.count = numbered()  # type: ignore[attr-defined]
    policy = Fuse(("a",) * 4, how="synthesise", writer="a", window=3)

    _, last = by_hand(
        policy.plan(question("q", "a")), lambda s: failed(kind) if s.role == "synthesizer" else window(s)
    )

    if text is not None:
        assert isinstance(last, Answer)
        assert last.text == text
        assert told in last.why
    else:
        assert isinstance(last, Ask)
        assert "sample 1" in (last.messages or ())[0].text
        assert told in last.reason


# --- layers ---


def test_each_layer_sees_the_one_before_without_names() -> None:
    """Mixture-of-Agents: in the second round every member reads all answers of the first; only the last round holds the tools."""
    request = question("q", "alpha", "beta", tools=TOOLS)
    policy = Fuse(("alpha", "beta"), layers=2)

    steps, last = by_hand(policy.plan(request), lambda s: said("same", s.worker))

    first, second = (step for step in steps if isinstance(step, Fork))
    assert [ask.speaks for ask in first.plans if isinstance(ask, Ask)] == [False, False]
    assert [ask.speaks for ask in second.plans if isinstance(ask, Ask)] == [True, True]
    for ask in second.plans:
        assert isinstance(ask, Ask)
        prompt = (ask.messages or ())[0].text
        assert prompt.count("<candidate ") == 2
        assert "alpha" not in prompt
        assert "layer 2 of 2" in ask.reason
    assert isinstance(last, Answer)
    assert last.text == "same"


def test_a_layer_that_brings_nothing_leaves_the_one_before() -> None:
    """The answers of the first round stand, and the record says why."""
    policy = Fuse(("a", "b"), layers=2)

    steps, last = by_hand(
        policy.plan(question("q", "a", "b")), lambda s: failed("limit") if s.speaks else said("4", s.worker)
    )

    assert isinstance(last, Answer)
    assert last.text == "4"
    assert (notes(steps)[0].picked, "a: limit" in notes(steps)[0].options[1].rejected) == ("layer 1", True)


# --- tools as candidates ---


def test_tool_calls_are_compared_by_name_and_arguments() -> None:
    """Two members that call the same with the same arguments agree, however they write the JSON."""
    replies = {
        "a": calls("a", "look", '{"at": 1, "of": 2}'),
        "b": calls("b", "look", '{"at": 9}'),
        "c": calls("c", "look", '{"of":2,"at":1}'),
    }

    _, last = by_hand(
        Fuse(("b", "a", "c")).plan(question("q", "a", "b", "c", tools=TOOLS)), lambda s: replies[s.worker]
    )

    assert isinstance(last, Answer)
    assert last.worker == "a"
    assert last.message.tool_calls[0].name == "look"
    assert "2 of 3 agree" in last.why


def test_a_text_and_a_call_never_come_to_the_same() -> None:
    """Nor do a call and one with other arguments; arguments that are no JSON are compared as they are."""
    text, call = (Answer.of(said("look(1)")), Answer.of(calls("a", "look", "1")))

    assert not same(text, call)
    assert same(call, Answer.of(calls("b", "look", " 1 ")))
    assert not same(Answer.of(calls("a", "look", "{x")), Answer.of(calls("a", "look", "{y")))


def test_a_judge_sees_what_a_candidate_calls() -> None:
    """A candidate without text would be an empty one else."""
    seen: list[str] = []

    def answer(step: Any) -> Reply:
        if step.role == "judge":
            seen.append(step.messages[0].text)
            return said("2", "j")
        return calls(step.worker, "look", json.dumps({"at": step.worker}))

    _, last = by_hand(
        Fuse(("a", "b"), how="select", judge="j").plan(question("q", "a", "b", "j", tools=TOOLS)), answer
    )

    assert '[calls look({"at":"b"})]' in seen[0]
    assert isinstance(last, Answer)
    assert last.worker == "b"


def test_a_judge_reads_the_whole_conversation_not_only_its_last_turn() -> None:
    """`And in French?` means nothing alone; a system message is no question."""
    seen: list[str] = []
    request = Request(
        messages=(
            Message("system", "secret rules"),
            Message("user", "How do I say cat?"),
            Message("assistant", "Katze"),
            Message("user", (Part("text", "And in French?"), Part("image_url", data={}))),
        ),
        pool=question("", "a", "b", "j").pool,
    )

    def answer(step: Any) -> Reply:
        if step.role == "judge":
            seen.append(step.messages[0].text)
        return said("1" if step.role == "judge" else step.worker, step.worker)

    by_hand(Fuse(("a", "b"), how="select", judge="j").plan(request), answer)

    assert "user: How do I say cat?\n\nassistant: Katze\n\nuser: And in French?\n[image_url]" in seen[0]
    assert "secret rules" not in seen[0]
