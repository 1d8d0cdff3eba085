"""Anthropic Messages as callers stream it: the order of events, blocks one after the other, and what ends a stream."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.types import Answer, Delta, Message, Part, Request, Thought, ToolCall, Usage
from stretto.wire import messages
from stretto.wire.base import Incoming, delta_of
from stretto.wire.sse import SseParser

STREAM = (Path(__file__).parents[2] / "golden" / "messages_stream.txt").read_bytes()
THINKS = {"thinking": {"type": "adaptive"}}
NOBODY = (Usage(), Usage())


def writer(**extra: Any) -> Any:
    request = Request(messages=(), model="asked", extra=extra, wire="messages")
    return messages.stream("run_0a", 7, Incoming(request, stream=True))


def told(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each has its name twice, and they agree."""
    found = []
    for event in SseParser().feed(data):
        raw = orjson.loads(event.data)
        assert event.name is not None
        assert event.name.decode() == raw["type"]
        found.append(raw)
    return found


def blocks_of(data: bytes) -> list[dict[str, Any]]:
    """The content blocks of a whole stream, put together as the SDKs do; checks the order of its events on the way."""
    events = [event for event in told(data) if event["type"] != "ping"]
    assert [e["type"] for e in events].count("message_start") == 1
    assert events[0]["type"] == "message_start"
    assert [e["type"] for e in events[-2:]] == ["message_delta", "message_stop"]
    found: list[dict[str, Any]] = []
    opened = False
    for event in events[1:-2]:
        kind = event["type"]
        assert opened is (kind != "content_block_start")
        if kind == "content_block_start":
            assert event["index"] == len(found)
            found.append({**event["content_block"], "arguments": ""})
            opened = True
            continue
        assert event["index"] == len(found) - 1
        if kind == "content_block_stop":
            opened = False
            continue
        delta = dict(event["delta"])
        kind = delta.pop("type")
        (field, piece), *_ = delta.items()
        assert kind == {"partial_json": "input_json"}.get(field, field) + "_delta"
        field = {"partial_json": "arguments"}.get(field, field)
        found[-1][field] += piece
    assert not opened
    for block in found:
        given = block.pop("arguments")
        if block["type"] == "tool_use":
            block["input"] = orjson.loads(given or "{}")
    return found


def streamed(
    deltas: list[Delta], message: Message, finish: str = "stop", **extra: Any
) -> list[dict[str, Any]]:
    writes = writer(**extra)
    return blocks_of(
        b"".join(writes.deltas([d]) for d in deltas) + writes.end(Answer(message, finish), *NOBODY, None)
    )


def test_a_text_stream_event_by_event() -> None:
    """Start with usage, one block, the end with the stop reason, full usage and the `stretto` block."""
    writes = writer()
    data = writes.deltas([Delta("Hel"), Delta("lo")]) + writes.keep_alive()
    answer = Answer(Message("assistant", "Hello"))
    data += writes.end(answer, Usage(12, 5, 2), Usage(10, 4, 2), {"run_id": "run_0a"})
    found = told(data)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "ping",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = found[0]["message"]
    assert (start["id"], start["model"], start["content"], start["stop_reason"]) == (
        "msg_0a",
        "asked",
        [],
        None,
    )
    assert start["usage"]["input_tokens"] == 0
    assert found[2]["delta"] == {"type": "text_delta", "text": "Hel"}
    assert found[6]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[6]["usage"]["input_tokens"] == 10
    assert found[6]["usage"]["orchestration_output_tokens"] == 1
    assert found[6]["stretto"] == {"run_id": "run_0a"}


def test_a_recorded_stream_comes_through_whole() -> None:
    """What an upstream of this format streamed reaches the caller block for block, live and in one piece."""
    reader = messages.reader()
    deltas: list[Delta] = []
    for event in SseParser().feed(STREAM):
        reader.feed(event.data, deltas)
    message, finish = reader.result().message, reader.result().finish
    expected = [
        {
            "type": "thinking",
            "thinking": "Two cities, two calls.",
            "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h",
        },
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
        {"type": "text", "text": "I look at both: é…"},
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "toolu_02", "name": "now", "input": {}},
    ]
    for extra in ({}, THINKS):
        assert streamed(deltas, message, finish, **extra) == expected
        assert streamed([delta_of(message)], message, finish, **extra) == expected
        assert (
            messages.answer_blocks(message, messages.showing(Request(messages=(), extra=extra))) == expected
        )


def test_calls_whose_pieces_come_mixed_are_sent_one_by_one() -> None:
    """Blocks cannot be reopened, so a call waits until the one before it is complete."""
    deltas = [
        Delta(tool_calls=((0, "a", "f", '{"x"'),)),
        Delta(tool_calls=((1, "b", "g", '{"y":'),)),
        Delta(tool_calls=((2, "c", "h", ""), (0, "", "", ":1}"))),
        Delta(tool_calls=((1, "", "", "2}"), (2, "", "", "{}"))),
    ]
    found = streamed(deltas, Message("assistant", None, (ToolCall("a", "f", "{}"),)), "tool_calls")
    assert [(b["id"], b["name"], b["input"]) for b in found] == [
        ("a", "f", {"x": 1}),
        ("b", "g", {"y": 2}),
        ("c", "h", {}),
    ]


def test_progress_is_a_block_of_its_own_before_the_answer() -> None:
    """Those who asked to see thinking see progress, closed with a mark before the answer begins; others see pings only."""
    writes = writer(**THINKS)
    data = (
        writes.keep_alive()
        + writes.progress("asking a")
        + writes.progress(", b")
        + writes.deltas([Delta("x")])
    )
    assert writes.progress("too late") == b""
    data += writes.end(Answer(Message("assistant", "x")), *NOBODY, None)
    assert blocks_of(data) == [
        {"type": "thinking", "thinking": "asking a, b", "signature": "stretto-progress"},
        {"type": "text", "text": "x"},
    ]
    assert writer().progress("asking a") == b""
    assert writer(thinking={"type": "adaptive", "display": "omitted"}).progress("asking a") == b""


def test_reasoning_without_a_seal_is_shown_if_it_is_wanted() -> None:
    """A worker of another format reasons in the open: its text is marked as nobody's, or left out."""
    deltas = [Delta(reasoning="hm"), Delta(reasoning="m"), Delta("x")]
    message = Message("assistant", "x", reasoning="hmm")
    assert streamed(deltas, message, **THINKS)[0] == {
        "type": "thinking",
        "thinking": "hmm",
        "signature": "stretto-reasoning",
    }
    assert [b["type"] for b in streamed(deltas, message)] == ["text"]


def test_seals_of_another_format_travel_along_if_thinking_is_wanted() -> None:
    """Encrypted reasoning of a Responses worker goes out as a signature, comes back as what it was, and is hidden otherwise."""
    thought = Thought("sum", sealed="enc", id="rs_1", wire="responses", worker="gpt")
    deltas = [Delta(reasoning="sum"), Delta(thoughts=(thought,)), Delta("x")]
    message = Message("assistant", "x", reasoning="sum", thoughts=(thought,))
    shown = streamed(deltas, message, **THINKS)
    history = [{"role": "user", "content": "q"}, {"role": "assistant", "content": shown}]
    back = messages.parse_request(orjson.dumps({"model": "m", "messages": history})).request.messages[1]
    assert (back.thoughts, back.reasoning) == ((thought,), "sum")
    assert [b["type"] for b in streamed(deltas, message)] == ["text"]


def test_the_vendor_s_own_tools_are_shown_in_one_piece() -> None:
    """A block that only this format knows is sent whole; one that no client of it knows is left out."""
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    parts = (Part("server_tool_use", "", use), Part("item", "", {"type": "item"}))
    found = streamed([Delta("a"), Delta(parts=parts), Delta("b")], Message("assistant", "ab"))
    assert [b["type"] for b in found] == ["text", "server_tool_use", "text"]


def test_an_error_ends_a_stream_without_an_end() -> None:
    """The error event is the last one: there is no `message_stop` that a client could take for the end."""
    writes = writer()
    data = writes.deltas([Delta("so far")]) + writes.error("gone", "server_error", "upstream_overloaded")
    found = told(data)
    assert [event["type"] for event in found][-1] == "error"
    assert "message_stop" not in [event["type"] for event in found]
    assert found[-1]["error"]["type"] == "overloaded_error"
    assert found[-1]["error"]["message"] == "gone"


@pytest.mark.parametrize(
    ("type", "code", "kind"),
    [
        ("invalid_request_error", "model_not_found", "not_found_error"),
        ("invalid_request_error", "request_too_large", "request_too_large"),
        ("invalid_request_error", None, "invalid_request_error"),
        ("authentication_error", "invalid_api_key", "authentication_error"),
        ("permission_error", "forbidden", "permission_error"),
        ("insufficient_quota", "limit_reached", "rate_limit_error"),
        ("server_error", "timeout", "timeout_error"),
        ("server_error", "upstream_error", "api_error"),
    ],
)
def test_errors_have_anthropic_s_types(type: str, code: str | None, kind: str) -> None:
    """An error's type is one that Anthropic's SDKs know; our own code stands beside it."""
    found = orjson.loads(messages.render_error("text", type, code, "field"))
    assert found == {
        "type": "error",
        "error": {"type": kind, "message": "text", "code": code, "param": "field"},
    }


words = st.text(max_size=4)
calls = st.integers(0, 2)


def a_call(index: int, arguments: str) -> Delta:
    return Delta(tool_calls=((index, f"id{index}", "f", ""), (index, "", "", arguments)))


def once(deltas: list[Delta]) -> list[Delta]:
    """Each call begins once, as readers promise."""
    begun: set[Any] = set()
    found = []
    for delta in deltas:
        call = delta.tool_calls[0][:2] if delta.tool_calls else None
        if call is None or call not in begun:
            found.append(delta)
        begun.add(call)
    return found


pieces = st.lists(
    st.builds(Delta, words)
    | st.builds(lambda r: Delta(reasoning=r), words)
    | st.builds(lambda t: Delta(thoughts=(Thought(t, "sig", wire="messages"),)), words)
    | st.builds(lambda t: Delta(thoughts=(Thought(sealed="x" + t, wire="messages"),)), words)
    | st.builds(
        lambda i, a: Delta(tool_calls=((i, f"id{i}", "f", ""), (i, "", "", a))),
        calls,
        st.sampled_from(["{}", '{"a":1}']),
    )
    | st.builds(lambda i: Delta(tool_calls=((i, "", "", ""),)), calls),
    max_size=8,
)


@given(pieces, st.sampled_from([{}, THINKS]), st.integers(0, 8))
def test_any_pieces_make_a_well_formed_stream(deltas: list[Delta], extra: dict[str, Any], beats: int) -> None:
    """Whatever comes in which order, blocks are opened, filled and closed one after the other; all text arrives."""
    deltas, writes, data = once(deltas), writer(**extra), b""
    for at, delta in enumerate(deltas):
        data += writes.keep_alive() if at == beats else b""
        data += writes.deltas([delta])
    data += writes.end(Answer(Message("assistant", "")), *NOBODY, None)
    found = blocks_of(data)
    assert "".join(b["text"] for b in found if b["type"] == "text") == "".join(d.text for d in deltas)
    assert all(b["signature"] for b in found if b["type"] == "thinking")
