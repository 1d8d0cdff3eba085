"""Anthropic Messages towards workers: what is sent, and how answers and streams are read, whole, cut and broken."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.pool.http import HttpClient
from stretto.pool.worker import Place, Worker, WorkerPool
from stretto.steps import Ask, Tally
from stretto.types import Card, Delta, Message, Price, Request, Thought, ToolCall, Usage
from stretto.wire import messages
from stretto.wire.sse import SseParser
from tests.unit.pool.upstream import answer, stream, upstream

GOLDEN = Path(__file__).parents[2] / "golden"
STREAM = (GOLDEN / "messages_stream.txt").read_bytes()
WHOLE = (GOLDEN / "messages_whole.json").read_bytes()
CARD = Card("w", abilities=frozenset({"text", "tools", "json", "reasoning"}))


def read(data: bytes) -> tuple[list[Delta], Any]:
    """What a reader makes of a stream."""
    reader, parser, deltas = messages.reader(), SseParser(), list[Delta]()
    for event in parser.feed(data):
        reader.feed(event.data, deltas)
    return deltas, reader


def events(*found: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(each) + b"\n\n" for each in found)


def sent(request: Request, card: Card = CARD, model: str = "m", **how: Any) -> tuple[Any, Any]:
    ask = Ask("w", speaks=True).bound(request, "0")
    out = messages.render_ask(ask, model, card, **how)
    return orjson.loads(out.body), out


HELLO = (Message("user", "hi"),)

# --- asks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "cap", "thinking", "config"),
    [
        ("claude-opus-4-8", 4000, {"type": "adaptive"}, {"effort": "high"}),
        ("claude-sonnet-5", 4000, {"type": "adaptive"}, {"effort": "high"}),
        ("anthropic/claude-haiku-4-5-20251001", 64000, {"type": "enabled", "budget_tokens": 16384}, None),
        ("some-model", 8000, {"type": "enabled", "budget_tokens": 4000}, None),
        ("some-model", 1000, None, None),
    ],
)
def test_effort_becomes_thinking(model: str, cap: int, thinking: Any, config: Any) -> None:
    """Newer models are told an effort, others a budget that leaves room for the answer; sampling gives way."""
    request = Request(messages=HELLO, params={"reasoning_effort": "high", "temperature": 0.2}, max_tokens=cap)
    body, out = sent(request, model=model)
    assert (body.get("thinking"), body.get("output_config")) == (thinking, config)
    assert out.dropped == (("temperature",) if thinking else ("reasoning_effort",))


def test_a_forced_call_comes_before_thinking() -> None:
    """Thinking and a forced tool call exclude each other: the call is what the caller has to get."""
    tools = ({"type": "function", "function": {"name": "f"}},)
    choice = {"type": "function", "function": {"name": "f"}}
    request = Request(
        messages=HELLO, params={"reasoning_effort": "low"}, tools=tools, tool_choice=choice, max_tokens=9000
    )
    body, out = sent(request)
    assert body["tool_choice"] == {"type": "tool", "name": "f"}
    assert "thinking" not in body
    assert out.dropped == ("reasoning_effort",)


def test_a_loop_that_began_elsewhere_goes_on_without_a_budget() -> None:
    """A tool loop whose first step no thought of this format opens would be refused with thinking on, so that is left out."""
    calls = (ToolCall("c", "f", "{}"),)
    seal = (Thought("t", "sig", wire="messages"),)
    result, step = Message("tool", "r", tool_call_id="c"), Message("assistant", None, calls)
    opened = Message("assistant", None, calls, thoughts=seal)
    enabled = {"type": "enabled", "budget_tokens": 2000}
    for turns, thinking, kept in (
        ((step, result), enabled, False),
        ((opened, result), enabled, True),
        ((opened, result, step, result), enabled, True),
        ((step, result, opened, result), enabled, False),
        ((step, result, *HELLO), enabled, False),
        ((step, result, Message("assistant", "done"), *HELLO), enabled, True),
        ((step, result), {"type": "adaptive"}, True),
    ):
        request = Request(messages=(*HELLO, *turns), extra={"thinking": thinking}, wire="messages")
        body, out = sent(request)
        assert ("thinking" in body, out.dropped) == (kept, () if kept else ("thinking",))


def test_a_schema_is_passed_on_where_it_can_be() -> None:
    """A JSON schema becomes `output_config.format`; JSON mode, and workers without the ability, have it dropped and named."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    body, _ = sent(Request(messages=HELLO, response_format=schema))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    for request, card in (
        (Request(messages=HELLO, response_format={"type": "json_object"}), CARD),
        (Request(messages=HELLO, response_format=schema), Card("w")),
    ):
        body, out = sent(request, card)
        assert "output_config" not in body
        assert out.dropped == ("response_format",)


def test_what_a_worker_lacks_is_dropped_and_named() -> None:
    """Parameters, tools and fields that a worker is known to lack do not reach it."""
    request = Request(
        messages=HELLO,
        params={"temperature": 0.5, "seed": 3},
        tools=({"type": "function", "function": {"name": "f"}},),
        extra={"metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}},
        wire="messages",
    )
    lacks = frozenset({"temperature", "metadata", "thinking", "tools"})
    body, out = sent(request, lacks=lacks)
    assert body.keys() == {"model", "max_tokens", "messages"}
    assert set(out.dropped) == {*lacks, "seed"}


def test_hosted_tools_reach_their_own_format_only() -> None:
    """A tool that runs at the vendor is passed on as it came, choice included; a caller of another format loses it, by name."""
    hosted = {"type": "web_search_20250305", "name": "web_search"}
    body, _ = sent(
        messages.parse_request(
            orjson.dumps(
                {
                    "model": "m",
                    "messages": [{"role": "user", "content": "x"}],
                    "tools": [hosted],
                    "tool_choice": {"type": "tool", "name": "web_search"},
                }
            )
        ).request
    )
    assert (body["tools"], body["tool_choice"]) == ([hosted], {"type": "tool", "name": "web_search"})
    body, out = sent(Request(messages=HELLO, tools=({"type": "web_search"},)))
    assert "tools" not in body
    assert out.dropped == ("tools.web_search",)


# --- whole answers -------------------------------------------------------------------------------------------------


def test_a_whole_answer_is_read() -> None:
    """Thoughts with their seals, text, calls, the end and the usage with what was cached."""
    found = messages.parse_reply(WHOLE)
    message = found.message
    assert (found.error, found.finish, found.model) == (None, "tool_calls", "claude-x")
    assert (message.content, message.reasoning) == ("I look at both: é…", "Two cities, two calls.")
    assert message.thoughts == (
        Thought("Two cities, two calls.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h", wire="messages"),
        Thought(sealed="EmwKAhgBEgy3va3pzix", wire="messages"),
    )
    assert [(c.id, c.name, c.arguments) for c in message.tool_calls] == [
        ("toolu_01", "weather", '{"city":"Paris"}'),
        ("toolu_02", "now", "{}"),
    ]
    assert found.usage == Usage(500, 89, 70)


@pytest.mark.parametrize(
    ("reason", "more", "finish", "again"),
    [
        ("end_turn", {}, "stop", "end_turn"),
        ("stop_sequence", {"stop_sequence": "END"}, "stop", "stop_sequence"),
        ("max_tokens", {}, "length", "max_tokens"),
        ("model_context_window_exceeded", {}, "length", "max_tokens"),
        ("pause_turn", {}, "stop", "pause_turn"),
        ("refusal", {}, "content_filter", "refusal"),
        ("tool_use", {}, "stop", "end_turn"),
        ("something_new", {}, "stop", "end_turn"),
    ],
)
def test_how_an_answer_ended_is_kept(reason: str, more: Any, finish: str, again: str) -> None:
    """Each stop reason has a common word, and comes out again where its caller speaks this format."""
    raw = {"content": [{"type": "text", "text": "x"}], "stop_reason": reason, **more}
    found = messages.parse_reply(orjson.dumps(raw))
    assert found.finish == finish
    assert messages.stop_of(found.finish, found.message) == (again, more.get("stop_sequence"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "protocol"),
        (b"[]", "protocol"),
        (b'{"content": "text"}', "protocol"),
        (b'{"content": [], "stop_reason": "end_turn"}', "empty"),
        (b'{"content": [{"type": "text"}, 5, {"no": "type"}], "stop_reason": "end_turn"}', "empty"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}', "overloaded"),
        (b'{"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}', "bad_request"),
        (b'{"error": "plain"}', "upstream_error"),
    ],
)
def test_what_is_no_answer_is_an_error(body: bytes, kind: str) -> None:
    """Whatever comes with status 200, it is an answer or an error, and never an exception."""
    error = messages.parse_reply(body).error
    assert error is not None
    assert error.kind == kind


json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=4), c, max_size=3),
    max_leaves=6,
)
blocks = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "thinking", "tool_use", "redacted_thinking", "x", "image", "document"]
        )
    },
    optional=dict.fromkeys(
        ("text", "thinking", "signature", "id", "name", "input", "data", "source", "content"), json
    ),
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "content": st.lists(blocks | json, max_size=4) | json,
        "usage": json,
        "stop_reason": json,
        "error": json,
    },
)


@given(answers | json)
def test_no_answer_raises(raw: Any) -> None:
    """Answers of any shape are read without an exception."""
    found = messages.parse_reply(orjson.dumps(raw))
    assert found.error is not None or found.message.content or found.message.tool_calls or found.finish


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_says_what_the_whole_answer_says() -> None:
    """The recorded stream, unknown events and pings in it, comes to the same as the same answer in one piece."""
    deltas, reader = read(STREAM)
    found, whole = reader.result(), messages.parse_reply(WHOLE)
    calls = [(c.id, c.name, orjson.loads(c.arguments)) for c in found.message.tool_calls]
    assert calls == [(c.id, c.name, orjson.loads(c.arguments)) for c in whole.message.tool_calls]
    for name in ("content", "thoughts", "reasoning", "extra"):
        assert getattr(found.message, name) == getattr(whole.message, name)
    assert (found.finish, found.usage, found.model) == (whole.finish, whole.usage, whole.model)
    assert "".join(d.text for d in deltas) == found.message.text
    assert "".join(d.reasoning for d in deltas) == found.message.reasoning
    assert tuple(t for d in deltas for t in d.thoughts) == found.message.thoughts
    assert [f for d in deltas for f in d.tool_calls] == [
        (0, "toolu_01", "weather", ""),
        (0, "", "", '{"city": "Pa'),
        (0, "", "", 'ris"}'),
        (1, "toolu_02", "now", ""),
        (1, "", "", "{}"),
    ]


def test_a_cut_stream_is_never_whole() -> None:
    """Cut at any byte before its last event is there, a stream is an error, and usage is not taken from its start."""
    last = STREAM.index(b'{"type":"message_stop"}') + len(b'{"type":"message_stop"}') + 2
    for end in range(last):
        _, reader = read(STREAM[:end])
        found = reader.result()
        assert not reader.finished
        assert found.error is not None
        assert found.error.kind == "cut"
    assert read(STREAM[:last])[1].result().error is None
    assert read(STREAM[:900])[1].result().usage is None


def test_a_stop_without_a_reason_is_a_cut() -> None:
    """A proxy that closes a broken stream tidily does not make an answer of it."""
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so far"}}
    _, reader = read(events(start, {"type": "message_stop"}))
    assert (reader.done, reader.finished, reader.result().error.kind) == (True, False, "cut")


def test_an_error_in_the_stream_is_told() -> None:
    """`overloaded_error` in the middle ends the answer with what it is; the text so far is kept."""
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so far"}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    found = read(events(start, error, {"type": "message_stop"}))[1].result()
    assert (found.error.kind, found.error.message, found.retryable) == ("overloaded", "Overloaded", True)
    assert found.message.text == "so far"


def test_blocks_of_the_vendor_s_own_tools_come_along() -> None:
    """A search that ran at the vendor is a part of the answer, in its place, with its result and the citations of the text."""
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    result = {
        "type": "web_search_tool_result",
        "tool_use_id": "s1",
        "content": [{"type": "web_search_result"}],
    }
    cite = {"type": "web_search_result_location", "url": "u"}
    deltas, reader = read(
        events(
            {"type": "content_block_start", "index": 0, "content_block": use},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"query":"q"}'},
            },
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": result},
            {"type": "content_block_stop", "index": 1},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "text", "text": "", "citations": []},
            },
            {
                "type": "content_block_delta",
                "index": 2,
                "delta": {"type": "citations_delta", "citation": cite},
            },
            {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "found"}},
            {"type": "content_block_stop", "index": 2},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        )
    )
    used = {**use, "input": {"query": "q"}}
    assert [part.data for delta in deltas for part in delta.parts] == [used, result]
    message = reader.result().message
    assert message.text == "found"
    assert messages.answer_blocks(message, "no") == [
        used,
        result,
        {"type": "text", "text": "found", "citations": [cite]},
    ]


feeds = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    "message_start",
                    "content_block_start",
                    "content_block_delta",
                    "content_block_stop",
                    "message_delta",
                    "message_stop",
                    "x",
                ]
            )
        },
        optional={
            "index": st.integers(0, 2) | json,
            "content_block": blocks | json,
            "delta": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(
                        [
                            "text_delta",
                            "thinking_delta",
                            "signature_delta",
                            "input_json_delta",
                            "citations_delta",
                        ]
                    )
                },
                optional=dict.fromkeys(
                    ("text", "thinking", "signature", "partial_json", "citation", "stop_reason"), json
                ),
            ),
            "message": json,
            "usage": json,
        },
    ),
    max_size=12,
)


@given(feeds)
def test_no_stream_raises(found: list[dict[str, Any]]) -> None:
    """Events of any shape, in any order, are read without an exception."""
    reader = messages.reader()
    deltas: list[Delta] = []
    for each in found:
        reader.feed(orjson.dumps(each), deltas)
    result = reader.result()
    assert result.error is not None or reader.finished


# --- over a socket -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "/v1", "/anthropic", "/api/v1"])
@pytest.mark.parametrize("live", [False, True])
def test_an_attempt_reaches_the_right_address_with_the_right_headers(base: str, live: bool) -> None:
    """The path holds `/v1` once, the key goes as `x-api-key`, and thoughts come back with the worker's name on them."""

    async def run() -> None:
        says = stream(STREAM) if live else answer(WHOLE)
        client = HttpClient()
        async with upstream(says) as server:
            url = server.base_url.removesuffix("/v1") + base
            worker = Worker(
                "opus",
                "claude-x",
                (Place("here", url, "secret"),),
                Card("opus", Price.per_million(1, 2)),
                "messages",
            )
            pool = WorkerPool([worker], client)
            request = messages.with_betas(Request(messages=HELLO, wire="messages"), "one-2025,two\r\nx: y")
            ask = Ask("opus", speaks=True, max_tokens=99).bound(request, "0")
            seen: list[Delta] = []

            async def emit(deltas: Any) -> None:
                seen.extend(deltas)

            place = pool.candidates(ask).endpoints[0]
            outcome = await pool.attempt(
                ask, place, deadline=None, tally=Tally(), emit=emit if live else None
            )
            await client.close()
        assert outcome.error is None
        assert [thought.worker for thought in outcome.message.thoughts] == ["opus", "opus"]
        assert all(t.worker == "opus" for delta in seen for t in delta.thoughts)
        head = server.requests[0].partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"post " + base.removesuffix("/v1").encode() + b"/v1/messages http/1.1")
        for line in (b"x-api-key: secret", b"anthropic-version: 2023-06-01", b"anthropic-beta: one-2025"):
            assert line + b"\r\n" in head + b"\r\n"
        assert b"authorization" not in head

    asyncio.run(run())
