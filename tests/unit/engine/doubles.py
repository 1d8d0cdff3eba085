"""A pool made of one function, for engine tests: what each attempt does is written in the test itself."""

import asyncio
from dataclasses import replace

from stretto.steps import Endpoint, Outcome, Quote, Ready
from stretto.types import Card, Delta, Message, Price, Usage


def says(text, *, input=3, output=2, **fields):
    return Outcome(Message("assistant", text), "stop", Usage(input, output), **fields)


class FunctionPool:
    """`attempt(ask, endpoint, number)` is awaited for an `Outcome`; `places` gives each worker its endpoints."""

    def __init__(self, attempt, workers=("a", "b", "c"), places=None, price=Price(1, 1), labels=None):
        self._attempt = attempt
        self._places = places or {}
        self._cards = tuple(
            Card(w, price, (labels or {}).get(w, {}), frozenset({"text", "tools", "json"})) for w in workers
        )
        self.calls = []
        self.down = set()

    def cards(self):
        return self._cards

    def quote(self, ask):
        cap = ask.max_tokens or 10
        return Quote(5, 5 + cap, 5, cap)

    def candidates(self, ask):
        names = self._places.get(ask.worker, (f"{ask.worker}/1",))
        up = tuple(Endpoint(n, ask.worker) for n in names if n not in self.down)
        return Ready(up) if up else Ready((), 7.0, "all endpoints cool down", "rate_limited")

    async def attempt(self, ask, endpoint, *, deadline, tally, emit):
        self.calls.append((ask, endpoint.name))
        tally.usage = Usage(5, 0, estimated=True)
        outcome = await self._attempt(ask, endpoint, len(self.calls))
        if isinstance(outcome, str):
            outcome = says(outcome)
        if emit is not None and outcome.error is None:
            for piece in outcome.message.text.split(" "):
                tally.emitted = True
                tally.usage = replace(tally.usage, output=tally.usage.output + 1)
                await emit([Delta(piece)])
        return outcome


def immediately(answer):
    """An attempt function from a plain one."""

    async def attempt(ask, endpoint, number):
        await asyncio.sleep(0)
        return answer(ask, endpoint, number)

    return attempt


class ListStore:
    """The smallest store: a list. `fail_from` makes it unwritable from that batch on."""

    def __init__(self):
        self.written = []
        self.pools = {}

    def append(self, batch):
        for event in batch:
            self.written.append(event)
            if event.kind == "pooled":
                self.pools[event.version] = event.cards

    def events(self, run):
        return [e for e in self.written if e.run == run]

    def cards(self, version):
        return self.pools[version]

    def kinds(self, run):
        return [e.kind for e in self.events(run)]
