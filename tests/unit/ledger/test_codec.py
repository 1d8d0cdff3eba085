import math
from dataclasses import replace
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given

from stretto.errors import LedgerError
from stretto.ledger.codec import content_line, digest, dumps, erased_line, from_record, shape, text_of
from stretto.ledger.events import Answered, Asked, Event, Opened, Said, Scored
from stretto.types import Message, Request, TokenLogprob
from tests.ledger_events import EVENTS, SECRET, bare, story


def written(event: Event) -> tuple[dict[str, object], dict[str, object]]:
    """An event's record, and what goes apart, after a trip through JSON."""
    kind: type[Event] = type(event)
    record = shape(kind).write(event, 7, "hash")
    apart = {name: getattr(event, name) for name in ("content", "secret") if hasattr(event, name)}
    return orjson.loads(dumps(record)), orjson.loads(dumps(apart))


@given(EVENTS)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    """Record and content together give the same event again."""
    assert from_record(*written(event)) == event


@given(EVENTS)
def test_the_chained_record_holds_neither_content_nor_secret(event: Event) -> None:
    """A record alone gives the event without what is kept apart."""
    record, _ = written(event)
    assert not {"content", "secret"} & record.keys()
    assert from_record(record) == bare(event)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    """A record with unknown fields, also nested ones, is read; a record of an unknown kind is no event."""
    event = story("run_a")[3]
    record, apart = written(event)
    record["colour"] = "blue"
    record["usage"]["watts"] = 3  # type: ignore[index]
    apart["content"]["message"]["mood"] = "sunny"  # type: ignore[index]
    assert from_record(record, apart) == event
    assert from_record({"kind": "painted", "run": "run_a"}) is None


def test_fields_that_an_older_version_did_not_write_get_their_defaults() -> None:
    """A record that lacks fields with defaults is read."""
    record = {"kind": "scored", "run": "run_a", "time": 1.0, "score": 0.5}
    assert from_record(record) == Scored(run="run_a", time=1.0, score=0.5)


def test_mappings_of_any_type_are_written_as_objects() -> None:
    """A read-only mapping is recorded like a dict."""
    event = story("run_a")[2]
    assert isinstance(event, Asked)
    proxied = Asked(
        **{name: getattr(event, name) for name in event.__slots__} | {"labels": MappingProxyType({"a": "b"})}
    )
    assert from_record(*written(proxied)) == proxied


def test_a_float_that_json_cannot_say_is_not_a_number() -> None:
    """An infinite log-probability comes back as not a number, and breaks nothing."""
    event = story("run_a")[3]
    assert isinstance(event, Answered)
    infinite = replace(event, content=Said(Message("assistant"), logprobs=(TokenLogprob("a", -math.inf),)))
    read = from_record(*written(infinite))
    assert isinstance(read, Answered)
    assert read.content is not None
    assert math.isnan(read.content.logprobs[0].logprob)


@pytest.mark.parametrize(
    "text", ["\ud800", {1: 2}, object(), 2**70], ids=["surrogate", "key", "object", "big"]
)
def test_what_json_cannot_hold_is_refused(text: object) -> None:
    """Such a value is an error of the ledger, not a traceback of the encoder."""
    event = Opened(
        run="r",
        time=1.0,
        model="m",
        policy="p",
        version="v",
        content=Request(messages=(), params={"x": text}),
    )
    with pytest.raises(LedgerError, match="JSON"):
        dumps(event.content)


def test_a_digest_depends_on_content_and_secret() -> None:
    """Another text or another key, also one that only differs beyond BLAKE2b's key length, gives another digest."""
    keys = ["", "a", SECRET, "k" * 64, "k" * 65, "k" * 66]
    assert len({digest(text, key) for text in (b"a", b"b") for key in keys}) == 12


def test_filler_is_as_long_as_what_it_replaces() -> None:
    """An erased line has the same length, is JSON, and ends a line."""
    line = content_line(7, 'run_"x"', SECRET, b'{"a":1}')
    assert text_of(line) == b'{"a":1}'
    filler = erased_line(len(line))
    assert len(filler) == len(line)
    assert filler.endswith(b"\n")
    assert list(orjson.loads(filler)) == ["erased"]
