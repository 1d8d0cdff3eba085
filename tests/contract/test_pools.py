"""What the engine counts on in every pool: the real one over a socket, and the scripted one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from stretto.pool.http import HttpClient
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.pool.worker import Place, Worker, WorkerPool
from stretto.steps import Ask, Emit, Outcome, Pool, Tally
from stretto.types import Card, Delta, Failure, Message, Price
from tests.unit.pool.upstream import PIECES, WHOLE, Says, answer, chunk, completion, stream, upstream

CARD = Card("w", Price.per_million(1, 2))
ASK = Ask("w", (Message("user", "What is two and two, please?"),), max_tokens=50)
Opens = Callable[..., contextlib.AbstractAsyncContextManager[Pool]]

BROKEN = chunk({"content": "half"}) + b"data: [DONE]\n\n"


@contextlib.asynccontextmanager
async def real(kind: str, *, live: bool) -> AsyncIterator[Pool]:
    says = {
        "answers": stream(WHOLE) if live else answer(completion()),
        "fails": answer({"error": {"message": "no"}}, 500),
        "breaks": stream(BROKEN),
        "hangs": stream(PIECES, "hang", ended=False) if live else Says(b"", "hang"),
    }[kind]
    client = HttpClient()
    async with upstream(says) as server:
        place = Place("here", server.base_url)
        yield WorkerPool([Worker("w", "m", (place,), CARD)], client)
    await client.close()


@contextlib.asynccontextmanager
async def scripted(kind: str, *, live: bool) -> AsyncIterator[Pool]:
    async def hold(ask: Ask) -> None:
        if kind == "hangs":
            await asyncio.Event().wait()

    said = {
        "answers": "four",
        "fails": Failure("upstream_error", "no"),
        "breaks": Scripted("half", error=Failure("cut")),
        "hangs": "four",
    }[kind]
    yield ScriptedPool({"w": [said]}, cards={"w": CARD}, gate=hold)


@pytest.fixture(params=[real, scripted], ids=["real", "scripted"])
def opens(request: pytest.FixtureRequest) -> Opens:
    """A way to open each kind of pool."""
    return request.param  # type: ignore[no-any-return]


def attempt(
    opens: Opens, kind: str, *, live: bool, seconds: float | None = None
) -> tuple[Outcome, str, Tally]:
    """One attempt, the text that it emitted, and its tally."""

    async def run() -> tuple[Outcome, str, Tally]:
        tally, text = Tally(), ""

        async def emit(deltas: Sequence[Delta]) -> None:
            nonlocal text
            text += "".join(delta.text for delta in deltas)

        async with opens(kind, live=live) as pool:
            deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
            passed: Emit | None = emit if live else None
            place = pool.candidates(ASK).endpoints[0]
            outcome = await pool.attempt(ASK, place, deadline=deadline, tally=tally, emit=passed)
        return outcome, text, tally

    return asyncio.run(run())


def test_cards_and_candidates(opens: Opens) -> None:
    """Cards are one stable tuple, a worker's candidates are its own, and an unknown worker has none, with a reason."""

    async def run() -> None:
        async with opens("answers", live=False) as pool:
            assert pool.cards() is pool.cards()
            assert pool.cards() == (CARD,)
            assert {place.worker for place in pool.candidates(ASK).endpoints} == {"w"}
            nobody = pool.candidates(Ask("nobody"))
            assert nobody.endpoints == ()
            assert nobody.reason

    asyncio.run(run())


@pytest.mark.parametrize("live", [False, True])
def test_answer(opens: Opens, live: bool) -> None:
    """What was emitted is the message, the tally is the usage, and the cost is within the quote."""
    outcome, text, tally = attempt(opens, "answers", live=live)
    assert outcome.error is None
    assert outcome.message.text == "four"
    assert text == ("four" if live else "")
    assert tally.emitted == live
    assert tally.usage == outcome.usage

    async def worst() -> int:
        async with opens("answers", live=live) as pool:
            return pool.quote(ASK).worst

    assert 0 < CARD.price.of(outcome.usage) <= asyncio.run(worst())


@pytest.mark.parametrize("live", [False, True])
def test_failure_is_data(opens: Opens, live: bool) -> None:
    """A failed attempt is an outcome with an error, worth retrying, and free."""
    outcome, text, tally = attempt(opens, "fails", live=live)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable, text) == ("upstream_error", True, "")
    assert tally.usage.input == tally.usage.output == 0


def test_break_after_text(opens: Opens) -> None:
    """An answer that breaks off after something was shown is not to be retried, and what came is charged."""
    outcome, text, tally = attempt(opens, "breaks", live=True)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable, text) == ("cut", False, "half")
    assert tally.usage.output > 0


@pytest.mark.parametrize("live", [False, True])
def test_deadline(opens: Opens, live: bool) -> None:
    """An attempt ends at its deadline, as a timeout."""
    outcome, _, _ = attempt(opens, "hangs", live=live, seconds=0.03)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.retryable) == ("timeout", False)


@pytest.mark.parametrize("live", [False, True])
def test_cancelled(opens: Opens, live: bool) -> None:
    """Cancellation passes through."""

    async def run() -> None:
        async def emit(deltas: Sequence[Delta]) -> None:
            pass

        async with opens("hangs", live=live) as pool:
            place = pool.candidates(ASK).endpoints[0]
            asked: Any = {"deadline": None, "tally": Tally(), "emit": emit if live else None}
            task = asyncio.create_task(pool.attempt(ASK, place, **asked))
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
