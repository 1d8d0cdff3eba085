"""Progress of orchestrated runs on streams: who sees it, who does not, and that it never becomes part of a conversation."""

import asyncio
import json
from typing import Any

import pytest

from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Choice, Note, Outcome
from stretto.types import Delta
from tests.asgi import Exchange, call
from tests.gateway_world import World, fails, says
from tests.unit.gateway.streams import ASKS, FORMATS, ROUTES, asking, events, reasoning_of, text_of
from tests.virtual_time import in_virtual_time

SHOWS = ["chat", "responses", "messages"]
SECONDS = {"a": 5.0, "b": 8.0, "org/c": 3.0}
SAYS = {"a": "yes, indeed", "b": "no, never", "org/c": "perhaps"}


async def slow(ask: Ask, emit: Any, tally: Any) -> Outcome:
    """`a` takes 5 seconds, `b` 8, `org/c` 3, and no two agree; judges pick the first."""
    await asyncio.sleep(SECONDS[ask.worker])
    if ask.role == "judge":
        return says("1")
    if emit is not None:
        tally.emitted = True
        await emit([Delta(SAYS[ask.worker][:3]), Delta(SAYS[ask.worker][3:])])
    return says(SAYS[ask.worker])


class Routed:
    """Chooses `a`, then passes it on."""

    def plan(self, request: Any) -> Any:
        """A choice and a last ask."""
        yield Note(Choice("a"))
        return Ask("a", speaks=True)

    def outlook(self, request: Any, quotes: Any) -> Any:
        """Nobody asks."""
        raise NotImplementedError


POLICIES = {
    "judged": Fuse(("a", "b", "org/c"), how="select", judge="b"),
    "written": Fuse(("a", "org/c"), writer="b"),
    "ladder": Cascade(
        (Rung("a", Solo("a"), "a"), Rung("b", Solo("b"), "b")), check="verifier", verifier="org/c"
    ),
    "routed": Routed(),
}


def got(form: str, model: str, attempt: Any = slow, headers: Any = (), **fields: Any) -> Exchange:
    async def main() -> Exchange:
        return await asking(World(attempt, policies=POLICIES), form, model, headers, **fields).run()

    return in_virtual_time(main())


@pytest.mark.parametrize("form", SHOWS)
def test_a_panel_with_a_judge_is_told_line_by_line(form: str) -> None:
    """Who is asked, how many have answered, and that they are weighed: short plain lines, as reasoning, before the answer."""
    stream = got(form, "judged")
    assert reasoning_of(form, stream.body).splitlines() == [
        "[stretto] asking 3 workers: a, b, org/c",
        "[stretto] 1 of 3 have answered",
        "[stretto] 2 of 3 have answered",
        "[stretto] 3 of 3 have answered",
        "[stretto] b weighs the answers",
    ]
    assert text_of(form, stream.body) in SAYS.values()


@pytest.mark.parametrize("form", SHOWS)
def test_a_writer_is_told_and_streams_live(form: str) -> None:
    """The one who writes the answer is named, then its pieces follow, apart from the lines."""
    stream = got(form, "written")
    assert reasoning_of(form, stream.body).splitlines()[-1] == "[stretto] b writes the answer"
    assert text_of(form, stream.body) == "no, never"
    assert "[stretto]" not in text_of(form, stream.body)


def test_a_cascade_tells_of_its_rungs_and_checks() -> None:
    """Each rung and each check is a line."""

    async def attempt(ask: Ask, emit: Any, tally: Any) -> Outcome:
        await asyncio.sleep(3)
        return says("no") if ask.role == "verifier" else await slow(ask, emit, tally)

    told = reasoning_of("chat", got("chat", "ladder", attempt).body).splitlines()
    assert told == ["[stretto] asking a", "[stretto] org/c checks the answer", "[stretto] asking b"]


def test_who_gives_no_answer_is_told() -> None:
    """A member that fails is counted, not named with what went wrong inside."""

    async def attempt(ask: Ask, emit: Any, tally: Any) -> Outcome:
        return fails("cut", "secret") if ask.worker == "b" else await slow(ask, emit, tally)

    told = reasoning_of("chat", got("chat", "judged", attempt).body)
    assert "[stretto] 2 of 3 have answered, 1 gave no answer\n" in told
    assert "secret" not in told


@pytest.mark.parametrize("form", FORMATS)
def test_one_worker_alone_shows_nothing(form: str) -> None:
    """Solo has no orchestration to tell of."""
    assert b"[stretto]" not in got(form, "a").body


def test_a_route_tells_whom_it_asks_only_while_that_one_is_slow() -> None:
    """Its head waits for the first piece or two seconds, so that an early failure is an HTTP error; then the line comes."""
    stream = got("chat", "routed")
    assert (stream.times[0], reasoning_of("chat", stream.body)) == (
        pytest.approx(2.0),
        "[stretto] asking a\n",
    )

    async def quick(ask: Ask, emit: Any, tally: Any) -> Outcome:
        await asyncio.sleep(1)
        return await slow(ask, emit, tally) if ask.worker == "b" else fails("rate_limited")

    assert got("chat", "routed", quick).status == 429


@pytest.mark.parametrize("form", FORMATS)
def test_orchestrated_streams_begin_at_once(form: str) -> None:
    """Their head leaves as soon as it is clear that others are asked first, with a line or a keep-alive."""
    stream = got(form, "judged")
    assert stream.times[0] == pytest.approx(0.2)
    assert events(stream.chunks[0])


@pytest.mark.parametrize("form", FORMATS)
def test_what_fails_at_once_is_still_an_http_error(form: str) -> None:
    """A panel that nobody answers, or that a limit forbids, fails before the head."""

    async def attempt(ask: Ask, emit: Any, tally: Any) -> Outcome:
        return fails("overloaded")

    assert got(form, "judged", attempt).status == 503
    assert got(form, "judged", stretto={"limits": {"calls": 0}}).status in (402, 429, 400)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("how", ["body", "header"])
def test_progress_can_be_turned_off(form: str, how: str) -> None:
    """By `stretto.progress` or `x-stretto-progress`; the stream is kept alive all the same."""
    if how == "body":
        stream = got(form, "judged", stretto={"progress": False})
    else:
        stream = got(form, "judged", headers=[("x-stretto-progress", "false")])
    assert b"[stretto]" not in stream.body
    assert text_of(form, stream.body) in SAYS.values()
    assert stream.times[0] == pytest.approx(0.2)


@pytest.mark.parametrize("form", ["responses", "messages"])
def test_formats_that_show_reasoning_on_demand_show_progress_so(form: str) -> None:
    """Clients that did not ask for reasoning may take the first block or item for the answer: they see none unless they ask."""
    without = {"reasoning": None} if form == "responses" else {"thinking": {"type": "disabled"}}
    assert b"[stretto]" not in got(form, "judged", **without).body
    assert b"[stretto]" in got(form, "judged", **without, stretto={"progress": True}).body


@pytest.mark.parametrize("value", ["no", "1", ""])
def test_a_progress_header_that_is_neither_is_refused(value: str) -> None:
    """A slip of the pen is told."""
    assert got("chat", "a", headers=[("x-stretto-progress", value)]).status == 400


@pytest.mark.parametrize("form", SHOWS)
def test_progress_is_not_recorded(form: str) -> None:
    """The ledger holds what models said, and so does a stored response."""

    async def main() -> tuple[World, Exchange]:
        world = World(slow, policies=POLICIES)
        return world, await asking(world, form, "judged").run()

    world, stream = in_virtual_time(main())
    assert b"[stretto]" in stream.body
    assert "[stretto]" not in repr(world.store.events(world.only_run()))
    if form == "responses":
        stored = asyncio.run(
            call(world.app, "GET", f"/v1/responses/{events(stream.body)[0]['response']['id']}")
        )
        assert [item["type"] for item in stored.json["output"]] == ["message"]
        assert b"[stretto]" not in stored.body


LINES = "[stretto] asking 3 workers\n[stretto] 3 of 3 have answered\n"
USER = {"role": "user", "content": "hello"}
AGAIN = {"role": "user", "content": "and now?"}

HISTORIES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "chat": (
        "chat",
        [USER, {"role": "assistant", "content": "yes", "reasoning_content": LINES + "hm"}, AGAIN],
    ),
    "chat, trimmed": (
        "chat",
        [USER, {"role": "assistant", "content": "yes", "reasoning": LINES.strip() + "\n\nhm"}, AGAIN],
    ),
    "chat, between tags": (
        "chat",
        [USER, {"role": "assistant", "content": f"<think>\n{LINES}hm</think>\n\nyes"}, AGAIN],
    ),
    "chat, only progress between tags": (
        "chat",
        [USER, {"role": "assistant", "content": f"<think>\n{LINES.strip()}</think>\n\nyes"}, AGAIN],
    ),
    "responses": (
        "responses",
        [
            USER,
            {
                "type": "reasoning",
                "id": "rs_00_progress",
                "summary": [{"type": "summary_text", "text": LINES}],
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
            AGAIN,
        ],
    ),
    "responses, without ids": (
        "responses",
        [
            USER,
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": LINES}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
            AGAIN,
        ],
    ),
    "messages": (
        "messages",
        [
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": LINES, "signature": "stretto-progress"},
                    {"type": "text", "text": "yes"},
                ],
            },
            AGAIN,
        ],
    ),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_progress_that_comes_back_reaches_no_model(case: str) -> None:
    """Clients send back what they took for reasoning; a worker sees the words of models and people only."""
    form, history = HISTORIES[case]
    given = {"input": history} if form == "responses" else {"messages": history}
    body = {**ASKS[form], "model": "a", **given}

    async def main() -> World:
        world = World()
        answer = await call(world.app, "POST", ROUTES[form], json.dumps(body).encode())
        assert answer.status == 200, answer.body
        return world

    (ask,) = asyncio.run(main()).pool.asks
    assert "[stretto]" not in repr(ask.messages)
    assert "yes" in repr(ask.messages)
    assert ("hm" in repr(ask.messages)) == ("hm" in json.dumps(history))


def test_a_stored_reference_to_progress_is_passed_over() -> None:
    """The AI SDK refers to every item of a stored response, progress included."""

    async def main() -> World:
        world = World(slow, policies=POLICIES)
        stream = await asking(world, "responses", "judged").run()
        items = events(stream.body)[-1]["response"]["output"]
        assert items[0]["id"].endswith("_progress")
        back = [{"type": "item_reference", "id": item["id"]} for item in items]
        body = {"model": "a", "input": [USER, *back, AGAIN]}
        answer = await call(world.app, "POST", "/v1/responses", body)
        assert answer.status == 200, answer.body
        return world

    last = in_virtual_time(main()).pool.asks[-1]
    assert [message.role for message in last.messages or ()] == ["user", "assistant", "user"]
    assert "[stretto]" not in repr(last.messages)
