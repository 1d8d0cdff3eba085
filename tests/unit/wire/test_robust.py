"""No request and no upstream can break a format: what is wrong is a 400 that names its field, or a failure that is data.

Rich requests, answers and streams (rich.json) are damaged at random: values replaced, moved, left out, put in twice. Each
damage is drawn from one number, so a failing case needs no long search for a smaller one.
"""

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Answer, Card, Delta, Message, Thought, ToolCall, Usage
from stretto.wire import format_named
from stretto.wire.base import Completion, Format, Incoming
from tests.dialects import ALL

RICH = json.loads(Path(__file__).with_name("rich.json").read_bytes())
WORDS = "text tools json vision logprobs embedding reasoning grammar custom hosted"
CARDS = (Card("w", abilities=frozenset(WORDS.split())), Card("w"))
RUN = "run_" + 32 * "0"
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        5,
        2**62,
        1.5,
        1e308,
        "",
        "x",
        "stop",
        "\x00",
        "data:",
        "\U0001f600",
        "a" * 70,
    ),
    *(
        [],
        {},
        [[]],
        [{}],
        {"a": 1},
        [None],
        ["x"],
        [1],
        {"type": "x"},
        {"type": []},
        {"type": {}},
        {"": None},
    ),
    *("message", "reasoning", "function", "custom", "function_call", "tool_use", "text", "image", "thinking"),
    *(
        "assistant",
        "tool",
        "system",
        "allowed_tools",
        "namespace",
        {"name": []},
        {"type": "text", "text": "q"},
    ),
]
NAMES = ("type", "id", "name", "index", "content", "input", "text", "extra", "betas", "tool_fields")
DEEP = "[" * 300 + "]" * 300
numbers = st.integers(0, 2**32)


def form(name: str) -> Format:
    """A format by its name."""
    found = format_named(name)
    assert found is not None
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something, by its path."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What stands there."""
    for step in path:
        value = value[step]
    return value


def damaged(value: Any, draw: random.Random) -> Any:
    """A copy with one to three damages."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        known = places(value)
        if not known:
            break
        *way, last = draw.choice(known)
        holder = at(value, tuple(way))
        kind = draw.random()
        if kind < 0.15:
            del holder[last]
        elif kind < 0.3:
            holder[last] = copy.deepcopy(at(value, draw.choice(known)))
        elif kind < 0.4 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(draw.choice(ODD)))
        elif kind < 0.5 and isinstance(holder, dict):
            holder[draw.choice(NAMES)] = copy.deepcopy(draw.choice(ODD))
        else:
            holder[last] = copy.deepcopy(draw.choice(ODD))
    return value


def callers() -> list[tuple[Format, Incoming]]:
    """One caller of each conversational format, who wants to see everything."""
    body: dict[str, Any] = {"model": "m", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    thinks = {"max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    return [
        (
            form(name),
            form(name).parse_request(orjson.dumps({**body, **(thinks if name == "messages" else {})})),
        )
        for name in ALL
    ]


def hand_on(found: Completion, deltas: list[Delta]) -> None:
    """An answer that was taken for one can be told to everybody, whole and as a stream."""
    if found.error is not None or found.embeddings:
        return
    answer = Answer(found.message, found.finish, logprobs=found.logprobs)
    for speaks, incoming in callers():
        orjson.loads(speaks.render_response(RUN, 1, incoming, answer, Usage(), Usage(), None))
        writer = speaks.stream(RUN, 1, incoming)
        writer.deltas(deltas)
        writer.end(answer, Usage(), Usage(), None)


@pytest.mark.parametrize("name", RICH["requests"])
@settings(max_examples=60)
@given(numbers)
def test_a_damaged_request_is_refused_by_name_or_can_be_asked_and_answered(name: str, number: int) -> None:
    """Nothing but `RequestError` comes of reading it, nothing but `ValueError` of asking an upstream of any format."""
    draw, speaks = random.Random(number), form(name)
    raw = damaged(draw.choice(RICH["requests"][name]), draw)
    try:
        incoming = speaks.parse_request(orjson.dumps(raw))
    except RequestError as error:
        orjson.loads(speaks.render_error(str(error), "invalid_request_error", None, error.param))
        return
    if name == "embeddings":
        return
    ask = Ask("w", speaks=True).bound(incoming.request, "0")
    for upstream in ALL:
        for card in CARDS:
            with contextlib.suppress(ValueError):
                form(upstream).render_ask(ask, "m", card, stream=True, lacks=frozenset(), renames={})
    thought = Thought("t", "s", wire="messages")
    message = Message("assistant", "x", (ToolCall("a", "f", "{}"),), reasoning="t", thoughts=(thought,))
    answer = Answer(message, "tool_calls")
    orjson.loads(speaks.render_response(RUN, 1, incoming, answer, Usage(), Usage(), None))
    speaks.stream(RUN, 1, incoming).end(answer, Usage(), Usage(), None)


@pytest.mark.parametrize("name", RICH["replies"])
@settings(max_examples=60)
@given(numbers)
def test_a_damaged_answer_is_read_or_called_a_failure(name: str, number: int) -> None:
    """And what is read of it every caller can be told."""
    draw, speaks = random.Random(number), form(name)
    raw = orjson.dumps(damaged(draw.choice(RICH["replies"][name]), draw))
    hand_on(speaks.parse_reply(raw, "embedding" if name == "embeddings" else "text"), [])
    speaks.parse_failure(raw)


@pytest.mark.parametrize("name", [name for name, streams in RICH["streams"].items() if streams])
@settings(max_examples=60)
@given(numbers)
def test_a_damaged_stream_is_read_or_called_a_failure(name: str, number: int) -> None:
    """And what is read of it every caller can be told, also piece by piece."""
    draw, reader = random.Random(number), form(name).reader()
    deltas: list[Delta] = []
    for event in damaged(draw.choice(RICH["streams"][name]), draw):
        reader.feed(orjson.dumps(event), deltas)
    hand_on(reader.result(), deltas)


@pytest.mark.parametrize("name", ["chat", "messages", "responses", "completions"])
def test_nesting_without_end_is_a_failure(name: str) -> None:
    """JSON that could be read but not written again is refused when it is read, in whatever place it stands."""
    for raw in RICH["streams"][name][0]:
        reader = form(name).reader()
        reader.feed(orjson.dumps(raw)[:-1] + b',"deep":' + DEEP.encode() + b"}", [])
        assert reader.error is not None
        assert "nested" in reader.error.message


@pytest.mark.parametrize("client", ALL)
def test_arguments_nested_without_end_are_handed_on_as_text(client: str) -> None:
    """A call's arguments are the model's own words: where they must be an object, they are one that holds the text."""
    message = {"tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": DEEP}}]}
    body = {
        "choices": [{"message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}]
    }
    hand_on(form("chat").parse_reply(orjson.dumps(body), "text"), [])


BAD: list[tuple[str, dict[str, Any], str]] = [
    (
        "chat",
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": 1}}},
        "allowed_tools.tools",
    ),
    ("chat", {"tool_choice": {"type": "function", "function": {"name": 1}}}, "tool_choice.function.name"),
    ("chat", {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "parameters"),
    ("chat", {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        "responses",
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": 1}}},
        "allowed_tools.tools",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "search_result", "content": 1}]}]},
        "messages[0].content[0].content",
    ),
]


@pytest.mark.parametrize(("name", "fields", "param"), BAD)
def test_what_is_wrong_is_named(name: str, fields: dict[str, Any], param: str) -> None:
    """Found by damage, kept as examples: each was a crash."""
    body = {"model": "m", "input": "x", "messages": [{"role": "user", "content": "x"}], **fields}
    with pytest.raises(RequestError) as refused:
        form(name).parse_request(orjson.dumps(body))
    assert (refused.value.param or "").endswith(param)
