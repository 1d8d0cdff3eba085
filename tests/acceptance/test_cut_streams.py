"""A stream cut at every byte: neither the clients nor our own reader of upstreams ever take it for a whole answer.

The npm clients are put through the same, over real connections, by `python -m bench.clients.cut_streams`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from stretto.wire import format_named
from stretto.wire.base import Completion
from stretto.wire.sse import SseParser
from tests.recorded_streams import ARGUMENTS, SAYS, end_of, recorded

OPENAI = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0)
ANTHROPIC = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", max_retries=0)
FORMATS = ["chat", "responses", "messages"]


class Body(httpx2.SyncByteStream):
    """A body in pieces of a size. `given` is how many bytes the reader has been given so far."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._data), self._size):
            self.given = at + self._size
            yield self._data[at : at + self._size]


def answer_of(body: httpx2.SyncByteStream) -> httpx2.Response:
    return httpx2.Response(
        200,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        stream=body,
        request=httpx2.Request("POST", "http://127.0.0.1:9/v1"),
    )


def chat_events(body: Body) -> Iterator[bool]:
    stream = openai.Stream(cast_to=ChatCompletionChunk, response=answer_of(body), client=OPENAI)
    for chunk in stream:
        yield any(choice.finish_reason for choice in chunk.choices)


def responses_events(body: Body) -> Iterator[bool]:
    kind: Any = ResponseStreamEvent
    for event in openai.Stream(cast_to=kind, response=answer_of(body), client=OPENAI):
        yield event.type in ("response.completed", "response.incomplete")


def messages_events(body: Body) -> Iterator[bool]:
    kind: Any = RawMessageStreamEvent
    for event in anthropic.Stream(cast_to=kind, response=answer_of(body), client=ANTHROPIC):
        yield event.type == "message_stop"


READS: dict[str, Callable[[Body], Iterator[bool]]] = {
    "chat": chat_events,
    "responses": responses_events,
    "messages": messages_events,
}
"""Of each event that the vendor's SDK gives out, whether it is the one that ends an answer."""


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_that_breaks_off_is_never_whole_for_the_sdk(form: str) -> None:
    """Whatever byte is the last, the event that ends the answer is not given out before the last byte of it is there."""
    raw = recorded(form)
    body = Body(raw, 1)
    ended = [body.given for last in READS[form](body) if last]
    assert len(ended) == 1
    assert ended[0] >= end_of(form, raw) - 1  # a lone line end may stand for the empty line


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_that_is_ended_tidily_too_early_is_never_whole_for_the_sdk(form: str) -> None:
    """A proxy that ends a cut body as if it were whole: what stands after the last whole event is given up, or an error.

    Readers keep nothing from one event to the next, so each event is cut by itself, after each of its bytes.
    """
    raw = recorded(form)
    last = raw[: end_of(form, raw)].rindex(b"\n\n", 0, end_of(form, raw) - 2) + 2
    for cut in range(last, end_of(form, raw) - 1):
        with contextlib.suppress(openai.OpenAIError, anthropic.AnthropicError, ValueError):
            assert not any(READS[form](Body(raw[last:cut], len(raw)))), raw[last:cut]
    assert any(READS[form](Body(raw[last:], len(raw))))
    assert not any(READS[form](Body(raw[:last], len(raw))))


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_of_an_upstream_is_whole_for_us_only_at_its_end(form: str) -> None:
    """The other way round: what we send is what an upstream sends, and our reader calls it cut until the end is there."""
    raw = recorded(form)
    parser, events, ends = SseParser(1 << 20), [], []
    for at in range(len(raw)):
        for event in parser.feed(raw[at : at + 1]):
            events.append(event.data)
            ends.append(at + 1)
    assert [raw[end - 2 : end] for end in ends] == [b"\n\n"] * len(
        ends
    )  # nothing is read of an event before its end
    enough = end_of(form, raw)
    for count in range(len(events) + 1):
        found = read(form, events[:count])
        if count and ends[count - 1] >= enough:
            assert found.error is None
            assert (found.message.text, found.message.tool_calls[0].arguments) == (SAYS, ARGUMENTS)
        else:
            assert found.error is not None
            assert (found.error.kind, found.retryable) == ("cut", True)


def read(form: str, events: Sequence[bytes]) -> Completion:
    """An upstream's stream as the pool reads it."""
    known = format_named(form)
    assert known is not None
    reader, into = known.reader(), []
    for data in events:
        if not reader.done:
            reader.feed(data, into)
    return reader.result()
