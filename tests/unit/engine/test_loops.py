"""Tool loops: ids that carry run and step, results that go back to the worker that asked, and what happens where they cannot."""

import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.engine.loops import LONGEST_ID, call_id
from stretto.engine.run import Engine
from stretto.errors import LedgerUnavailable
from stretto.ledger.memory import MemoryStore
from stretto.ledger.states import MemoryStates
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.route import Route
from stretto.policies.solo import Solo
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.types import Delta, Failure, Key, Message, Request, Thought, ToolCall, new_run_id

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
TOOLS = (TOOL,)
CLOCK = 1_795_176_000.0


def calls(*ids, arguments="{}", **fields):
    """An answer that asks for a tool, with the worker's own ids."""
    made = tuple(ToolCall(id, "look", arguments) for id in ids)
    return Scripted(message=Message("assistant", None, made, **fields), finish="tool_calls")


def asked(text="where?", **fields):
    return Request(messages=(Message("user", text),), tools=TOOLS, **fields)


def with_results(request, answer, *more):
    """The next request of a client: the transcript, the answer as it came, and a result for each of its calls."""
    results = [Message("tool", f"result of {c.id}", tool_call_id=c.id) for c in answer.message.tool_calls]
    history = Message("assistant", answer.message.content, answer.message.tool_calls)
    return replace(request, messages=(*request.messages, history, *results, *more), continues=None)


class World:
    """An engine over scripted workers, with a store, states and a clock that a test can move."""

    def __init__(self, scripts, states=None, **pool):
        self.now = [CLOCK]
        self.pool = ScriptedPool(scripts, **pool)
        self.store = MemoryStore()
        self.states = states or MemoryStates(lambda: self.now[0])
        self.engine = Engine(
            self.pool, self.store, states=self.states, lifetime=1800.0, clock=lambda: self.now[0]
        )

    def run(self, policy, request, **fields):
        return asyncio.run(self.engine.run(policy, request, **fields))

    def choices(self, run):
        return [e for e in self.store.events(run.id) if e.kind == "chose"]


# --- ids ---


@given(
    at=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2}/[0-9]{1,3}){0,6}", fullmatch=True), index=st.integers(0, 999)
)
def test_ids_fit_every_protocol(at, index):
    """At most 40 characters of letters, digits, hyphen and underscore, however deep the step lies."""
    made = call_id(new_run_id(), at, index)
    assert len(made) <= LONGEST_ID == 40
    assert re.fullmatch(r"[A-Za-z0-9_-]+", made)


def test_ids_tell_runs_steps_and_calls_apart():
    """Each is a function of the three alone, and different for each of them."""
    one, two = new_run_id(), new_run_id()
    made = [
        call_id(r, at, k)
        for r in (one, two)
        for at in ("0", "1.0/2", "1/0.2", "10.1/12.3/14.5/1", "10.1/12.3/14.5/2")
        for k in (0, 1)
    ]
    assert len(set(made)) == len(made)
    assert call_id(one, "1.0/2", 1) == call_id(one, "1.0/2", 1)
    assert call_id(one, "1.0/2", 1).endswith("_1-0_2_1")


# --- out and back ---


def test_a_caller_sees_our_ids_and_the_worker_its_own():
    """The result comes back under our id and reaches the worker under the id that it gave."""
    world = World({"a": [calls("call_x", "call_y"), "there"]})
    first = world.run(Solo("a"), asked())
    assert [c.id for c in first.answer.message.tool_calls] == [call_id(first.id, "0", k) for k in (0, 1)]
    second = world.run(Solo("a"), with_results(asked(), first.answer))
    assert second.answer.text == "there"
    seen = world.pool.asks[-1].messages
    assert [c.id for c in seen[1].tool_calls] == ["call_x", "call_y"]
    assert [m.tool_call_id for m in seen[2:]] == ["call_x", "call_y"]


def test_live_pieces_have_the_ids_of_the_answer():
    """A streamed tool call has our id in its first piece, and the answer the same."""
    world = World({"a": [calls("call_x")]})
    pieces: list[Delta] = []

    async def emit(deltas):
        pieces.extend(deltas)

    run = world.run(Solo("a"), asked(), emit=emit)
    sent = [call[1] for piece in pieces for call in piece.tool_calls]
    assert sent == [run.answer.message.tool_calls[0].id] == [call_id(run.id, "0", 0)]


def test_what_a_loop_needs_is_kept_before_the_run_is_over():
    """If it cannot be kept the caller hears of it, instead of getting ids that lead nowhere."""

    class Full(MemoryStates):
        async def put(self, id, key, body, lifetime):
            raise LedgerUnavailable("disk full")

    world = World({"a": [calls("call_x")]}, states=Full())
    with pytest.raises(LedgerUnavailable):
        world.run(Solo("a"), asked())
    (opened,) = [e for e in world.store.events(world.store.runs()[0].run) if e.kind == "finished"]
    assert opened.error.kind == "unavailable"


def test_plain_requests_touch_no_state():
    """Without tools and tool calls nothing is read, written or renamed."""

    class Untouchable(MemoryStates):
        async def put(self, id, key, body, lifetime):
            raise AssertionError

        async def get(self, id, key):
            raise AssertionError

    world = World({"a": ["4"]}, states=Untouchable())
    history = (Message("user", "2?"), Message("assistant", "2"), Message("user", "2 + 2?"))
    assert world.run(Solo("a"), Request(messages=history)).answer.text == "4"


def test_a_replay_gives_the_ids_that_were_sent():
    """Ids follow from run, step and number, so a replay needs no state."""
    world = World({"a": [calls("call_x")]})
    run = world.run(Solo("a"), asked())
    world.now[0] += 1e6
    again = asyncio.run(world.engine.replay(run.id, Solo("a")))
    assert again.answer.message == run.answer.message


def test_a_continued_run_replays_from_its_record_alone():
    """What it continued is recorded with it; when the state is long gone it replays to the same answer."""
    world = World({"a": [calls("call_x"), "there"], "b": ["no"]})
    first = world.run(Fallback(("a", "b")), asked())
    second = world.run(Fallback(("a", "b")), with_results(asked(), first.answer))
    world.now[0] += 1e6
    again = asyncio.run(world.engine.replay(second.id, Fallback(("a", "b"))))
    assert (again.answer.text, again.answer.at, again.missing) == ("there", second.answer.at, ())


def test_ids_that_a_worker_does_not_tell_apart_stay_ours():
    """Two calls with one id, or none, would be ambiguous when their results come back."""
    for own in (("same", "same"), ("", "")):
        world = World({"a": [calls(*own), "there"]})
        first = world.run(Solo("a"), asked())
        world.run(Solo("a"), with_results(asked(), first.answer))
        seen = world.pool.asks[-1].messages
        assert [c.id for c in seen[1].tool_calls] == [call_id(first.id, "0", 0), call_id(first.id, "0", 1)]
        assert [m.tool_call_id for m in seen[2:]] == [c.id for c in seen[1].tool_calls]


def test_without_states_ids_pass_as_they_are():
    """An engine without a memory promises nothing, and does not rename."""
    pool = ScriptedPool({"a": [calls("call_x")]})
    run = asyncio.run(Engine(pool, MemoryStore()).run(Solo("a"), asked()))
    assert run.answer.message.tool_calls[0].id == "call_x"


# --- in every policy ---

POLICIES = {
    "route": Route(default="b"),
    "fallback": Fallback(("a", "b")),
    "cascade": Cascade((Rung.of_worker("a", "agreement"), Rung.of_worker("b", "agreement")), "agreement"),
    "fuse": Fuse(("a", "b", "b"), how="vote"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_result_returns_to_the_worker_that_asked(name):
    """Whatever the policy: `b` asked, so `b` alone hears the result, and the choice is on record."""
    world = World({"a": [Failure("bad_request")], "b": lambda ask: reply_of_b(ask)})
    first = world.run(POLICIES[name], asked(), name=name)
    assert first.answer.worker == "b"
    before = len(world.pool.asks)
    second = world.run(POLICIES[name], with_results(asked(), first.answer), name=name)
    assert second.answer.text == "there"
    assert [ask.worker for ask in world.pool.asks[before:]] == ["b"]
    (choice,) = world.choices(second)
    assert (choice.picked, choice.by) == ("b", "tool loop")
    assert first.id in choice.reason


def reply_of_b(ask):
    """Asks for the tool until it has a result."""
    return "there" if ask.messages[-1].role == "tool" else calls("b-own-id")


def test_a_loop_goes_on_for_many_turns():
    """Each answer of the worker may ask again; every turn's ids are mapped back, not only the last one's."""
    turns = iter(range(100))

    def script(ask):
        results = sum(m.role == "tool" for m in ask.messages)
        return calls(f"own-{next(turns)}") if results < 5 else "done"

    world = World({"a": [Failure("bad_request")], "b": script})
    request = asked()
    for _ in range(5):
        run = world.run(Fallback(("a", "b")), request)
        request = with_results(request, run.answer)
    assert world.run(Fallback(("a", "b")), request).answer.text == "done"
    seen = world.pool.asks[-1].messages
    assert [c.id for m in seen for c in m.tool_calls] == [f"own-{n}" for n in range(5)]
    assert sum(ask.worker == "a" for ask in world.pool.asks) == 1


def test_reminders_after_the_results_do_not_end_the_loop():
    """Clients put words of their own behind tool results; the loop holds all the same."""
    world = World(
        {"a": [Failure("bad_request")], "b": lambda ask: calls("x") if len(ask.messages) < 2 else "y"}
    )
    first = world.run(Fallback(("a", "b")), asked())
    more = (Message("system", "be brief"), Message("user", "go on"))
    second = world.run(Fallback(("a", "b")), with_results(asked(), first.answer, *more))
    assert [ask.worker for ask in world.pool.asks] == ["a", "b", "b"]
    assert second.answer.worker == "b"


def test_a_new_question_is_decided_afresh():
    """When the loop has ended with an answer, the next question goes the policy's way; its history has the worker's own ids."""
    world = World({"a": lambda ask: calls("own") if ask.messages[-1].text == "where?" else "fresh"})
    first = world.run(Solo("a"), asked())
    told = with_results(asked(), first.answer)
    told = replace(
        told, messages=(*told.messages, Message("assistant", "there"), Message("user", "and now?"))
    )
    run = world.run(Route(), told)
    assert world.pool.asks[-1].messages[1].tool_calls[0].id == "own"
    assert [choice.by for choice in world.choices(run)] == ["default"]


def test_a_caller_who_names_another_model_has_it():
    """The loop belongs to the model name that began it: asking another one is a decision of the caller's."""
    world = World({"a": [calls("x")], "b": ["mine"]})
    first = world.run(Solo("a"), asked(), name="a")
    second = world.run(Solo("b"), with_results(asked(), first.answer), name="b")
    assert second.answer.worker == "b"
    assert world.pool.asks[-1].messages[1].tool_calls[0].id == first.answer.message.tool_calls[0].id


# --- when it cannot go back ---


def test_an_expired_id_is_no_error():
    """After its lifetime a turn is forgotten: the policy decides afresh, and the ids pass as they are."""
    world = World({"a": [calls("x"), "there"]})
    first = world.run(Solo("a"), asked())
    world.now[0] += 1800.0
    second = world.run(Solo("a"), with_results(asked(), first.answer))
    assert second.answer.text == "there"
    assert world.choices(second) == []
    assert world.pool.asks[-1].messages[1].tool_calls[0].id == first.answer.message.tool_calls[0].id


def test_a_loop_in_use_does_not_expire():
    """The lifetime is counted from when a turn was last needed."""
    world = World({"a": lambda ask: calls("x")})
    request = asked()
    for _ in range(6):
        run = world.run(Solo("a"), request)
        request = with_results(request, run.answer)
        world.now[0] += 1000.0
    run = world.run(Solo("a"), request)
    assert {c.id for m in world.pool.asks[-1].messages for c in m.tool_calls} == {"x"}


@pytest.mark.parametrize("id", ["call_abc", "toolu_01", f"call_{'A' * 22}_0_0", "x" * 300, ""])
def test_unknown_ids_are_no_error(id):
    """Ids of other gateways, invented ones and ours of a run that nobody knows: the transcript goes to whom the policy picks."""
    world = World({"a": ["there"]})
    history = (
        Message("user", "where?"),
        Message("assistant", None, (ToolCall(id, "look", "{}"),)),
        Message("tool", "here", tool_call_id=id),
    )
    run = world.run(Solo("a"), Request(messages=history, tools=TOOLS))
    assert run.answer.text == "there"
    assert world.pool.asks[-1].messages == history


def test_another_keys_ids_open_nothing():
    """Whoever learns an id does not reach the worker, its own ids or its reasoning through it."""
    world = World({"a": [Failure("bad_request")], "b": lambda ask: reply_of_b(ask)})
    alice, bob = Key("alice"), Key("bob")
    first = world.run(Fallback(("a", "b")), asked(), key=alice)
    stolen = with_results(asked(), first.answer)
    run = world.run(Fallback(("a", "b")), stolen, key=bob)
    assert all(choice.by != "tool loop" for choice in world.choices(run))
    ours = first.answer.message.tool_calls[0].id
    assert world.pool.asks[-1].messages[1].tool_calls[0].id == ours
    run = world.run(Fallback(("a", "b")), stolen, key=alice)
    assert world.pool.asks[-1].messages[1].tool_calls[0].id == "b-own-id"


def test_a_worker_that_may_not_be_used_any_more_is_replaced():
    """The request's own constraints win: another worker gets the transcript, and the reason is on record."""
    world = World({"a": ["mine"], "b": [calls("x")]})
    first = world.run(Route(default="b"), asked())
    told = replace(with_results(asked(), first.answer), exclude={"worker": ("b",)})
    second = world.run(Route(default="b"), told)
    assert second.answer.text == "mine"
    choice = world.choices(second)[0]
    assert (choice.picked, choice.by) == ("decide afresh", "tool loop")
    assert "may not be used" in choice.reason


def test_a_worker_that_fails_is_replaced():
    """If it fails before anything was shown, the policy decides without it; both choices are on record."""
    world = World({"a": ["mine"], "b": [calls("x"), Failure("bad_request")]})
    first = world.run(Route(default="b"), asked())
    second = world.run(Route(default="b"), with_results(asked(), first.answer))
    assert second.answer.text == "mine"
    assert [choice.picked for choice in world.choices(second)] == ["b", "decide afresh", "a"]
    assert asyncio.run(world.engine.replay(second.id, Route(default="b"))).answer.text == "mine"


def test_a_solo_worker_that_fails_is_not_asked_twice():
    """The caller named it: its failure is the answer, after one ask."""
    world = World({"a": ["mine"], "b": [calls("x"), Failure("bad_request", "too long")]})
    first = world.run(Solo("b"), asked())
    second = world.run(Solo("b"), with_results(asked(), first.answer))
    assert second.answer.error == Failure("bad_request", "too long")
    assert [ask.worker for ask in world.pool.asks] == ["b", "b"]


def test_what_was_shown_is_not_answered_twice():
    """A worker that fails in the middle of a streamed answer ends the run: the caller has seen half of it."""
    world = World({"a": ["mine"], "b": [calls("x"), Scripted("half of", error=Failure("cut"))]})
    first = world.run(Route(default="b"), asked())
    shown: list[Delta] = []

    async def emit(deltas):
        shown.extend(deltas)

    second = world.run(Route(default="b"), with_results(asked(), first.answer), emit=emit)
    assert second.streamed
    assert second.answer.error is not None
    assert second.answer.error.kind == "cut"
    assert "".join(d.text for d in shown).split() == ["half", "of"]
    again = asyncio.run(world.engine.replay(second.id, Route(default="b")))
    assert (again.answer.error, again.missing) == (second.answer.error, ())
    assert [ask.worker for ask in world.pool.asks] == ["b", "b"]


def test_states_are_shared_by_processes():
    """Another engine over the same states goes on where the first one stopped."""
    one = World({"b": [calls("x")]})
    first = one.run(Route(), asked())
    two = World({"a": ["mine"], "b": ["there"]}, states=one.states)
    second = two.run(Route(default="a"), with_results(asked(), first.answer))
    assert second.answer.worker == "b"
    assert two.pool.asks[-1].messages[1].tool_calls[0].id == "x"


# --- reasoning ---

SEALED = Thought("hm", signature="sig", wire="messages", worker="a")


def test_reasoning_is_restored_to_the_worker_that_needs_it_back():
    """Clients drop `reasoning_content` and thinking blocks; the worker of the loop gets them back from the state."""
    world = World({"a": [calls("x", reasoning="hm", thoughts=(SEALED,)), "there"]})
    first = world.run(Solo("a"), asked())
    world.run(Solo("a"), with_results(asked(), first.answer))
    assert world.pool.asks[-1].messages[1].reasoning == "hm"
    assert world.pool.asks[-1].messages[1].thoughts == (SEALED,)


def test_what_the_client_brought_back_counts():
    """A client that keeps the blocks gets no second copy."""
    world = World({"a": [calls("x", reasoning="hm", thoughts=(SEALED,)), "there"]})
    first = world.run(Solo("a"), asked())
    told = with_results(asked(), first.answer)
    own = replace(SEALED, text="hm hm")
    kept = replace(told.messages[1], thoughts=(own,), reasoning="hm hm")
    world.run(Solo("a"), replace(told, messages=(told.messages[0], kept, *told.messages[2:])))
    assert world.pool.asks[-1].messages[1].thoughts == (own,)
    assert world.pool.asks[-1].messages[1].reasoning == "hm hm"


@pytest.mark.parametrize("worker", ["b", ""])
def test_seals_of_others_are_left_out(worker):
    """A provider refuses another one's signatures: only the worker that sealed a thought gets it, readable reasoning stays."""
    world = World({"a": ["there"]})
    foreign = replace(SEALED, worker=worker)
    history = (
        Message("user", "where?"),
        Message("assistant", "hm", reasoning="hm", thoughts=(foreign, SEALED)),
        Message("user", "well?"),
    )
    world.run(Solo("a"), Request(messages=history))
    assert world.pool.asks[-1].messages[1].thoughts == (SEALED,)
    assert world.pool.asks[-1].messages[1].reasoning == "hm"
