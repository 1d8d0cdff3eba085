"""Workers from a table or a function: for tests, demonstrations, and trying policies out without any model."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stretto.steps import Ask, Count, Emit, Endpoint, Outcome, Quote, Ready, Tally
from stretto.types import Card, Delta, Failure, FailureKind, Message, Price, TokenLogprob, Usage

__all__ = ["Script", "Scripted", "ScriptedPool"]

_RETRYABLE: Final[frozenset[FailureKind]] = frozenset(
    {"unavailable", "rate_limited", "overloaded", "upstream_error", "timeout", "cut", "protocol", "empty"}
)
_PIECES: Final = re.compile(r"\s*\S+\s*$|\s*\S+")


@dataclass(frozen=True, slots=True)
class Scripted:
    """One reply of a scripted worker.

    With `error` it fails, after having streamed `text` if there is some. `usage` is counted in words if it is not given. `turns`
    is a delay without time: so many turns of the event loop pass before the reply. `retryable` follows from the error's kind.
    """

    text: str = ""
    error: Failure | None = None
    message: Message | None = None
    finish: str = "stop"
    usage: Usage | None = None
    turns: int = 0
    retryable: bool | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    state: tuple[float, ...] = ()


Said = str | Failure | Scripted
Script = Sequence[Said] | Callable[[Ask], Said]
"""Replies in the order of the attempts, the last one for ever; or a function of the bound ask."""


class ScriptedPool:
    """A `steps.Pool` whose workers say what they are told to.

        pool = ScriptedPool({"a": ["4"], "b": [Failure("timeout"), "5"], "c": lambda ask: ask.messages[-1].text.upper()})

    A worker costs 1 USD per million words in and 2 out unless `prices` or `cards` say otherwise, and keeps to `max_tokens` words.
    `endpoints` gives a worker several places; a script under a place's name is that place's own. `gate`, if given, is awaited
    in each attempt before it replies: the way to hold some back. `asks` logs every bound ask in order, `places` where it
    went, and `cancelled` those that were cancelled.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script],
        *,
        cards: Mapping[str, Card] | None = None,
        prices: Mapping[str, Price] | None = None,
        endpoints: Mapping[str, Sequence[Endpoint]] | None = None,
        gate: Callable[[Ask], Awaitable[None]] | None = None,
        cap: int = 1000,
    ) -> None:
        self.asks: list[Ask] = []
        self.places: list[str] = []
        self.cancelled: list[Ask] = []
        self._scripts = dict(scripts)
        self._taken: dict[str, int] = {}
        self._gate = gate
        self._cap = cap
        self._endpoints = {worker: tuple(places) for worker, places in (endpoints or {}).items()}
        owned = {place.name for places in self._endpoints.values() for place in places}
        given = dict(cards or {})
        for worker in (*self._endpoints, *self._scripts):
            if worker not in owned or worker in self._endpoints:
                price = (prices or {}).get(worker, Price.per_million(1, 2))
                given.setdefault(
                    worker, Card(worker, price, abilities=frozenset({"text", "tools", "json", "logprobs"}))
                )
                self._endpoints.setdefault(worker, (Endpoint(worker, worker),))
        self._by_id = given
        self._cards = tuple(given.values())

    def cards(self) -> tuple[Card, ...]:
        """As `Pool.cards`."""
        return self._cards

    def quote(self, ask: Ask) -> Quote:
        """As `Pool.quote`: words in, and `max_tokens` (or `cap`) words out."""
        card = self._by_id[ask.worker]
        given = _words_in(ask)
        cap = self._most(ask)
        worst = card.price.of(Usage(given, cap))
        return Quote(card.price.of(Usage(given, min(cap, 10))), worst, given, cap, priced=card.priced)

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """As `Pool.count`: words are the tokens here."""
        return Count(_words_in(ask), True)

    def candidates(self, ask: Ask) -> Ready:
        """As `Pool.candidates`: every endpoint, always."""
        if ask.worker not in self._endpoints:
            return Ready(reason=f"there is no worker {ask.worker!r}")
        return Ready(self._endpoints[ask.worker])

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        """As `Pool.attempt`. The script's next line is taken at once; waiting comes after."""
        self.asks.append(ask)
        self.places.append(endpoint.name)
        said = self._next(ask, endpoint)
        try:
            async with asyncio.timeout_at(deadline):
                for _ in range(said.turns):
                    await asyncio.sleep(0)
                if self._gate is not None:
                    await self._gate(ask)
                return await self._say(ask, said, tally, emit)
        except TimeoutError:
            return Outcome(usage=tally.usage, error=Failure("timeout", "the deadline has passed"), finish="")
        except asyncio.CancelledError:
            self.cancelled.append(ask)
            raise

    def _next(self, ask: Ask, endpoint: Endpoint) -> Scripted:
        name = endpoint.name if endpoint.name in self._scripts else ask.worker
        script = self._scripts[name]
        if callable(script):
            said = script(ask)
        else:
            turn = self._taken.get(name, 0)
            self._taken[name] = turn + 1
            said = script[min(turn, len(script) - 1)]
        if isinstance(said, str):
            return Scripted(said)
        return Scripted(error=said) if isinstance(said, Failure) else said

    async def _say(self, ask: Ask, said: Scripted, tally: Tally, emit: Emit | None) -> Outcome:
        message = said.message or Message("assistant", said.text)
        finish = said.finish
        pieces = _PIECES.findall(message.text)
        if len(pieces) > self._most(ask):
            pieces, finish = pieces[: self._most(ask)], "length"
            message = replace(message, content="".join(pieces))
        error = said.error
        failed_at_once = error is not None and not pieces
        given = 0 if failed_at_once else _words_in(ask)
        if emit is not None and not failed_at_once:
            await self._stream(message, pieces, said.logprobs, given, tally, emit)
        tally.usage = said.usage or Usage(given, len(pieces))
        retryable = False
        if error is not None:
            retryable = error.kind in _RETRYABLE if said.retryable is None else said.retryable
        return Outcome(
            message,
            finish if error is None else "",
            tally.usage,
            error,
            retryable and not tally.emitted,
            said.logprobs,
            said.embeddings,
            said.state,
            model=f"scripted-{ask.worker}",
        )

    async def _stream(
        self,
        message: Message,
        pieces: Sequence[str],
        logprobs: tuple[TokenLogprob, ...],
        given: int,
        tally: Tally,
        emit: Emit,
    ) -> None:
        deltas = [Delta(piece) for piece in pieces]
        if message.tool_calls or message.refusal or message.reasoning or logprobs:
            calls = tuple((i, c.id, c.name, c.arguments) for i, c in enumerate(message.tool_calls))
            deltas.append(Delta("", message.reasoning, calls, message.refusal, logprobs))
        for written, delta in enumerate(deltas, 1):
            tally.usage = Usage(given, min(written, len(pieces)), estimated=True)
            tally.emitted = True
            await emit([delta])
            await asyncio.sleep(0)

    def _most(self, ask: Ask) -> int:
        return self._cap if ask.max_tokens is None else ask.max_tokens


def _words_in(ask: Ask) -> int:
    return sum(len(message.text.split()) for message in ask.messages or ())
