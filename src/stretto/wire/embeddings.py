"""OpenAI Embeddings, both ways: texts (or token ids) in, a vector for each out.

Each text is one message of the request. Vectors travel as numbers or as base64 of little-endian 32-bit floats, whichever the
caller asks for; answers of upstreams are read in both. Workers of any OpenAI format are asked for vectors in this one.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Answer, Card, Failure, Message, Part, Request, Usage
from stretto.wire.base import (
    Completion,
    Incoming,
    Question,
    Rendered,
    StreamReader,
    StreamWriter,
    expect_bool,
    expect_text,
    parse_options,
)
from stretto.wire.base import bearer as credentials
from stretto.wire.chat import render_error
from stretto.wire.chat_parts import usage_of
from stretto.wire.chat_upstream import failure_inside, parse_failure
from stretto.wire.fields import Check, model_name, read_body, sorted_out, whole

__all__ = [
    "NAME",
    "ROUTE",
    "credentials",
    "misfit",
    "parse_failure",
    "parse_reply",
    "parse_request",
    "reader",
    "render_ask",
    "render_error",
    "render_response",
    "stream",
]

NAME: Final = "embeddings"
ROUTE: Final = "/v1/embeddings"

_MOST_INPUTS: Final = 2048
"""Inputs of one request, as at OpenAI."""

# --- requests ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Incoming:
    """A `POST /v1/embeddings` body: `input` is a text, a list of texts, or the same with lists of token ids for texts.

    Raises `RequestError`. `dimensions` and `encoding_format` are parameters.
    """
    given = read_body(body)
    if given.get("input") is None:
        raise RequestError("`input` is missing.", param="input")
    params, rest, extra, ignored = sorted_out(given, _PARAMS, _FIELDS)
    options = parse_options(rest.get("stretto"))
    request = Request(
        messages=_messages(given["input"]),
        model=model_name(given["model"]),
        params=params,
        extra=extra,
        seed=options.seed,
        dial=0.5 if options.dial is None else options.dial,
        limits=options.limits,
        require=options.require,
        exclude=options.exclude,
        wire=NAME,
        want="embedding",
    )
    streaming = "stream" in rest and expect_bool(rest["stream"], "stream")
    return Incoming(request, streaming, False, options, ignored)


def _messages(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (_text(value, "input"),)
    if not isinstance(value, list) or not value:
        raise RequestError("`input` must be a text, or a list of texts that is not empty.", param="input")
    if type(value[0]) is int:
        return (_tokens(value, "input"),)
    if len(value) > _MOST_INPUTS:
        raise RequestError(
            f"`input` has {len(value)} texts; {_MOST_INPUTS} at a time are taken.", param="input"
        )
    return tuple(
        _tokens(item, f"input[{index}]") if isinstance(item, list) else _text(item, f"input[{index}]")
        for index, item in enumerate(value)
    )


def _text(value: Any, where: str) -> Message:
    if not expect_text(value, where):
        raise RequestError(f"`{where}` is empty: there is nothing to embed.", param=where)
    return Message("user", value)


def _tokens(value: list[Any], where: str) -> Message:
    if not value or any(type(token) is not int or token < 0 for token in value):
        raise RequestError(f"`{where}` must be a list of token ids that is not empty.", param=where)
    return Message("user", (Part("tokens", data={"tokens": value}),))


def _encoding(value: Any, where: str) -> str:
    if value not in ("float", "base64"):
        raise RequestError(f'`{where}` must be "float" or "base64".', param=where)
    return str(value)


_PARAMS: Final[Mapping[str, Check]] = {"dimensions": whole(1, 2**31 - 1), "encoding_format": _encoding}
_FIELDS: Final = frozenset({"input", "model", "stream", "stretto"})


# --- answers -----------------------------------------------------------------------------------------------------


def render_response(
    id: str,
    created: int,
    incoming: Incoming,
    answer: Answer,
    usage: Usage,
    served: Usage,
    stretto: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of an answer: one vector for each input, in their order."""
    packed = incoming.request.params.get("encoding_format") == "base64"
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(answer.embeddings)
        ],
        "model": incoming.request.model,
        "usage": {"prompt_tokens": usage.input, "total_tokens": usage.input + usage.output},
    }
    if stretto is not None:
        body["stretto"] = stretto
    return orjson.dumps(body)


def stream(id: str, created: int, incoming: Incoming) -> StreamWriter:
    """There is no streamed form. Raises `RequestError`."""
    raise RequestError("Embeddings are not streamed; leave `stream` out.", param="stream")


def _packed(vector: tuple[float, ...]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def _unpacked(text: str) -> tuple[float, ...]:
    """Raises `ValueError` for what is no base64 of 32-bit floats."""
    numbers = array("f")
    numbers.frombytes(b64decode(text, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


# --- towards workers ---------------------------------------------------------------------------------------------


def render_ask(
    ask: Question,
    model: str,
    card: Card,
    *,
    stream: bool = False,
    lacks: frozenset[str] = frozenset(),
    renames: Mapping[str, str] | None = None,
) -> Rendered:
    """A bound ask as the body of a request: every message is one text. Raises `ValueError` for anything but embeddings.

    Parameters other than `dimensions` and `encoding_format` concern text and are not sent.
    """
    if ask.want != "embedding":
        raise ValueError(f"{ask.want} cannot be had over the embeddings format")
    messages = ask.messages or ()
    inputs: list[Any] = [_input(message) for message in messages]
    body: dict[str, Any] = {"model": model, "input": inputs[0] if len(inputs) == 1 else inputs}
    dropped: list[str] = []
    for name in ("dimensions", "encoding_format"):
        value = ask.params.get(name, "float" if name == "encoding_format" else None)
        if name in lacks and name in ask.params:
            dropped.append(name)
        elif name not in lacks and value is not None:
            body[(renames or {}).get(name, name)] = value
    if ask.wire == NAME:
        for name, value in ask.extra.items():
            if name in lacks:
                dropped.append(name)
            else:
                body.setdefault(name, value)
    try:
        return Rendered("/embeddings", orjson.dumps(body), tuple(dropped))
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


def _input(message: Message) -> Any:
    content = message.content
    if isinstance(content, tuple):
        kinds = {part.kind for part in content}
        if kinds == {"tokens"}:
            return [token for part in content if part.data for token in part.data["tokens"]]
        if kinds - {"text"}:
            raise ValueError(f"{', '.join(sorted(kinds - {'text'}))} cannot be embedded in this format")
    return message.text


def parse_reply(body: bytes, want: str = "embedding") -> Completion:
    """The body of an answer with status 200, vectors by their index. Never raises: what is wrong is the completion's `error`."""
    try:
        raw = orjson.loads(body)  # thousands of numbers: not walked for its depth
    except orjson.JSONDecodeError:
        return _unusable("the answer is not valid JSON")
    if type(raw) is not dict:
        return _unusable("the answer is not a JSON object")
    usage, model = usage_of(raw.get("usage")), raw.get("model")
    if raw.get("error"):
        failure, retryable = failure_inside(raw["error"])
        return Completion(usage=usage, error=failure, retryable=retryable)
    found = Completion(finish="stop", usage=usage, model=model if type(model) is str else "")
    data = raw.get("data")
    if type(data) is not list or not data:
        return _with_error(found, "empty", "the answer has no embedding")
    try:
        numbered = [_vector(item, place) for place, item in enumerate(data)]
    except ValueError as error:
        return _with_error(found, "protocol", str(error))
    vectors = dict(numbered)
    if sorted(vectors) != list(range(len(data))) or len({len(vector) for vector in vectors.values()}) != 1:
        return _with_error(
            found, "protocol", "the answer's embeddings are not numbered, or not of one length"
        )
    found.embeddings = tuple(vectors[index] for index in range(len(data)))
    return found


def _vector(item: Any, place: int) -> tuple[int, tuple[float, ...]]:
    value = item.get("embedding") if type(item) is dict else None
    if type(value) is str:
        try:
            vector = _unpacked(value)
        except ValueError:
            raise ValueError("the answer's embedding is not base64 of 32-bit floats") from None
    elif type(value) is list and {*map(type, value)} <= {int, float}:
        vector = tuple(map(float, value))
    else:
        raise ValueError("the answer's embedding is not a list of numbers")
    if not vector or any(number != number or number in (_INF, -_INF) for number in vector):
        raise ValueError("the answer's embedding is empty, or holds what is no number")
    index = item.get("index", place)
    return index if type(index) is int else place, vector


_INF: Final = float("inf")


def misfit(ask: Question, found: Completion) -> str:
    """What is wrong with vectors that are well formed: too few or too many of them, or not as long as was asked for; else ""."""
    asked, came = len(ask.messages or ()), len(found.embeddings)
    if asked != came:
        return f"{asked} texts were sent, {came} embeddings came back"
    wanted, length = ask.params.get("dimensions"), len(found.embeddings[0])
    if wanted is not None and wanted != length:
        return f"{wanted} dimensions were asked for, the model gives {length}"
    return ""


def reader() -> StreamReader:
    """There is no streamed form. Raises `ValueError`."""
    raise ValueError("embeddings are not streamed")


def _unusable(text: str) -> Completion:
    return _with_error(Completion(), "protocol", text)


def _with_error(found: Completion, kind: Any, text: str) -> Completion:
    found.error, found.retryable, found.finish = Failure(kind, text), True, ""
    return found
