"""Workers and the pool: cards, quotes, which endpoint is next."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stretto.errors import ConfigError
from stretto.pool.http import HttpClient, HttpRequest, HttpResponse, TransportError
from stretto.pool.worker import Place, Worker, WorkerPool, describe
from stretto.steps import Ask, Endpoint, Outcome, Pool, Role, Tally
from stretto.types import Card, Message, Price, Usage
from tests.unit.pool.upstream import answer, completion, upstream

ASK = Ask("w", (Message("user", "What is two and two?"),))


class Refuses:
    """A transport over which nobody can be reached, except the ports in `well`."""

    def __init__(self, client: HttpClient | None = None) -> None:
        self.client = client
        self.ports: list[int] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.ports.append(request.origin.port)
        if self.client is not None and request.origin.port > 9:
            return await self.client.send(request)
        raise TransportError("connect", f"{request.origin.key}: refused")


class Clock:
    """Time that passes when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def worker(*ports: int, card: Card | None = None, **fields: Any) -> Worker:
    places = tuple(Place(f"p{port}", f"http://127.0.0.1:{port}/v1") for port in ports)
    return Worker("w", "m", places, card or Card("w", Price.per_million(1, 2)), **fields)


def names(pool: WorkerPool) -> list[str]:
    return [endpoint.name for endpoint in pool.candidates(ASK).endpoints]


async def call(pool: WorkerPool, name: str) -> Outcome:
    endpoint = Endpoint(name, "w")
    return await pool.attempt(ASK, endpoint, deadline=None, tally=Tally(), emit=None)


def test_is_a_pool() -> None:
    """The worker pool offers what the engine's protocol asks for, and the same cards each time."""
    pool: Pool = WorkerPool([worker(1)], Refuses())
    assert pool.cards() is pool.cards()
    assert [card.id for card in pool.cards()] == ["w"]


def test_key_is_not_shown() -> None:
    """A place does not show its key or its headers."""
    place = Place("p", "http://h/v1", "sk-secret", headers={"x-key": "other-secret"})
    assert "secret" not in repr(Worker("w", "m", (place,), Card("w")))


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ([worker(1), worker(2)], "two workers are called 'w'"),
        ([worker(1, 1)], "two endpoints are called 'p1'"),
        ([worker()], "no endpoint"),
        ([worker(1, wire="morse")], "wire 'morse' is not known"),
        ([Worker("w", "m", (Place("p", "ftp://x"),), Card("w"))], "endpoint 'p'"),
        ([Worker("w", "m", (Place("p", "http://x", "a\nb"),), Card("w"))], "endpoint 'p'"),
    ],
)
def test_workers_that_cannot_be(workers: list[Worker], says: str) -> None:
    """A worker that cannot be made is a configuration error that names it, without its key."""
    with pytest.raises(ConfigError, match=says) as caught:
        WorkerPool(workers, Refuses())
    assert "a\nb" not in str(caught.value)


def test_quote_rests_on_the_cap() -> None:
    """The worst case is the input estimate and the output cap at list price: the ask's, the card's, or 4,096."""
    bound = Ask("w", ASK.messages, max_tokens=100)
    pool = WorkerPool([worker(1, card=Card("w", Price(3, 5), max_output=700))], Refuses())
    quote = pool.quote(bound)
    assert quote.worst == quote.input_tokens * 3 + 100 * 5
    assert quote.expected <= quote.worst
    assert pool.quote(ASK).max_tokens == 700
    small = WorkerPool([worker(1, card=Card("w", Price(3, 5), context=300))], Refuses())
    assert small.quote(ASK).max_tokens == 300
    assert WorkerPool([worker(1)], Refuses()).quote(ASK).max_tokens == 4096
    for want in ("embedding", "state"):  # nothing is written
        read = pool.quote(Ask("w", ASK.messages, want=want))
        assert (read.max_tokens, read.worst) == (0, read.input_tokens * 3)


def test_quote_without_a_price_says_so() -> None:
    """A worker of unknown price is quoted as unpriced, and so is one that is not there."""
    pool = WorkerPool([describe("w", "nobody-knows", [Place("p", "http://h/v1")])], Refuses())
    assert not pool.quote(ASK).priced
    assert not pool.quote(Ask("x")).priced
    assert pool.candidates(Ask("x")).endpoints == ()


def test_expectation_learns_from_answers() -> None:
    """What a call is expected to cost and take follows what calls have cost and taken."""

    async def run() -> tuple[int, int]:
        client = HttpClient()
        usage = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
        async with upstream(answer(completion(usage=usage))) as server:
            pool = WorkerPool([worker(server.port)], client)
            before = pool.quote(ASK).expected
            await call(pool, f"p{server.port}")
            await client.close()
            return before, pool.quote(ASK).expected

    before, after = asyncio.run(run())
    assert after < before
    assert after >= Price.per_million(1, 2).of(Usage(0, 30))


def test_expectation_goes_by_what_is_known_of_the_worker_and_the_role() -> None:
    """Of nothing known a guess, never above half of the cap; then what was learned from, then what the ledger tells; the worst
    case stays what it is.
    """
    million = Price.per_million(0, 1)
    pool = WorkerPool([worker(1, card=Card("w", million))], Refuses())

    def tokens(role: Role, most: int | None = None) -> float:
        quote = pool.quote(Ask("w", ASK.messages, role=role, max_tokens=most))
        assert quote.worst == (most or 4096) * million.output
        return quote.expected / million.output

    assert (tokens("solver"), tokens("solver", 10), tokens("verifier")) == (400, 5, 20)
    pool.learn("w", 60.0)
    assert (tokens("solver"), tokens("worker"), tokens("verifier")) == (60, 60, 20)
    pool.remember("w", "solver", 30.0, 2.0)
    pool.remember("w", "verifier", 1.0, 0.1)
    assert (tokens("solver"), tokens("synthesizer"), tokens("verifier"), tokens("solver", 10)) == (
        30,
        30,
        1,
        10,
    )
    assert pool.quote(ASK).seconds < 2.0
    pool.remember("left", "solver", 1.0, 1.0)  # a worker of yesterday is nobody today
    pool.learn("left", 1.0)


def test_dead_endpoint_goes_out_and_comes_back() -> None:
    """After five failures an endpoint is no candidate while there is another; later it is offered once, as a probe."""

    async def run() -> None:
        clock, transport = Clock(), Refuses()
        pool = WorkerPool([worker(1, 2)], transport, clock=clock)
        assert names(pool) == ["p1", "p2"]
        for _ in range(5):
            outcome = await call(pool, "p1")
            assert outcome.error is not None
        assert names(pool) == ["p2"]
        clock.now += 6
        assert names(pool) == ["p1", "p2"]
        assert names(pool) == ["p2"]  # one call is to probe, not all
        await call(pool, "p1")
        clock.now += 6
        assert names(pool) == ["p2"]  # out for longer this time
        for _ in range(5):
            await call(pool, "p2")
        assert names(pool) == ["p1"]  # all are out: the one whose time is up first

    asyncio.run(run())


def test_worker_that_lets_everybody_wait_is_left_alone_for_a_while() -> None:
    """When all endpoints are out because they do not answer in time, there is no candidate until one is due for a probe."""

    class Silent(Refuses):
        async def send(self, request: HttpRequest) -> HttpResponse:
            raise TransportError("first_byte", "no byte in time", sent=True)

    async def run() -> None:
        clock = Clock()
        pool = WorkerPool([worker(1)], Silent(), clock=clock)
        for _ in range(5):
            await call(pool, "p1")
        ready = pool.candidates(ASK)
        assert (ready.endpoints, ready.kind, ready.retry_after) == ((), "unavailable", pytest.approx(5))
        clock.now += 6
        assert names(pool) == ["p1"]

    asyncio.run(run())


def test_probe_that_succeeds() -> None:
    """A probe that is answered makes the endpoint a candidate like any other."""

    async def run() -> None:
        clock, client = Clock(), HttpClient()
        async with upstream(answer({}, 500), *[answer({}, 500)] * 4, answer(completion())) as server:
            name = f"p{server.port}"
            pool = WorkerPool([worker(server.port, 2)], client, clock=clock)
            for _ in range(5):
                await call(pool, name)
            assert names(pool) == ["p2"]
            clock.now += 6
            outcome = await call(pool, name)
            assert outcome.error is None
            assert name in names(pool)
            assert name in names(pool)
        await client.close()

    asyncio.run(run())


def test_rate_limited_endpoints_cool_down() -> None:
    """While all endpoints cool down there is no candidate, but a time to come back; another one is used meanwhile."""

    async def run() -> None:
        clock, client = Clock(), HttpClient()
        async with upstream(answer({}, 429, retry_after="9")) as one, upstream(answer({}, 429)) as two:
            pool = WorkerPool([worker(one.port, two.port)], client, clock=clock)
            await call(pool, f"p{one.port}")
            assert names(pool) == [f"p{two.port}"]
            await call(pool, f"p{two.port}")
            ready = pool.candidates(ASK)
            assert ready.endpoints == ()
            assert ready.retry_after == pytest.approx(1)
            assert "rate limited" in ready.reason
            assert ready.kind == "rate_limited"
            clock.now += 1
            assert names(pool) == [f"p{two.port}"]
            clock.now += 8
            assert len(names(pool)) == 2
        await client.close()

    asyncio.run(run())


def test_least_loaded_first() -> None:
    """Among healthy endpoints the one with fewer calls under way comes first."""

    async def run() -> None:
        held = asyncio.Event()

        class Holds:
            async def send(self, request: HttpRequest) -> HttpResponse:
                await held.wait()
                raise TransportError("connect", "no")

        pool = WorkerPool([worker(1, 2)], Holds())
        task = asyncio.create_task(call(pool, "p1"))
        await asyncio.sleep(0)
        assert names(pool) == ["p2", "p1"]
        held.set()
        await task

    asyncio.run(run())


def test_description_is_completed_by_the_profile() -> None:
    """Price, context and abilities come from the shipped profile unless they are given."""
    place = Place("p", "https://api.openai.com/v1")
    known = describe("g", "gpt-4o-2024-08-06", [place], labels={"region": "us"}).card
    assert known.price == Price.per_million(2.5, 10, 1.25)
    assert (known.context, known.max_output, known.priced) == (128000, 16384, True)
    assert known.labels == {"vendor": "openai", "region": "us"}
    assert {"tools", "vision", "logprobs"} <= known.abilities
    own = describe(
        "g",
        "gpt-4o",
        [place],
        price=Price(1, 1),
        labels={"vendor": "me"},
        context=9,
        abilities=frozenset({"text"}),
    )
    assert (own.card.price, own.card.context, own.card.abilities) == (Price(1, 1), 9, frozenset({"text"}))
    assert own.card.labels == {"vendor": "me"}
    assert "temperature" in describe("o", "o3", [place]).lacks


def test_file_costs_nothing_unless_it_is_priced() -> None:
    """A local file is free, whatever its name resembles; a given price stands."""
    place = Place("p", gguf=Path("gpt-4o.gguf"))
    assert (describe("w", "gpt-4o", [place]).card.price, describe("w", "gpt-4o", [place]).card.priced) == (
        Price(),
        True,
    )
    assert describe("w", "x", [place], price=Price(1, 2)).card.price == Price(1, 2)


def test_openai_gets_the_name_it_insists_on() -> None:
    """At api.openai.com `max_tokens` goes out as `max_completion_tokens`."""

    async def run() -> bytes:
        seen = list[bytes]()

        class Looks:
            async def send(self, request: HttpRequest) -> HttpResponse:
                seen.append(request.body)
                raise TransportError("connect", "no")

        place = Place("p", "https://api.openai.com/v1", "k")
        pool = WorkerPool([describe("w", "gpt-5.1", [place])], Looks())
        bound = Ask("w", ASK.messages, max_tokens=5)
        await pool.attempt(bound, Endpoint("p", "w"), deadline=None, tally=Tally(), emit=None)
        return seen[0]

    assert b'"max_completion_tokens":5' in asyncio.run(run())
