"""Every upstream format against every client format: an answer means the same to its caller, whole and as a stream."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from stretto.types import Answer, Delta, Usage
from stretto.wire import format_named
from stretto.wire.base import Completion, Incoming
from stretto.wire.sse import SseParser
from tests.dialects import ALL, SPEAK, Talk, Told, same

CALLS = (("look", '{"at": "left"}'), ("look", '{"at": "right"}'))
ANSWERS = {
    "text": Told("There it is."),
    "cut by the cap": Told("There it", finish="length"),
    "cut by a filter": Told("There", finish="content_filter"),
    "a call": Told(calls=CALLS[:1], finish="tool_calls"),
    "parallel calls after a word": Told("I look.", calls=CALLS, finish="tool_calls"),
    "a call cut by the cap": Told(calls=CALLS[:1], finish="length"),
    "thinking": Told("There.", reasoning="Where?"),
    "thinking before a call": Told(reasoning="Where?", calls=CALLS[:1], finish="tool_calls"),
    "nothing cached": Told("There.", usage=(9, 5, 0, 0)),
}
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
WHY = {"length": "max_output_tokens", "content_filter": "content_filter"}


# --- what upstreams send -----------------------------------------------------------------------------------------


def usage_in(wire: str, told: Told) -> dict[str, Any]:
    """The counts, as each format has them."""
    given, written, cached, thought = told.usage
    if wire == "chat":
        inside = {"prompt_tokens_details": {"cached_tokens": cached}}
        return {
            "prompt_tokens": given,
            "completion_tokens": written,
            "total_tokens": given + written,
            "completion_tokens_details": {"reasoning_tokens": thought},
            **inside,
        }
    if wire == "responses":
        return {
            "input_tokens": given,
            "output_tokens": written,
            "total_tokens": given + written,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens_details": {"reasoning_tokens": thought},
        }
    return {
        "input_tokens": given - cached,
        "cache_read_input_tokens": cached,
        "output_tokens": written,
        "output_tokens_details": {"thinking_tokens": thought},
    }


def items(told: Told) -> list[dict[str, Any]]:
    """An answer's output items."""
    found: list[dict[str, Any]] = []
    if told.reasoning:
        summary = [{"type": "summary_text", "text": told.reasoning}]
        found.append({"type": "reasoning", "id": "rs_1", "summary": summary})
    if told.text:
        part = {"type": "output_text", "text": told.text, "annotations": []}
        found.append({"type": "message", "id": "msg_1", "role": "assistant", "content": [part]})
    for index, (name, arguments) in enumerate(told.calls):
        call = {"id": f"fc_{index}", "call_id": f"c{index}", "name": name, "arguments": arguments}
        found.append({"type": "function_call", **call})
    return found


def blocks(told: Told) -> list[dict[str, Any]]:
    """An answer's content blocks."""
    found: list[dict[str, Any]] = []
    if told.reasoning:
        found.append({"type": "thinking", "thinking": told.reasoning, "signature": "c2ln"})
    if told.text:
        found.append({"type": "text", "text": told.text})
    for index, (name, arguments) in enumerate(told.calls):
        found.append({"type": "tool_use", "id": f"c{index}", "name": name, "input": json.loads(arguments)})
    return found


def reply(wire: str, told: Told) -> dict[str, Any]:
    """A whole answer."""
    if wire == "chat":
        message: dict[str, Any] = {"role": "assistant", "content": told.text or None}
        if told.reasoning:
            message["reasoning_content"] = told.reasoning
        if told.calls:
            message["tool_calls"] = [
                {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": a}}
                for i, (n, a) in enumerate(told.calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": told.finish}
        return {"id": "c", "model": "u", "choices": [choice], "usage": usage_in(wire, told)}
    if wire == "responses":
        why = WHY.get(told.finish)
        return {
            "id": "resp_1",
            "model": "u",
            "status": "incomplete" if why else "completed",
            "incomplete_details": {"reason": why} if why else None,
            "output": items(told),
            "usage": usage_in(wire, told),
        }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "u"}
    return {**head, "content": blocks(told), "stop_reason": STOPS[told.finish], "usage": usage_in(wire, told)}


def events(wire: str, told: Told) -> list[dict[str, Any]]:
    """The same as events, text and arguments in two pieces."""
    if wire == "chat":
        return list(_chunks(told))
    if wire == "responses":
        return list(_responses(told))
    return list(_messages(told))


def halves(text: str) -> list[str]:
    """A text in pieces."""
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def _chunks(told: Told) -> Any:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": part} for part in halves(told.reasoning)]
    deltas += [{"content": part} for part in halves(told.text)]
    for index, (name, arguments) in enumerate(told.calls):
        head = {"index": index, "id": f"c{index}", "type": "function"}
        deltas.append({"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]})
        for part in halves(arguments):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    for delta in deltas:
        yield {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": told.finish}]}
    yield {"id": "c", "choices": [], "usage": usage_in("chat", told)}


def _responses(told: Told) -> Any:
    yield {"type": "response.created", "response": {"model": "u"}}
    for index, item in enumerate(items(told)):
        at = {"output_index": index, "item_id": item["id"]}
        bare = (
            {"arguments": ""}
            if "arguments" in item
            else {"content": []}
            if "content" in item
            else {"summary": []}
        )
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **bare}}
        kind, text = {
            "reasoning": ("reasoning_summary_text", told.reasoning),
            "message": ("output_text", told.text),
        }.get(item["type"], ("function_call_arguments", item.get("arguments", "")))
        for part in halves(text):
            yield {"type": f"response.{kind}.delta", **at, "delta": part}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    whole = reply("responses", told)
    yield {"type": f"response.{whole['status']}", "response": whole}


def _messages(told: Told) -> Any:
    usage = usage_in("messages", told)
    yield {"type": "message_start", "message": {"model": "u", "usage": {**usage, "output_tokens": 1}}}
    names = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}
    for index, block in enumerate(blocks(told)):
        at = {"index": index}
        field, kind = names.get(block["type"], ("input", "input_json_delta"))
        empty: dict[str, Any] = {"input": {}} if field == "input" else {field: ""}
        yield {"type": "content_block_start", **at, "content_block": {**block, "signature": "", **empty}}
        text = json.dumps(block["input"]) if field == "input" else block[field]
        for part in halves(text):
            name = "partial_json" if field == "input" else field
            yield {"type": "content_block_delta", **at, "delta": {"type": kind, name: part}}
        if "signature" in block:
            delta = {"type": "signature_delta", "signature": block["signature"]}
            yield {"type": "content_block_delta", **at, "delta": delta}
        yield {"type": "content_block_stop", **at}
    delta = {"stop_reason": STOPS[told.finish], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


# --- what callers read -------------------------------------------------------------------------------------------


def read(client: str, body: Mapping[str, Any]) -> Told:
    """What a whole answer says to a caller."""
    usage = body["usage"]
    if client == "chat":
        message = body["choices"][0]["message"]
        calls = [call["function"] for call in message.get("tool_calls", ())]
        return Told(
            message["content"] or "",
            message.get("reasoning_content", ""),
            calls=tuple((call["name"], call["arguments"]) for call in calls),
            refusal=message["refusal"] or "",
            finish=body["choices"][0]["finish_reason"],
            usage=(
                usage["prompt_tokens"],
                usage["completion_tokens"],
                usage["prompt_tokens_details"]["cached_tokens"],
                usage["completion_tokens_details"]["reasoning_tokens"],
            ),
        )
    if client == "responses":
        output = body["output"]
        calls = [item for item in output if item["type"] == "function_call"]
        said = [part for item in output if item["type"] == "message" for part in item["content"]]
        why = (body["incomplete_details"] or {}).get("reason")
        assert body["status"] == ("incomplete" if why else "completed")
        return Told(
            "".join(part.get("text", "") for part in said),
            "".join(s["text"] for item in output if item["type"] == "reasoning" for s in item["summary"]),
            calls=tuple((call["name"], call["arguments"]) for call in calls),
            refusal="".join(part.get("refusal", "") for part in said),
            finish={v: k for k, v in WHY.items()}.get(why, "tool_calls" if calls else "stop"),
            usage=(
                usage["input_tokens"],
                usage["output_tokens"],
                usage["input_tokens_details"]["cached_tokens"],
                usage["output_tokens_details"]["reasoning_tokens"],
            ),
        )
    found = body["content"]
    return Told(
        "".join(block["text"] for block in found if block["type"] == "text"),
        "".join(block["thinking"] for block in found if block["type"] == "thinking"),
        calls=tuple((b["name"], json.dumps(b["input"])) for b in found if b["type"] == "tool_use"),
        finish={v: k for k, v in STOPS.items()}[body["stop_reason"]],
        usage=(
            usage["input_tokens"] + usage["cache_read_input_tokens"],
            usage["output_tokens"],
            usage["cache_read_input_tokens"],
            usage["output_tokens_details"]["thinking_tokens"],
        ),
    )


def put_together(client: str, raw: bytes) -> dict[str, Any]:
    """A stream as the whole answer that a client's SDK makes of it."""
    found = [json.loads(e.data) for e in SseParser().feed(raw) if e.data != b"[DONE]"]
    if client == "responses":
        last = found[-1]
        assert last["type"] in ("response.completed", "response.incomplete")
        text = "".join(e["delta"] for e in found if e["type"] == "response.output_text.delta")
        assert text == read("responses", last["response"]).text
        return dict(last["response"])
    if client == "messages":
        content: list[dict[str, Any]] = []
        for event in found:
            if event["type"] == "content_block_start":
                content.append({**event["content_block"], "json": ""})
            elif event["type"] == "content_block_delta":
                name = {"partial_json": "json"}.get(list(event["delta"])[-1], list(event["delta"])[-1])
                content[event["index"]][name] = (
                    content[event["index"]].get(name, "") + list(event["delta"].values())[-1]
                )
        for block in content:
            if block["type"] == "tool_use":
                block["input"] = json.loads(block["json"])
        (end,) = [event for event in found if event["type"] == "message_delta"]
        assert found[-1] == {"type": "message_stop"}
        return {"content": content, "usage": end["usage"], **end["delta"]}
    message: dict[str, Any] = {"content": "", "refusal": "", "reasoning_content": "", "tool_calls": []}
    finish = ""
    for choice in [choice for event in found for choice in event["choices"]]:
        delta = choice["delta"]
        for name in ("content", "refusal", "reasoning_content"):
            message[name] += delta.get(name) or ""
        for piece in delta.get("tool_calls", ()):
            if "id" in piece:
                message["tool_calls"].append(
                    {"function": {"name": piece["function"]["name"], "arguments": ""}}
                )
            message["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
        finish = choice["finish_reason"] or finish
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": found[-1]["usage"]}


# --- from one to the other ---------------------------------------------------------------------------------------


def asked(client: str) -> Incoming:
    """A request that wants to see everything."""
    more = {
        "chat": {"stream": True, "stream_options": {"include_usage": True}},
        "messages": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    }
    form = format_named(client)
    assert form is not None
    body = {**SPEAK[client](Talk((("user", "text", "where?"),), cap=9000)), **more.get(client, {})}
    return form.parse_request(orjson.dumps(body))


def whole(upstream: str, client: str, told: Told) -> dict[str, Any]:
    """An answer in one piece, handed on in one piece."""
    one, two = format_named(upstream), format_named(client)
    assert one is not None
    assert two is not None
    found = one.parse_reply(orjson.dumps(reply(upstream, told)), "text")
    body = two.render_response("run_" + 32 * "0", 1, asked(client), *rendering(found))
    return dict(orjson.loads(body))


def rendering(found: Completion) -> tuple[Answer, Usage, Usage, None]:
    """What a format renders of an answer that is one."""
    assert found.error is None
    usage = found.usage or Usage()
    return Answer(found.message, found.finish, logprobs=found.logprobs), usage, usage, None


def live(upstream: str, client: str, told: Told) -> dict[str, Any]:
    """The same, piece by piece."""
    one, two = format_named(upstream), format_named(client)
    assert one is not None
    assert two is not None
    reader, writer, out = one.reader(), two.stream("run_" + 32 * "0", 1, asked(client)), b""
    for event in events(upstream, told):
        deltas: list[Delta] = []
        reader.feed(orjson.dumps(event), deltas)
        out += writer.deltas(deltas)
    assert reader.finished
    return put_together(client, out + writer.end(*rendering(reader.result())))


def meant(told: Told) -> Told:
    """With arguments in one spelling, and without what no caller is shown."""
    calls = tuple((name, same(arguments)) for name, arguments in told.calls)
    return Told(told.text, told.reasoning, "", calls, told.refusal, told.finish, told.usage)


@pytest.mark.parametrize("way", [whole, live], ids=["whole", "live"])
@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_means_the_same_to_every_caller(
    name: str, upstream: str, client: str, way: Callable[[str, str, Told], dict[str, Any]]
) -> None:
    """Text, reasoning, calls, how it ended and what it cost, between any two formats, whole and streamed."""
    told = ANSWERS[name]
    assert meant(read(client, way(upstream, client, told))) == meant(told)


@pytest.mark.parametrize("upstream", ["chat", "responses"])
@pytest.mark.parametrize(
    ("client", "refusal", "text", "finish"),
    [
        ("chat", "I will not.", "", "stop"),
        ("responses", "I will not.", "", "stop"),
        ("messages", "", "I will not.", "content_filter"),
    ],
)
def test_a_refusal_is_told_as_one(client: str, refusal: str, text: str, finish: str, upstream: str) -> None:
    """Where a format has a word for it; in Messages it is text, and the stop reason `refusal`."""
    one = format_named(upstream)
    two = format_named(client)
    assert one is not None
    assert two is not None
    body = reply(upstream, Told("x"))
    if upstream == "chat":
        body["choices"][0]["message"] |= {"content": None, "refusal": "I will not."}
    else:
        body["output"][0]["content"] = [{"type": "refusal", "refusal": "I will not."}]
    found = one.parse_reply(orjson.dumps(body), "text")
    said = read(client, orjson.loads(two.render_response("run_0", 1, asked(client), *rendering(found))))
    assert (said.refusal, said.text, said.finish) == (refusal, text, finish)


@pytest.mark.parametrize("client", ["chat", "responses"])
@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_log_probabilities_are_handed_on(upstream: str, client: str) -> None:
    """Where both formats have them."""
    one, two = format_named(upstream), format_named(client)
    assert one is not None
    assert two is not None
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": [{"token": "y", "logprob": -1.5}]}
    body = reply(upstream, Told("x"))
    if upstream == "chat":
        body["choices"][0]["logprobs"] = {"content": [token]}
    else:
        body["output"][0]["content"][0]["logprobs"] = [token]
    found = one.parse_reply(orjson.dumps(body), "text")
    told = orjson.loads(two.render_response("run_0", 1, asked(client), *rendering(found)))
    (seen,) = (
        told["choices"][0]["logprobs"]["content"]
        if client == "chat"
        else told["output"][0]["content"][0]["logprobs"]
    )
    assert (seen["token"], seen["logprob"], seen["top_logprobs"][0]["token"]) == ("x", -0.5, "y")
