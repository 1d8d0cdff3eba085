"""A gateway over the real engine, a store in memory, and a pool whose every attempt is written in the test itself."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stretto.engine.run import Engine
from stretto.errors import UnknownModel
from stretto.gateway.http import Gateway
from stretto.gateway.settings import Settings
from stretto.gateway.wish import Wish
from stretto.ledger.memory import MemoryStore
from stretto.ledger.read import Reader
from stretto.ledger.states import MemoryStates
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Count, Emit, Endpoint, Outcome, Policy, Quote, Ready, Tally
from stretto.types import Card, Delta, Failure, Key, Limits, Message, Price, Usage

CHAT = "/v1/chat/completions"

Attempt = Callable[[Ask, Emit | None, Tally], Awaitable[Outcome]]


def says(text: str, *, input: int = 3, output: int = 2) -> Outcome:
    """A complete answer."""
    return Outcome(Message("assistant", text), "stop", Usage(input, output))


def fails(kind: Any, message: str = "", retry_after: float | None = None) -> Outcome:
    """A failed attempt that is not worth another."""
    return Outcome(Message("assistant", ""), "", Usage(), Failure(kind, message, retry_after))


async def echo(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
    """Says who it is, word by word when someone listens."""
    words = [ask.worker, " says", " hello"]
    if emit is not None:
        for word in words:
            tally.emitted = True
            await emit([Delta(word)])
    return says("".join(words))


class WrittenPool:
    """Workers `a`, `b` and `org/c` at 1 and 2 USD per million tokens; `attempt` is what every try does."""

    def __init__(self, attempt: Attempt, labels: Mapping[str, Mapping[str, str]]) -> None:
        self._attempt = attempt
        price = Price.per_million(1.0, 2.0)
        able = frozenset({"text", "tools", "json"})
        self._cards = tuple(
            Card(worker, price, labels.get(worker, {}), able, 8000, 1000, f"worker {worker}")
            for worker in ("a", "b", "org/c")
        )
        self.asks: list[Ask] = []

    def cards(self) -> tuple[Card, ...]:
        """Three."""
        return self._cards

    def quote(self, ask: Ask) -> Quote:
        """Always the same."""
        return Quote(7_000_000, 1_000_000_000, 10, 100)

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """A token a word, by a tokeniser for `a` alone."""
        return Count(sum(len(m.text.split()) for m in ask.messages or ()), ask.worker == "a")

    def candidates(self, ask: Ask) -> Ready:
        """One place each."""
        return Ready((Endpoint(f"{ask.worker}/1", ask.worker),))

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        """What the test says."""
        self.asks.append(ask)
        return await self._attempt(ask, emit, tally)


class Names:
    """A catalogue: the three workers, and what the test adds."""

    def __init__(self, pool: WrittenPool, policies: Mapping[str, Policy]) -> None:
        self._known: dict[str, Policy] = {c.id: Solo(c.id) for c in pool.cards()} | dict(policies)
        self._cards = (*pool.cards(), *(Card(n, labels={"kind": "policy"}, priced=False) for n in policies))

    def resolve(self, name: str) -> Policy:
        """By name."""
        try:
            return self._known[name]
        except KeyError:
            raise UnknownModel(f"There is no model {name!r}.", param="model") from None

    def fusion(self, wish: Wish, name: str) -> Policy | None:
        """No panels here but those that the real catalogue makes: see tests/integration/test_fusion.py."""
        raise UnknownModel("There is no fusion here.", param="model")

    def models(self) -> tuple[Card, ...]:
        """All names."""
        return self._cards


class Secrets:
    """Keys by their secret."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys

    def find(self, secret: str) -> Key | None:
        """By secret."""
        return self._keys.get(secret)


class World:
    """Everything a test may want to look at afterwards."""

    def __init__(
        self,
        attempt: Attempt = echo,
        *,
        keys: Mapping[str, Key] | None = None,
        policies: Mapping[str, Policy] | None = None,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        store: Any = None,
        states: Any = None,
        limits: Limits = Limits(),
        loops: bool = False,
        accounts: Any = None,
        **settings: Any,
    ) -> None:
        self.store = store if store is not None else MemoryStore()
        self.pool = WrittenPool(attempt, labels or {})
        self.states = states if states is not None else MemoryStates()
        states_ = self.states if loops else None
        self.engine = Engine(self.pool, self.store, accounts, limits=limits, states=states_)
        self.catalog = Names(self.pool, {"panel": Fuse(("a", "b", "org/c")), **(policies or {})})
        keyed = bool(keys)
        self.app = Gateway(
            self.engine,
            self.catalog,
            Secrets(keys or {}),
            Reader(self.store),
            states=self.states,
            settings=Settings(
                **{
                    "version": "1.2.3",
                    "config": "c0ffee",
                    "anonymous": lambda: not keyed,
                    "notice": 0.001,
                    "tick": 0.002,
                    **settings,
                }
            ),
        )

    def only_run(self) -> str:
        """The id of the one run there was."""
        (found,) = self.store.runs()
        return str(found.run)


def hello(model: str = "a", **fields: Any) -> dict[str, Any]:
    """A small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


async def forever() -> None:
    """Wait until cancelled."""
    await asyncio.get_running_loop().create_future()
