"""OpenAI Responses towards workers: what they are sent, and how what they answer is read, whole and in pieces."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.steps import Ask
from stretto.types import (
    Answer,
    Card,
    Delta,
    Failure,
    Message,
    Part,
    Request,
    Thought,
    TokenLogprob,
    ToolCall,
    Usage,
)
from stretto.wire import chat, responses
from stretto.wire.base import Completion, Rendered
from stretto.wire.responses_items import ITEM
from stretto.wire.sse import SseParser
from stretto.wire.tools import Unwrapping
from tests.acceptance.responses_events import events_of, faults

GOLDEN = Path(__file__).parents[2] / "golden"
CARD = Card("w", abilities=frozenset({"text", "tools", "json", "logprobs"}))
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PATCH = {"type": "custom", "custom": {"name": "patch"}}
SPACE = {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]}


def rendered(ask: Ask, card: Card = CARD, **more: Any) -> tuple[dict[str, Any], Rendered]:
    found = responses.render_ask(ask, "up", card, **more)
    return orjson.loads(found.body), found


def answered(**fields: Any) -> Completion:
    return responses.parse_reply(orjson.dumps({"status": "completed", **fields}), "text")


def said(*texts: str) -> list[dict[str, Any]]:
    parts = [{"type": "output_text", "text": text} for text in texts]
    return [{"type": "message", "id": "msg_1", "role": "assistant", "content": parts}]


def read(*events: Any) -> tuple[Completion, list[Delta]]:
    reader, deltas = responses.reader(), list[Delta]()
    for event in events:
        reader.feed(event if isinstance(event, bytes) else orjson.dumps(event), deltas)
    return reader.result(), deltas


# --- asks --------------------------------------------------------------------------------------------------------


def test_a_chat_request_in_this_format() -> None:
    """Chat's parameters go where this format has them; what it does not have is dropped and named."""
    ask = Ask(
        "w",
        (Message("system", "s"), Message("user", "u")),
        max_tokens=20,
        params={"temperature": 0, "stop": ["x"], "seed": 1, "reasoning_effort": "low", "verbosity": "low"},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        extra={"logit_processor": 1},
    )
    body, found = rendered(ask, stream=True)
    assert body == {
        "model": "up",
        "store": False,
        "instructions": "s",
        "input": [{"type": "message", "role": "user", "content": "u"}],
        "temperature": 0,
        "max_output_tokens": 20,
        "reasoning": {"effort": "low"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
        },
        "stream": True,
    }
    assert (found.path, found.dropped) == ("/responses", ("stop", "seed"))


def test_tools_of_a_worker_that_knows_functions_only() -> None:
    """Custom tools and namespaces become functions, in the history too; what the provider would run is dropped and named."""
    messages = (
        Message("user", "u"),
        Message("assistant", None, (ToolCall("a", "patch", "raw", "custom"), ToolCall("b", "ns__g", "{}"))),
        Message("tool", "ok", tool_call_id="a"),
    )
    ask = Ask("w", messages, tools=(FUNCTION, PATCH, SPACE, {"type": "web_search"}), wire="responses")
    body, found = rendered(ask)
    assert [tool["name"] for tool in body["tools"]] == ["f", "patch", "ns__g"]
    assert {tool["type"] for tool in body["tools"]} == {"function"}
    assert (found.custom, found.dropped) == ({"patch"}, ("tools.web_search",))
    assert body["input"][1:] == [
        {"type": "function_call", "call_id": "a", "name": "patch", "arguments": '{"input":"raw"}'},
        {"type": "function_call", "call_id": "b", "name": "ns__g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "ok"},
    ]
    body, found = rendered(ask, replace(CARD, abilities=CARD.abilities | {"custom", "hosted"}))
    assert [tool["type"] for tool in body["tools"]] == ["function", "custom", "namespace", "web_search"]
    assert body["input"][2] == {
        "type": "function_call",
        "call_id": "b",
        "namespace": "ns",
        "name": "g",
        "arguments": "{}",
    }
    assert [item["type"] for item in body["input"]][-1] == "custom_tool_call_output"


def test_a_function_of_chat_s_is_not_strict_unless_it_says_so() -> None:
    """Here a function that says nothing may be taken as strict, in Chat Completions it is not."""
    assert rendered(Ask("w", (), tools=(FUNCTION,)))[0]["tools"][0]["strict"] is False
    own = Ask("w", (), tools=(FUNCTION,), wire="responses")
    assert "strict" not in rendered(own)[0]["tools"][0]


def test_only_seals_of_this_format_go_back() -> None:
    """Sealed reasoning goes back with its id; other formats' seals do not, readable reasoning only to those who take it."""
    thoughts = (
        Thought("t", sealed="S", id="rs_1", wire="responses"),
        Thought("x", signature="sig", wire="messages"),
    )
    ask = Ask("w", (Message("assistant", "a", reasoning="t", thoughts=thoughts),))
    assert rendered(ask)[0]["input"][0] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "t"}],
        "encrypted_content": "S",
    }
    ask = Ask("w", (Message("assistant", "a", reasoning="t", thoughts=thoughts[1:]),))
    assert [item["type"] for item in rendered(ask)[0]["input"]] == ["message"]
    body, _ = rendered(ask, replace(CARD, abilities=CARD.abilities | {"reasoning"}))
    assert body["input"][0]["content"] == [{"type": "reasoning_text", "text": "t"}]


def test_what_only_this_format_knows_stays_away_from_other_callers_asks() -> None:
    """Raw items, unknown parts and fields go out for callers who spoke this format; for others they are left out."""
    odd = Message("user", (Part("text", "t", extra={"x": 1}), Part("odd", data={"type": "odd"})))
    raw = Message("assistant", (Part(ITEM, data={"type": "mcp_call", "id": "m"}),))
    for wire, count in (("responses", 2), ("chat", 1)):
        body, _ = rendered(Ask("w", (odd, raw), extra={"unknown": 1}, wire=wire))
        assert len(body["input"]) == count
        assert len(body["input"][0]["content"]) == count
        assert ("unknown" in body) == ("x" in body["input"][0]["content"][0]) == (wire == "responses")


def test_what_a_worker_lacks_is_dropped_and_named() -> None:
    """By the card's abilities, and by the names of parameters that the worker does not know."""
    ask = Ask(
        "w",
        (Message("user", "u"),),
        want="logprobs",
        params={"temperature": 1, "parallel_tool_calls": True},
        tools=(FUNCTION,),
        response_format={"type": "json_object"},
    )
    body, found = rendered(
        ask, replace(CARD, abilities=frozenset({"text"})), lacks=frozenset({"temperature"})
    )
    assert set(body) == {"model", "store", "input"}
    assert set(found.dropped) == {"tools", "temperature", "response_format", "logprobs", "top_logprobs"}
    body, _ = rendered(replace(ask, response_format=None))
    assert (body["include"], body["top_logprobs"]) == (["message.output_text.logprobs"], 1)


def test_vectors_cannot_be_had() -> None:
    """Embeddings and states are asked for elsewhere."""
    with pytest.raises(ValueError, match="embedding"):
        responses.render_ask(Ask("w", (), want="embedding"), "up", CARD)


# --- whole answers -----------------------------------------------------------------------------------------------


def test_everything_that_an_answer_may_hold() -> None:
    """Reasoning with its seal, items of other kinds, annotated text with log-probabilities, calls of every kind, usage."""
    note = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    found = answered(
        model="up-1",
        output=[
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}],
                "encrypted_content": "S",
            },
            {"type": "web_search_call", "id": "ws_1"},
            {
                "type": "message",
                "id": "msg_1",
                "phase": "final_answer",
                "content": [
                    {
                        "type": "output_text",
                        "text": "so",
                        "annotations": [note],
                        "logprobs": [{"token": "so", "logprob": -1, "top_logprobs": []}],
                    }
                ],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": ""},
            {"type": "function_call", "call_id": "b", "namespace": "ns", "name": "g", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "raw"},
        ],
        usage={
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 20,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    )
    assert found.message == Message(
        "assistant",
        (
            Part(ITEM, data={"type": "web_search_call", "id": "ws_1"}),
            Part("text", "so", extra={"annotations": [note]}),
        ),
        (
            ToolCall("a", "f", "{}"),
            ToolCall("b", "ns__g", "{}"),
            ToolCall("c", "patch", "raw", "custom"),
        ),
        reasoning="h\n\nm",
        extra={"responses": {"phase": "final_answer"}},
        thoughts=(Thought("h\n\nm", sealed="S", id="rs_1", wire="responses"),),
    )
    assert (found.finish, found.model, found.error) == ("tool_calls", "up-1", None)
    assert (found.usage, found.logprobs) == (Usage(10, 10, 4, 2), (TokenLogprob("so", -1.0),))


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"output": said("x")}, "stop"),
        (
            {
                "output": said("x"),
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "length",
        ),
        (
            {"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
        ({"output": said("a", "b")}, "stop"),
    ],
)
def test_how_an_answer_ended(fields: dict[str, Any], finish: str) -> None:
    """`incomplete` says why in its details."""
    found = answered(**fields)
    assert (found.finish, found.error) == (finish, None)


@pytest.mark.parametrize(
    ("body", "kind", "retryable"),
    [
        (b"<html>", "protocol", True),
        (b"[]", "protocol", True),
        (b"{}", "protocol", True),
        (b'{"status":"queued","output":[]}', "protocol", True),
        (b'{"status":"completed","output":[]}', "empty", False),
        (b'{"status":"completed","output":[{"type":"reasoning","summary":[]}]}', "empty", False),
        (b'{"status":"failed","error":{"code":"server_error","message":"x"}}', "upstream_error", True),
        (b'{"status":"failed","error":{"code":"rate_limit_exceeded","message":"x"}}', "rate_limited", True),
        (b'{"error":{"code":503,"message":"loading"}}', "overloaded", True),
        (b'{"status":"cancelled","output":[]}', "upstream_error", True),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str, retryable: bool) -> None:
    """Errors with status 200, and what the protocol does not allow, are failures that say whether to try elsewhere."""
    found = responses.parse_reply(body, "text")
    assert found.error is not None
    assert (found.error.kind, found.retryable) == (kind, retryable)


# --- streams -----------------------------------------------------------------------------------------------------


def test_a_server_that_leaves_much_out() -> None:
    """llama.cpp: no `output` at the beginning, no indices, no numbers, events of its own; read all the same."""
    found, deltas = read(
        {"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress"}},
        {"type": "response.in_progress", "response": {"id": "r"}},
        {"type": "response.output_item.added", "item": {"id": "rs_1", "type": "reasoning", "summary": []}},
        {"type": "response.reasoning_text.delta", "item_id": "rs_1", "delta": "hm"},
        {"type": "response.output_item.added", "item": {"id": "msg_1", "type": "message", "content": []}},
        {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text"}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "he"},
        {"type": "llama.timings", "timings": {}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "y"},
        {"type": "response.output_item.done", "item": {"id": "rs_1", "type": "reasoning", "summary": []}},
        {"type": "response.output_item.done", "item": {"id": "msg_1", "type": "message", "content": []}},
        {"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2}}},
    )
    assert [(delta.text, delta.reasoning) for delta in deltas] == [("", "hm"), ("he", ""), ("y", "")]
    assert (found.message, found.usage, found.finish) == (
        Message("assistant", "hey", reasoning="hm"),
        Usage(3, 2),
        "stop",
    )


def test_what_was_not_told_in_pieces_is_told_at_the_end() -> None:
    """Servers that send whole items, or everything with the last event, stream in one piece."""
    call = {"type": "function_call", "id": "fc", "call_id": "a", "name": "f", "arguments": '{"x":1}'}
    item = said("hey")[0]
    ways = [
        [
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 1, "item": call},
            {"type": "response.completed", "response": {}},
        ],
        [{"type": "response.completed", "response": {"output": [item, call]}}],
    ]
    for events in ways:
        found, deltas = read(*events)
        assert "".join(delta.text for delta in deltas) == "hey"
        fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
        assert fragments == [(0, "a", "f", ""), (0, "", "", '{"x":1}')]
        assert found.message == Message("assistant", "hey", (ToolCall("a", "f", '{"x":1}'),))


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ({"type": "error", "code": "server_error", "message": "x"}, "upstream_error"),
        ({"type": "error", "error": {"code": 429, "message": "x"}}, "rate_limited"),
        ({"error": {"code": 503, "message": "x"}}, "overloaded"),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "x"}},
            },
            "rate_limited",
        ),
        ({"type": "response.failed", "response": {}}, "upstream_error"),
        (b"{", "protocol"),
        (b"[]", "protocol"),
    ],
)
def test_failures_inside_a_stream(event: Any, failure: str) -> None:
    """An error event, a failed response, or what is no event ends the stream as a failure; nothing after it counts."""
    text = {"type": "response.output_text.delta", "item_id": "m", "delta": "a"}
    found, deltas = read(text, event, text, {"type": "response.completed", "response": {}})
    assert found.error is not None
    assert found.error.kind == failure
    assert (len(deltas), found.message.text) == (1, "a")


def test_a_stream_without_its_end_is_cut() -> None:
    """Neither `[DONE]` nor the end of the connection says that the answer is complete."""
    text = {"type": "response.output_text.delta", "item_id": "m", "delta": "a"}
    for events in ([text], [text, b"[DONE]"], []):
        found, _ = read(*events)
        assert found.error == Failure("cut", "the stream ended without saying that the answer is complete")


# --- golden exchanges --------------------------------------------------------------------------------------------

EXCHANGES = sorted(GOLDEN.glob("responses_exchange_*.json"))


@pytest.mark.parametrize("path", EXCHANGES, ids=lambda path: path.stem)
def test_golden_exchange(path: Path) -> None:
    """A recorded exchange comes out the same in both directions: request up, stream down, keeping to the specification."""
    exchange = json.loads(path.read_text())
    incoming = responses.parse_request(orjson.dumps(exchange["request"]))
    ask = Ask("w", speaks=True).bound(incoming.request, "0")
    card = Card("w", abilities=frozenset(exchange["abilities"]))
    form: Any = chat if exchange["upstream"] == "chat" else responses
    up = form.render_ask(ask, "m-1", card, stream=True)
    assert json.loads(up.body) == exchange["upstream_request"]
    assert events_through(exchange, form, up) == exchange["events"]
    assert faults(exchange["events"]) == []


def events_through(exchange: dict[str, Any], form: Any, up: Rendered) -> list[dict[str, Any]]:
    """The upstream's recorded events, as the caller gets them."""
    incoming = responses.parse_request(orjson.dumps(exchange["request"]))
    reader = Unwrapping(form.reader(), up.custom)
    writer = responses.ResponsesStream("run_" + "0a" * 16, 1700000001, incoming, clock=lambda: 1700000002)
    out = b""
    for event in exchange["upstream_events"]:
        deltas: list[Delta] = []
        reader.feed(event.encode() if isinstance(event, str) else orjson.dumps(event), deltas)
        out += writer.deltas(deltas)
    found = reader.result()
    usage = found.usage or Usage()
    out += writer.end(Answer(found.message, found.finish, logprobs=found.logprobs), usage, usage)
    return events_of(out)


@pytest.mark.parametrize("path", EXCHANGES, ids=lambda path: path.stem)
def test_a_stream_cut_at_any_byte_is_never_complete(path: Path) -> None:
    """Of a recorded stream only the whole says that the answer is complete."""
    events = json.loads(path.read_text())["events"]
    raw = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)
    whole = SseParser().feed(raw)
    ends = [len(raw)]
    reader, parser, seen = responses.reader(), SseParser(), 0
    for at in range(len(raw)):
        for event in parser.feed(raw[at : at + 1]):
            reader.feed(event.data, [])
            seen += 1
        if reader.finished:
            ends.append(at + 1)
            break
        assert reader.result().error is not None
    assert seen == len(whole)
    assert ends == [len(raw), len(raw)]


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["type", "response", "item", "delta", "output_index", "item_id", "output",
                                         "content", "summary", "error", "usage", "status", "text", "part"]),
                        inner | st.sampled_from(["message", "reasoning", "function_call"]), max_size=5)),
       st.sampled_from(["response.output_item.added", "response.output_item.done", "response.output_text.delta",
                        "response.completed", "response.failed", "response.created", "error",
                        "response.function_call_arguments.delta", "response.reasoning_summary_part.added"]))  # fmt: skip
def test_nothing_that_an_upstream_says_breaks_the_reader(value: Any, kind: str) -> None:
    """Any JSON is read or refused, whole and as an event, never raised about."""
    responses.parse_reply(orjson.dumps(value), "text")
    event = {**value, "type": kind} if isinstance(value, dict) else {"type": kind, "item": value}
    found, _ = read({"type": "response.created"}, event, event)
    assert isinstance(found, Completion)
    read({"type": "response.completed", "response": value})


def test_requests_of_other_formats_come_back_the_same() -> None:
    """A request that came as a chat keeps its messages when a worker of this format is asked."""
    request = Request(messages=(Message("user", "u"), Message("assistant", "a"), Message("user", "v")))
    body, _ = rendered(Ask("w", speaks=True).bound(request, "0"))
    assert responses.parse_request(orjson.dumps(body)).request.messages == request.messages
