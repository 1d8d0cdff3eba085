"""OpenAI Responses: what callers may send, what becomes of it, and what survives the way to a worker of the same format."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Answer, Card, Message, Part, Request, Thought, ToolCall
from stretto.wire import chat, responses
from stretto.wire.base import Incoming
from stretto.wire.responses_items import ITEM, parse_items, references

CARD = Card("w", abilities=frozenset({"text", "tools", "json", "logprobs", "reasoning", "custom", "hosted"}))
RUN = "run_" + "0a" * 16


def parsed(**fields: Any) -> Incoming:
    return responses.parse_request(orjson.dumps({"model": "m", "input": "hi", **fields}))


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parsed(**fields)
    return caught.value


def sent_on(request: Request, card: Card = CARD) -> dict[str, Any]:
    """The body that a worker of this format gets for a request."""
    ask = Ask("w", speaks=True).bound(request, "0")
    found: dict[str, Any] = orjson.loads(responses.render_ask(ask, "up", card).body)
    return found


# --- requests ----------------------------------------------------------------------------------------------------


def test_every_field_has_its_place() -> None:
    """Parameters take Chat Completions' names, what is told back stands in `more`, the rest goes on in `extra`."""
    incoming = parsed(
        instructions="be brief",
        temperature=0.5,
        max_output_tokens=99,
        reasoning={"effort": "low", "summary": "auto"},
        text={
            "verbosity": "high",
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
        },
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        top_logprobs=3,
        parallel_tool_calls=False,
        metadata={"k": "v"},
        store=False,
        previous_response_id="resp_1",
        conversation="conv_1",
        client_metadata={"x": 1},
        prompt_cache_key="p",
        stream=True,
        stretto={"limits": {"calls": 3}, "dial": 1},
    )
    request, more = incoming.request, incoming.more
    assert request.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert dict(request.params) == {
        "temperature": 0.5,
        "reasoning_effort": "low",
        "verbosity": "high",
        "logprobs": True,
        "top_logprobs": 3,
        "parallel_tool_calls": False,
    }
    assert request.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}},
    }
    assert request.extra == {
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "client_metadata": {"x": 1},
        "prompt_cache_key": "p",
    }
    assert (request.max_tokens, request.wire, request.limits.calls, request.dial) == (99, "responses", 3, 1.0)
    assert (incoming.stream, more["store"], more["metadata"]) == (True, False, {"k": "v"})
    assert (more["previous_response_id"], more["conversation"]) == ("resp_1", {"id": "conv_1"})
    assert more["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    ]


def test_a_conversation_of_every_kind_of_item() -> None:
    """What a model said in one go is one message of ours; results of tools follow it; images and files are not fetched."""
    items = [
        {"role": "developer", "content": "d"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,AA"},
                {"type": "input_image", "file_id": "file_1"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "E",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "phase": "commentary",
            "status": "completed",
            "content": [{"type": "output_text", "text": "wait", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "raw"},
        {"type": "function_call", "call_id": "c", "namespace": "ns", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "12"}]},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "z", "output": "of an earlier request"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"role": "assistant", "content": "so"},
    ]
    messages = parsed(input=items).request.messages
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,AA"}}
    assert messages == (
        Message("developer", "d"),
        Message(
            "user",
            (
                Part("text", "see"),
                Part("image_url", data=image),
                Part("file", data=file),
                Part("input_image", data={"type": "input_image", "file_id": "file_1"}),
            ),
        ),
        Message(
            "assistant",
            "wait",
            (
                ToolCall("a", "f", "{}"),
                ToolCall("b", "patch", "raw", "custom"),
                ToolCall("c", "ns__g", "{}"),
            ),
            reasoning="hm",
            extra={"responses": {"phase": "commentary"}},
            thoughts=(Thought("hm", sealed="E", id="rs_1", wire="responses"),),
        ),
        Message("tool", (Part("text", "12"),), tool_call_id="a"),
        Message("tool", "done", tool_call_id="b"),
        Message(
            "tool",
            "of an earlier request",
            tool_call_id="z",
            extra={"responses": {"custom": True}},
        ),
        Message("assistant", (Part(ITEM, data=items[10]), Part("text", "so"))),
    )


def test_progress_does_not_come_back_as_reasoning() -> None:
    """The item that told what orchestration was doing is nobody's thought: clients send it back, and it is left out."""
    progress = {
        "type": "reasoning",
        "id": "rs_00_progress",
        "summary": [{"type": "summary_text", "text": "asking"}],
    }
    assert parsed(input=[progress, {"role": "user", "content": "x"}]).request.messages == (
        Message("user", "x"),
    )


def test_seals_of_ours_come_back_as_what_they_were() -> None:
    """Encrypted reasoning that a caller got from us names its worker, its format and its own id, whatever the item's id is."""
    thought = Thought("t", signature="sig", id="th", wire="messages", worker="w1")
    answer = Answer(Message("assistant", "x", thoughts=(thought,)))
    item = responses.output_items(RUN, parsed(), answer)[0]
    assert parse_items([item])[0].thoughts == (thought,)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"type": 5}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": [1]}]}, "input[0].summary[0]"),
        ({"instructions": 1}, "instructions"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]}, "tools[0].tools[0].type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"include": "x"}, "include"),
        ({"store": "yes"}, "store"),
        ({"stretto": {"limit": 1}}, "stretto.limit"),
        ({"base_url": "http://x"}, "base_url"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """Each refusal names the field by its path."""
    assert refused(**fields).param == param


def test_tools_and_choices_take_chat_completions_shape_and_back() -> None:
    """Functions, custom tools with a grammar, namespaces, hosted tools and every form of choice; nothing is lost on the way."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: W"}
    tools = [
        {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object"},
            "strict": True,
            "defer_loading": True,
        },
        {"type": "custom", "name": "patch", "description": "d", "format": grammar},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
        {"type": "web_search", "external_web_access": False},
    ]
    choices: list[Any] = [
        "required",
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "patch"},
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        },
        {"type": "web_search"},
    ]
    request = parsed(tools=tools).request
    assert request.tools[0]["function"] == {"name": "f", "parameters": {"type": "object"}, "strict": True}
    assert request.tools[1]["custom"]["format"] == {
        "type": "grammar",
        "grammar": {"syntax": "lark", "definition": "start: W"},
    }
    assert sent_on(request)["tools"] == tools
    for choice in choices:
        assert sent_on(parsed(tools=tools, tool_choice=choice).request)["tool_choice"] == choice


def test_fusion_s_tools_and_plugins_pass_raw() -> None:
    """OpenRouter's forms of fusion are not this format's business: the gateway finds them where they were."""
    tool = {"type": "openrouter:fusion", "parameters": {"x": 1}}
    request = parsed(
        tools=[tool], tool_choice={"type": "openrouter:fusion"}, plugins=[{"id": "fusion"}]
    ).request
    assert (request.tools, request.tool_choice) == ((tool,), {"type": "openrouter:fusion"})
    assert request.extra["plugins"] == [{"id": "fusion"}]


# --- history -----------------------------------------------------------------------------------------------------


def test_history_stands_between_instructions_and_input() -> None:
    """A request goes on from earlier items; instructions are its own, references are replaced by what they name."""
    incoming = parsed(
        instructions="new",
        previous_response_id="resp_0",
        input=[{"type": "item_reference", "id": "msg_9"}, {"role": "user", "content": "b"}],
    )
    assert incoming.more["references"] == ("msg_9",)
    kept = {"type": "message", "id": "msg_9", "role": "assistant", "content": "kept"}
    whole = responses.with_history(incoming, [{"role": "user", "content": "a"}], {"msg_9": kept})
    assert [(m.role, m.text) for m in whole.request.messages] == [
        ("system", "new"),
        ("user", "a"),
        ("assistant", "kept"),
        ("user", "b"),
    ]
    assert whole.more["references"] == ()
    with pytest.raises(RequestError) as caught:
        responses.with_history(incoming, [], {})
    assert caught.value.param == "input[0].id"


def test_input_is_kept_as_full_items() -> None:
    """Whoever keeps the input gets items with ids, types and contents in full; an id that was given stays."""
    incoming = parsed(
        input=[
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "x"},
        ]
    )
    items = responses.input_items(RUN, incoming)
    assert [item["id"] for item in items] == [f"msg_{'0a' * 16}_in0", f"msg_{'0a' * 16}_in1", "fco_1"]
    assert items[0]["content"] == [{"type": "input_text", "text": "a"}]
    assert items[1]["content"][0]["type"] == "output_text"
    assert {item["status"] for item in items} == {"completed"}


def test_references_are_found_with_and_without_a_type() -> None:
    """`{"id": ...}` alone is a reference too."""
    items = [{"id": "a"}, {"type": "item_reference", "id": "b"}, {"role": "user", "content": "", "id": "c"}]
    assert references(items) == ("a", "b")


# --- what parse accepts survives -----------------------------------------------------------------------------------

TEXT = st.text(max_size=8)
NAME = st.sampled_from(["f", "g", "patch"])
INPUT_PART = st.one_of(
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXT),
    st.builds(lambda url: {"type": "input_image", "image_url": url, "detail": "high"}, TEXT),
    st.builds(lambda data: {"type": "input_file", "file_data": data, "filename": "n"}, TEXT),
    st.builds(lambda id_: {"type": "input_image", "file_id": id_}, TEXT),
    st.builds(
        lambda text: {"type": "input_text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}},
        TEXT,
    ),
)
CONTENT = st.one_of(TEXT, st.lists(INPUT_PART, max_size=3))
OUTPUT_PART = st.one_of(
    st.builds(lambda text: {"type": "output_text", "text": text, "annotations": []}, TEXT),
    st.builds(lambda text: {"type": "refusal", "refusal": text}, TEXT),
)
ITEMS = st.lists(
    st.one_of(
        st.builds(lambda role, content: {"role": role, "content": content},
                  st.sampled_from(["user", "system", "developer"]), CONTENT),
        st.builds(lambda content: {"type": "message", "role": "assistant", "content": content},
                  st.one_of(TEXT, st.lists(OUTPUT_PART, max_size=3))),
        st.builds(lambda id_, name, text: {"type": "function_call", "call_id": id_, "name": name, "arguments": text},
                  TEXT, NAME, TEXT),
        st.builds(lambda id_, text: {"type": "custom_tool_call", "call_id": id_, "name": "patch", "input": text},
                  TEXT, TEXT),
        st.builds(lambda id_, content: {"type": "function_call_output", "call_id": id_, "output": content},
                  TEXT, CONTENT),
        st.builds(lambda id_, text: {"type": "custom_tool_call_output", "call_id": id_, "output": text}, TEXT, TEXT),
        st.builds(lambda seal: {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal},
                  st.text(min_size=1, max_size=8)),
        st.builds(lambda text: {"type": "mcp_call", "id": "mcp_1", "output": text}, TEXT),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip
FIELDS = st.fixed_dictionaries(
    {"input": st.one_of(TEXT, ITEMS)},
    optional={
        "instructions": TEXT,
        "temperature": st.floats(0, 2),
        "max_output_tokens": st.integers(1, 99),
        "reasoning": st.sampled_from([{"effort": "low"}, {"summary": "auto"}, {}]),
        "text": st.sampled_from([{"verbosity": "low"}, {"format": {"type": "json_object"}}]),
        "tools": st.just(
            [
                {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
                {"type": "custom", "name": "patch"},
                {"type": "web_search"},
            ]
        ),
        "include": st.just(["reasoning.encrypted_content", "message.output_text.logprobs"]),
        "top_logprobs": st.integers(0, 20),
        "user": TEXT,
        "unknown": st.dictionaries(TEXT, st.integers(0, 99)),
    },
)


@given(FIELDS)
def test_what_parse_accepts_survives_the_way_to_a_worker(fields: dict[str, Any]) -> None:
    """parse, render for a worker of this format, parse again: the same request."""
    try:
        request = parsed(**fields).request
    except RequestError:
        return
    again = responses.parse_request(orjson.dumps({**sent_on(request), "model": "m"})).request
    assert again == request


CHAT_MESSAGES = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["system", "developer", "user"]), TEXT),
        st.builds(
            lambda text, url: Message(
                "user",
                (
                    Part("text", text),
                    Part("image_url", data={"type": "image_url", "image_url": {"url": url}}),
                ),
            ),
            TEXT,
            TEXT,
        ),
        st.builds(lambda text: Message("assistant", text), st.text(min_size=1, max_size=8)),
        st.builds(
            lambda text, arguments: Message(
                "assistant", text or None, (ToolCall("a", "f", arguments), ToolCall("b", "g", "{}"))
            ),
            TEXT,
            TEXT,
        ),
        st.builds(lambda text: Message("tool", text, tool_call_id="a"), TEXT),
    ),
    min_size=1,
    max_size=6,
)


def merged(messages: tuple[Message, ...]) -> list[tuple[Any, ...]]:
    """A conversation by what is said in it: neighbouring turns of the model are one where only calls part them."""
    return [
        (m.role, m.content, tuple((c.id, c.name, c.arguments) for c in m.tool_calls), m.tool_call_id)
        for m in messages
    ]


@given(CHAT_MESSAGES)
def test_a_chat_goes_to_a_responses_worker_and_back(messages: list[Message]) -> None:
    """Chat's messages survive being input items, as far as no two turns of the model follow on each other."""
    kept = [
        message
        for index, message in enumerate(messages)
        if not (message.role == "assistant" and index and messages[index - 1].role == "assistant")
    ]
    request = Request(messages=tuple(kept), model="m")
    body = sent_on(request)
    again = responses.parse_request(orjson.dumps({**body, "model": "m"})).request
    assert merged(again.messages) == merged(request.messages)
    ask = Ask("w", speaks=True).bound(again, "0")
    chatted = chat.parse_request(chat.render_ask(ask, "m", CARD).body).request
    assert merged(chatted.messages) == merged(request.messages)
