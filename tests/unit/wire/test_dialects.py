"""Every client format against every upstream format: a request means the same on arrival, whatever its caller speaks."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.steps import Ask
from stretto.types import Card
from stretto.wire import format_named
from stretto.wire.base import Rendered
from tests.dialects import ALL, HEAR, MODES, SPEAK, Piece, Talk, same, speak_chat

ABLE = Card("w", abilities=frozenset({"text", "tools", "json", "vision"}))
PLACE = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
TOOLS = (("look", "Look there.", PLACE), ("go", "", {"type": "object", "properties": {}}))
PNG = "data:image/png;base64,iVBORw0KGgo="
WEB = "https://example.org/a.png"

QUESTION: tuple[Piece, ...] = (("user", "text", "where?"),)
LOOP: tuple[Piece, ...] = (
    *QUESTION,
    ("assistant", "text", "I look."),
    ("call", "call_1", "look", '{"at": "map"}'),
    ("call", "call_2", "go", "{}"),
    ("result", "call_1", "here"),
    ("result", "call_2", ""),
)

TALKS = {
    "text": Talk(QUESTION),
    "system": Talk(QUESTION, ("Be short.",)),
    "system and developer": Talk(QUESTION, ("Be short.", "In English.")),
    "images": Talk((*QUESTION, ("user", "image", PNG), ("user", "image", WEB), ("user", "text", "this?"))),
    "turns": Talk((*QUESTION, ("assistant", "text", "There."), ("user", "text", "sure?"))),
    "tools": Talk(QUESTION, tools=TOOLS),
    "auto": Talk(QUESTION, tools=TOOLS, choice="auto"),
    "none": Talk(QUESTION, tools=TOOLS, choice="none"),
    "a call is required": Talk(QUESTION, tools=TOOLS, choice="required"),
    "this tool is required": Talk(QUESTION, tools=TOOLS, choice="look"),
    "one call at a time": Talk(QUESTION, tools=TOOLS, choice="auto", parallel=False),
    "parallel calls and their results": Talk(LOOP, tools=TOOLS),
    "a word after the results": Talk((*LOOP, ("user", "text", "quick")), tools=TOOLS),
    "structured output": Talk(QUESTION, schema=PLACE),
    "a cap": Talk(QUESTION, cap=7),
}


def rendered(client: str, upstream: str, body: dict[str, Any], card: Card = ABLE, **more: Any) -> Rendered:
    """A caller's body as the upstream gets it."""
    one, two = format_named(client), format_named(upstream)
    assert one is not None
    assert two is not None
    ask = Ask("w", speaks=True).bound(one.parse_request(orjson.dumps(body)).request, "0")
    return two.render_ask(ask, "m", card, **{"stream": False, "lacks": frozenset(), "renames": {}, **more})


def arrived(client: str, upstream: str, talk: Talk) -> Talk:
    """What a caller said, as the upstream hears it."""
    return HEAR[upstream](orjson.loads(rendered(client, upstream, SPEAK[client](talk)).body))


def meant(talk: Talk) -> Talk:
    """The same with its arguments in one spelling."""
    pieces = tuple((*p[:3], same(p[3])) if p[0] == "call" else p for p in talk.pieces)
    return replace(talk, pieces=pieces)


@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize("name", TALKS)
def test_a_request_means_the_same_on_arrival(name: str, client: str, upstream: str) -> None:
    """Nothing is lost or dropped between any two formats of what all three can say; images are passed on, not fetched."""
    talk = TALKS[name]
    assert arrived(client, upstream, talk) == meant(talk)
    assert rendered(client, upstream, SPEAK[client](talk)).dropped == ()


# --- the same for conversations that nobody thought of ---

words = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=1, max_size=6)
asked = st.lists(
    st.tuples(st.just("user"), st.just("text"), words)
    | st.tuples(st.just("user"), st.just("image"), st.sampled_from([PNG, WEB])),
    min_size=1,
    max_size=2,
)
arguments = st.dictionaries(words, st.integers(-9, 9) | words, max_size=2).map(
    lambda value: orjson.dumps(value).decode()
)


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """Up to three exchanges, with up to two calls each and their results in order."""
    pieces: list[Piece] = []
    for turn in range(draw(st.integers(0, 2))):
        pieces += draw(asked)
        if text := draw(st.none() | words):
            pieces.append(("assistant", "text", text))
        calls = draw(st.lists(st.tuples(st.sampled_from(["look", "go"]), arguments), max_size=2))
        pieces += [("call", f"c{turn}_{i}", *call) for i, call in enumerate(calls)]
        pieces += [("result", f"c{turn}_{i}", draw(words)) for i in range(len(calls))]
    return Talk(
        (*pieces, *draw(asked)),
        tuple(draw(st.lists(words, max_size=2))),
        TOOLS,
        draw(st.sampled_from(["", *MODES, "look"])),
        schema=draw(st.sampled_from([None, PLACE])),
        cap=draw(st.integers(1, 9999)),
    )


@settings(max_examples=40)
@given(talks())
def test_any_conversation_means_the_same_on_arrival(talk: Talk) -> None:
    """Whatever the client's format, an upstream of each format hears the same."""
    wanted = meant(talk)
    for upstream in ALL:
        for client in ALL:
            assert arrived(client, upstream, talk) == wanted, (client, upstream)


# --- one at a time: what has several names, or none in some format ---


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("upstream", ALL)
def test_the_cap_by_its_other_name(upstream: str, name: str) -> None:
    """Chat's two names mean the same, and become `max_output_tokens` and `max_tokens` where those are the names."""
    body = orjson.loads(rendered("chat", upstream, speak_chat(Talk(QUESTION, cap=7), name)).body)
    names = {"chat": "max_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}
    assert {key: value for key, value in body.items() if "max_" in key} == {names[upstream]: 7}


EFFORTS: dict[str, dict[str, Any]] = {
    "chat": {"reasoning_effort": "medium"},
    "responses": {"reasoning": {"effort": "medium"}},
    "messages": {"thinking": {"type": "enabled", "budget_tokens": 8192}},
}


@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize("client", ALL)
def test_how_hard_to_think(client: str, upstream: str) -> None:
    """An effort, a budget: each becomes the other, for workers that think."""
    card = replace(ABLE, abilities=ABLE.abilities | {"reasoning"})
    spoken = {**SPEAK[client](Talk(QUESTION, cap=30_000)), **EFFORTS[client]}
    body = orjson.loads(rendered(client, upstream, spoken, card).body)
    assert {name: body.get(name) for name in EFFORTS[upstream]} == EFFORTS[upstream]


@pytest.mark.parametrize(
    ("upstream", "said", "dropped"),
    [
        ("chat", {"response_format": {"type": "json_object"}}, ()),
        ("responses", {"text": {"format": {"type": "json_object"}}}, ()),
        ("messages", {}, ("response_format",)),
    ],
)
@pytest.mark.parametrize("client", ["chat", "responses"])
def test_json_mode(client: str, upstream: str, said: dict[str, Any], dropped: tuple[str, ...]) -> None:
    """It goes out where there is a word for it, else it is dropped and named. (The answer is checked here in any case.)"""
    mode = {"type": "json_object"}
    more = {"response_format": mode} if client == "chat" else {"text": {"format": mode}}
    found = rendered(client, upstream, {**SPEAK[client](Talk(QUESTION)), **more})
    body = orjson.loads(found.body)
    assert {name: body[name] for name in ("response_format", "text", "output_config") if name in body} == said
    assert found.dropped == dropped


@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize("client", ALL)
def test_what_a_worker_lacks_is_dropped_and_named(client: str, upstream: str) -> None:
    """Tools and structured output do not reach a worker that has neither, and the receipt will say so."""
    talk = Talk(QUESTION, tools=TOOLS, choice="required", parallel=False, schema=PLACE)
    found = rendered(client, upstream, SPEAK[client](talk), Card("w"))
    heard = HEAR[upstream](orjson.loads(found.body))
    assert (heard.tools, heard.schema, heard.choice) == ((), None, "")
    assert {"tools", "response_format"} <= set(found.dropped)


@pytest.mark.parametrize("upstream", ALL)
def test_pictures_in_a_result_reach_everybody(upstream: str) -> None:
    """A tool's result may hold a picture; where results are text only, it comes right after them, said by the user."""
    picture = {"type": "image", "source": {"type": "url", "url": WEB}}
    body = SPEAK["messages"](Talk((*QUESTION, ("call", "c1", "look", "{}")), tools=TOOLS))
    content = [{"type": "text", "text": "here"}, picture]
    body["messages"].append(
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": content}]}
    )
    sent = orjson.loads(rendered("messages", upstream, body).body)
    whole = orjson.dumps(sent)
    assert whole.count(WEB.encode()) == 1
    if upstream == "chat":
        assert [m["role"] for m in sent["messages"]][-2:] == ["tool", "user"]
    assert b"here" in whole


@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize("client", ["chat", "responses"])
def test_a_refusal_stays_in_the_history(client: str, upstream: str) -> None:
    """What a model refused is heard again by the next one, whatever it speaks."""
    body = SPEAK[client](Talk(QUESTION))
    if client == "chat":
        body["messages"] += [{"role": "assistant", "content": None, "refusal": "I will not."}]
        body["messages"] += [{"role": "user", "content": "why?"}]
    else:
        part = {"type": "refusal", "refusal": "I will not."}
        body["input"] += [{"type": "message", "role": "assistant", "content": [part]}]
        body["input"] += [{"role": "user", "content": "why?"}]
    assert b"I will not." in rendered(client, upstream, body).body
