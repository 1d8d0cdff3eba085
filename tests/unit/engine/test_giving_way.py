"""A plan's last ask may give way to another one: what is asked when, what is recorded, and what a limit changes."""

import asyncio
from dataclasses import dataclass

import pytest

from stretto.engine.run import Engine
from stretto.ledger.memory import MemoryStore
from stretto.ledger.read import receipt
from stretto.policies.settle import settle
from stretto.pool.scripted import ScriptedPool
from stretto.steps import Ask, Choice, Fork, Note, Outlook
from stretto.testing import by_hand, said
from stretto.types import Answer, Failure, Limits, Message, Reply, Request

DOWN = [Failure("upstream_auth", "down")]
BEST = Answer(Message("assistant", "best so far"), why="the draft")


@dataclass(frozen=True)
class Last:
    """A policy that is one last ask, perhaps in a fork."""

    ask: Ask
    forked: bool = False

    def plan(self, request):
        if self.forked:
            return (yield Fork((self._alone(),)))[0]
        yield Note(Choice("x", texts={"step 1": "the user's words"}))
        return self.ask

    def _alone(self):
        return self.ask
        yield

    def outlook(self, request, quotes):
        return Outlook()


def run(policy, pool, **fields):
    store = MemoryStore()
    engine = Engine(pool, store)
    request = Request(messages=(Message("user", "hi"),), **fields)
    made = asyncio.run(engine.run(policy, request))
    return engine, store, made


@pytest.mark.parametrize("forked", [False, True])
def test_when_a_last_ask_fails_the_next_one_is_asked(forked):
    """The second worker answers; both attempts are on record, each at an address of its own."""
    pool = ScriptedPool({"a": DOWN, "b": ["from b"]})

    _, store, made = run(Last(Ask("a", speaks=True, otherwise=Ask("b", speaks=True)), forked), pool)

    told = receipt(store.events(made.id))
    assert made.answer.text == "from b"
    assert {a["worker"] for a in told["attempts"]} == {"a", "b"}
    assert len({a["at"] for a in told["attempts"]}) == 2


def test_the_answer_at_the_end_of_the_chain_stands_when_all_fail():
    """With both workers down, the answer that the plan had in hand goes out, and says why."""
    pool = ScriptedPool({"a": DOWN, "b": DOWN})
    chain = Ask("a", speaks=True, otherwise=Ask("b", speaks=True, otherwise=BEST))

    _, _, made = run(Last(chain), pool)

    assert made.answer.text == "best so far"
    assert "upstream_auth" in made.answer.why


def test_after_a_refusal_by_a_limit_nobody_else_is_asked():
    """A ceiling that refuses the last ask refuses the one behind it too: the answer in hand stands."""
    pool = ScriptedPool({"a": ["never"], "b": ["never"]})
    chain = Ask("a", speaks=True, otherwise=Ask("b", speaks=True, otherwise=BEST))

    _, _, made = run(Last(chain), pool, limits=Limits(calls=0))

    assert made.answer.text == "best so far"
    assert pool.asks == []


def test_an_answer_that_does_not_fit_is_repaired_by_who_gave_it():
    """A misfit is no reason to ask somebody else: its worker is asked to repair it."""
    pool = ScriptedPool({"a": ["no json", '{"x": 1}'], "b": ["never"]})
    chain = Ask("a", speaks=True, otherwise=Ask("b", speaks=True))

    _, _, made = run(Last(chain), pool, response_format={"type": "json_object"})

    assert made.answer.text == '{"x": 1}'
    assert [ask.worker for ask in pool.asks] == ["a", "a"]


def test_the_second_worker_is_repaired_too():
    """Where the one that was given way to does not fit, it is asked once more, at an address that nothing else has."""
    pool = ScriptedPool({"a": DOWN, "b": ["no json", '{"x": 1}']})
    chain = Ask("a", speaks=True, otherwise=Ask("b", speaks=True))

    _, store, made = run(Last(chain), pool, response_format={"type": "json_object"})

    places = [a["at"] for a in receipt(store.events(made.id))["attempts"] if a["worker"] == "b"]
    assert made.answer.text == '{"x": 1}'
    assert len(set(places)) == 2


def test_such_a_run_replays_without_a_call():
    """The record of a run that gave way gives the same answer again."""
    pool = ScriptedPool({"a": DOWN, "b": ["from b"]})
    policy = Last(Ask("a", speaks=True, otherwise=Ask("b", speaks=True)))
    engine, _, made = run(policy, pool)
    asked = len(pool.asks)

    again = asyncio.run(engine.replay(made.id, policy))

    assert again.answer.text == "from b"
    assert len(pool.asks) == asked


def test_settle_follows_the_chain():
    """Inside another plan a last ask that fails gives way in the same manner."""
    down = Reply(error=Failure("unavailable", "down"))
    refused = Reply(error=Failure("limit", "calls"))

    def plan(ask):
        return ask
        yield

    def ended(ask, replies):
        return by_hand(settle(plan(ask)), lambda step: replies[step.worker])[1]

    chain = Ask("a", otherwise=Ask("b", otherwise=BEST))
    assert ended(chain, {"a": down, "b": said("from b")}).text == "from b"
    assert ended(chain, {"a": down, "b": down}) == BEST
    assert ended(chain, {"a": refused}) == BEST
    assert ended(Ask("a", otherwise=Ask("b")), {"a": refused}).error.kind == "limit"


def test_texts_of_a_choice_are_kept_apart():
    """What a model wrote into a choice is shown with the texts of the run only, and goes when they are erased."""
    pool = ScriptedPool({"a": ["yes"]})
    _, store, made = run(Last(Ask("a", speaks=True)), pool)
    events = store.events(made.id)

    assert "texts" not in receipt(events)["choices"][0]
    assert receipt(events, include_content=True)["choices"][0]["texts"] == {"step 1": "the user's words"}
    store.erase(made.id)
    assert "texts" not in receipt(store.events(made.id), include_content=True)["choices"][0]
