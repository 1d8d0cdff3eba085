"""Leaving workers out for a while: recorded, for every policy, never leaving nobody, and known to all processes."""

import asyncio
from pathlib import Path

import pytest

from stretto.catalog.masks import Mask, Masks
from stretto.engine.run import Engine, Run
from stretto.errors import ConfigError
from stretto.policies.conductor import Conductor
from stretto.policies.fallback import Fallback
from stretto.policies.masked import Masked
from stretto.policies.outlooks import of_ask
from stretto.policies.route import Route
from stretto.policies.settle import only
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.steps import Ask, Begin, Fork, Next, Note, Outlook, Plan, Quote, Quotes, put
from stretto.testing import MemoryStore, by_hand, question, said
from stretto.types import Answer, Card, Message, Price, Request, ToolCall

WHY = (("a", "agreed 20 of 40 times, 32 were expected"),)
PRICES = {"a": Price.per_million(1, 1), "b": Price.per_million(2, 2)}


def test_a_masked_worker_is_passed_over_and_the_record_says_why() -> None:
    """The cheapest worker is left out: the next one is asked, and the first choice names who is missing and for what."""
    steps, last = by_hand(Masked(Route(), WHY).plan(question("hi", "a", "b", prices=PRICES)), lambda s: None)
    assert isinstance(last, Ask)
    assert last.worker == "b"
    assert isinstance(steps[0], Note)
    assert steps[0].choice.picked == "without a"
    assert steps[0].choice.options[1].rejected == WHY[0][1]


def test_nobody_is_left_out_where_nobody_would_be_left() -> None:
    """In a pool of the masked worker alone, and in one without it, the plan is the policy's own."""
    for workers in (("a",), ("b",)):
        steps, last = by_hand(Masked(Route(), WHY).plan(question("hi", *workers)), lambda s: None)
        assert isinstance(last, Ask)
        assert last.worker == workers[0]
        assert len(steps) == 1


def test_the_outlook_is_that_of_the_smaller_pool() -> None:
    """What a plan would take is foreseen for those who may play."""
    found = Masked(Route(), WHY).outlook(
        question("hi", "a", "b", prices=PRICES), lambda ask: Quote(PRICES[ask.worker].input, 1, 1, 1)
    )
    assert found.usd.expected == PRICES["b"].input


LEFT_OUT = (("p", "answers nonsense"),)
EVERYBODY = ("a", "b", "p")


class Asking:
    """A policy that asks `p` in every way there is, and says what came of it."""

    def plan(self, request: Request) -> Plan:
        """An ask, a fork of an ask and a plan, one begun, and a last one that may give way."""
        told = [(yield from put(Ask("p", role="judge")))]
        told += yield Fork((Ask("p"), only(Ask("p")), Ask("a")))
        ticket = yield Begin(Ask("p"))
        arrival = yield Next()
        assert arrival.ticket == ticket
        told += [arrival.reply]
        words = " ".join(t.error.kind if t.error else t.message.text for t in told)
        return Ask("p", otherwise=Ask("b", reason=words, otherwise=Ask("p", otherwise=Answer(why="last"))))

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One ask of it."""
        return of_ask(quotes(Ask("p")))


def test_who_is_left_out_is_asked_in_no_role_whatever_a_policy_names() -> None:
    """Judges, planners, branches of forks, begun asks, last asks and those after them fail without a call, and plans go on."""
    request = question("hi", "a", "b", "p")
    steps, last = by_hand(Masked(Asking(), LEFT_OUT).plan(request), lambda step: said("yes", step.worker))

    assert [s.worker for s in steps if isinstance(s, Ask)] == []
    assert isinstance(last, Ask)
    assert (last.worker, last.reason) == ("b", "denied denied denied yes denied")
    assert last.otherwise == Answer(why="last")
    assert Masked(Asking(), LEFT_OUT).outlook(request, lambda ask: Quote(9, 9, 9, 9)).usd.most == 0


def test_a_conductor_without_its_planner_falls_back_and_says_why() -> None:
    """The way of the table, else the best single worker, and the reason of the mask stands in the record; with tools as well,
    where the planner is not in the request's pool in the first place.
    """
    for fallback, picked in ((Route(), "route"), (None, "b")):
        policy = Masked(Conductor("p", ("a", "b"), otherwise=fallback), LEFT_OUT)
        for pool in (EVERYBODY, ("a", "b")):
            steps, last = by_hand(policy.plan(question("hi", *pool, prices=PRICES)), lambda step: None)
            assert [s for s in steps if isinstance(s, Ask)] == []
            notes = [s.choice for s in steps if isinstance(s, Note)]
            told = next(choice for choice in notes if choice.by == "conductor")
            assert told.picked == picked
            assert "p gave no plan (p is left out for now: answers nonsense)" in told.reason
            assert isinstance(last, Ask)
            assert last.worker == ("a" if fallback else "b")


def test_a_planner_is_nobody_who_could_answer_in_the_place_of_those_left_out() -> None:
    """Where all that answer are masked they stay, and the planner goes all the same."""
    pool = (Card("a"), Card("p", labels={"role": "planner"}))
    request = Request(messages=question("hi").messages, pool=pool)
    steps, last = by_hand(Masked(Route(), (*WHY, *LEFT_OUT)).plan(request), lambda step: None)
    assert isinstance(last, Ask)
    assert last.worker == "a"
    assert isinstance(steps[0], Note)
    assert steps[0].choice.picked == "without p"


def test_through_the_engine_nobody_calls_a_masked_worker_not_even_for_its_own_tool_results() -> None:
    """A worker that is masked between a tool call and its results does not get them: the policy decides afresh."""
    call = Message("assistant", tool_calls=(ToolCall("1", "look", "{}"),))
    pool = ScriptedPool({"a": [Scripted(message=call)], "b": ["done"]})
    tools = ({"type": "function", "function": {"name": "look"}},)
    engine = Engine(pool, MemoryStore())

    async def both() -> tuple[Run, Run]:
        first = await engine.run(
            Fallback(("a", "b")), Request(messages=question("hi").messages, tools=tools), name="x"
        )
        came = first.answer.message
        results = Message("tool", "found", tool_call_id=came.tool_calls[0].id)
        again = Request(messages=(*question("hi").messages, came, results), tools=tools)
        return first, await engine.run(Masked(Fallback(("a", "b")), WHY), again, name="x")

    first, second = asyncio.run(both())
    assert first.answer.worker == "a"
    assert (second.answer.text, second.answer.worker) == ("done", "b")
    assert [ask.worker for ask in pool.asks] == ["a", "b"]


def test_masks_are_followed_by_every_process_and_end(tmp_path: Path) -> None:
    """What one writes the other reads within a second; it ends by itself, or is lifted; history stays."""
    now = [100.0]
    one, other = (Masks(tmp_path, clock=lambda: now[0]) for _ in range(2))
    assert other.current() == ()
    one.put(Mask("a", "why", 100.0, 200.0))
    now[0] = 101.0
    assert one.current() == other.current() == (("a", "why"),)
    now[0] = 200.0
    assert other.current() == ()
    one.put(Mask("b", "again", 200.0, 300.0))
    now[0] = 250.0
    assert one.lift("b")
    assert not one.lift("b")
    now[0] = 252.0
    assert other.current() == ()
    assert [(m.worker, m.until) for m in other.all()] == [("a", 200.0), ("b", 250.0)]


def test_a_damaged_file_leaves_nobody_out(tmp_path: Path) -> None:
    """Serving goes on; the command says what is wrong."""
    masks = Masks(tmp_path, clock=lambda: 5.0)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "masks.json").write_text("[{")
    assert masks.current() == ()
    with pytest.raises(ConfigError, match="move it away"):
        masks.all()
