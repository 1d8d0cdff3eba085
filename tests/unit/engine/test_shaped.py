"""Structured output: what fits, what is mended here, what is repaired by one further ask, and what is an error."""

import asyncio
import json
from dataclasses import replace

import pytest

from stretto.engine.run import Engine
from stretto.engine.shaped import Shape
from stretto.errors import NoCandidate, RequestError
from stretto.ledger.memory import MemoryStore
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.types import Card, Delta, Failure, Limits, Message, Part, Request, ToolCall

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ada", "age": 36}'
WRONG = '{"name": "Ada", "age": "thirty-six"}'
OBJECT = {"type": "json_object"}


def schema(schema, **fields):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}, **fields}


def wanted(form=None, **fields):
    form = schema(PERSON) if form is None else form
    return Request(messages=(Message("user", "who?"),), response_format=form, **fields)


class World:
    """An engine over scripted workers."""

    def __init__(self, scripts, **pool):
        self.pool = ScriptedPool(scripts, **pool)
        self.store = MemoryStore()
        self.engine = Engine(self.pool, self.store)
        self.pieces: list[Delta] = []

    def run(self, policy, request, live=False):
        async def emit(deltas):
            self.pieces.extend(deltas)

        return asyncio.run(self.engine.run(policy, request, emit=emit if live else None))

    def choices(self, run):
        return [e for e in self.store.events(run.id) if e.kind == "chose"]


# --- what fits ---


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (schema(PERSON), GOOD),
        (schema(PERSON), f"  {GOOD}\n"),
        (
            schema({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "number"}}}),
            "[1, 2.5]",
        ),
        (schema({"type": "string", "pattern": "^(?=a)a+$"}), '"aaa"'),
        (schema(True), "null"),
        ({"type": "json_schema", "json_schema": {"name": "anything"}}, "[]"),
        (OBJECT, "{}"),
        ({"type": "text"}, "plain words"),
        (None, "plain words"),
    ],
)
def test_what_fits_goes_out_as_it_is(form, text):
    """One call, nothing noted, the text untouched."""
    world = World({"a": [text]})
    request = replace(wanted(), response_format=form)
    run = world.run(Solo("a"), request)
    assert (run.answer.text, run.answer.error, run.calls) == (text, None, 1)
    assert world.choices(run) == []


@pytest.mark.parametrize("text", [f"```json\n{GOOD}\n```", f"```\n{GOOD}```\n", f"\n```JSON\n{GOOD}\n```"])
def test_a_code_fence_is_taken_off(text):
    """The commonest misfit costs no second call: what is in the fence goes out."""
    world = World({"a": [text]})
    run = world.run(Solo("a"), wanted())
    assert (run.answer.text, run.calls) == (GOOD, 1)
    assert asyncio.run(world.engine.replay(run.id, Solo("a"))).answer.text == GOOD


@pytest.mark.parametrize(
    "said",
    [
        Scripted('{"name": "Ada", "a', finish="length"),
        Scripted("", finish="content_filter"),
        Scripted(message=Message("assistant", "", refusal="I would rather not")),
        Scripted(message=Message("assistant", None, (ToolCall("x", "look", "{}"),)), finish="tool_calls"),
    ],
)
def test_what_is_no_structured_output_is_not_checked(said):
    """Answers that were cut, filtered or refused say so themselves; a tool call comes before the answer."""
    world = World({"a": [said]})
    run = world.run(Solo("a"), wanted())
    assert (run.answer.error, run.calls) == (None, 1)


# --- repair ---


@pytest.mark.parametrize(
    ("form", "text", "told"),
    [
        (schema(PERSON), WRONG, 'not of type "integer", at age'),
        (schema(PERSON), '{"name": "Ada"}', '"age" is a required property'),
        (schema(PERSON), "Ada is 36.", "not valid JSON"),
        (schema(PERSON), f"{GOOD} {GOOD}", "not valid JSON"),
        (schema({}), "NaN", "not valid JSON"),
        (schema({}), "[" * 100_000, "nested too deeply"),
        (OBJECT, "[1]", "not an object"),
        (OBJECT, "", "not valid JSON"),
    ],
)
def test_what_does_not_fit_is_repaired_by_one_further_ask(form, text, told):
    """The same worker is told what is wrong and asked once more; the choice is on record, the repair is the answer."""
    good = "{}" if form is OBJECT else GOOD
    said = iter([Scripted(text, usage=None), good])
    world = World({"a": lambda ask: next(said)}, cap=10**6)
    run = world.run(Solo("a"), wanted(form))
    assert (run.answer.text, run.answer.error, run.calls) == (good, None, 2)
    question = world.pool.asks[1].messages
    assert [m.role for m in question] == ["user", "assistant", "user"]
    assert question[1].text == text
    assert told in question[2].text
    assert world.pool.asks[1].response_format == form
    (choice,) = world.choices(run)
    assert (choice.picked, choice.by) == ("ask a to repair it", "response format")
    assert told in choice.reason
    assert "repaired once" in run.answer.why


def test_a_repair_replays():
    """Both asks and the choice stand at addresses of their own, so the record alone gives the same answer."""
    world = World({"a": [WRONG, GOOD]})
    run = world.run(Solo("a"), wanted())
    again = asyncio.run(world.engine.replay(run.id, Solo("a")))
    assert (again.answer.text, again.answer.at, again.missing) == (GOOD, "2", ())
    assert [e.at for e in world.store.events(run.id) if e.kind in ("asked", "chose")] == ["0", "1", "2"]


def test_a_repair_that_does_not_fit_is_an_error():
    """After one repair the run fails with `misfit`, saying what was wrong both times; nothing is made up."""
    world = World({"a": [WRONG, '{"name": 1}', GOOD]})
    run = world.run(Solo("a"), wanted())
    assert run.calls == 2
    assert run.answer.error is not None
    assert run.answer.error.kind == "misfit"
    assert 'not of type "integer"' in run.answer.error.message
    assert "required property" in run.answer.error.message
    again = asyncio.run(world.engine.replay(run.id, Solo("a")))
    assert again.answer.error is not None
    assert (again.answer.error.kind, again.missing) == ("misfit", ())


def test_a_repair_stays_within_the_limits():
    """A caller who allows one call gets no second one, but the error."""
    world = World({"a": [WRONG, GOOD]})
    run = world.run(Solo("a"), wanted(limits=Limits(calls=1)))
    assert run.calls == 1
    assert run.answer.error is not None
    assert run.answer.error.kind == "misfit"
    assert "not repaired (limit" in run.answer.error.message


# --- in every policy ---


def test_a_fallback_goes_on_to_the_next_worker():
    """An answer that does not fit is a failure like any other: the next in line answers, nothing is repaired."""
    world = World({"a": [WRONG], "b": [GOOD]})
    run = world.run(Fallback(("a", "b")), wanted())
    assert (run.answer.text, run.answer.worker, run.calls) == (GOOD, "b", 2)
    assert "misfit" in world.choices(run)[0].options[0][2]


def test_a_cascade_escalates():
    """A cheap answer that does not fit needs no check."""
    rungs = (Rung.of_worker("a", "verifier"), Rung.of_worker("b", "verifier"))
    world = World({"a": [WRONG], "b": [GOOD], "v": ["yes"]})
    run = world.run(Cascade(rungs, "verifier", verifier="v"), wanted())
    assert (run.answer.text, run.answer.worker) == (GOOD, "b")
    assert [ask.worker for ask in world.pool.asks] == ["a", "b"]


def test_a_member_that_does_not_fit_has_no_vote():
    """Two wrong answers that agree do not outvote one that fits."""
    world = World({"a": [WRONG], "b": [WRONG], "c": [GOOD]})
    run = world.run(Fuse(("a", "b", "c")), wanted())
    assert (run.answer.text, run.answer.worker) == (GOOD, "c")


def test_a_panel_of_misfits_is_repaired():
    """When nobody's answer fits, one of them is repaired instead of failing the run."""
    world = World({"a": [WRONG, GOOD], "b": [WRONG, GOOD]})
    run = world.run(Fuse(("a", "b")), wanted())
    assert (run.answer.text, run.calls) == (GOOD, 3)


def test_judges_and_verifiers_are_not_held_to_the_callers_format():
    """Only steps that speak to the caller are checked; a verifier's yes is no JSON and need not be."""
    rungs = (Rung.of_worker("a", "verifier"), Rung.of_worker("b", "verifier"))
    world = World({"a": [GOOD], "b": ["never asked"], "v": ["yes"]})
    run = world.run(Cascade(rungs, "verifier", verifier="v"), wanted())
    assert (run.answer.text, run.calls) == (GOOD, 2)


# --- streams ---


def test_structured_output_is_not_streamed_before_it_is_checked():
    """A caller never sees an answer that is repaired afterwards."""
    world = World({"a": [WRONG, GOOD]})
    run = world.run(Solo("a"), wanted(), live=True)
    assert (run.answer.text, run.streamed, world.pieces) == (GOOD, False, [])


def test_what_the_upstream_enforces_by_grammar_streams_live():
    """A worker with the ability `grammar` cannot leave the schema, so its pieces leave at once; the end is checked too."""
    card = Card("a", abilities=frozenset({"text", "json", "grammar"}))
    world = World({"a": [GOOD]}, cards={"a": card})
    run = world.run(Solo("a"), wanted(), live=True)
    assert run.streamed
    assert "".join(piece.text for piece in world.pieces) == GOOD == run.answer.text
    world = World({"a": [WRONG, GOOD]}, cards={"a": card})
    run = world.run(Solo("a"), wanted(), live=True)
    assert run.calls == 1  # what has been shown cannot be repaired
    assert run.answer.error is not None
    assert run.answer.error.kind == "misfit"
    again = asyncio.run(world.engine.replay(run.id, Solo("a")))
    assert again.answer.error is not None
    assert (again.answer.error.kind, again.missing) == ("misfit", ())


def test_other_answers_stream_as_ever():
    """Without a response format nothing is held back."""
    world = World({"a": ["plain words"]})
    assert world.run(Solo("a"), replace(wanted(), response_format=None), live=True).streamed


# --- schemas ---


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "nope"},
        {"properties": []},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#/$defs/nobody"},
        {"pattern": "("},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_anything_is_called(bad):
    """Invalid schemas, and those that lie elsewhere (never fetched, from no network and no disk), are the caller's mistake."""
    world = World({"a": [GOOD]})
    with pytest.raises(RequestError, match="schema` cannot be used") as refused:
        world.run(Solo("a"), wanted(schema(bad)))
    assert refused.value.param == "response_format.json_schema.schema"
    assert world.pool.asks == []
    with pytest.raises(RequestError):
        world.engine.preview(Solo("a"), wanted(schema(bad)))


def test_a_pattern_cannot_hold_the_gateway_up():
    """A regular expression that would take for ever by backtracking gives up: the answer counts as a misfit."""
    world = World({"a": [json.dumps("a" * 40 + "!"), '"aa"']})
    run = world.run(Solo("a"), wanted(schema({"type": "string", "pattern": r"^(?=a)(a|aa)+\1?$"})))
    assert run.answer.text == '"aa"'


# --- abilities ---


IMAGE = Part("image_url", data={"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("lacking", "request_"),
    [
        ("json", wanted()),
        ("json", wanted(OBJECT)),
        ("tools", Request(messages=(Message("user", "hi"),), tools=(TOOL,))),
        ("vision", Request(messages=(Message("user", (Part("text", "what?"), IMAGE)),))),
    ],
)
def test_workers_that_cannot_are_left_out_with_the_reason(lacking, request_):
    """What a request needs is a hard filter in every policy: who lacks it is on record; nobody left is an error."""
    every = frozenset({"text", "json", "tools", "vision"})
    cards = {"poor": Card("poor", abilities=every - {lacking}), "able": Card("able", abilities=every)}
    world = World(
        {"poor": [GOOD], "able": ["{}" if request_.response_format == OBJECT else GOOD]}, cards=cards
    )
    run = world.run(Fallback(("poor", "able")), request_)
    assert run.answer.worker == "able"
    (opened,) = [e for e in world.store.events(run.id) if e.kind == "opened"]
    assert [(d.worker, d.reason) for d in opened.denied] == [("poor", f"cannot do {lacking}")]
    asked_for = world.run(Solo("poor"), request_).answer.error
    assert asked_for == Failure(
        "denied", f"worker 'poor' is not among those this request may use: cannot do {lacking}"
    )
    alone = World({"poor": [GOOD]}, cards={"poor": cards["poor"]})
    with pytest.raises(NoCandidate, match=f"poor: cannot do {lacking}"):
        alone.run(Solo("poor"), request_)


# --- schemas that would never end ---


def doubled(levels, **last):
    """A schema of so many levels that looks at everything twice in each of them."""
    parts = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**parts, f"d{levels}": last}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "endless",
    [
        doubled(40, type="string"),
        {"allOf": [{"$ref": "#"}]},
        {
            "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{k}"} for k in range(12)]} for i in range(12)},
            "$ref": "#/$defs/d0",
        },
    ],
)
def test_a_schema_that_would_stop_the_gateway_is_refused(endless):
    """Its check would take longer than anybody lives, in the one thread that serves everyone."""
    world = World({"a": ['"x"']})
    with pytest.raises(RequestError, match="combine fewer alternatives"):
        world.run(Solo("a"), wanted(schema(endless)))
    assert world.pool.asks == []


def test_a_recursive_schema_holds_for_what_can_be_checked():
    """One that forks at each level checks answers of usual depth; too deep a one is told so, and never checked."""
    side = {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}
    operation = {"type": "object", "properties": {"left": side, "right": side}, "required": ["left", "right"]}
    tree = {
        "anyOf": [
            {**operation, "properties": {**operation["properties"], "op": {"const": op}}, "required": ["op"]}
            for op in ("+", "*")
        ]
    }

    def answer(levels):
        return 1 if not levels else {"op": "*", "left": answer(levels - 1), "right": 2}

    shape = Shape.of(wanted(schema(tree)))
    assert shape.complaint(json.dumps(answer(5))) == ""
    assert shape.complaint(json.dumps({"op": "-"})) != ""
    assert "nested too deeply" in shape.complaint(json.dumps(answer(40)))
    chain = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    long = Shape.of(wanted(schema(chain)))
    assert long.complaint('{"next": ' * 200 + "{}" + "}" * 200) == ""


def test_references_by_name_are_followed():
    """Anchors, ids and pointers with escapes are counted as what they stand for; what leads nowhere that is known is refused."""
    plain = {"$id": "https://x.example/s", "$defs": {"a/b": {"$anchor": "n", "type": "string"}}}
    for ref in ("#n", "#/$defs/a~1b", "https://x.example/s#n"):
        assert Shape.of(wanted(schema({**plain, "properties": {"a": {"$ref": ref}}}))).complaint('{"a": 1}')
