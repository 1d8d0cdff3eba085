"""Embeddings: texts in, vectors out, as numbers or packed; the same towards workers."""

import json
import re
import struct
from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Answer, Card, Message, Part, Usage
from stretto.wire import chat, completions, embeddings, form_for

CARD = Card("w")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = st.integers(1, 5).flatmap(
    lambda size: st.lists(st.lists(FLOATS, min_size=size, max_size=size).map(tuple), min_size=1, max_size=4)
)


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "input": "hi", **fields})


def tokens(*ids: int) -> Message:
    return Message("user", (Part("tokens", data={"tokens": list(ids)}),))


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("hi", (Message("user", "hi"),)),
        (["hi", "there"], (Message("user", "hi"), Message("user", "there"))),
        ([1, 2], (tokens(1, 2),)),
        ([[1, 2], [3]], (tokens(1, 2), tokens(3))),
        (["hi", [3]], (Message("user", "hi"), tokens(3))),
    ],
)
def test_every_input_is_one_message(value: Any, asked: tuple[Message, ...]) -> None:
    """Texts and lists of token ids become a message each, in their order, and back the same input."""
    request = embeddings.parse_request(body(input=value, dimensions=3, user="u")).request
    assert (request.messages, request.want, request.wire) == (asked, "embedding", "embeddings")
    ask = Ask("w", speaks=True).bound(request, "0")
    assert (ask.want, ask.role) == ("embedding", "embedder")
    sent = json.loads(embeddings.render_ask(ask, "up", CARD).body)
    assert sent == {"model": "up", "input": value, "dimensions": 3, "encoding_format": "float", "user": "u"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [-1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"api_key": "x"}, "api_key"),
        ({"model": ""}, "model"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    """What cannot be embedded is refused, with the field that is to blame."""
    with pytest.raises(RequestError) as caught:
        embeddings.parse_request(body(**fields))
    assert caught.value.param == param


def test_there_is_no_stream() -> None:
    """A request for a stream is refused by name."""
    incoming = embeddings.parse_request(body(stream=True))
    assert incoming.stream
    with pytest.raises(RequestError, match="not streamed"):
        embeddings.stream("r", 1, incoming)


@given(VECTORS, st.sampled_from(["float", "base64", None]))
def test_vectors_there_and_back(vectors: list[tuple[float, ...]], encoding: str | None) -> None:
    """32-bit vectors read as they were written, in either encoding and in any order."""
    incoming = embeddings.parse_request(body(encoding_format=encoding))
    raw = embeddings.render_response("r", 1, incoming, Answer(embeddings=tuple(vectors)), Usage(5), Usage(5))
    found = embeddings.parse_reply(raw)
    assert (found.error, found.embeddings, found.usage) == (None, tuple(vectors), Usage(5))
    told = json.loads(raw)
    assert [item["index"] for item in told["data"]] == list(range(len(vectors)))
    assert told["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    told["data"].reverse()
    assert embeddings.parse_reply(orjson.dumps(told)).embeddings == tuple(vectors)


def test_packed_vectors_are_little_endian_floats() -> None:
    """Base64 holds what clients read with numpy: little-endian 32-bit floats."""
    incoming = embeddings.parse_request(body(encoding_format="base64"))
    raw = embeddings.render_response("r", 1, incoming, Answer(embeddings=((0.5, -1.0),)), Usage(), Usage())
    assert struct.unpack("<2f", b64decode(json.loads(raw)["data"][0]["embedding"])) == (0.5, -1.0)


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (b"<html>", "protocol", "JSON"),
        (b"[1]", "protocol", "object"),
        (b'{"error": {"message": "no", "code": 429}}', "rate_limited", "no"),
        (b'{"data": []}', "empty", "no embedding"),
        (b'{"data": [{"embedding": []}]}', "protocol", "list of numbers|empty"),
        (b'{"data": [{"embedding": [1, "2"]}]}', "protocol", "list of numbers"),
        (b'{"data": [{"embedding": [true]}]}', "protocol", "list of numbers"),
        (b'{"data": [{"embedding": "!"}]}', "protocol", "base64"),
        (b'{"data": [{"embedding": "AAA="}]}', "protocol", "base64"),
        (
            orjson.dumps({"data": [{"embedding": b64encode(struct.pack("<f", float("nan"))).decode()}]}),
            "protocol",
            "no number",
        ),
        (b'{"data": [{"embedding": [1]}, {"embedding": [1, 2]}]}', "protocol", "one length"),
        (
            b'{"data": [{"embedding": [1], "index": 1}, {"embedding": [1], "index": 1}]}',
            "protocol",
            "numbered",
        ),
        (b'{"data": [7]}', "protocol", "list of numbers"),
    ],
)
def test_answers_that_are_none(reply: bytes, kind: str, says: str) -> None:
    """What an upstream does wrong is an error of a kind, never an exception and never a vector."""
    found = embeddings.parse_reply(reply)
    assert found.error is not None
    assert (found.error.kind, found.embeddings) == (kind, ())
    assert re.search(says, found.error.message)


def test_vectors_must_fit_what_was_asked() -> None:
    """As many vectors as texts, as long as `dimensions` said: anything else is told."""
    found = embeddings.parse_reply(b'{"data": [{"embedding": [1, 2]}]}')
    one = (Message("user", "a"),)
    assert embeddings.misfit(Ask("w", one), found) == ""
    assert embeddings.misfit(Ask("w", one, params={"dimensions": 2}), found) == ""
    assert "3 dimensions" in embeddings.misfit(Ask("w", one, params={"dimensions": 3}), found)
    assert "2 texts" in embeddings.misfit(Ask("w", one * 2), found)


def test_what_the_worker_lacks_is_dropped_and_named() -> None:
    """Parameters the worker lacks are left out; those that concern text alone do not go out at all."""
    params = {"dimensions": 3, "temperature": 1}
    ask = Ask(
        "w", (Message("user", "a"),), want="embedding", params=params, extra={"user": "u"}, wire="embeddings"
    )
    sent = embeddings.render_ask(ask, "up", CARD, lacks=frozenset({"dimensions", "user"}))
    assert json.loads(sent.body) == {"model": "up", "input": "a", "encoding_format": "float"}
    assert sent.dropped == ("dimensions", "user")
    with pytest.raises(ValueError, match="image_url cannot be embedded"):
        embeddings.render_ask(
            Ask("w", (Message("user", (Part("image_url", data={}),)),), want="embedding"), "up", CARD
        )
    with pytest.raises(ValueError, match="text cannot be had"):
        embeddings.render_ask(Ask("w", (Message("user", "a"),)), "up", CARD)


def test_whom_the_format_serves() -> None:
    """Workers of OpenAI's formats are asked for vectors in this one."""
    assert form_for(chat, "embedding") is embeddings
    assert form_for(chat, "text") is chat
    assert form_for(completions, "embedding") is embeddings
