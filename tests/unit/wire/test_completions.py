"""Legacy completions: prompts in, text out; towards base models the other way round."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Answer, Card, Delta, Message, Part, Request, TokenLogprob, Usage
from stretto.wire import completions, format_named
from stretto.wire.base import Completion, Incoming
from stretto.wire.sse import SseParser

CARD = Card("w")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
TOKENS = (
    TokenLogprob("fo", -0.5, (("fo", -0.5), ("ba", -1.5))),
    TokenLogprob("ur", -0.25, (("ur", -0.25),)),
)


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "prompt": "Once", **fields})


def asked(include_usage: bool = False, **more: Any) -> Incoming:
    return Incoming(Request(messages=(), model="m"), include_usage=include_usage, more=more)


def read_stream(raw: bytes) -> Completion:
    reader, parser, deltas = completions.reader(), SseParser(), list[Delta]()
    for event in parser.feed(raw):
        reader.feed(event.data, deltas)
    found = reader.result()
    assert "".join(delta.text for delta in deltas) == found.message.text
    return found


def test_a_prompt_is_one_user_message() -> None:
    """What a caller of the old API sends becomes a request that every policy can take."""
    raw = body(
        max_tokens=7, temperature=0.5, stop=["\n"], seed=3, user="u", best_of=1, n=1, stretto={"dial": 1}
    )
    incoming = completions.parse_request(raw)
    request = incoming.request
    assert request.messages == (Message("user", "Once"),)
    assert (request.model, request.max_tokens, request.dial, request.wire) == ("m", 7, 1.0, "completions")
    assert request.params == {"temperature": 0.5, "stop": ["\n"], "seed": 3}
    assert request.extra == {"user": "u"}
    assert completions.parse_request(body(prompt=["Once"])).request.messages == request.messages
    assert format_named("completions") is completions  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": ["a", "b"]}, "prompt", "2 prompts"),
        ({"prompt": [1, 2]}, "prompt", "token ids"),
        ({"prompt": [[1, 2], [3]]}, "prompt", "2 prompts"),
        ({"prompt": [[1, 2]]}, "prompt", "token ids"),
        ({"prompt": {"a": 1}}, "prompt", "string"),
        ({"prompt": []}, "prompt", "string"),
        ({"suffix": "end"}, "suffix", "not served"),
        ({"n": 2}, "n", "above 1"),
        ({"best_of": 3}, "best_of", "above 1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1|between 1"),
        ({"logprobs": 6}, "logprobs", "between 0 and 5"),
        ({"base_url": "http://x"}, "base_url", "not accepted"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str, says: str) -> None:
    """What cannot be served is refused, with the field that is to blame."""
    with pytest.raises(RequestError, match=says) as caught:
        completions.parse_request(body(**fields))
    assert caught.value.param == param


def test_an_answer_has_the_old_shape() -> None:
    """Text, finish and log-probabilities stand where callers of the old API look for them; offsets count the echoed prompt."""
    answer = Answer(Message("assistant", "four", reasoning="hm"), "length", logprobs=TOKENS)
    raw = completions.render_response(
        "run_1f", 9, asked(echo="2+2="), answer, Usage(3, 2), Usage(3, 2), {"run_id": "run_1f"}
    )
    found = json.loads(raw)
    assert (found["id"], found["object"], found["created"]) == ("cmpl-1f", "text_completion", 9)
    assert found["choices"] == [
        {
            "text": "2+2=four",
            "index": 0,
            "logprobs": {
                "tokens": ["fo", "ur"],
                "token_logprobs": [-0.5, -0.25],
                "top_logprobs": [{"fo": -0.5, "ba": -1.5}, {"ur": -0.25}],
                "text_offset": [4, 6],
            },
            "finish_reason": "length",
        }
    ]
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (3, 2)
    assert found["stretto"] == {"run_id": "run_1f"}


def test_a_stream_echoes_first_and_ends_once() -> None:
    """A keep-alive has no text; then come the prompt if it is echoed, text, one finish, usage if asked for, and `[DONE]`."""
    writer = completions.stream("run_1", 9, asked(True, echo="2+2="))
    raw = writer.keep_alive() + writer.progress("thinking")
    raw += writer.deltas([Delta(reasoning="hm"), Delta("fo", logprobs=TOKENS[:1]), Delta("ur")])
    raw += writer.keep_alive() + writer.end(
        Answer(Message("assistant", "four")), Usage(3, 2), Usage(3, 2), {"a": 1}
    )
    events = [json.loads(line[6:]) for line in raw.split(b"\n\n") if line.startswith(b"data: {")]
    assert raw.endswith(b"data: [DONE]\n\n")
    texts = [event["choices"][0]["text"] for event in events if event["choices"]]
    assert texts == ["", "2+2=", "fo", "ur", "", ""]
    assert events[2]["choices"][0]["logprobs"]["text_offset"] == [4]
    assert [e["choices"][0]["finish_reason"] for e in events if e["choices"]] == [None] * 5 + ["stop"]
    assert (events[-2]["stretto"], events[-1]["usage"]["total_tokens"]) == ({"a": 1}, 5)
    assert [event["usage"] for event in events[:-1]] == [None] * 6


@given(TEXT, st.sampled_from(["stop", "length", "content_filter"]))
def test_whole_answer_there_and_back(text: str, finish: str) -> None:
    """What is rendered for callers reads as the same answer from an upstream: Stretto can stand behind Stretto."""
    answer = Answer(Message("assistant", text), finish, logprobs=TOKENS)
    raw = completions.render_response("r", 1, asked(), answer, Usage(3, 2), Usage(3, 2))
    found = completions.parse_reply(raw)
    assert found.error is None
    assert (found.message, found.finish, found.usage) == (answer.message, finish, Usage(3, 2))
    assert [(token.token, token.logprob) for token in found.logprobs] == [("fo", -0.5), ("ur", -0.25)]


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_stream_there_and_back(pieces: list[str]) -> None:
    """A stream reads as the answer that was written."""
    writer = completions.stream("r", 1, asked(True))
    raw = writer.deltas([Delta(piece) for piece in pieces])
    raw += writer.end(Answer(Message("assistant", "".join(pieces))), Usage(3, 2), Usage(3, 2))
    found = read_stream(raw)
    assert (found.error, found.message.text, found.usage) == (None, "".join(pieces), Usage(3, 2))


def test_a_cut_stream_is_never_whole() -> None:
    """A stream cut after any byte is whole exactly if the event with its finish had come."""
    writer = completions.stream("r", 1, asked())
    raw = writer.deltas([Delta("fo"), Delta("ur")]) + writer.end(Answer(), Usage(1, 2), Usage(1, 2))
    enough = raw.index(b"\n\n", raw.index(b'"finish_reason":"stop"')) + 2
    for cut in range(len(raw)):
        error = read_stream(raw[:cut]).error
        assert (error is None) == (cut >= enough)


def test_towards_a_base_model() -> None:
    """One user message is the prompt; what only chat knows is dropped and named."""
    ask = Ask(
        "w",
        (Message("user", "Once"),),
        max_tokens=5,
        params={
            "temperature": 0.1,
            "logprobs": True,
            "top_logprobs": 9,
            "reasoning_effort": "low",
            "seed": 2**40,
        },
        tools=({"type": "function", "function": {"name": "f"}},),
        extra={"user": "u"},
        wire="completions",
    )
    found = completions.render_ask(ask, "base", CARD, stream=True, lacks=frozenset({"user"}))
    assert found.path == "/completions"
    assert json.loads(found.body) == {
        "model": "base",
        "prompt": "Once",
        "temperature": 0.1,
        "logprobs": 5,
        "max_tokens": 5,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert set(found.dropped) == {"tools", "reasoning_effort", "user"}


@pytest.mark.parametrize(
    "ask",
    [
        Ask("w", (Message("system", "Be brief."), Message("user", "Once"))),
        Ask("w", (Message("user", (Part("image_url", data={}),)),)),
        Ask("w", (Message("user", "Once"),), want="embedding"),
    ],
)
def test_what_a_base_model_cannot_be_asked(ask: Ask) -> None:
    """Conversations, images and vectors cannot be said in this format."""
    with pytest.raises(ValueError, match="Completions"):
        completions.render_ask(ask, "base", CARD)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"<html>", "protocol"),
        (b"[]", "protocol"),
        (b'{"error": {"message": "no", "type": "rate_limit_error"}}', "rate_limited"),
        (b'{"choices": [{"text": "", "finish_reason": "stop"}]}', "empty"),
        (b'{"choices": [{"text": "x", "finish_reason": "error"}]}', "upstream_error"),
        (b"{}", "empty"),
    ],
)
def test_answers_that_are_none(reply: bytes, kind: str) -> None:
    """What an upstream does wrong is an error of a kind, never an exception."""
    error = completions.parse_reply(reply).error
    assert error is not None
    assert error.kind == kind
