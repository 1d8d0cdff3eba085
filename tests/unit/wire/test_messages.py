"""Anthropic Messages: what callers may send, what it becomes, and what they get back in one piece."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Answer, Card, Message, Part, Request, Thought, ToolCall, Usage
from stretto.wire import FORMATS, chat, format_named, messages
from stretto.wire.base import Incoming
from stretto.wire.seals import closed, opened

CARD = Card("w", abilities=frozenset({"text", "tools", "json", "vision", "reasoning"}))
PICTURE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}


def body(**fields: Any) -> bytes:
    return orjson.dumps(
        {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}], **fields}
    )


def parsed(**fields: Any) -> Request:
    return messages.parse_request(body(**fields)).request


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parsed(**fields)
    return caught.value


def rendered(request: Request, form: Any = messages, card: Card = CARD) -> Any:
    """The request as an upstream of `form` gets it."""
    ask = Ask("w", speaks=True).bound(request, "0")
    return orjson.loads(
        form.render_ask(ask, request.model, card, stream=False, lacks=frozenset(), renames={}).body
    )


def again(request: Request) -> Request:
    """The request as another gateway would read what we send to an upstream."""
    return messages.parse_request(orjson.dumps(rendered(request))).request


# --- requests ----------------------------------------------------------------------------------------------------


def test_every_field_has_its_place() -> None:
    """Parameters take their common names, interpreted fields their places, and what only Anthropic knows is kept as it came."""
    incoming = messages.parse_request(
        body(
            system="be brief",
            temperature=0.5,
            top_k=4,
            stop_sequences=["x"],
            tools=[
                {"name": "f", "description": "d", "input_schema": {"type": "object"}, "defer_loading": True}
            ],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            thinking={"type": "enabled", "budget_tokens": 4000},
            metadata={"user_id": "u"},
            context_management={"edits": []},
            stream=True,
            stretto={"policy": "fuse", "dial": 1, "limits": {"calls": 3}},
        )
    )
    request = incoming.request
    assert request.wire == "messages"
    assert request.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert dict(request.params) == {
        "temperature": 0.5,
        "top_k": 4,
        "stop": ["x"],
        "reasoning_effort": "medium",
        "parallel_tool_calls": False,
    }
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert request.tools == ({"type": "function", "function": function},)
    assert (request.tool_choice, request.max_tokens) == ("required", 64)
    assert request.extra == {
        "metadata": {"user_id": "u"},
        "context_management": {"edits": []},
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "tool_fields": {"f": {"defer_loading": True}},
    }
    assert (incoming.stream, incoming.options.policy, request.dial, request.limits.calls) == (
        True,
        "fuse",
        1,
        3,
    )


def test_null_is_not_given() -> None:
    """A field that is null counts as absent, as SDKs send it."""
    names = ("system", "temperature", "tools", "tool_choice", "thinking", "output_config", "stop_sequences")
    assert parsed(**dict.fromkeys((*names, "stream", "metadata", "stretto"))) == parsed()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]},
            "messages[0].content[0].source.url",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "i", "name": "f", "input": 3}],
                    }
                ]
            },
            "messages[0].content[0].input",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"model": ""}, "model"),
        ({"base_url": "http://x"}, "base_url"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """A refusal names the path of the field."""
    assert refused(**fields).param == param


def test_tool_results_become_messages_of_their_own() -> None:
    """Each result of a user's message is a message that names its call, with the rest of the message after them."""
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": "one", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [{"type": "text", "text": "two"}, {"type": "image", "source": PICTURE}],
        },
        {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}},
    ]
    found = parsed(messages=[{"role": "user", "content": content}]).messages
    assert found[0] == Message(
        "tool", "one", tool_call_id="a", extra={"messages": {"fields": {"is_error": True}}}
    )
    assert (found[1].role, found[1].tool_call_id, found[1].text) == ("tool", "b", "two")
    assert isinstance(found[1].content, tuple)
    assert found[1].content[1].kind == "image_url"
    assert found[2].content == (Part("text", "go on", extra={"cache_control": {"type": "ephemeral"}}),)


def test_effort_follows_what_is_said_of_thinking() -> None:
    """`reasoning_effort` comes from the effort or the budget; disabled thinking, and none, say nothing."""

    def effort(**fields: Any) -> Any:
        return parsed(**fields).params.get("reasoning_effort")

    assert effort(thinking={"type": "adaptive"}, output_config={"effort": "low"}) == "low"
    assert effort(output_config={"effort": "max"}) == "high"
    assert effort(thinking={"type": "enabled", "budget_tokens": 1024}) == "low"
    assert effort(thinking={"type": "enabled", "budget_tokens": 30000}) == "high"
    assert effort(thinking={"type": "disabled"}, output_config={"effort": "low"}) is None
    assert effort() is None


def test_the_request_of_claude_code_is_understood() -> None:
    """The shape that Claude Code sends: blocks with cache marks, adaptive thinking, context management, a beta list."""
    mark = {"cache_control": {"type": "ephemeral"}}
    request = parsed(
        model="claude-sonnet-4-6",
        max_tokens=32000,
        system=[{"type": "text", "text": "You are a CLI."}, {"type": "text", "text": "Rules.", **mark}],
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "<reminder>"}, {"type": "text", "text": "Hi", **mark}],
            }
        ],
        tools=[
            {"name": n, "description": n, "input_schema": {"type": "object", "properties": {}}}
            for n in ("Bash", "Edit")
        ],
        thinking={"type": "adaptive"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        metadata={"user_id": "user_1"},
        stream=True,
    )
    request = messages.with_betas(
        request, "claude-code-20250219, context-management-2025-06-27,oauth-2025-04-20"
    )
    ask = Ask("w", speaks=True).bound(request, "0")
    out = messages.render_ask(ask, "claude-sonnet-4-6", CARD)
    sent = orjson.loads(out.body)
    assert out.headers == (("anthropic-beta", "claude-code-20250219,context-management-2025-06-27"),)
    assert out.dropped == ()
    assert sent["system"][1] == {"type": "text", "text": "Rules.", **mark}
    assert sent["thinking"] == {"type": "adaptive"}
    assert sent["output_config"] == {"effort": "medium"}
    assert sent["context_management"] == request.extra["context_management"]
    assert "betas" not in sent
    over_chat = rendered(request, chat)
    assert [m["role"] for m in over_chat["messages"]] == ["system", "user"]
    assert not over_chat.keys() & {"thinking", "output_config", "context_management", "metadata", "betas"}
    assert over_chat["tools"][0] == {
        "type": "function",
        "function": {
            "name": "Bash",
            "description": "Bash",
            "parameters": {"type": "object", "properties": {}},
        },
    }


# --- there and back ------------------------------------------------------------------------------------------------

words = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=12).filter(
    str.strip
)
marks = st.sampled_from([{}, {"cache_control": {"type": "ephemeral"}}])
texts = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, words, marks)
pictures = st.sampled_from(
    [
        {"type": "image", "source": PICTURE},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "f1"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="},
            "title": "t",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
            "citations": {"enabled": True},
        },
        {
            "type": "search_result",
            "source": "s",
            "title": "t",
            "content": [{"type": "text", "text": "found"}],
        },
        {"type": "something_new", "field": [1, {"deep": None}]},
    ]
)
results = st.builds(
    lambda id, content, more: {"type": "tool_result", "tool_use_id": id, "content": content, **more},
    st.sampled_from(["a1", "toolu_x"]),
    words | st.lists(texts | pictures, min_size=1, max_size=2),
    st.sampled_from([{}, {"is_error": True}]),
)
thinking = st.builds(
    lambda t, s: {"type": "thinking", "thinking": t, "signature": s}, words, st.just("sig==")
)
hidden = st.just({"type": "redacted_thinking", "data": "EmwKAhgB"})
uses = st.builds(
    lambda id, name, given, mark: {"type": "tool_use", "id": id, "name": name, "input": given, **mark},
    st.sampled_from(["a1", "toolu_x"]),
    st.sampled_from(["f", "g"]),
    st.dictionaries(words, st.integers(-9, 9) | words | st.none(), max_size=2),
    marks,
)
searches = st.just({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}})
said = st.lists(texts | thinking | hidden | uses | searches, min_size=1, max_size=5)
asked = st.builds(
    lambda r, rest: [*r, *rest],
    st.lists(results, max_size=2),
    st.lists(texts | pictures, min_size=1, max_size=3),
)
turns = st.builds(
    lambda pairs: [
        m for q, a in pairs for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})
    ],
    st.lists(st.tuples(words | asked, words | said), min_size=1, max_size=3),
)
requests = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.integers(1, 999), "messages": turns},
    optional={
        "system": words | st.lists(texts, min_size=1, max_size=2),
        "temperature": st.sampled_from([0, 0.5, 1]),
        "top_p": st.just(0.9),
        "top_k": st.just(5),
        "stop_sequences": st.lists(words, min_size=1, max_size=2),
        "tools": st.just(
            [
                {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            ]
        ),
        "thinking": st.sampled_from(
            [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}]
        ),
        "output_config": st.sampled_from(
            [
                {"effort": "low"},
                {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            ]
        ),
        "metadata": st.just({"user_id": "u"}),
        "unheard_of": st.just({"a": [None, 1]}),
    },
)


@given(requests)
def test_what_is_accepted_survives_the_way_through(raw: dict[str, Any]) -> None:
    """What `parse_request` accepts reaches an upstream of this format whole: read there, it is the same request."""
    request = messages.parse_request(orjson.dumps(raw)).request
    assert again(request) == request


@given(requests)
def test_another_format_gets_all_that_it_can_say(raw: dict[str, Any]) -> None:
    """Over Chat Completions the texts, calls and results of a conversation arrive in order, and nothing of Anthropic's own."""
    kept = [
        m
        for m in raw["messages"]
        if "something_new" not in str(m) and "file_id" not in str(m) and "server_tool" not in str(m)
    ]
    if not kept:
        return
    request = messages.parse_request(orjson.dumps({**raw, "messages": kept})).request
    sent = rendered(request, chat)
    assert b"cache_control" not in orjson.dumps(sent)
    assert b'"thinking"' not in orjson.dumps(sent)
    read = chat.parse_request(orjson.dumps(sent)).request
    assert told(read.messages) == told(request.messages)


def told(conversation: tuple[Message, ...]) -> list[Any]:
    """What is said, called and returned; a picture in a result becomes a message of its own, so those are left out."""
    found = [(m.role, m.tool_call_id, m.tool_calls, m.text) for m in conversation]
    return [each for each in found if each[3] or each[2] or each[0] == "tool"]


def test_a_chat_conversation_becomes_one_of_messages() -> None:
    """Developer and late system messages join the system prompt, results come at once after the calls, neighbours are joined."""
    call = ToolCall("call:1", "f", '{"a":1}')
    request = Request(
        messages=(
            Message("developer", "rules"),
            Message(
                "user",
                (
                    Part(
                        "image_url",
                        "",
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ),
                ),
            ),
            Message("assistant", "", (call, ToolCall("c2", "patch", "free text", "custom"))),
            Message("tool", "one", tool_call_id="call:1"),
            Message("user", "wait"),
            Message("tool", "two", tool_call_id="c2"),
            Message("system", "late"),
            Message("user", "go"),
        ),
        params={
            "parallel_tool_calls": False,
            "temperature": 1.4,
            "presence_penalty": 1,
            "stop": ["\n", "END"],
        },
        tools=(
            {"type": "function", "function": {"name": "f"}},
            {"type": "custom", "custom": {"name": "patch"}},
        ),
        extra={"user": "u"},
    )
    ask = Ask("w", speaks=True).bound(request, "0")
    out = messages.render_ask(ask, "m", CARD)
    sent = orjson.loads(out.body)
    assert [block["text"] for block in sent["system"]] == ["rules", "late"]
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "image", "source": PICTURE}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "patch", "input": {"input": "free text"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
                {"type": "text", "text": "wait"},
                {"type": "text", "text": "go"},
            ],
        },
    ]
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert (sent["temperature"], sent["stop_sequences"], sent["max_tokens"]) == (1, ["END"], 4096)
    assert set(out.dropped) == {"messages.system", "presence_penalty", "stop", "user"}
    assert out.custom == {"patch"}
    assert "user" not in sent


def test_what_cannot_be_said_is_refused() -> None:
    """Content without a word in this format, and asks for vectors, are refused instead of being left out."""
    audio = Part("input_audio", "", {"type": "input_audio", "input_audio": {}})
    for request in (
        Request(messages=(Message("user", (audio,)),)),
        Request(messages=(Message("user", ""),)),
        Request(messages=(Message("user", "x"),), want="embedding"),
    ):
        with pytest.raises(ValueError, match="Messages"):
            rendered(request)


# --- seals ---------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        Thought,
        st.just("t"),
        st.text(),
        st.just(""),
        st.text(),
        st.sampled_from(["messages", "responses"]),
        words,
    )
)
def test_a_seal_says_whose_it_is(thought: Thought) -> None:
    """A seal that went out comes back as the same thought, its worker and its format included."""
    thought = thought if thought.signature else replace(thought, sealed="x")
    assert opened(closed(thought, "messages"), "t") == thought


def test_seals_that_are_not_ours_are_left_alone() -> None:
    """A foreign seal, or one that somebody has cut, is no thought of ours."""
    assert [opened(seal) for seal in ("abc", "stretto.", "stretto.####.x", "stretto.W10.x")] == [None] * 4


def test_thinking_comes_back_to_the_worker_that_sealed_it() -> None:
    """An answer's thoughts carry their worker; sent back they are the same thoughts; our own progress is left out."""
    thoughts = (
        Thought("mind", "sig", wire="messages", worker="opus"),
        Thought(sealed="dark", wire="messages", worker="opus"),
        Thought("sum", sealed="enc", id="rs_1", wire="responses", worker="gpt"),
    )
    answer = Answer(Message("assistant", "hello", reasoning="mindsum", thoughts=thoughts))
    asked = Incoming(parsed(thinking={"type": "adaptive"}))
    whole = orjson.loads(messages.render_response("run_1", 0, asked, answer, Usage(), Usage()))
    progress = {"type": "thinking", "thinking": "asking b", "signature": "stretto-progress"}
    history = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [progress, *whole["content"]]},
    ]
    back = parsed(messages=history).messages[1]
    assert (back.thoughts, back.reasoning, back.content) == (thoughts, "mindsum", "hello")
    sent = rendered(Request(messages=(Message("user", "q"), back), wire="messages"))
    assert [b["type"] for b in sent["messages"][1]["content"]] == ["thinking", "redacted_thinking", "text"]
    assert sent["messages"][1]["content"][0]["signature"] == "sig"


# --- answers ---------------------------------------------------------------------------------------------------------


def answered(message: Message, finish: str = "stop", **fields: Any) -> Any:
    incoming = messages.parse_request(body(**fields))
    usage, served = Usage(100, 20, 60, 5), Usage(40, 12, 30, 5)
    return orjson.loads(
        messages.render_response(
            "run_0a", 7, incoming, Answer(message, finish), usage, served, {"run_id": "run_0a"}
        )
    )


def test_an_answer_in_one_piece() -> None:
    """Blocks in order, the name that was asked for, true usage with what orchestration took of it."""
    call = ToolCall("t1", "f", '{"a":1}')
    found = answered(Message("assistant", "so", (call, ToolCall("t2", "g", ""))), "tool_calls")
    assert (found["id"], found["type"], found["role"], found["model"]) == (
        "msg_0a",
        "message",
        "assistant",
        "m",
    )
    assert found["content"] == [
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]
    assert found["usage"] == {
        "input_tokens": 40,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
        "orchestration_input_tokens": 60,
        "orchestration_input_cached_tokens": 30,
        "orchestration_output_tokens": 8,
    }
    assert found["stretto"] == {"run_id": "run_0a"}


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        (Message("assistant", "x"), "stop", "end_turn"),
        (Message("assistant", "x"), "tool_calls", "end_turn"),
        (Message("assistant", "x", (ToolCall("i", "f", "{}"),)), "stop", "tool_use"),
        (Message("assistant", "x", (ToolCall("i", "f", "{"),)), "length", "max_tokens"),
        (Message("assistant", "x"), "content_filter", "refusal"),
        (Message("assistant", None, refusal="no"), "stop", "refusal"),
    ],
)
def test_the_stop_reason_follows_from_the_answer(message: Message, finish: str, reason: str) -> None:
    """What an upstream called it counts only as far as the answer bears it out."""
    assert answered(message, finish)["stop_reason"] == reason


def test_reasoning_is_shown_to_those_who_asked() -> None:
    """A caller who has not enabled thinking finds the answer in the first block; one who has finds the reasoning before it."""
    message = Message("assistant", "x", reasoning="hm")
    assert [b["type"] for b in answered(message)["content"]] == ["text"]
    shown = answered(message, thinking={"type": "enabled", "budget_tokens": 2000})["content"]
    assert shown[0] == {"type": "thinking", "thinking": "hm", "signature": "stretto-reasoning"}
    assert [
        b["type"] for b in answered(message, thinking={"type": "adaptive", "display": "omitted"})["content"]
    ] == ["text"]


def test_arguments_that_are_no_object_are_handed_over() -> None:
    """A call whose arguments are broken keeps them, under the key that Anthropic's documentation gives."""
    found = answered(Message("assistant", None, (ToolCall("i", "f", '{"a":'),)))
    assert found["content"][0]["input"] == {"INVALID_JSON": '{"a":'}


def test_models_are_listed_in_anthropic_s_shape() -> None:
    """The list has ids, names and ends, also when it is empty."""
    found = orjson.loads(
        messages.render_models([Card("a", context=9, max_output=3), Card("b", description="B")])
    )
    assert [(m["id"], m["display_name"], m["max_input_tokens"]) for m in found["data"]] == [
        ("a", "a", 9),
        ("b", "b", None),
    ]
    assert (found["first_id"], found["last_id"], found["has_more"]) == ("a", "b", False)
    assert orjson.loads(messages.render_models([]))["data"] == []


def test_the_format_is_listed() -> None:
    """It is found by its name, and has a route."""
    assert format_named("messages") is messages
    assert messages in FORMATS
    assert messages.ROUTE == "/v1/messages"
    assert dict(messages.credentials("k")) == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
