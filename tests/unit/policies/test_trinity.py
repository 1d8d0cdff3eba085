"""TRINITY through the one engine: turns, recorded chances, limits, failures, fallbacks, streams, tools, replay and resume."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("numpy")

from stretto.engine.run import Engine, Run
from stretto.policies.masked import Masked
from stretto.policies.trinity import Trinity
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.steps import Ask, Policy
from stretto.testing import MemoryStore
from stretto.types import Failure, Limits, Message, Request, ToolCall
from tests.trinity_world import pool, state, trinity

QUESTION = "Reverse tip and then count the vowels of it."


def run(policy: Policy, workers: ScriptedPool, **fields: Any) -> Run:
    """One run of a request with this question."""
    engine = Engine(workers, MemoryStore())
    request = Request(messages=(Message("user", QUESTION),), seed=3, **fields)
    return asyncio.run(engine.run(policy, request))


def asked(workers: ScriptedPool, role: str) -> list[tuple[str, str]]:
    """Who was asked in this role, and what the last message said."""
    return [(a.worker, a.messages[-1].text) for a in workers.asks if a.role == role and a.messages]


def played(workers: ScriptedPool) -> list[str]:
    """The turns as they went, without the readings."""
    return [f"{a.worker} {a.role}" for a in workers.asks if a.role != "router"]


# --- turns ---


def test_a_thinker_a_worker_and_a_verifier_each_have_their_turn():
    """The thinker writes the first step, a worker does it, again for the second, and a verifier accepts the last answer."""
    workers = pool(
        ["a thinker", "b", "a thinker", "c", "b verifier"],
        a=["reverse tip.", "count the vowels of it."],
        b=["pit", "yes"],
        c=["1"],
    )
    done = run(trinity(), workers)

    assert played(workers) == ["a thinker", "b worker", "a thinker", "c worker", "b verifier"]
    assert asked(workers, "worker") == [("b", "reverse tip."), ("c", "Given: pit\ncount the vowels of it.")]
    assert asked(workers, "verifier") == [("b", f"Task: {QUESTION}\nAnswer: 1\nIs it right?")]
    assert (done.answer.text, done.answer.worker) == ("1", "c")
    assert done.answer.why == "c in turn 4: accepted by a verifier"


def test_the_backbone_reads_raw_text_once_a_turn_and_what_it_reads_changes():
    """One ask for a state a turn, in the artefact's pooling; a thinker's turn changes it too."""
    workers = pool(["a thinker", "b", "a verifier"], a=["reverse tip.", "yes"], b=["pit"])
    run(trinity(pooling="last"), workers)

    readings = [a for a in workers.asks if a.role == "router"]
    assert [a.want for a in readings] == ["state"] * 3
    assert all(dict(a.params) == {"raw": True, "pooling": "last"} for a in readings)
    texts = [t for _, t in asked(workers, "router")]
    assert len(set(texts)) == 3
    assert texts[0] == f"system: \nuser: {QUESTION}"
    assert "reverse tip." in texts[1]
    assert "pit" in texts[2]


def test_agreement_gives_the_sub_problem_to_another_worker():
    """The author may not be picked; an equal answer accepts."""
    workers = pool(
        ["b", "b verifier"],  # b has the highest logit, but wrote the answer
        a=["the answer = 1"],
        b=["1"],
        c=["2"],
    )
    done = run(trinity(verifier="agreement"), workers)
    assert played(workers) == ["b worker", "a verifier"]
    assert asked(workers, "verifier") == [("a", QUESTION)]
    assert done.answer.why == "b in turn 1: accepted by a verifier"


def test_the_last_answer_stands_when_the_turns_are_used_up():
    """Also when the verifier never accepts."""
    workers = pool(["a", "b verifier", "c", "b verifier"], a=["1"], b=["no"], c=["2"])
    done = run(trinity(turns=4), workers)
    assert (done.answer.text, done.calls) == ("2", 8)
    assert done.answer.why.endswith("the last worker's answer when the turns were used up")


def test_each_turn_records_the_chances_of_roles_and_workers():
    """Two choices before each ask: every option with its chance, what was closed, and the artefact by its hash."""
    policy, workers = trinity(), pool(["b", "a verifier"], a=["yes"], b=["1"])
    engine = Engine(workers, store := MemoryStore())
    done = asyncio.run(engine.run(policy, Request(messages=(Message("user", QUESTION),))))

    choices = [e for e in store.events(done.id) if e.kind == "chose"]
    assert [c.picked for c in choices] == ["worker", "b", "verifier", "a"]
    assert {c.by for c in choices} == {policy.coordinator.name}
    role, who = choices[0], choices[1]
    assert [name for name, _, _ in role.options] == ["worker", "thinker", "verifier"]
    assert sum(estimates["chance"] for _, estimates, _ in role.options) == pytest.approx(1, abs=1e-5)
    assert role.options[2] == ("verifier", {"chance": 0.0}, "not open now")
    assert [name for name, _, _ in who.options] == ["a", "b", "c"]
    assert who.options[1][1]["chance"] > 0.95
    assert who.probability == 1.0  # the likeliest is picked for certain


def test_sampling_follows_the_chances_and_the_seed():
    """A draw is recorded with its chance; equal seeds draw alike, and other seeds otherwise."""
    policy = trinity(sample=True, turns=1, roles=["worker"])

    def drawn(seed: int) -> tuple[str, float]:
        workers = pool(Scripted(state=state("b", sure=1.0)), a=["1"], b=["1"], c=["1"])
        engine = Engine(workers, store := MemoryStore())
        request = Request(messages=(Message("user", QUESTION),), seed=seed)
        done = asyncio.run(engine.run(policy, request))
        (choice,) = (e for e in store.events(done.id) if e.kind == "chose")
        return choice.picked, choice.probability

    found = [drawn(seed) for seed in range(60)]
    assert found == [drawn(seed) for seed in range(60)]
    often = {w: [n for n, _ in found].count(w) for w in "abc"}
    assert often["b"] > 20  # its chance is .58
    assert min(often.values()) > 2
    assert dict(found)["b"] == pytest.approx(0.576, abs=0.001)


# --- without roles ---


def test_without_roles_one_turn_is_one_choice_and_streams():
    """The form of production Fugu: one reading, one worker, whose answer is live."""
    pieces: list[str] = []

    async def emit(deltas: Any) -> None:
        pieces.extend(d.text for d in deltas)

    workers = pool(["b"], a=["1"], b=["one two three"], c=["1"])
    engine = Engine(workers, MemoryStore())
    request = Request(messages=(Message("user", QUESTION),))
    done = asyncio.run(engine.run(trinity(roles=False, turns=1), request, emit=emit))
    assert "".join(pieces) == done.answer.text == "one two three"
    assert done.calls == 2


def test_without_roles_and_with_more_turns_two_equal_answers_end_the_run():
    """Of two workers; the answer is the later of them."""
    workers = pool(["a", "b", "c"], a=["1"], b=["2"], c=["3-2 = 1"])
    done = run(trinity(roles=False), workers)
    assert done.answer.why == "c in turn 3: two workers say the same"


# --- streams ---


def test_the_last_turn_streams_and_a_verified_answer_does_not():
    """What had to be verified goes out once it is accepted; the last turn's answer stands whatever it is."""
    pieces: list[str] = []

    async def emit(deltas: Any) -> None:
        pieces.extend(d.text for d in deltas)

    def live(policy: Trinity, *moves: str) -> str:
        pieces.clear()
        workers = pool(moves, a=["yes"], b=["first answer"], c=["last answer"])
        request = Request(messages=(Message("user", QUESTION),))
        done = asyncio.run(Engine(workers, MemoryStore()).run(policy, request, emit=emit))
        return f"{done.answer.text} | {''.join(pieces)}"

    assert live(trinity(), "b", "a verifier") == "first answer | "
    assert live(trinity(turns=2), "b", "c") == "last answer | last answer"


def test_when_the_last_turn_brings_nothing_the_answer_before_it_stands():
    """The tail ask carries it."""
    workers = pool(["b", "c"], b=["1"], c=[Failure("upstream_error")])
    done = run(trinity(turns=2), workers)
    assert done.answer.text == "1"
    assert "c as worker gave no answer" in done.answer.why


def test_when_every_turn_fails_the_best_single_one_is_asked():
    """Not the one that has just failed."""
    workers = pool(["b", "c"], a=["alone"], b=[Failure("upstream_error")], c=[Failure("upstream_error")])
    done = run(trinity(turns=2, best=["c", "a"]), workers)
    assert (done.answer.text, done.answer.worker) == ("alone", "a")
    assert "every turn failed" in done.answer.why


# --- what the caller set ---


def test_worker_turns_hold_the_callers_parameters_and_tools_and_the_others_do_not():
    """Tools, the cap and sampling go to whose answer may go out; a thinker has its own cap and temperature 0."""
    tools = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
    workers = pool(["a thinker", "b", "c verifier"], a=["reverse tip."], b=["1"], c=["yes"])
    run(trinity(temperature=0.1), workers, tools=tools, max_tokens=7, params={"top_p": 0.5})
    thinker, worker, verifier = (a for a in workers.asks if a.role != "router")
    assert (worker.tools, worker.max_tokens) == (tools, 7)
    assert dict(worker.params) == {"top_p": 0.5, "temperature": 0.1}
    for other in (thinker, verifier):
        assert (other.tools, other.max_tokens, dict(other.params)) == ((), 1024, {"temperature": 0})


def test_the_callers_temperature_goes_before_the_artefacts():
    """What the caller names is not changed."""
    workers = pool(["b"], b=["1"])
    run(trinity(temperature=0.0, roles=False, turns=1), workers, params={"temperature": 0.9})
    assert workers.asks[-1].params["temperature"] == 0.9


def test_a_worker_that_calls_tools_ends_the_run():
    """The call goes to the caller, whose result comes back to that worker."""
    call = Message("assistant", None, (ToolCall("1", "f", "{}"),))
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},)
    workers = pool(["b"], b=[Scripted(message=call, finish="tool_calls")])
    done = run(trinity(), workers, tools=tools)
    assert [c.name for c in done.answer.message.tool_calls] == ["f"]
    assert done.calls == 2


# --- when things fail ---


def test_a_worker_that_fails_sits_out_one_turn():
    """The coordinator would pick it again, since nothing else has changed."""
    workers = pool(["b", "b", "a verifier"], a=["1", "yes"], b=[Failure("upstream_error")], c=["2"])
    done = run(trinity(), workers)
    assert played(workers)[0] == "b worker"
    assert played(workers)[-2] == "a worker"
    assert done.answer.error is None


@pytest.mark.parametrize("moves", [(), ("b",), ("a thinker", "b")])
def test_when_the_backbone_is_down_the_last_answer_stands(moves: tuple[str, ...]):
    """Without one the named worker answers alone, and the record says why."""
    down = [*moves]

    def reads(ask: Ask) -> Scripted:
        return Scripted(state=state(down.pop(0))) if down else Scripted(error=Failure("unavailable", "gone"))

    workers = pool(reads, a=["reverse tip."], b=["1"], c=["alone"])
    done = run(trinity(otherwise="c"), workers)
    if moves:
        assert done.answer.text == "1"
        assert "the coordinator cannot go on (unavailable" in done.answer.why
    else:
        assert done.answer.text == "alone"
        assert "answers alone (unavailable" in done.answer.why


def test_a_state_of_the_wrong_length_is_a_failure_too():
    """Another model stands under the backbone's name."""
    workers = pool(Scripted(state=(1.0, 2.0)), a=["1"], b=["2"], c=["3"])
    done = run(trinity(best=["b", "a"]), workers)
    assert done.answer.text == "2"  # the best single one, as the artefact knows
    assert "2 numbers" in done.answer.why


def test_workers_that_may_not_be_used_are_never_picked():
    """An excluded worker has no chance, however high its logit; without any, the fallback answers, and else nobody may."""
    workers = pool(["b", "a verifier"], a=["yes"], b=["1"], c=["2"])
    done = run(trinity(), workers, exclude={"worker": ("b",)})
    assert "b" not in {a.worker for a in workers.asks}
    assert done.answer.error is None

    everyone = {"worker": ("a", "b", "c")}
    nobody = run(trinity(), pool([], a=["1"], b=["1"], c=["1"]), exclude=everyone)
    assert nobody.answer.error is not None
    assert nobody.answer.error.kind == "denied"

    besides = pool([], a=["1"], b=["1"], c=["1"], d=["beside"])
    assert run(trinity(otherwise="d"), besides, exclude=everyone).answer.text == "beside"


@pytest.mark.parametrize("how", ["excluded", "masked"])
def test_a_backbone_that_may_not_be_used_is_not_asked(how: str):
    """Whether the caller excludes it or the owner masks it: the best single worker answers, and the receipt says why."""
    workers = pool([], a=["1"], b=["2"], c=["3"])
    policy = trinity(best=["b"])
    masked = Masked(policy, (("coordinator", "garbled"),))
    out = {"worker": ("coordinator",)} if how == "excluded" else {}
    done = run(masked if how == "masked" else policy, workers, exclude=out)
    assert played(workers) == ["b solver"]
    assert asked(workers, "router") == []
    assert "answers alone (denied: " in done.answer.why
    assert ("garbled" if how == "masked" else "excluded") in done.answer.why


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 6, 20])
def test_under_any_limit_on_calls_there_is_an_answer(calls: int):
    """A thinker's turn is not taken where no call would be left for an answer; the best so far ends the run."""
    workers = pool(Scripted(state=state("a thinker")), a=["reverse tip."], b=["1"], c=["2"])
    done = run(trinity(otherwise="c"), workers, limits=Limits(calls=calls))
    assert done.answer.error is None
    assert done.calls <= calls


def test_a_limit_on_money_ends_the_run_with_the_best_so_far():
    """What was refused stands in the reason."""
    workers = pool(["b", "a thinker", "c"], a=["one two three"], b=["1"], c=["2"])
    spent = run(trinity(), pool(["b", "c verifier"], a=["1"], b=["1"], c=["yes"])).cost
    done = run(trinity(), workers, limits=Limits(usd=spent), max_tokens=3)
    assert done.answer.text == "1"
    assert done.cost <= spent
    assert "limit" in done.answer.why or "refused" in done.answer.why


@pytest.mark.parametrize(("tokens", "thinks"), [(4_000, True), (40_000, False)])
def test_money_that_cannot_pay_a_thinker_as_well_goes_to_an_answer(tokens: int, thinks: bool):
    """Where a thinker's turn might leave too little for an answer, the worker that the state would pick plays at once."""
    workers = pool(Scripted(state=state("a thinker")), a=["7"], b=["7"], c=["7"])
    policy = replace(trinity(turns=2), thinker_tokens=tokens)
    done = run(policy, workers, limits=Limits(usd=20_000_000_000))
    roles = [ask.role for ask in workers.asks]
    assert done.answer.text == "7"
    assert ("thinker" in roles) == thinks


# --- conversations ---


def test_earlier_turns_of_the_conversation_stay_where_they_were():
    """A worker with a sub-problem sees it in the place of the question."""
    before = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    workers = pool(["a thinker", "b", "c verifier"], a=["reverse tip."], b=["pit"], c=["yes"])
    engine = Engine(workers, MemoryStore())
    asyncio.run(engine.run(trinity(), Request(messages=(*before, Message("user", QUESTION)))))
    for ask in workers.asks:
        if ask.role != "router":
            assert ask.messages is not None
            assert ask.messages[:3] == before
            assert len(ask.messages) == 4
