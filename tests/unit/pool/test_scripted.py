"""The scripted pool: what tests and demonstrations stand on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.steps import Ask, Endpoint, Outcome, Pool, Tally
from stretto.types import Card, Delta, Failure, Message, Price, ToolCall, Usage

ASK = Ask("a", (Message("user", "one two three"),))


def say(
    pool: ScriptedPool, ask: Ask = ASK, *, live: bool = False, **more: Any
) -> tuple[Outcome, list[str], Tally]:
    async def run() -> tuple[Outcome, list[str], Tally]:
        tally, pieces = Tally(), list[str]()

        async def emit(deltas: Sequence[Delta]) -> None:
            pieces.extend(delta.text for delta in deltas)

        endpoint = pool.candidates(ask).endpoints[0]
        asked = {"deadline": None, "tally": tally, "emit": emit if live else None, **more}
        return await pool.attempt(ask, endpoint, **asked), pieces, tally

    return asyncio.run(run())


def test_is_a_pool() -> None:
    """The scripted pool offers what the engine's protocol asks for, and the same cards each time."""
    pool: Pool = ScriptedPool({"a": ["x"]})
    assert pool.cards() is pool.cards()


def test_lines_in_turn() -> None:
    """A table's lines come in the order of the attempts, the last one for ever; every ask is logged."""
    pool = ScriptedPool({"a": [Failure("timeout"), "first", "then"]})
    said = [say(pool)[0] for _ in range(4)]
    assert [outcome.message.text for outcome in said] == ["", "first", "then", "then"]
    assert said[0].error == Failure("timeout")
    assert said[0].retryable
    assert [ask.worker for ask in pool.asks] == ["a"] * 4


def test_function_of_the_ask() -> None:
    """A function sees the bound ask."""
    pool = ScriptedPool({"a": lambda ask: (ask.messages or ())[0].text.upper()})
    assert say(pool)[0].message.text == "ONE TWO THREE"


def test_words_are_tokens() -> None:
    """Usage counts words, and the cap of the ask is kept to; the quote is never below the cost."""
    pool = ScriptedPool({"a": ["four five six"]}, prices={"a": Price(3, 5)})
    outcome, _, tally = say(pool)
    assert outcome.usage == tally.usage == Usage(3, 3)
    short = Ask("a", ASK.messages, max_tokens=2)
    outcome, _, _ = say(pool, short)
    assert (outcome.message.text, outcome.finish) == ("four five", "length")
    assert pool.quote(short).worst == 3 * 3 + 2 * 5 == Price(3, 5).of(outcome.usage)


def test_streaming() -> None:
    """Live text comes in pieces that make up the whole."""
    outcome, pieces, tally = say(ScriptedPool({"a": ["  four  five\n"]}), live=True)
    assert len(pieces) == 2
    assert "".join(pieces) == outcome.message.text == "  four  five\n"
    assert tally.emitted


def test_failure_after_text() -> None:
    """A failure with text has streamed that text, is charged for it, and is not retryable any more."""
    pool = ScriptedPool({"a": [Scripted("half of", error=Failure("cut"))]})
    outcome, pieces, tally = say(pool, live=True)
    assert outcome.error is not None
    assert (pieces, outcome.retryable, tally.usage) == (["half", " of"], False, Usage(3, 2))


def test_calls_are_streamed() -> None:
    """A message with tool calls is passed on with them."""
    message = Message("assistant", None, (ToolCall("c", "f", "{}"),))
    seen = list[Delta]()

    async def emit(deltas: Sequence[Delta]) -> None:
        seen.extend(deltas)

    pool = ScriptedPool({"a": [Scripted(message=message, finish="tool_calls")]})
    say(pool, emit=emit)
    assert seen == [Delta(tool_calls=((0, "c", "f", "{}"),))]


def test_places_with_their_own_scripts() -> None:
    """A worker may have several places, one of them failing."""
    east, west = Endpoint("east", "a", {"region": "eu"}), Endpoint("west", "a")
    pool = ScriptedPool({"a": ["ok"], "west": [Failure("unavailable")]}, endpoints={"a": [east, west]})
    assert [card.id for card in pool.cards()] == ["a"]
    assert pool.candidates(ASK).endpoints == (east, west)
    outcome = asyncio.run(pool.attempt(ASK, west, deadline=None, tally=Tally(), emit=None))
    assert outcome.error is not None
    assert pool.places == ["west"]
    assert say(pool)[0].error is None


def test_delay_without_time() -> None:
    """Replies come after the turns of the loop that they are given, so a race has a fixed winner."""

    async def run() -> list[str]:
        pool = ScriptedPool({"a": [Scripted("slow", turns=9)], "b": [Scripted("fast", turns=1)]})
        order = list[str]()

        async def go(name: str) -> None:
            ask = Ask(name, ASK.messages)
            await pool.attempt(ask, Endpoint(name, name), deadline=None, tally=Tally(), emit=None)
            order.append(name)

        await asyncio.gather(go("a"), go("b"))
        return order

    assert asyncio.run(run()) == ["b", "a"]


def test_held_back_and_cancelled() -> None:
    """A gate holds replies back until it opens; a cancelled attempt is logged, one past its deadline times out."""

    async def run() -> None:
        gate = asyncio.Event()

        async def wait(ask: Ask) -> None:
            await gate.wait()

        pool = ScriptedPool({"a": ["x"]}, gate=wait)
        place = pool.candidates(ASK).endpoints[0]
        task = asyncio.create_task(pool.attempt(ASK, place, deadline=None, tally=Tally(), emit=None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.cancelled == [ASK]
        now = asyncio.get_running_loop().time()
        late = await pool.attempt(ASK, place, deadline=now, tally=Tally(), emit=None)
        assert late.error is not None
        assert late.error.kind == "timeout"

    asyncio.run(run())


def test_own_cards() -> None:
    """Cards can be given, also for what the script does not price."""
    card = Card("a", Price(7, 7), {"region": "eu"}, priced=False)
    pool = ScriptedPool({"a": ["x"]}, cards={"a": card})
    assert pool.cards() == (card,)
    assert not pool.quote(ASK).priced
    assert pool.candidates(Ask("nobody")).endpoints == ()
