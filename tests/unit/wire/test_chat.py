"""Chat Completions: what callers may send, what they get, and how upstreams are read, whole and in pieces."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import (
    Answer,
    Card,
    Delta,
    Failure,
    Limits,
    Message,
    Part,
    Price,
    Request,
    TokenLogprob,
    ToolCall,
    Usage,
)
from stretto.wire import FORMATS, chat, format_named
from stretto.wire.base import Incoming, delta_of
from stretto.wire.sse import SseParser

GOLDEN = Path(__file__).parents[2] / "golden"
CARD = Card("w", abilities=frozenset({"text", "tools", "json", "logprobs", "reasoning"}))


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def asked(model: str, include_usage: bool = False) -> Incoming:
    return Incoming(Request(messages=(), model=model), include_usage=include_usage)


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        chat.parse_request(body(**fields))
    return caught.value


# --- requests ----------------------------------------------------------------------------------------------------


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """`5.0` is a whole number in JSON Schema; workers see 5."""
    cap = chat.parse_request(body(max_tokens=5.0)).request.max_tokens
    assert (cap, type(cap)) == (5, int)


def test_every_field_has_its_place() -> None:
    """Parameters, interpreted fields, Stretto's own options and unknown fields each end up where they belong."""
    tool = {"type": "function", "function": {"name": "f"}}
    incoming = chat.parse_request(
        body(
            temperature=0.5,
            stop=["x"],
            seed=7,
            logit_bias={"5": -1},
            max_tokens=9,
            tools=[tool],
            tool_choice="auto",
            response_format={"type": "json_object"},
            user="u",
            n=1,
            stream=True,
            stream_options={"include_usage": True},
            stretto={
                "limits": {"usd": 0.5, "calls": 3, "seconds": 2, "depth": 1},
                "require": {"region": ["eu", "ch"]},
                "exclude": {"vendor": "x"},
                "policy": "fuse",
                "dial": 1,
                "seed": 42,
                "explain": True,
                "score_with": {"grader": "g"},
            },
        )
    )
    request = incoming.request
    assert dict(request.params) == {"temperature": 0.5, "stop": ["x"], "seed": 7, "logit_bias": {"5": -1}}
    assert (request.max_tokens, request.tools, request.tool_choice) == (9, (tool,), "auto")
    assert (request.response_format, request.extra) == ({"type": "json_object"}, {"user": "u"})
    assert request.limits == Limits(usd=500_000_000_000, calls=3, seconds=2.0, depth=1)
    assert (request.require, request.exclude) == ({"region": ("eu", "ch")}, {"vendor": ("x",)})
    assert (request.dial, request.seed) == (1.0, 42)
    assert (incoming.stream, incoming.include_usage) == (True, True)
    options = incoming.options
    assert (options.policy, options.explain, options.score_with) == ("fuse", True, {"grader": "g"})


def test_null_is_not_given() -> None:
    """A field that is null counts as absent, as SDKs send it."""
    names = (
        "temperature",
        "stop",
        "max_tokens",
        "tools",
        "tool_choice",
        "response_format",
        "n",
        "stream",
        "user",
    )
    incoming = chat.parse_request(body(stretto=None, stream_options=None, **dict.fromkeys(names)))
    assert incoming == chat.parse_request(body())


def test_newer_name_of_max_tokens_wins() -> None:
    """`max_completion_tokens` is `max_tokens` under its newer name."""
    assert chat.parse_request(body(max_tokens=5, max_completion_tokens=6)).request.max_tokens == 6


def test_seed_is_stretto_s_own() -> None:
    """The run's seed is Stretto's; OpenAI's `seed` is a sampling parameter, and without one it is known to be missing."""
    incoming = chat.parse_request(body(seed=3))
    assert (incoming.request.seed, incoming.options.seed, incoming.request.params["seed"]) == (None, None, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": 1, "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"stop": [1]}, "stop[0]"),
        ({"top_logprobs": 2.5}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"response_format": {}}, "response_format.type"),
        ({"stretto": []}, "stretto"),
        ({"stretto": {"limit": {}}}, "stretto.limit"),
        ({"stretto": {"limits": {"euro": 1}}}, "stretto.limits.euro"),
        ({"stretto": {"limits": {"usd": -1}}}, "stretto.limits.usd"),
        ({"stretto": {"limits": {"calls": 1.5}}}, "stretto.limits.calls"),
        ({"stretto": {"dial": 2}}, "stretto.dial"),
        ({"stretto": {"seed": -1}}, "stretto.seed"),
        ({"stretto": {"require": {"region": []}}}, "stretto.require.region"),
        ({"stretto": {"require": {"region": [1]}}}, "stretto.require.region"),
        ({"stretto": {"explain": 1}}, "stretto.explain"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    """What is wrong is refused with the path of the field, in the parameter and in the text."""
    error = refused(**fields)
    assert error.param == param
    assert f"`{param}`" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "base_url",
        "api_base",
        "API-Key",
        "api_key",
        "Authorization",
        "aws_secret_access_key",
        "proxy",
        "headers",
        "user_config",
        "context_window_fallbacks",
    ],
)
def test_transport_fields_are_refused(name: str) -> None:
    """No address, key or header for upstreams comes from a request."""
    assert refused(**{name: "http://169.254.169.254/"}).param == name


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_tokens", 1.5, "a whole number, not 1.5"),
        ("max_tokens", 0, "between 1 and 2147483647, not 0"),
        ("seed", 1e30, "a whole number, not 1e+30"),
        ("temperature", 3, "between 0 and 2, not 3"),
        ("max_tokens", True, "a whole number, not a boolean"),
    ],
)
def test_a_wrong_number_is_told_as_it_was_written(field: str, value: Any, said: str) -> None:
    """The text says what was sent and what would do, in full digits."""
    assert said in str(refused(**{field: value}))


def test_fields_for_the_client_itself_are_left_out() -> None:
    """What only concerns a client's own behaviour is dropped, and named."""
    incoming = chat.parse_request(body(timeout=5, max_retries=2, metadata={"a": "b"}))
    assert incoming.ignored == ("timeout", "max_retries")
    assert incoming.request.extra == {"metadata": {"a": "b"}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b"null",
        b'{"messages": ' + b"[" * 70 + b"]" * 70 + b', "model": "m"}',
    ],
)
def test_bodies_that_are_no_request(raw: bytes) -> None:
    """What is not a JSON object of bounded depth is refused with a text, whatever it is."""
    with pytest.raises(RequestError):
        chat.parse_request(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_nothing_but_request_errors(value: Any) -> None:
    """Whatever JSON stands in whatever field, a request is parsed or refused; no other error comes out."""
    for name in (
        "messages",
        "model",
        "temperature",
        "stop",
        "logit_bias",
        "tools",
        "n",
        "stretto",
        "stream_options",
    ):
        try:
            raw = body(**{name: value})
        except TypeError:  # an integer beyond 64 bits
            return
        try:
            chat.parse_request(raw)
        except RequestError:
            pass


def test_brackets_in_text_do_not_count_as_depth() -> None:
    """Only nesting is bounded, not how often a bracket is written."""
    incoming = chat.parse_request(body(messages=[{"role": "user", "content": "[{" * 500}]))
    assert incoming.request.messages[0].text == "[{" * 500


# --- there and back ----------------------------------------------------------------------------------------------

TEXT = st.text(max_size=20)
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
OTHER_PARTS = st.builds(
    lambda url: Part("image_url", "", {"type": "image_url", "image_url": {"url": url}}), TEXT
)
CONTENTS = TEXT | st.lists(st.builds(Part, st.just("text"), TEXT) | OTHER_PARTS, max_size=3).map(tuple)
CALLS = st.lists(st.builds(ToolCall, NAME, NAME, TEXT), max_size=3).map(tuple)
EXTRA = st.dictionaries(NAME.map(lambda name: "x_" + name), st.integers(0, 9), max_size=2)
MESSAGES = (
    st.builds(
        Message,
        st.sampled_from(["system", "developer", "user"]),
        CONTENTS,
        name=st.none() | NAME,
        extra=EXTRA,
    )
    | st.builds(Message, st.just("tool"), CONTENTS, tool_call_id=NAME)
    | st.builds(
        Message, st.just("assistant"), CONTENTS | st.none(), CALLS, reasoning=TEXT, refusal=TEXT, extra=EXTRA
    )
)
ASKS = st.builds(
    Ask,
    st.just("w"),
    st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    max_tokens=st.none() | st.integers(1, 9999),
    params=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0, 1),
            "stop": st.lists(TEXT, max_size=2),
            "seed": st.integers(0, 2**31 - 1),
            "presence_penalty": st.integers(-2, 2),
        },
    ),
    tools=st.lists(st.builds(lambda n: {"type": "function", "function": {"name": n}}, NAME), max_size=2).map(
        tuple
    ),
    response_format=st.none() | st.just({"type": "json_object"}),
    extra=EXTRA,
)


@given(ASKS)
def test_request_there_and_back(ask: Ask) -> None:
    """What is rendered for an upstream parses to what it was rendered from."""
    incoming = chat.parse_request(chat.render_ask(ask, "m", CARD).body)
    request = incoming.request
    assert request.messages == ask.messages
    assert dict(request.params) == dict(ask.params)
    assert (request.max_tokens, request.tools) == (ask.max_tokens, ask.tools)
    assert (request.response_format, dict(request.extra)) == (ask.response_format, dict(ask.extra))


LOGPROBS = st.lists(
    st.builds(
        TokenLogprob,
        TEXT,
        st.floats(-50, 0),
        st.lists(st.tuples(TEXT, st.floats(-50, 0)), max_size=2).map(tuple),
    ),
    max_size=3,
).map(tuple)
USAGES = st.builds(
    lambda i, o, c, r: Usage(i, o, min(i, c), min(o, r)),
    st.integers(1, 9999),
    st.integers(0, 9999),
    st.integers(0, 9999),
    st.integers(0, 9999),
)


def well_formed(content: str | None, calls: tuple[ToolCall, ...], **more: Any) -> Message:
    """A message as a reader leaves it: some content, calls with arguments."""
    calls = tuple(replace(call, arguments=call.arguments or "{}") for call in calls)
    return Message("assistant", content or (None if calls else "x"), calls, **more)


ANSWERED = st.builds(well_formed, TEXT, CALLS, reasoning=TEXT, refusal=TEXT)


@given(ANSWERED, st.sampled_from(["stop", "length", "content_filter"]), USAGES, LOGPROBS)
def test_answer_there_and_back(message: Message, finish: str, usage: Usage, logprobs: Any) -> None:
    """A whole answer that Stretto renders reads as the same answer: Stretto can stand behind Stretto."""
    answer = Answer(message, finish, logprobs=logprobs)
    found = chat.parse_reply(chat.render_response("id", 1, asked("m"), answer, usage, usage), "text")
    assert found.error is None
    assert (found.message, found.usage, found.logprobs) == (message, usage, logprobs)
    assert found.finish == ("tool_calls" if finish == "stop" and message.tool_calls else finish)


def read_stream(raw: bytes, cuts: list[int]) -> Any:
    """Feed a stream in pieces; what the reader makes of it, and its deltas."""
    parser, reader, deltas = SseParser(), chat.reader(), list[Delta]()
    edges = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
    for start, end in itertools.pairwise(edges):
        for event in parser.feed(raw[start:end]):
            reader.feed(event.data, deltas)
    return reader.result(), deltas


def streamed(message: Message, logprobs: tuple[TokenLogprob, ...], size: int) -> list[Delta]:
    """A message as the deltas of a stream: text in pieces of `size`, calls begun and then filled."""
    text = message.text
    deltas = [Delta(reasoning=message.reasoning)] if message.reasoning else []
    deltas += [Delta(text[i : i + size]) for i in range(0, len(text), size)]
    if message.refusal or logprobs:
        deltas.append(Delta(refusal=message.refusal, logprobs=logprobs))
    for index, call in enumerate(message.tool_calls):
        deltas.append(Delta(tool_calls=((index, f"{call.id}{index}", call.name, ""),)))
        deltas.append(Delta(tool_calls=((index, "", "", call.arguments),)))
    return deltas


@given(ANSWERED, USAGES, LOGPROBS, st.integers(1, 5), st.lists(st.integers(0, 10**6), max_size=8))
def test_stream_there_and_back(
    message: Message, usage: Usage, logprobs: Any, size: int, cuts: list[int]
) -> None:
    """A stream that Stretto writes reads as the same message and usage, wherever the bytes are split."""
    message = replace(
        message, tool_calls=tuple(replace(c, id=f"{c.id}{i}") for i, c in enumerate(message.tool_calls))
    )
    bare = replace(message, tool_calls=tuple(replace(c, id=c.id[:-1]) for c in message.tool_calls))
    writer = chat.stream("id", 1, asked("m", True))
    raw = b"".join(writer.deltas([delta]) for delta in streamed(bare, logprobs, size))
    raw += writer.keep_alive() + writer.end(Answer(message), usage, usage, {"run_id": "r"})
    found, deltas = read_stream(raw, cuts)
    assert found.error is None
    assert (found.message, found.usage, found.logprobs) == (message, usage, logprobs)
    assert "".join(delta.text for delta in deltas) == message.text


@given(st.integers(0, 10**6))
def test_cut_stream_is_never_whole(cut: int) -> None:
    """A stream that ends anywhere before its finish is cut, whatever has come."""
    writer = chat.stream("id", 1, asked("m"))
    text = writer.deltas([Delta("fo"), Delta("ur")])
    found, _ = read_stream(text[: cut % (len(text) + 1)], [])
    assert found.error is not None
    assert (found.error.kind, found.retryable) == ("cut", True)


def test_cut_at_every_byte() -> None:
    """A stream cut after any byte is whole exactly if the event with its finish had come."""
    writer = chat.stream("id", 1, asked("m", True))
    raw = writer.deltas([Delta("fo"), Delta("ur")]) + writer.end(Answer(), Usage(1, 2), Usage(1, 2))
    finish = raw.index(b'"finish_reason":"stop"')
    enough = raw.index(b"\n\n", finish) + 2
    for cut in range(len(raw) + 1):
        found, _ = read_stream(raw[:cut], [])
        assert (found.error is None) == (cut >= enough)


# --- answers -----------------------------------------------------------------------------------------------------


def test_usage_names_orchestration() -> None:
    """Totals are of all attempts; what did not go into the answer itself stands under Fugu's names."""
    raw = chat.render_response("id", 1, asked("m"), Answer(), Usage(100, 50, 30, 10), Usage(40, 20, 10, 10))
    assert json.loads(raw)["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {
            "cached_tokens": 30,
            "orchestration_input_tokens": 60,
            "orchestration_input_cached_tokens": 20,
        },
        "completion_tokens_details": {"reasoning_tokens": 10, "orchestration_output_tokens": 30},
    }


@pytest.mark.parametrize(
    ("finish", "calls", "shown"),
    [
        ("stop", False, "stop"),
        ("tool_calls", False, "stop"),
        ("stop", True, "tool_calls"),
        ("tool_use", True, "tool_calls"),
        ("length", True, "length"),
        ("max_tokens", False, "length"),
        ("SAFETY", False, "content_filter"),
        ("whatever", False, "stop"),
        ("", False, "stop"),
    ],
)
def test_finish_says_what_the_answer_holds(finish: str, calls: bool, shown: str) -> None:
    """`finish_reason` is one of the protocol's words, and `tool_calls` exactly if there are calls."""
    message = Message("assistant", "x", (ToolCall("a", "f", "{}"),) if calls else ())
    answer = Answer(message, finish)
    whole = json.loads(chat.render_response("id", 1, asked("m"), answer, Usage(), Usage()))
    assert whole["choices"][0]["finish_reason"] == shown
    end = chat.stream("id", 1, asked("m")).end(answer, Usage(), Usage())
    assert f'"finish_reason":"{shown}"'.encode() in end


def test_stream_error_is_no_end() -> None:
    """The error event carries the protocol's error object, and neither a finish nor `[DONE]` follows."""
    writer = chat.stream("id", 1, asked("m", True))
    raw = writer.deltas([Delta("x")]) + writer.error("broken", "upstream_error", "cut")
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"' not in raw
    last = json.loads(raw.rstrip().rpartition(b"data: ")[2])
    assert last == {"error": {"message": "broken", "type": "upstream_error", "param": None, "code": "cut"}}


def test_usage_only_if_asked_for() -> None:
    """The usage chunk comes once, with no choices, and only if it was asked for."""
    for wanted in (True, False):
        raw = chat.stream("id", 1, asked("m", wanted)).end(Answer(), Usage(1, 1), Usage(1, 1))
        chunks = [json.loads(line[6:]) for line in raw.split(b"\n\n") if line and b"DONE" not in line]
        assert [chunk["choices"] == [] for chunk in chunks if chunk.get("usage")] == (
            [True] if wanted else []
        )


def test_models_are_listed_with_what_is_known() -> None:
    """A worker's entry shows prices in USD per million tokens and its abilities; a policy's is plain."""
    card = Card("w", Price.per_million(5, 25, 0.5), {"vendor": "x"}, context=1000)
    entry = chat.render_model("w", 1, "stretto", card)
    assert entry["price"] == {"input": 5.0, "output": 25.0, "cached": 0.5}
    assert (entry["context_length"], entry["abilities"]) == (1000, ["text"])
    listed = json.loads(chat.render_models([entry, chat.render_model("fuse", 1, "stretto")]))
    assert [row["id"] for row in listed["data"]] == ["w", "fuse"]


# --- upstreams ---------------------------------------------------------------------------------------------------


def sent(ask: Ask, card: Card = CARD, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    rendered = chat.render_ask(ask, "m", card, **more)
    return json.loads(rendered.body), rendered.dropped


ASK = Ask("w", (Message("user", "hi"),))


def test_what_a_worker_lacks_is_dropped_and_named() -> None:
    """Tools, schemas, log-probabilities and parameters that a worker lacks stay out of its request, by name."""
    tools = ({"type": "function", "function": {"name": "f"}},)
    ask = replace(
        ASK,
        tools=tools,
        tool_choice="auto",
        response_format={"type": "json_object"},
        params={"logprobs": True, "temperature": 1, "parallel_tool_calls": True},
        extra={"store": True},
    )
    raw, dropped = sent(ask, Card("w"), lacks=frozenset({"temperature", "store"}))
    assert raw.keys() == {"model", "messages"}
    assert dropped == ("tools", "logprobs", "temperature", "response_format", "store")
    whole, none = sent(ask)
    assert (whole["tools"], whole["tool_choice"], none) == (list(tools), "auto", ())


def test_names_of_another_server() -> None:
    """A parameter goes out under the name that the worker knows."""
    raw, _ = sent(replace(ASK, max_tokens=5), renames={"max_tokens": "max_completion_tokens"})
    assert raw["max_completion_tokens"] == 5
    assert "max_tokens" not in raw


def test_extra_never_overrides() -> None:
    """An uninterpreted field cannot change what Stretto says."""
    raw, _ = sent(replace(ASK, extra={"model": "other", "messages": [], "stream": True}))
    assert (raw["model"], len(raw["messages"]), raw["stream"]) == ("m", 1, True)
    raw, _ = sent(replace(ASK, extra={"stream": False}), stream=True)
    assert raw["stream"] is True


def test_wanting_logprobs() -> None:
    """An ask that wants log-probabilities asks for them, with as many alternatives as it says, or one."""
    raw, _ = sent(replace(ASK, want="logprobs"))
    assert (raw["logprobs"], raw["top_logprobs"]) == (True, 1)
    raw, _ = sent(replace(ASK, want="logprobs", params={"top_logprobs": 5}))
    assert raw["top_logprobs"] == 5


def test_seed_fits_everywhere() -> None:
    """A derived seed of 63 bits goes out with 31, which every server takes; a small one as it is."""
    assert sent(replace(ASK, params={"seed": 2**62 + 5}))[0]["seed"] == 5
    assert sent(replace(ASK, params={"seed": 7}))[0]["seed"] == 7


def test_thoughts_go_back_only_where_they_are_taken() -> None:
    """What a model thought is sent back only to workers that take it."""
    ask = Ask("w", (Message("assistant", "4", reasoning="2+2"), Message("user", "sure?")))
    assert sent(ask)[0]["messages"][0]["reasoning_content"] == "2+2"
    assert "reasoning_content" not in sent(ask, Card("w"))[0]["messages"][0]


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 17}, Usage(5, 12)),
        ({"prompt_tokens": 5, "completion_tokens": -2, "total_tokens": True}, Usage(5, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(5, 0, 5)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3}, Usage(5, 0, 3)),
        ({"prompt_tokens": "5"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_usage_is_checked(raw: Any, usage: Usage | None) -> None:
    """Token counts that cannot be are left out; reasoning that only shows in the total is counted."""
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    assert chat.parse_reply(orjson.dumps({"choices": [choice], "usage": raw}), "text").usage == usage


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "delta",
                        "content",
                        "tool_calls",
                        "function",
                        "index",
                        "id",
                        "logprobs",
                        "usage",
                        "error",
                        "finish_reason",
                    ]
                ),
                x,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_upstreams_cannot_raise(value: Any) -> None:
    """Whatever JSON an upstream sends, whole or as an event, it is read or called a failure."""
    for raw in (value, {"choices": [value]}, {"choices": [{"message": value, "delta": value}]}):
        chat.parse_reply(orjson.dumps(raw), "text")
        chat.parse_reply(orjson.dumps(raw), "embedding")
        reader = chat.reader()
        reader.feed(orjson.dumps(raw), [])
        reader.result()
        chat.parse_failure(orjson.dumps(raw))


def test_reasoning_in_parts() -> None:
    """An answer whose content is an array of thinking and text parts is taken apart."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "4"},
    ]
    choice = {"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    found = chat.parse_reply(orjson.dumps({"choices": [choice]}), "text")
    assert (found.message.text, found.message.reasoning) == ("4", "hm")


def calls_of(*fragments: dict[str, Any]) -> tuple[ToolCall, ...]:
    reader = chat.reader()
    for fragment in fragments:
        reader.feed(orjson.dumps({"id": "c", "choices": [{"delta": {"tool_calls": [fragment]}}]}), [])
    reader.feed(orjson.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}), [])
    return reader.result().message.tool_calls


F, G = {"name": "f", "arguments": "1"}, {"name": "g", "arguments": "2"}


@pytest.mark.parametrize(
    "fragments",
    [
        ({"index": 0, "id": "a", "function": F}, {"index": 1, "id": "b", "function": G}),
        ({"index": 3, "id": "a", "function": F}, {"index": 7, "id": "b", "function": G}),
        ({"index": 0, "id": "a", "function": F}, {"index": 0, "id": "b", "function": G}),
        ({"id": "a", "function": F}, {"id": "b", "function": G}),
        (
            {"index": 0, "id": "a", "function": {"name": "f"}},
            {"index": 0, "id": "other", "function": {"arguments": "1"}},
            {"index": 1, "id": "b", "function": {"name": "g"}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "2"}},
        ),
        (
            {"id": "a", "function": {"name": "f"}},
            {"function": {"arguments": "1"}},
            {"id": "b", "function": G},
        ),
    ],
)
def test_calls_however_they_are_numbered(fragments: tuple[dict[str, Any], ...]) -> None:
    """Missing, strange and repeated indices, and ids that change, all lead to the two calls that were meant."""
    assert calls_of(*fragments) == (ToolCall("a", "f", "1"), ToolCall("b", "g", "2"))


@pytest.mark.parametrize("early", ["", '{"a":'])
def test_a_call_is_not_told_of_before_its_name_has_come(early: str) -> None:
    """Clients use the name of a call's first piece, so an id, or arguments, that come before it are kept back."""
    reader, into = chat.reader(), list[Delta]()
    for function in (
        {"arguments": early},
        {"name": "f", "arguments": "1"[len(early) :]},
        {"arguments": " 1}"},
    ):
        fragment = {"index": 0, "id": "a", "function": function}
        reader.feed(orjson.dumps({"choices": [{"delta": {"tool_calls": [fragment]}}]}), into)
    reader.feed(orjson.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}), into)

    (call,) = reader.result().message.tool_calls
    pieces = [piece for delta in into for piece in delta.tool_calls]
    assert [piece[:3] for piece in pieces] == [(0, "a", "f"), (0, "", "")]
    assert (call.name, call.arguments) == ("f", "".join(piece[3] for piece in pieces))


def test_call_without_id_and_arguments() -> None:
    """A call without an id gets one, one without arguments an empty object, and arguments may be an object."""
    first, second = calls_of(
        {"index": 0, "function": {"name": "f"}},
        {"index": 1, "function": {"name": "g", "arguments": {"a": 1}}},
    )
    assert first.id.startswith("call_")
    assert first.id != second.id
    assert (first.arguments, second.arguments) == ("{}", '{"a":1}')


SECRETS = [
    "Incorrect API key provided: sk-proj-abcdEFGH1234567890",
    "Authorization: Bearer abcdef123456",
    "api_key=0123456789abcdef",
    "use https://me:pass@host/ instead",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef",
    "AKIAIOSFODNN7EXAMPLE",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_in_errors_are_hidden(text: str) -> None:
    """What looks like a key in an upstream's error text does not get through."""
    said = chat.parse_failure(orjson.dumps({"error": {"message": text}}))
    assert "[redacted]" in said
    for word in ("sk-proj", "abcdef123456", "0123456789abcdef", "me:pass", "eyJ", "AKIA"):
        assert word not in said


def test_errors_are_short_and_of_one_line() -> None:
    """An upstream's text is cut to 300 characters on one line; what is not JSON says nothing."""
    said = chat.parse_failure(orjson.dumps({"error": {"message": "a b\r\n\x1b[31m" * 200}}))
    assert len(said) == 300
    assert said.isprintable()
    assert chat.parse_failure(b"<html>secret</html>") == ""
    assert chat.parse_failure(orjson.dumps({"error": "plain"})) == "plain"


def test_failure_inside_an_answer_keeps_its_kind() -> None:
    """An error object inside a 200 is told apart by its code or type."""
    for error, kind in [
        ({"message": "x", "code": 503}, "overloaded"),
        ({"message": "x", "code": "401"}, "upstream_auth"),
        ({"message": "x", "type": "rate_limit_exceeded"}, "rate_limited"),
        ({"message": "x", "type": "overloaded_error"}, "overloaded"),
        ({"message": "x", "type": "invalid_request_error"}, "bad_request"),
        ("x", "upstream_error"),
    ]:
        found = chat.parse_reply(orjson.dumps({"error": error}), "text")
        assert isinstance(found.error, Failure)
        assert found.error.kind == kind


# --- golden exchanges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("chat_*.json")), ids=lambda path: path.stem)
def test_golden_exchange(path: Path) -> None:
    """A recorded exchange comes out the same in both directions: request up, answer down."""
    exchange = json.loads(path.read_text())
    incoming = chat.parse_request(orjson.dumps(exchange["request"]))
    ask = Ask("w", speaks=True).bound(incoming.request, "0")
    rendered = chat.render_ask(
        ask, "m-1", replace(CARD, abilities=CARD.abilities - {"reasoning"}), stream=incoming.stream
    )
    assert json.loads(rendered.body) == exchange["upstream_request"]
    model = incoming.request.model
    if not incoming.stream:
        found = chat.parse_reply(orjson.dumps(exchange["upstream_reply"]), "text")
        usage = found.usage or Usage()
        answer = Answer(found.message, found.finish, logprobs=found.logprobs)
        raw = chat.render_response("run_1", 1700000001, asked(model), answer, usage, usage)
        assert json.loads(raw) == exchange["response"]
        return
    reader, writer, out = (
        chat.reader(),
        chat.stream("run_1", 1700000001, asked(model, incoming.include_usage)),
        b"",
    )
    for event in exchange["upstream_events"]:
        deltas: list[Delta] = []
        reader.feed(event.encode() if isinstance(event, str) else orjson.dumps(event), deltas)
        out += writer.deltas(deltas)
    found = reader.result()
    usage = found.usage or Usage()
    out += writer.end(Answer(found.message, found.finish), usage, usage)
    events = [e.data for e in SseParser().feed(out)]
    assert [e.decode() if e == b"[DONE]" else json.loads(e) for e in events] == exchange["events"]


def test_whole_message_as_one_delta() -> None:
    """An answer that was not streamed live is sent as one delta that reads as the same message."""
    message = Message("assistant", "text", (ToolCall("a", "f", "{}"),), reasoning="r", refusal="no")
    writer = chat.stream("id", 1, asked("m"))
    raw = writer.deltas([delta_of(message)]) + writer.end(Answer(message), Usage(), Usage())
    assert read_stream(raw, [])[0].message == message


def test_formats_are_found_by_name() -> None:
    """The configuration's `wire` names a format."""
    assert format_named("chat") is FORMATS[0]
    assert format_named("morse") is None


def test_each_tool_call_has_a_chunk_of_its_own() -> None:
    """Calls that come in one piece leave one by one, as OpenAI sends them: some clients read only the first of a chunk."""
    writer = chat.stream("id", 1, asked("m"))
    told = writer.deltas([Delta("hm", tool_calls=((0, "a", "f", "{}"), (1, "b", "g", "{}")))])
    found = [json.loads(line[6:])["choices"][0]["delta"] for line in told.split(b"\n\n") if line]
    assert [[call["id"] for call in delta["tool_calls"]] for delta in found] == [["a"], ["b"]]
    assert [delta.get("content") for delta in found] == ["hm", None]
    assert [delta["tool_calls"][0]["index"] for delta in found] == [0, 1]
