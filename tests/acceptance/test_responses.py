"""OpenAI Responses over real HTTP and WebSockets: every shape of conversation keeps to the Open Responses specification."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.responses_events import TERMINAL, events_of, faults, object_faults
from tests.acceptance.served import Caller, Reply, Served, served
from tests.acceptance.shapes import Shapes, config

ROUTE = "/v1/responses"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "parameters": PARAMETERS}
PATCH = {"type": "custom", "name": "patch", "description": "edits a file"}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
FORM = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
HISTORY = [
    {"role": "developer", "content": "Be short."},
    {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It rains."}]},
    {"role": "user", "content": "And in Rome?"},
]
SEEN = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": PIXEL, "detail": "low"}]
NOTES = {"instructions": "Short.", "metadata": {"a": "b"}, "temperature": 0.5, "max_output_tokens": 99}
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}

SHAPES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "text": ({"model": "text", **NOTES}, "completed", ["message"]),
    "history": ({"model": "text", "input": HISTORY, "tools": [WEATHER]}, "completed", ["message"]),
    "image": ({"model": "text", "input": [{"role": "user", "content": SEEN}]}, "completed", ["message"]),
    "logprobs": ({"model": "text", **LOGPROBS}, "completed", ["message"]),
    "reasoning": (
        {"model": "thoughts", "reasoning": {"effort": "low"}},
        "completed",
        ["reasoning", "message"],
    ),
    "tools": (
        {"model": "tools", "tools": [WEATHER]},
        "completed",
        ["message", "function_call", "function_call"],
    ),
    "custom tool": ({"model": "patch", "tools": [PATCH]}, "completed", ["custom_tool_call"]),
    "refusal": ({"model": "refusal"}, "completed", ["message"]),
    "structured": ({"model": "json", "text": FORM}, "completed", ["message"]),
    "too long": ({"model": "short"}, "incomplete", ["message"]),
    "filtered": ({"model": "filtered"}, "incomplete", ["message"]),
    "fuse": ({"model": "panel"}, "completed", ["message"]),
    "fuse, picked": ({"model": "picked"}, "completed", ["message"]),
    "cascade": ({"model": "ladder"}, "completed", ["message"]),
    "route": ({"model": "pick"}, "completed", ["message"]),
}
"""What is asked, how it ends, and the items that the answer has, but for what orchestration told of itself."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Shapes]:
    """All shapes."""
    with Shapes() as it:
        yield it


@pytest.fixture(scope="module")
def gateway(upstream: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One gateway for all of them."""
    with served(tmp_path_factory.mktemp("home"), config(upstream.url)) as it:
        asyncio.run(it.started())
        yield it
        assert it.stop() == 0
        assert "Traceback" not in it.told()


def call(gateway: Served, method: str, path: str = ROUTE, body: Any = None) -> Reply:
    """One call."""

    async def once() -> Reply:
        caller = Caller(gateway.port)
        try:
            return await caller.call(method, path, body)
        finally:
            caller.close()

    return asyncio.run(once())


def create(gateway: Served, **fields: Any) -> dict[str, Any]:
    """A whole response that keeps to the specification."""
    got = call(gateway, "POST", body={"input": "two and two?", **fields})
    assert got.status == 200, got.body
    found: dict[str, Any] = got.json
    assert object_faults(found, "ResponseResource") == []
    return found


def streamed(gateway: Served, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream that keeps to the specification."""
    got = call(gateway, "POST", body={"input": "two and two?", **fields, "stream": True})
    assert got.status == 200, got.body
    events = events_of(got.body)
    assert faults(events) == []
    return events


def kinds(response: dict[str, Any]) -> list[str]:
    """The types of its items, but for what orchestration told of itself."""
    return [item["type"] for item in response["output"] if not item["id"].endswith("_progress")]


def said(response: dict[str, Any]) -> list[Any]:
    """What its items say."""
    names = ("summary", "content", "name", "arguments", "input")
    return [
        [item.get(name) for name in names]
        for item in response["output"]
        if not item["id"].endswith("_progress")
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_and_a_whole_answer_say_the_same(gateway: Served, shape: str) -> None:
    """Both keep to the specification, event by event and field by field, and both can be read again as they were."""
    asked, status, wanted = SHAPES[shape]
    whole = create(gateway, **asked)
    last = streamed(gateway, **asked)[-1]
    assert (whole["status"], last["type"]) == (status, f"response.{status}")
    assert kinds(whole) == kinds(last["response"]) == wanted
    assert said(whole) == said(last["response"])
    assert call(gateway, "GET", f"{ROUTE}/{whole['id']}").json == whole
    again = call(gateway, "GET", f"{ROUTE}/{last['response']['id']}?stream=true")
    events = events_of(again.body)
    assert faults(events) == []
    assert events[-1]["response"] == last["response"]


@pytest.mark.parametrize("shape", ["tools", "custom tool", "reasoning", "refusal", "too long"])
def test_the_checker_misses_nothing_of_them(gateway: Served, shape: str) -> None:
    """Each event that is left out, told twice or swapped with the next of its item is found, whatever the numbers say."""
    events = streamed(gateway, **SHAPES[shape][0])
    for at in range(len(events)):
        before, here, after = events[:at], events[at], events[at + 1 :]
        bad = [[*before, *after], [*before, here, here, *after]]
        item = here.get("output_index")
        if after and after[0]["type"] != here["type"] and item == after[0].get("output_index"):
            bad.append([*before, after[0], here, *after[1:]])
        for changed in bad[: 1 if here["type"] == "response.in_progress" else None]:
            assert faults([{**event, "sequence_number": n} for n, event in enumerate(changed)]), here


def test_a_tool_loop_goes_on_from_its_response(gateway: Served, upstream: Shapes) -> None:
    """Results of both calls go back with `previous_response_id`; the worker sees the whole conversation."""
    first = streamed(gateway, model="tools", tools=[WEATHER])[-1]["response"]
    calls = [item for item in first["output"] if item["type"] == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": item["name"]} for item in calls
    ]
    asked = {"tools": [WEATHER], "previous_response_id": first["id"], "input": results}
    second = streamed(gateway, model="tools", **asked)[-1]["response"]
    assert second["previous_response_id"] == first["id"]
    assert [m["role"] for m in upstream.asked[-1]["messages"]] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize(("model", "code"), [("cut", "server_error"), ("broken", "invalid_prompt")])
def test_what_fails_says_so_in_the_protocol(gateway: Served, model: str, code: str) -> None:
    """Whole: an HTTP error in OpenAI's shape. Streamed: `response.failed` at the end, or the same HTTP error if it came early."""
    whole = call(gateway, "POST", body={"model": model, "input": "x"})
    assert whole.status >= 400
    assert set(whole.json["error"]) == {"message", "type", "param", "code"}
    got = call(gateway, "POST", body={"model": model, "input": "x", "stream": True})
    if model == "broken":
        assert (got.status, got.json["error"]["code"]) == (400, "upstream_bad_request")
        return
    events = events_of(got.body)
    assert faults(events) == []
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["error"]["code"] == code


def test_a_response_in_the_background_is_followed_and_polled(gateway: Served) -> None:
    """Its stream and what is read again of it keep to the specification."""
    events = streamed(gateway, model="tools", tools=[WEATHER], background=True)
    response = events[-1]["response"]
    assert call(gateway, "GET", f"{ROUTE}/{response['id']}").json == response
    rest = call(gateway, "GET", f"{ROUTE}/{response['id']}?stream=true&starting_after=4")
    assert events_of(rest.body) == events[5:]
    assert create(gateway, model="text", background=True)["status"] in ("queued", "in_progress")


def test_conversations_are_compacted(gateway: Served) -> None:
    """On its own route a resource as specified; on a request an item at the head of the stream, which can be sent back."""
    compacted = call(gateway, "POST", f"{ROUTE}/compact", {"model": "text", "input": HISTORY}).json
    assert object_faults(compacted, "CompactResource") == []
    assert compacted["output"][-1]["type"] == "compaction"
    assert kinds(create(gateway, model="text", input=compacted["output"])) == ["message"]
    long = [*HISTORY[:-1], {"role": "assistant", "content": "words " * 1500}, HISTORY[-1]]
    wish = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
    response = streamed(gateway, model="text", input=long, **wish)[-1]["response"]
    assert kinds(response) == ["compaction", "message"]
    assert kinds(create(gateway, model="text", previous_response_id=response["id"])) == ["message"]


def test_a_fusion_is_an_item_that_is_kept_and_not_asked_again(gateway: Served, upstream: Shapes) -> None:
    """Who asks with OpenRouter's tool finds its result among the items; it goes to no worker when the conversation goes on."""
    panel = {"analysis_models": ["text", "thoughts"], "model": "text"}
    tool = {"type": "openrouter:fusion", "parameters": panel}
    asked = {"model": "text", "tools": [tool], "tool_choice": {"type": "openrouter:fusion"}}
    whole = create(gateway, **asked)
    last = streamed(gateway, **asked)[-1]["response"]
    for response in (whole, last):
        assert sorted(kinds(response)) == ["message", "openrouter:fusion"]
        (fusion,) = [item for item in response["output"] if item["type"] == "openrouter:fusion"]
        assert fusion["status"] == "completed"
        assert call(gateway, "GET", f"{ROUTE}/{response['id']}").json == response
        create(gateway, model="text", input="so?", previous_response_id=response["id"])
        assert [m["role"] for m in upstream.asked[-1]["messages"]] == ["user", "assistant", "user"]


# --- WebSocket ---------------------------------------------------------------------------------------------------


def told(socket: ClientConnection, **fields: Any) -> list[dict[str, Any]]:
    """The events that one request brings."""
    socket.send(json.dumps({"type": "response.create", "input": "two and two?", **fields}))
    events = []
    while not events or events[-1]["type"] not in (*TERMINAL, "error"):
        events.append(json.loads(socket.recv(timeout=60)))
    return events


def test_every_shape_over_one_websocket(gateway: Served) -> None:
    """The same events as a stream, one message each; the connection serves one request after another."""
    with connect(f"ws://127.0.0.1:{gateway.port}{ROUTE}") as socket:
        for asked, status, wanted in SHAPES.values():
            events = told(socket, **asked)
            assert faults(events) == []
            assert events[-1]["type"] == f"response.{status}"
            assert kinds(events[-1]["response"]) == wanted


def test_a_websocket_goes_on_from_what_nobody_stored(gateway: Served) -> None:
    """With `store: false` a response lives on its own connection; nowhere else."""
    with connect(f"ws://127.0.0.1:{gateway.port}{ROUTE}") as socket:
        warm = told(socket, model="text", store=False, generate=False, instructions="Short.")
        assert faults(warm) == []
        first = told(socket, model="text", store=False, previous_response_id=warm[-1]["response"]["id"])
        id = first[-1]["response"]["id"]
        assert faults(told(socket, model="text", store=False, previous_response_id=id)) == []
        assert call(gateway, "GET", f"{ROUTE}/{id}").status == 404
    with connect(f"ws://127.0.0.1:{gateway.port}{ROUTE}") as socket:
        (lost,) = told(socket, model="text", previous_response_id=id)
        assert (lost["status"], lost["error"]["code"]) == (400, "previous_response_not_found")


def test_failures_on_a_websocket_leave_it_open(gateway: Served) -> None:
    """An error event as specified for what cannot begin, `response.failed` for what broke; then the next request is served."""
    with connect(f"ws://127.0.0.1:{gateway.port}{ROUTE}") as socket:
        for fields in ({"model": "nobody"}, {"model": "text", "stream": True}, {"model": "text", "input": 7}):
            (error,) = told(socket, **fields)
            assert object_faults(error, "WebSocketErrorEvent") == []
            assert error["status"] in (400, 404)
            assert isinstance(error["error"]["code"], str)
        broken = told(socket, model="cut")
        assert faults(broken) == []
        assert broken[-1]["type"] == "response.failed"
        assert told(socket, model="text")[-1]["type"] == "response.completed"


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_openai_s_sdk_over_a_websocket(gateway: Served) -> None:
    """`client.responses.connect()` as the SDK has it."""
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="none") as client,
        client.responses.connect() as wire,
    ):
        wire.response.create(model="text", input="two and two?")
        for event in wire:
            if event.type == "response.completed":
                assert event.response.output_text == "two and two is four"
                break
