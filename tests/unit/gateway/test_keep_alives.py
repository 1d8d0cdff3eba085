"""Silence on a stream: what each client's idle timer counts comes often enough, before the first piece and in the middle."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from stretto.steps import Outcome
from stretto.types import Delta
from tests.asgi import Exchange, until
from tests.gateway_world import World, fails, forever, says
from tests.unit.gateway.streams import ENDS, FORMATS, asking, events, text_of
from tests.virtual_time import in_virtual_time

BEAT = 10.0

COUNTS = {
    "chat": lambda data: data.get("object") == "chat.completion.chunk",
    "completions": lambda data: data.get("object") == "text_completion",
    "responses": lambda data: data["type"].startswith("response."),
    "messages": lambda data: data["type"] in ("message_start", "ping"),
}
"""What a client takes for a sign of life: an event of its protocol, never a comment (Codex counts parsed events only)."""


async def hesitant(ask: Any, emit: Any, tally: Any) -> Outcome:
    """Half a minute of silence before the first piece, and again in the middle."""
    await asyncio.sleep(35)
    tally.emitted = True
    await emit([Delta("first ")])
    await asyncio.sleep(35)
    await emit([Delta("second")])
    return says("first second")


@pytest.mark.parametrize("form", FORMATS)
def test_silence_never_lasts_longer_than_a_beat(form: str) -> None:
    """The head leaves after two seconds; then each ten seconds bring something that the client's own timer counts."""

    async def main() -> Exchange:
        return await asking(World(hesitant, beat=BEAT), form).run()

    got = in_virtual_time(main())
    signs = [
        time
        for time, chunk in zip(got.times, got.chunks, strict=True)
        if any(COUNTS[form](data) for data in events(chunk)) or b"delta" in chunk
    ]
    assert signs[0] == pytest.approx(2.0)
    assert max(later - sooner for sooner, later in pairwise(signs)) <= BEAT + 1e-6
    assert text_of(form, got.body) == "first second"
    assert ENDS[form] in got.body


@pytest.mark.parametrize("form", FORMATS)
def test_keep_alives_say_nothing(form: str) -> None:
    """Neither text nor an end comes of them: without its keep-alives the stream tells the same."""

    async def main(beat: float) -> Exchange:
        return await asking(World(hesitant, beat=beat), form).run()

    often, never = in_virtual_time(main(1.0)), in_virtual_time(main(1000.0))
    assert len(often.chunks) > len(never.chunks) + 50
    assert text_of(form, often.body) == text_of(form, never.body)
    ends = [kind for kind in _kinds(form, often.body) if kind]
    assert ends == [kind for kind in _kinds(form, never.body) if kind]


def _kinds(form: str, raw: bytes) -> list[str]:
    """Of each event what it ends, if anything."""
    if form in ("chat", "completions"):
        return [choice["finish_reason"] or "" for event in events(raw) for choice in event.get("choices", ())]
    return [
        e["type"] for e in events(raw) if e["type"].endswith(("completed", "done", "stop", "message_delta"))
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_events_stay_in_their_order_when_the_client_is_slow(form: str) -> None:
    """A keep-alive that waits for room goes out before what is rendered after it: Responses numbers its events."""

    async def main() -> Exchange:
        exchange = asking(World(hesitant, beat=1.0), form)
        exchange.room = asyncio.Event()
        task = asyncio.ensure_future(exchange.run())
        await exchange.blocked.wait()
        await asyncio.sleep(100)
        assert exchange.chunks == []
        exchange.room.set()
        await task
        return exchange

    got = in_virtual_time(main())
    assert text_of(form, got.body) == "first second"
    if form == "responses":
        numbers = [event["sequence_number"] for event in events(got.body)]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("begun", [False, True])
def test_a_failure_after_the_head_is_an_error_event_and_no_end(form: str, begun: bool) -> None:
    """Whatever a client waits for to call an answer whole never comes, before the first piece or after it."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        await asyncio.sleep(5)
        if begun:
            tally.emitted = True
            await emit([Delta("half an")])
        return fails("cut")

    async def main() -> Exchange:
        return await asking(World(attempt), form).run()

    got = in_virtual_time(main())
    assert (got.status, got.complete) == (200, True)
    assert ENDS[form] not in got.body
    assert not any(_kinds(form, got.body))
    last = events(got.body)[-1]
    error = last["response"]["error"] if form == "responses" else last["error"]
    assert "broke off" in error["message"]
    assert got.body.count(b"broke off") == (3 if form == "responses" else 1)


@pytest.mark.parametrize("form", ["chat", "completions"])
@pytest.mark.parametrize("asked", [None, False, True])
def test_usage_comes_once_if_it_is_asked_for(form: str, asked: bool | None) -> None:
    """One chunk without choices, the last before `[DONE]`; unasked, none at all, keep-alives or not."""

    async def main() -> Exchange:
        more = {} if asked is None else {"stream_options": {"include_usage": asked}}
        return await asking(World(hesitant, beat=1.0), form, **more).run()

    found = events(in_virtual_time(main()).body)
    bare = [event for event in found if not event["choices"]]
    assert len(bare) == (1 if asked else 0)
    assert [event for event in found if event.get("usage")] == bare
    if asked:
        assert found[-1] is bare[0]
        assert bare[0]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize("form", FORMATS)
def test_a_slow_client_holds_the_worker_back(form: str) -> None:
    """Pieces that nobody takes are not asked for: the worker waits with its next until the first is gone."""
    sent: list[int] = []

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        tally.emitted = True
        for number in range(50):
            await emit([Delta(str(number % 10))])
            sent.append(number)
        return says("0123456789" * 5)

    async def main() -> Exchange:
        exchange = asking(World(attempt), form)
        exchange.room = asyncio.Event()
        task = asyncio.ensure_future(exchange.run())
        await exchange.blocked.wait()
        await asyncio.sleep(1000)
        assert sent == []
        exchange.room.set()
        await task
        return exchange

    assert text_of(form, in_virtual_time(main()).body) == "0123456789" * 5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("model", ["a", "panel"])
def test_a_caller_who_hangs_up_cancels_everything(form: str, model: str) -> None:
    """In the middle of a stream, or of a panel of which only progress has been seen: nobody goes on working."""
    under_way: set[str] = set()

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        under_way.add(ask.worker)
        try:
            if emit is not None:
                tally.emitted = True
                await emit([Delta("one")])
            return await forever() or says("never")
        finally:
            under_way.discard(ask.worker)

    async def main() -> None:
        world = World(attempt)
        exchange = asking(world, form, model)
        task = asyncio.ensure_future(exchange.run())
        await until(exchange, b"one" if model == "a" else b"\n")
        assert under_way
        exchange.leave()
        await task
        assert not under_way
        assert not exchange.complete
        (last,) = [e for e in world.store.events(world.only_run()) if e.kind == "finished"]
        assert last.error.kind == "cancelled"

    in_virtual_time(main())


def test_a_keep_alive_of_chat_is_valid_for_strict_readers() -> None:
    """The first names the role, as the first chunk of an answer does; the chunks that follow do not name it again."""

    async def main() -> Exchange:
        return await asking(World(hesitant, beat=1.0), "chat").run()

    deltas = [event["choices"][0]["delta"] for event in events(in_virtual_time(main()).body)]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert sum("role" in delta for delta in deltas) == 1
    assert json.dumps(deltas[1]) == "{}"
