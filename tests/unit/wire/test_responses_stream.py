"""Answers and streams of OpenAI Responses, as the specification, openai-python's types and this format's own reader see them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from stretto.types import Answer, Delta, Message, Part, Thought, TokenLogprob, ToolCall, Usage
from stretto.wire import responses
from stretto.wire.base import Incoming, delta_of
from stretto.wire.responses_items import ITEM
from tests.acceptance.responses_events import events_of, faults, object_faults

RUN = "run_" + "0a" * 16
TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "ns", "description": "d", "tools": [{"type": "function", "name": "g"}]},
]
SEALED = Thought("so so", sealed="SEAL", id="rs_up", wire="responses", worker="w")
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LOGPROBS = (TokenLogprob("a", -0.5, (("b", -1.0),)),)


def asked(**fields: Any) -> Incoming:
    return responses.parse_request(orjson.dumps({"model": "m", "input": "hi", **fields}))


def writer(**fields: Any) -> responses.ResponsesStream:
    return responses.ResponsesStream(RUN, 5, asked(**fields), clock=lambda: 7.5)


def whole(answer: Answer, **fields: Any) -> dict[str, Any]:
    raw = responses.render_response(RUN, 5, asked(**fields), answer, Usage(9, 8, 2, 1), Usage(3, 4), {"a": 1})
    found: dict[str, Any] = orjson.loads(raw)
    return found


def streamed(answer: Answer, deltas: Sequence[Delta], **fields: Any) -> list[dict[str, Any]]:
    """The events of an answer; they keep to the specification, and openai-python's types take each of them strictly."""
    out = writer(**fields)
    raw = out.deltas(deltas) + out.end(answer, Usage(9, 8), Usage(3, 4), {"a": 1})
    events = events_of(raw)
    assert faults(events) == []
    for event in events:
        EVENT.validate_python(event, strict=True)
    return events


ANSWERS = {
    "text": Message("assistant", "hello"),
    "reasoning": Message("assistant", "hello", reasoning="hm"),
    "sealed": Message("assistant", "hello", reasoning="so so", thoughts=(SEALED, replace(SEALED, text="b"))),
    "calls": Message(
        "assistant",
        None,
        (ToolCall("a", "f", "{}"), ToolCall("b", "patch", "raw", "custom"), ToolCall("c", "ns__g", "{}")),
    ),
    "text and call": Message("assistant", "wait", (ToolCall("a", "f", '{"x":1}'),)),
    "refusal": Message("assistant", None, refusal="no"),
    "text and refusal": Message("assistant", "well", refusal="no"),
    "nothing": Message("assistant", None),
    "raw item": Message(
        "assistant",
        (
            Part(
                ITEM,
                data={
                    "type": "web_search_call",
                    "id": "ws_1",
                    "status": "completed",
                    "action": {"type": "search", "query": "q"},
                },
            ),
            Part("text", "found"),
        ),
    ),
    "annotated": Message(
        "assistant",
        (
            Part(
                "text",
                "see x",
                extra={
                    "annotations": [
                        {"type": "url_citation", "url": "u", "title": "t", "start_index": 4, "end_index": 5}
                    ]
                },
            ),
        ),
        extra={"responses": {"phase": "final_answer"}},
    ),
}
FINISHES = ("stop", "length", "content_filter")


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_what_the_specification_and_the_sdk_want(name: str, finish: str) -> None:
    """A whole answer satisfies the schema of a response and openai-python's strict types."""
    body = whole(Answer(ANSWERS[name], finish), tools=TOOLS, instructions="i")
    assert object_faults(body, "ResponseResource") == []
    Response.model_validate(body, strict=True)


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("name", ANSWERS)
def test_streams_come_to_the_same_answer(name: str, finish: str) -> None:
    """A stream keeps to the specification event by event, and ends with the output that the whole answer has."""
    answer = Answer(ANSWERS[name], finish)
    fields: dict[str, Any] = {"tools": TOOLS, "include": ["reasoning.encrypted_content"]}
    end = streamed(answer, [delta_of(answer.message)], **fields)[-1]["response"]
    body = whole(answer, **fields)
    assert end["output"] == body["output"]
    assert (end["status"], end["incomplete_details"]) == (body["status"], body["incomplete_details"])


def test_every_field_of_the_request_is_told_back() -> None:
    """What the caller said stands in the response, in the caller's own shape; the rest has its default."""
    given: dict[str, Any] = {
        "instructions": "i",
        "metadata": {"k": "v"},
        "store": False,
        "tools": TOOLS,
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "f"}],
        },
        "reasoning": {"effort": "low", "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "temperature": 0.25,
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "truncation": "auto",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "p",
        "previous_response_id": "resp_0",
        "top_logprobs": 2,
        "parallel_tool_calls": False,
    }
    body = whole(Answer(Message("assistant", "x")), **given)
    tools = body["tools"]
    assert tools[0] == {"description": None, "strict": None, **TOOLS[0]}
    assert {name: body[name] for name in given} == {**given, "tools": tools}
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    body = whole(Answer(Message("assistant", "x")), text={"format": schema}, service_tier="auto")
    assert body["text"] == {"format": {**schema, "description": None, "strict": False}}
    assert (body["service_tier"], body["store"], body["temperature"]) == ("default", True, 1.0)
    assert object_faults(body, "ResponseResource") == []


def test_usage_tells_what_orchestration_took() -> None:
    """The totals are true; what the answering attempt did not take stands beside them."""
    usage = whole(Answer(Message("assistant", "x")))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 8, 17)
    assert usage["input_tokens_details"] == {
        "cached_tokens": 2,
        "cache_write_tokens": 0,
        "orchestration_input_tokens": 6,
        "orchestration_input_cached_tokens": 2,
    }
    assert usage["output_tokens_details"] == {"reasoning_tokens": 1, "orchestration_output_tokens": 4}


def test_ids_follow_from_the_run() -> None:
    """Response and items carry the run's own digits, so that one answer has the same ids however it is told."""
    body = whole(Answer(ANSWERS["text and call"]))
    assert [body["id"], *(item["id"] for item in body["output"])] == [
        "resp_" + "0a" * 16,
        f"msg_{'0a' * 16}_0",
        f"fc_{'0a' * 16}_1",
    ]


def test_seals_are_shown_to_those_who_ask() -> None:
    """Encrypted reasoning goes out with `include` only; what is kept for later has it always."""
    answer = Answer(ANSWERS["sealed"])
    assert "encrypted_content" not in whole(answer)["output"][0]
    assert whole(answer, include=["reasoning.encrypted_content"])["output"][0]["encrypted_content"]
    assert responses.output_items(RUN, asked(), answer)[0]["encrypted_content"]
    out = writer()
    out.deltas([delta_of(answer.message)])
    out.end(answer, Usage(), Usage())
    assert out.final is not None
    assert "encrypted_content" not in out.final["output"][0]
    assert out.kept[0]["encrypted_content"]


def test_a_live_stream_of_everything() -> None:
    """Reasoning in pieces and its seal, text with log-probabilities, calls whose pieces mingle: all of it arrives in order."""
    message = Message(
        "assistant",
        "hello",
        (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "patch", "raw", "custom")),
        reasoning="so so",
        thoughts=(SEALED,),
    )
    deltas = [
        Delta(reasoning="so "),
        Delta(reasoning="so"),
        Delta(thoughts=(SEALED,)),
        Delta("hel", logprobs=LOGPROBS),
        Delta("lo"),
        Delta(tool_calls=((0, "a", "f", '{"x"'), (1, "b", "patch", ""))),
        Delta(tool_calls=((1, "", "", "ra"), (0, "", "", ":1}"))),
        Delta(tool_calls=((1, "", "", "w"),)),
    ]
    events = streamed(
        Answer(message, "tool_calls"), deltas, tools=TOOLS, include=["reasoning.encrypted_content"]
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "so so"}]
    assert output[1]["content"][0]["logprobs"][0]["token"] == "a"
    assert (output[2]["arguments"], output[3]["input"]) == ('{"x":1}', "raw")
    assert events[-1]["response"]["completed_at"] == 7


def test_calls_are_closed_with_the_end_only() -> None:
    """An agent acts on a call when it is done: that is held back until the answer is recorded."""
    message = Message("assistant", None, (ToolCall("a", "f", "{}"),))
    out = writer(tools=TOOLS)
    before = events_of(out.deltas([delta_of(message)]))
    assert not any(event["type"].endswith(".done") for event in before)
    after = events_of(out.end(Answer(message), Usage(), Usage()))
    assert [event["type"] for event in after] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_progress_is_reasoning_before_the_answer() -> None:
    """Orchestration tells what it does in an item of its own, and says nothing more once the answer has begun."""
    out = writer(reasoning={"summary": "auto"})
    raw = out.progress("asking three\n") + out.keep_alive() + out.progress("judging\n")
    raw += out.deltas([Delta(reasoning="hm"), Delta("x")])
    assert out.progress("too late") == b""
    answer = Answer(Message("assistant", "x", reasoning="hm"))
    events = events_of(raw + out.end(answer, Usage(), Usage()))
    assert faults(events) == []
    first, second, third = events[-1]["response"]["output"]
    assert first["summary"][0]["text"] == "asking three\njudging\n"
    assert (first["id"].endswith("_progress"), second["summary"][0]["text"], third["type"]) == (
        True,
        "hm",
        "message",
    )


def test_keep_alives_are_events_that_count() -> None:
    """Agents' idle timers count events, not comments: the response is told to be in progress, again and again, anywhere."""
    out = writer()
    raw = out.keep_alive() + out.keep_alive() + out.deltas([Delta("a")]) + out.keep_alive()
    events = events_of(raw + out.end(Answer(Message("assistant", "a")), Usage(), Usage()))
    assert faults(events) == []
    assert [event["type"] for event in events].count("response.in_progress") == 3


def test_a_failure_is_raised_by_sdks_and_ends_the_response() -> None:
    """`error` is what SDKs raise, `response.failed` is what agents wait for; both say what happened."""
    out = writer()
    raw = out.deltas([Delta("a")]) + out.error("The answer broke off.", "server_error", "upstream_cut")
    events = events_of(raw)
    assert faults(events) == []
    error, failed = events[-2:]
    assert (error["error"]["message"], error["code"]) == ("The answer broke off.", "upstream_cut")
    assert failed["response"]["error"] == {
        "code": "server_error",
        "message": "The answer broke off.",
        "type": "server_error",
        "param": None,
    }
    for event in events:
        EVENT.validate_python(event, strict=True)
    assert out.final == failed["response"]


@pytest.mark.parametrize(
    ("type", "code"),
    [
        ("insufficient_quota", "insufficient_quota"),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("invalid_request_error", "invalid_prompt"),
        ("server_error", "server_error"),
    ],
)
def test_failures_have_codes_that_agents_know(type: str, code: str) -> None:
    """Agents decide by the code whether to try again."""
    failed = events_of(writer().error("m", type))[-1]
    assert failed["response"]["error"]["code"] == code


def test_a_fusion_is_told_to_those_who_asked_for_it() -> None:
    """OpenRouter's clients find what a fusion tells as an item of the output; others never meet its type."""
    answer, told = Answer(Message("assistant", "x")), {"fusion": {"status": "ok", "analysis": {"a": 1}}}
    fields: dict[str, Any] = {"tools": [{"type": "openrouter:fusion"}]}
    raw = responses.render_response(RUN, 5, asked(**fields), answer, Usage(), Usage(), told)
    item = {
        "type": "openrouter:fusion",
        "id": "fusion_" + "0a" * 16,
        "status": "completed",
        "analysis": {"a": 1},
    }
    assert orjson.loads(raw)["output"][0] == item
    out = writer(**fields)
    events = events_of(out.deltas([Delta("x")]) + out.end(answer, Usage(), Usage(), told))
    assert faults(events) == []
    assert item in events[-1]["response"]["output"]
    raw = responses.render_response(RUN, 5, asked(), answer, Usage(), Usage(), told)
    assert [item["type"] for item in orjson.loads(raw)["output"]] == ["message"]


# --- the same, for anything ---------------------------------------------------------------------------------------

TEXT = st.text(max_size=6)
CALL = st.tuples(st.integers(0, 2), st.just(""), st.just(""), TEXT)
DELTAS = st.lists(
    st.one_of(
        st.builds(Delta, TEXT),
        st.builds(lambda text: Delta(reasoning=text), TEXT),
        st.builds(lambda text: Delta(refusal=text), TEXT),
        st.builds(lambda text: Delta(thoughts=(Thought(text, sealed="S", wire="responses"),)), TEXT),
        st.builds(
            lambda index, text: Delta(tool_calls=((index, f"c{index}", "f", text),)), st.integers(0, 2), TEXT
        ),
        st.just(Delta(parts=(Part(ITEM, data={"type": "mcp_call"}),))),
    ),
    max_size=12,
)


@given(DELTAS, st.sampled_from(FINISHES))
def test_any_deltas_make_a_stream_that_keeps_to_the_specification(deltas: list[Delta], finish: str) -> None:
    """Whatever comes in whatever order, items and parts begin and end as they must, and the text is all there."""
    out = writer(tools=TOOLS)
    message = Message("assistant", "".join(delta.text for delta in deltas))
    raw = b"".join(out.deltas([delta]) for delta in deltas) + out.end(
        Answer(message, finish), Usage(), Usage()
    )
    events = events_of(raw)
    assert faults(events) == []
    said = [part for item in events[-1]["response"]["output"] for part in item.get("content", ())]
    assert "".join(part.get("text", "") for part in said) == message.content


@given(DELTAS)
def test_a_stream_that_is_read_by_the_upstream_s_reader_gives_the_same(deltas: list[Delta]) -> None:
    """The writer's events, read as an upstream's, bring the same text, and end as complete."""
    out = writer(tools=TOOLS)
    message = Message("assistant", "".join(delta.text for delta in deltas))
    raw = out.deltas(deltas) + out.end(Answer(message), Usage(1, 1), Usage())
    reader = responses.reader()
    found: list[Delta] = []
    for event in events_of(raw):
        reader.feed(orjson.dumps(event), found)
    assert reader.finished
    assert "".join(delta.text for delta in found) == message.content == reader.result().message.text
