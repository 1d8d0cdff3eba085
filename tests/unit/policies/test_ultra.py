"""Ultra: a checked workflow, further answers where it does not pass, and less of all that where limits forbid it."""

import asyncio
import random
from dataclasses import replace

import pytest

from stretto.artifacts import Artifact
from stretto.engine.run import Engine
from stretto.policies.carrying import surety
from stretto.policies.conductor import CONDUCTOR_SCHEMA, Conductor
from stretto.policies.ultra import Ultra
from stretto.pool.scripted import Scripted
from stretto.steps import Ask, Fork, Note, Quote
from stretto.testing import MemoryStore, ScriptedPool, by_hand, question, said
from stretto.types import Answer, Card, Failure, Limits, Message, Price, Reply, TokenLogprob, ToolCall, Usage

DATA = {
    "workers": ["a", "b"],
    "plan": "Models: {models}\nTask: {question}\nPlan?",
    "again": "Models: {models}\nTask: {question}\nGiven: {reply}\nPlan?",
    "forms": "given",
}
CONDUCTOR = Conductor.trained(Artifact(CONDUCTOR_SCHEMA, {}, DATA), "p")
SURE = replace(CONDUCTOR, doubt=0.5)
TWO = 'model_id = [0, 1]\nsubtasks = ["one", "two"]\naccess_list = [[], "all"]'
PROSE = "A long answer in several sentences. " * 20


def drive(policy, request=None, **replies):
    """Steps and end of a plan; `replies`: what each worker says, in order."""
    stock = {worker: list(each) for worker, each in replies.items()}

    def answer(step):
        found = stock[step.worker].pop(0)
        return found if isinstance(found, Reply) else said(found, step.worker)

    return by_hand(policy.plan(request or question("q", "a", "b", "c", "v", "w")), answer)


def failed(kind):
    return Reply(error=Failure(kind, "said so"))


def asked(steps):
    asks = [a for s in steps for a in (s.plans if isinstance(s, Fork) else (s,)) if isinstance(a, Ask)]
    return [(ask.worker, ask.role) for ask in asks]


def notes(steps):
    return [s.choice for s in steps if isinstance(s, Note)]


# --- the check ---


def test_an_answer_that_the_verifier_accepts_goes_out():
    """Yes from a worker that did not write it: the workflow's answer stands, and nobody else is asked."""
    steps, last = drive(Ultra(CONDUCTOR, verifier="v", panel=("c",)), p=[TWO], a=["A"], b=["B"], v=["yes"])

    assert last.text == "B"
    assert "v said yes" in last.why
    assert last.more["workflow"][1]["worker"] == "b"
    assert asked(steps)[-1] == ("v", "verifier")
    assert notes(steps)[-1].picked == "the workflow's answer"


def test_the_author_never_checks_its_own_answer():
    """Where the configured verifier wrote the answer, the first other member of the panel checks it."""
    steps, _ = drive(Ultra(CONDUCTOR, verifier="b", panel=("b", "c")), p=[TWO], a=["A"], b=["B"], c=["yes"])

    assert asked(steps)[-1] == ("c", "verifier")


@pytest.mark.parametrize(("sure", "passes"), [(0.9, True), (0.2, False)])
def test_by_confidence_the_least_sure_step_counts(sure, passes):
    """One doubtful step in the middle of the workflow is enough to ask others."""
    policy = Ultra(SURE, "confidence", 0.5, panel=("c",))
    replies = {
        "a": [said("A", "a", logprob=-0.1 if passes else -1.6)],
        "b": [said("B", "b", logprob=-0.1)],
        "c": [said("C", "c", logprob=-0.3)],
    }
    if not passes:
        replies["b"] = [said("X", "b", logprob=-3.0), said("B", "b", logprob=-0.1)]

    steps, last = drive(policy, p=[TWO], **replies)

    assert (("c", "solver") in asked(steps)) is not passes
    assert last.text == "B"


@pytest.mark.parametrize("reply", ["perhaps", failed("upstream_error"), failed("limit")])
def test_an_answer_that_cannot_be_checked_goes_out_and_says_so(reply):
    """No verdict is no reason to pay for more; the reason of the answer is honest."""
    _, last = drive(Ultra(CONDUCTOR, verifier="v", panel=("c",)), p=[TWO], a=["A"], b=["B"], v=[reply])

    assert last.text == "B"
    assert "unchecked" in last.why


def test_tool_calls_go_out_as_they_are():
    """A call is not an answer yet: nobody checks it, and its worker goes on with what it brings."""
    call = Reply(Message("assistant", None, (ToolCall("c1", "look", "{}"),)), "tool_calls", "b")

    steps, last = drive(Ultra(CONDUCTOR, verifier="v"), p=[TWO], a=["A"], b=[call])

    assert last.message.tool_calls
    assert ("v", "verifier") not in asked(steps)


# --- further answers ---


def test_rejected_values_are_put_to_a_vote():
    """Short answers that can be compared: two of three agree, and theirs goes out."""
    policy = Ultra(CONDUCTOR, verifier="v", panel=("a", "c"))

    _, last = drive(policy, p=[TWO], a=["A", "42"], b=["7"], v=["no"], c=["42"])

    assert last.text == "42"
    assert "v said no" in last.why


def test_rejected_prose_is_written_anew_from_all_answers():
    """Free text never agrees: the writer makes one answer of the drafts, and speaks live; else the workflow's stands."""
    policy = Ultra(CONDUCTOR, verifier="v", panel=("c",), writer="w")

    steps, last = drive(policy, p=[TWO], a=["A"], b=[PROSE], v=["no"], c=["Another one. " + PROSE])

    assert isinstance(last, Ask)
    assert (last.worker, last.role, last.speaks) == ("w", "synthesizer", True)
    assert last.otherwise.text == PROSE
    assert ("c", "solver") in asked(steps)


def test_where_no_further_answer_comes_the_rejected_one_stands_and_says_so():
    """An answer that a verifier rejects is better than none, as long as its reason tells."""
    policy = Ultra(CONDUCTOR, verifier="v", panel=("c",))

    _, last = drive(policy, p=[TWO], a=["A"], b=["B"], v=["no"], c=[failed("unavailable")])

    assert last.text == "B"
    assert "v said no" in last.why
    assert "no further answer came" in last.why


def test_a_workflow_without_an_answer_leaves_the_panel():
    """Where planner, steps and substitutes fail, the panel's answers are all there is."""
    policy = Ultra(CONDUCTOR, verifier="v", panel=("c",))
    down = [failed("unavailable")] * 3

    _, last = drive(policy, p=down, a=down, b=down, c=["C"])

    assert last.text == "C"


# --- limits ---


@pytest.mark.parametrize(("calls", "first"), [(1, "the conductor"), (2, "the conductor")])
def test_limits_leave_out_the_check_first_and_then_the_plan(calls, first):
    """With too few calls for a check the conductor answers alone, live; with one, the best single worker does."""
    request = question("q", "a", "b", limits=Limits(calls=calls))

    steps, last = drive(Ultra(CONDUCTOR, verifier="v"), request, p=[TWO, TWO], a=["A"])

    assert notes(steps)[0].picked == first
    assert isinstance(last, Ask)
    assert (("p", "planner") in asked(steps)) is (calls == 2)


def test_how_sure_an_answer_is_is_the_least_of_its_steps():
    """Earlier steps count as much as the last one."""
    sure = Answer(
        Message("assistant", "x"), logprobs=(TokenLogprob("x", 0.0),), more={"earlier_steps_sure": 0.25}
    )

    assert surety(sure) == 0.25
    assert surety(Answer(Message("assistant", "x"))) is None


# --- on the real engine ---


class BytesPool(ScriptedPool):
    """Counts bytes for tokens, so that longer prompts cost more."""

    def quote(self, ask):
        cap = 40 if ask.max_tokens is None else ask.max_tokens
        given = sum(len(message.text.encode()) for message in ask.messages or ())
        price = next(card for card in self.cards() if card.id == ask.worker).price
        return Quote(price.of(Usage(given, 1)), price.of(Usage(given, cap)), given, cap)


POLICIES = {
    "verifier": Ultra(CONDUCTOR, verifier="v", panel=("a", "c"), writer="w"),
    "confidence": Ultra(SURE, "confidence", 0.7, panel=("a", "c")),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", range(20))
def test_outlooks_limits_and_replays_hold(name, seed):
    """Whatever everyone says: what was told beforehand is not passed, ceilings hold, and the record gives the same answer."""
    rng = random.Random(seed)

    def script(ask):
        given = sum(len(message.text.encode()) for message in ask.messages or ())
        if rng.random() < 0.15:
            return Scripted(error=Failure("bad_request", "no"), usage=Usage(given, 0))
        text = {"p": rng.choice([TWO, TWO, "?"]), "v": rng.choice(["yes", "no", "well"])}.get(ask.worker)
        text = text or rng.choice(["42", "7", PROSE, "\N{GRINNING FACE}" * rng.randrange(1, 30_000)])
        logprobs = (TokenLogprob("x", -rng.random()),)
        return Scripted(text, usage=Usage(given, ask.max_tokens or 40), logprobs=logprobs)

    cards = {w: Card(w, Price(1 + n, 2 + n), abilities=frozenset({"text"})) for n, w in enumerate("abcpvw")}
    calls = rng.choice([None, None, 1, 2, 3, 5])
    pool = BytesPool(dict.fromkeys(cards, script), cards=cards)

    async def play():
        engine = Engine(pool, MemoryStore())
        request = question("q", limits=Limits(calls=calls), seed=seed)
        outlook = engine.preview(POLICIES[name], request).outlook
        run = await engine.run(POLICIES[name], request)
        made = len(pool.asks)
        again = await engine.replay(run.id, POLICIES[name])
        return outlook, run, again, made

    outlook, run, again, made = asyncio.run(play())

    assert run.calls <= outlook.calls.most
    assert run.cost <= outlook.usd.most
    assert calls is None or run.calls <= calls
    assert (again.answer, again.cost) == (run.answer, run.cost)
    assert len(pool.asks) == made
