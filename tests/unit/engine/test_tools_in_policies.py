"""Tool calls as answers: how each policy checks, counts and hands them on."""

import asyncio

import pytest

from stretto.engine.run import Engine
from stretto.ledger.memory import MemoryStore
from stretto.ledger.states import MemoryStates
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.steps import Ask
from stretto.types import Answer, Card, Failure, Message, Part, Request, TokenLogprob, ToolCall

TOOLS = ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},)


def calls(arguments, name="look", **fields):
    return Scripted(
        message=Message("assistant", None, (ToolCall("own", name, arguments),)), finish="tool_calls", **fields
    )


class World:
    """An engine over scripted workers, with states."""

    def __init__(self, cards=None, **scripts):
        self.pool = ScriptedPool(scripts, cards=cards)
        self.store = MemoryStore()
        self.engine = Engine(self.pool, self.store, states=MemoryStates())

    def run(self, policy, **fields):
        request = Request(messages=(Message("user", "where?"),), tools=TOOLS, **fields)
        return asyncio.run(self.engine.run(policy, request))

    def asked(self):
        return [ask.worker for ask in self.pool.asks]


def cascade(check, **fields):
    return Cascade((Rung.of_worker("a", check), Rung.of_worker("b", check)), check, **fields)


# --- cascade ---


def test_a_cascade_by_agreement_compares_calls_not_their_empty_text():
    """Resamples that make the same call agree, whatever the order and spacing of the arguments."""
    same = [calls('{"x": 1, "y": 2}'), calls('{"y":2,"x":1}'), calls('{"x":1,"y":2}')]
    world = World(a=same, b=["never asked"])
    run = world.run(cascade("agreement"))
    assert run.answer.worker == "a"
    assert run.answer.message.tool_calls[0].arguments == '{"x": 1, "y": 2}'
    assert world.asked() == ["a", "a", "a"]


@pytest.mark.parametrize("other", [calls('{"x": 2}'), calls('{"x": 1}', name="listen"), "words"])
def test_a_cascade_by_agreement_escalates_when_calls_differ(other):
    """Other arguments, another tool, or words instead of a call are no agreement."""
    world = World(a=[calls('{"x": 1}'), other, other], b=[calls("{}")])
    run = world.run(cascade("agreement"))
    assert run.answer.worker == "b"


def test_a_verifier_sees_the_call():
    """What it is asked to judge names the tool and its arguments, and what it says counts."""
    world = World(a=[calls('{"x": 1}')], b=["never asked"], v=["yes"])
    run = world.run(cascade("verifier", verifier="v"))
    assert run.answer.worker == "a"
    question = world.pool.asks[-1].messages[-1].text
    assert "look" in question
    assert '"x": 1' in question or '"x":1' in question
    assert world.pool.asks[-1].tools == ()


ABLE = frozenset({"text", "tools", "json", "vision"})


def text_only(*able):
    """Cards: `v` knows text alone, the others know all."""
    return {"v": Card("v"), **{worker: Card(worker, abilities=ABLE) for worker in able}}


def test_who_judges_needs_no_tools():
    """A verifier that knows text alone serves a request with tools: it is shown words. Yet it may not answer, and says why."""
    world = World(text_only("a", "b"), a=[calls("{}")], b=["never asked"], v=["yes", "no answer"])
    run = world.run(cascade("verifier", verifier="v"))
    assert (run.answer.worker, world.asked()) == ("a", ["a", "v"])
    (opened,) = [e for e in world.store.events(run.id) if e.kind == "opened"]
    assert [(d.worker, d.reason, d.unable) for d in opened.denied] == [("v", "cannot do tools", True)]
    error = world.run(Solo("v")).answer.error
    assert (error.kind, world.asked()) == ("denied", ["a", "v"])


def test_who_is_shown_a_picture_must_see():
    """A verifier that is handed the caller's picture needs the ability for it, whoever answers."""
    picture = Part("image_url", data={"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    world = World(text_only("a"), a=["a cat"], v=["yes"])

    class Shown:
        """Hands the picture on."""

        name = "shown"

        def plan(self, request):
            first = yield Ask("a", speaks=True)
            judged = yield Ask("v", (Message("user", (picture,)),), role="verifier")
            return Answer.of(first, judged.error.kind if judged.error else judged.text)

    run = asyncio.run(world.engine.run(Shown(), Request(messages=(Message("user", (picture,)),))))
    assert (run.answer.why, world.asked()) == ("denied", ["a"])


def test_a_worker_that_its_labels_exclude_judges_nothing():
    """Place and compliance hold for judges too, whatever they are able to do."""
    cards = {**text_only("a", "b"), "v": Card("v", labels={"region": "us"})}
    world = World(cards, a=[calls("{}")], b=[calls("{}")], v=["yes"])
    world.run(cascade("verifier", verifier="v"), exclude={"region": ("us",)})
    assert "v" not in world.asked()


def test_confidence_in_a_call_needs_its_log_probabilities():
    """A call without them cannot be checked, so the dearer worker is asked; with them it stands or falls like words."""
    world = World(a=[calls("{}")], b=[calls("{}")])
    assert world.run(cascade("confidence")).answer.worker == "b"
    (choice,) = [e for e in world.store.events(world.store.runs()[0].run) if e.kind == "chose"]
    assert "no log-probabilities" in choice.reason
    world = World(a=[calls("{}", logprobs=(TokenLogprob("{}", -0.01),))], b=["never asked"])
    assert world.run(cascade("confidence")).answer.worker == "a"


# --- fuse ---


def test_a_vote_counts_equal_calls():
    """Two that make the same call outvote one that makes another; the caller gets one call under one id of ours."""
    world = World(a=[calls('{"x": 2}')], b=[calls('{"x": 1}')], c=[calls('{ "x":1 }')])
    run = world.run(Fuse(("a", "b", "c")))
    assert run.answer.worker == "b"
    assert "2 of 3 agree" in run.answer.why
    (call,) = run.answer.message.tool_calls
    assert call.id.startswith("call_")
    assert call.id != "own"


def test_calls_of_two_members_are_never_mixed():
    """The answer's calls are all of one worker, the one that the loop then belongs to."""
    both = Scripted(
        message=Message("assistant", None, (ToolCall("1", "look", "{}"), ToolCall("2", "look", '{"x": 1}'))),
        finish="tool_calls",
    )
    world = World(a=[both], b=[calls('{"x": 3}')], c=[both])
    run = world.run(Fuse(("a", "b", "c")))
    assert run.answer.worker in ("a", "c")
    assert [call.arguments for call in run.answer.message.tool_calls] == ["{}", '{"x": 1}']


# --- who holds the tools ---


@pytest.mark.parametrize(
    "policy",
    [
        Solo("a"),
        Fallback(("a", "b")),
        cascade("agreement"),
        cascade("verifier", verifier="v"),
        Fuse(("a", "b", "b")),
    ],
)
def test_steps_that_speak_hold_the_callers_tools_and_no_others(policy):
    """Checks and judges are asked without tools: they cannot call what they are not to call."""
    world = World(a=["4"], b=["5"], v=["no"])
    world.run(policy, tool_choice="auto")
    for ask in world.pool.asks:
        assert (ask.tools, ask.tool_choice) == ((TOOLS, "auto") if ask.speaks else ((), None))
        assert ask.speaks == (ask.role not in ("verifier", "judge"))


def test_a_failed_call_is_a_failure_like_any_other():
    """The next in line gets the same question with the same tools."""
    world = World(a=[Failure("bad_request")], b=[calls("{}")])
    run = world.run(Fallback(("a", "b")))
    assert run.answer.worker == "b"
    assert world.pool.asks[1].tools == TOOLS


# --- doubtful calls ---

STRICT = (
    {
        "type": "function",
        "function": {
            "name": "look",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
                "additionalProperties": False,
            },
        },
    },
)


@pytest.mark.parametrize(
    ("tools", "said", "told"),
    [
        (TOOLS, calls('{"x": 1'), "look: it is not valid JSON"),
        (TOOLS, calls("[1]"), "look: it is valid JSON, but not an object"),
        (TOOLS, calls("{}", name="shoot"), "shoot: no such tool was offered"),
        (STRICT, calls('{"x": "left"}'), 'look: "left" is not of type "integer", at x'),
        (STRICT, calls('{"y": 1}'), "look: "),
        (TOOLS, calls('{"anything": "goes"}'), ""),
        (TOOLS, calls(""), ""),
        (STRICT, calls('{"x": 1}'), ""),
        ((*STRICT, {"type": "web_search"}), calls("{}", name="web_search"), ""),
    ],
)
def test_doubtful_calls_go_out_marked(tools, said, told):
    """They are neither repaired nor held back, only named: in `why`, which the receipt and the answer's block hold."""
    world = World(a=[said])
    run = asyncio.run(
        world.engine.run(Solo("a"), Request(messages=(Message("user", "where?"),), tools=tools))
    )
    assert run.answer.error is None
    assert run.answer.message.tool_calls[0].arguments == said.message.tool_calls[0].arguments
    assert (told in run.answer.why) if told else ("doubtful" not in run.answer.why)
    assert asyncio.run(world.engine.replay(run.id, Solo("a"))).answer == run.answer
