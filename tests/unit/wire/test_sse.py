from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.wire.sse import DONE, SseError, SseEvent, SseParser, comment, event


def parse(stream: bytes, cuts: tuple[int, ...] = (), limit: int = 1024 * 1024) -> list[SseEvent]:
    parser = SseParser(limit)
    events = []
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    for start, end in pairwise(edges):
        events += parser.feed(stream[start:end])
    return events


def reference(stream: bytes) -> list[SseEvent]:
    """The standard's algorithm, line by line over the whole stream."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, name, identity = [], [], None, None
    for line in text.split(b"\n")[:-1]:
        if not line:
            if data:
                events.append(SseEvent(b"\n".join(data), name, identity))
            data, name, identity = [], None, None
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value or None
            elif field == b"id" and b"\0" not in value:
                identity = value
    return events


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [SseEvent(b"a")]),
        (b"data:a\n\n", [SseEvent(b"a")]),
        (b"data:  a\n\n", [SseEvent(b" a")]),
        (b"data: a\r\n\r\ndata: b\r\r", [SseEvent(b"a"), SseEvent(b"b")]),
        (b"data: a\ndata: b\n\n", [SseEvent(b"a\nb")]),
        (b"data\n\ndata:\n\n", [SseEvent(b""), SseEvent(b"")]),
        (b": ping\n\ndata: a\n\n", [SseEvent(b"a")]),
        (b"event: ping\n\ndata: a\n\n", [SseEvent(b"a")]),
        (b"event: x\ndata: a\nid: 7\nretry: 5\nother\n\n", [SseEvent(b"a", b"x", b"7")]),
        (b"id: a\0b\ndata: x\n\n", [SseEvent(b"x")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent(b"a")]),
        (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [SseEvent(b"a"), SseEvent(b"b")]),
        (b"data: a\n", []),
        (b"Data: a\n\n data: b\n\n", []),
        (DONE, [SseEvent(b"[DONE]")]),
    ],
)
def test_events_of_the_standard(stream: bytes, expected: list[SseEvent]) -> None:
    """Every shape of event that the standard allows is read as the standard says."""
    assert parse(stream) == expected
    assert parse(stream, tuple(range(len(stream)))) == expected


pieces = st.sampled_from(
    [
        b"data:",
        b"data: ",
        b"event: ",
        b"id: ",
        b":",
        b" ",
        b"x",
        b"{}",
        b"\0",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 120), max_size=12).map(tuple))
def test_any_split_gives_the_same_events(stream: bytes, cuts: tuple[int, ...]) -> None:
    """However the bytes are cut on their way, the events are those of the standard's own algorithm."""
    assert parse(stream, cuts) == reference(stream)


@given(
    st.lists(
        st.tuples(st.binary(max_size=30), st.none() | st.from_regex(rb"[a-z._]+", fullmatch=True)).map(
            lambda pair: SseEvent(*pair)
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 200), max_size=6).map(tuple),
)
def test_what_is_rendered_is_read_back(events: list[SseEvent], cuts: tuple[int, ...]) -> None:
    """Events come back as they were, save that every kind of line break in them becomes a line feed."""
    stream = b"".join(comment(b"keep-alive") + event(one.data, one.name) for one in events)
    expected = [one._replace(data=one.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")) for one in events]
    assert parse(stream, cuts) == expected


@pytest.mark.parametrize("cuts", [(), tuple(range(200)), (105, 106, 107)])
def test_an_event_above_the_limit_is_an_error(cuts: tuple[int, ...]) -> None:
    """An event may be as large as the limit and not a byte larger, in one piece or in many."""
    fits = b"\n\n\n\n\ndata: " + b"x" * 94 + b"\n\n"
    assert parse(fits + fits, cuts, limit=100) == [SseEvent(b"x" * 94)] * 2
    with pytest.raises(SseError, match="more than 99 bytes"):
        parse(fits, cuts, limit=99)


def test_an_endless_line_is_refused_before_its_end() -> None:
    """What is held back is bounded, whether or not an end of the event ever comes."""
    parser = SseParser()
    for _ in range(16):
        assert parser.feed(b"x" * 65536) == []
    with pytest.raises(SseError):
        parser.feed(b"xx")


def test_a_cut_event_is_pending_and_never_delivered() -> None:
    """A stream that ends inside an event can be told from one that ends after it."""
    parser = SseParser()
    assert not parser.pending
    assert parser.feed(b'data: {"a": 1}\n') == []
    assert parser.pending
    assert parser.feed(b"\n\n") == [SseEvent(b'{"a": 1}')]
    assert not parser.pending


def test_names_and_comments_are_one_line() -> None:
    """A line break in a name or a comment would forge an event, so it is refused."""
    with pytest.raises(ValueError, match="event name"):
        event(b"x", b"a\ndata: y")
    with pytest.raises(ValueError, match="one line"):
        comment(b"a\rb")
