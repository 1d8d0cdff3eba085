"""Runs that continue a tool loop, or repair an answer, cut at every event and resumed: nothing on record is asked again."""

import asyncio
from dataclasses import replace

import pytest

from stretto.engine.run import Engine
from stretto.ledger.events import Finished, Opened
from stretto.ledger.states import MemoryStates
from stretto.policies.route import Route
from stretto.policies.solo import Solo
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.types import Failure, Message, Request, ToolCall
from tests.unit.engine.doubles import ListStore

TOOLS = ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},)
CALLS = Scripted(
    message=Message("assistant", None, (ToolCall("own", "look", "{}"),), reasoning="hm"), finish="tool_calls"
)
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}


def scripted(ask):
    """`b` asks for a tool and then fails; `a` answers; `c` answers wrongly until it is told so."""
    if ask.worker == "b":
        return Failure("bad_request") if ask.messages[-1].role == "tool" else CALLS
    if ask.worker == "c":
        return "4" if "does not fit" in ask.messages[-1].text else "four"
    return "there"


def world():
    """An engine over those three, its store and its pool."""
    pool = ScriptedPool(dict.fromkeys("abc", scripted))
    store = ListStore()
    return Engine(pool, store, states=MemoryStates()), store, pool


def continued(engine):
    """A request with the result of a call of `b`'s."""
    asked = Request(messages=(Message("user", "where?"),), tools=TOOLS, exclude={"worker": ("c",)})
    first = asyncio.run(engine.run(Route(default="b"), asked, name="route"))
    said = Message("assistant", None, first.answer.message.tool_calls)
    result = Message("tool", "here", tool_call_id=first.answer.message.tool_calls[0].id)
    return replace(asked, messages=(*asked.messages, said, result))


CASES = {
    "a loop that changes hands": (Route(default="b"), continued, "there", 2),
    "a repair": (
        Solo("c"),
        lambda engine: Request(messages=(Message("user", "2 + 2?"),), response_format=SCHEMA),
        "4",
        2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_resuming_from_every_cut_asks_only_what_is_missing(case):
    """Wherever the record ends, the rest leads to the same answer; what has an outcome on record is not asked again."""
    policy, make, text, asks = CASES[case]
    engine, store, pool = world()
    request = make(engine)
    run = asyncio.run(engine.run(policy, request, name="route"))
    assert (run.answer.text, run.calls) == (text, asks)
    before = [event for event in store.written if event.run != run.id]
    events = list(store.events(run.id))
    for cut in range(1, len(events)):
        store.written = before + events[:cut]
        assert isinstance(events[0], Opened)
        answered = sum(event.kind == "answered" for event in events[:cut])
        pool.asks.clear()
        resumed = asyncio.run(engine.resume(run.id, policy, name="route"))
        assert resumed.answer == run.answer
        assert len(pool.asks) == asks - answered
        assert isinstance(store.written[-1], Finished)


def test_a_resumed_loop_gives_the_worker_its_own_ids():
    """What is asked after the cut is asked as it would have been before: own ids, own reasoning."""
    engine, store, pool = world()
    request = continued(engine)
    run = asyncio.run(engine.run(Route(default="b"), request, name="route"))
    seen = pool.asks[1].messages
    store.written = [e for e in store.written if e.run != run.id or isinstance(e, Opened)]
    pool.asks.clear()
    asyncio.run(engine.resume(run.id, Route(default="b"), name="route"))
    assert pool.asks[0].worker == "b"
    assert pool.asks[0].messages == seen
    assert (seen[1].tool_calls[0].id, seen[1].reasoning, seen[2].tool_call_id) == ("own", "hm", "own")
