"""A pool whose workers replay what was recorded: the same engine, door, ledger and policies as live, without any model."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from stretto.evaluation.tables import Item, Said, Table
from stretto.policies.calls import tools_of
from stretto.steps import Ask, Count, Emit, Endpoint, Outcome, Quote, Ready, Tally
from stretto.types import PICO, Believed, Card, Delta, Failure, Message, Price, Request, Usage

__all__ = ["RecordedPool", "question", "unsaid"]

_ITEM: Final = "recorded"
_USUAL: Final = 1_000
"""Tokens that a call is taken to have where none were recorded, so that who costs more is known to cost more."""


def question(item: Item, *, seed: int | None = None, dial: float = 0.5) -> Request:
    """The request that an item makes. Its message carries the item's id, so that equal prompts are told apart."""
    return Request(
        messages=(Message("user", item.prompt, extra={_ITEM: item.id}),),
        tools=tools_of(item.tools),
        seed=seed,
        dial=dial,
    )


def unsaid(worker: str) -> str:
    """The reply of a worker where only scores were recorded."""
    return f"({worker} answered; what, is not recorded)"


class RecordedPool:
    """A `steps.Pool` over a table of recorded outcomes.

    An ask is answered if its last user message is a recorded prompt; anything else fails with `not_recorded`. The cost is the
    recorded one, to the pico-dollar. An ask with a sampling seed draws one of the recorded samples by it, with replacement; one
    without gets the first. Where a text was recorded beside the answer, that is what can be read of its reasoning. Where nobody's
    answers to a dataset were recorded, scores alone, a reply says so. A worker whose calls were never priced has `priced=False`.
    `repute` says what is believed of a worker's name at its price.
    The score does not leave this module by any way that a policy could see: `score` reads it from the answer's run afterwards.
    """

    def __init__(
        self,
        table: Table,
        *,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        repute: Callable[[str, Price], Believed | None] = lambda model, price: None,
    ) -> None:
        self._table = table
        self._repute = repute
        self._by_prompt: dict[str, str] = {}
        for item in table.items:
            self._by_prompt.setdefault(_digest(item.prompt), item.id)
        self._cards = tuple(self._card(w, (labels or {}).get(w, {})) for w in table.workers)
        self._answering = {
            w
            for w in table.workers
            if any((s := table.said(i.id, w)) and s.answer is not None for i in table.items)
        }
        self._answered = {
            i.dataset
            for i in table.items
            if any((s := table.said(i.id, w)) and (s.answer is not None or s.text) for w in table.workers)
        }
        self._places = {w: (Endpoint(w, w),) for w in table.workers}

    def _card(self, worker: str, labels: Mapping[str, str]) -> Card:
        known = [s for i in self._table.items if (s := self._table.said(i.id, worker))]
        price, priced = _price(known)
        abilities = frozenset({"text", "tools", "json"})
        return Card(worker, price, labels, abilities, priced=priced, repute=self._repute(worker, price))

    def cards(self) -> tuple[Card, ...]:
        """As `Pool.cards`. The price is what explains the recorded costs best; what is charged is the recorded cost."""
        return self._cards

    def said(self, ask: Ask) -> Said | None:
        """What was recorded for a bound ask."""
        item = self._item(ask)
        return None if item is None else self._table.said(item, ask.worker, self._sample(item, ask))

    def _item(self, ask: Ask) -> str | None:
        last = next((m for m in reversed(ask.messages or ()) if m.role == "user"), None)
        if last is None:
            return None
        named = last.extra.get(_ITEM)
        if isinstance(named, str) and (item := self._table.item(named)) and item.prompt == last.text:
            return named
        return self._by_prompt.get(_digest(last.text))

    def _sample(self, item: str, ask: Ask) -> int:
        seed, there = ask.params.get("seed"), self._table.samples(item, ask.worker)
        return int(seed) % there if seed is not None and there > 1 else 0

    def quote(self, ask: Ask) -> Quote:
        """As `Pool.quote`: the recorded cost itself, which is all that it can come to."""
        said = self.said(ask)
        if said is None:
            return Quote(0, 0, 0, 0)
        cost = _pico(said)
        return Quote(
            cost, cost, said.input or 0, said.output or 0, said.seconds or 1.0, said.cost is not None
        )

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """As `Pool.count`: the recorded tokens, else four characters each."""
        said = self.said(ask)
        if said is not None and said.input is not None:
            return Count(said.input, True)
        return Count(sum(len(m.text) for m in ask.messages or ()) // 4 + 1, False)

    def candidates(self, ask: Ask) -> Ready:
        """As `Pool.candidates`: the record, always."""
        if ask.worker not in self._places:
            return Ready(reason=f"there is no worker {ask.worker!r}")
        return Ready(self._places[ask.worker])

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        """As `Pool.attempt`. An answer that was recorded as none (a refusal, nothing extracted) is an empty one."""
        said = self.said(ask)
        if said is None:
            error = Failure("not_recorded", f"{ask.worker} was not recorded on this prompt")
            return Outcome(error=error, finish="")
        # a worker whose answers were recorded, but none here, gave none, whatever it wrote
        text, working = said.answer, said.text or ""
        if text is None and ask.worker not in self._answering:
            text, working = said.text, ""
        item = self._table.item(self._item(ask) or "")
        if text is None and item is not None and item.dataset not in self._answered:
            text = unsaid(ask.worker)  # that is not the same as nothing
        usage = Usage(said.input or 0, said.output or 0, estimated=said.output is None)
        tally.usage = usage
        message = Message("assistant", text or "", reasoning=working)
        if emit is not None and text:
            tally.emitted = True
            await emit([Delta(text)])
        return Outcome(message, "stop", usage, model=f"recorded-{ask.worker}", billed=_pico(said))


def _pico(said: Said) -> int:
    return round((said.cost or 0.0) * PICO)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.strip().encode(), digest_size=16).hexdigest()


def _price(known: list[Said]) -> tuple[Price, bool]:
    """The input and output price that explain the recorded costs best (least squares, neither below zero)."""
    rows = [(s.input, s.output, s.cost) for s in known if s.cost is not None]
    if not rows:
        return Price(), False
    full = [(a, b, c) for a, b, c in rows if a is not None and b is not None and c is not None]
    if not full:
        paid = [s.cost for s in known if s.cost is not None]
        each = round(PICO * sum(paid) / len(paid) / _USUAL)
        return Price(each, each), True
    aa, ab, bb = (sum(x * y for x, y in pairs) for pairs in _products(full))
    ac, bc = sum(a * c for a, _, c in full), sum(b * c for _, b, c in full)
    det = aa * bb - ab * ab
    best = (
        ((bb * ac - ab * bc) / det, (aa * bc - ab * ac) / det)
        if det > 1e-9 * max(1.0, aa * bb)
        else (-1.0, -1.0)
    )
    if min(best) < 0:
        best = (
            (ac / aa if aa else 0.0, 0.0) if ac * ac * bb >= bc * bc * aa else (0.0, bc / bb if bb else 0.0)
        )
    return Price(round(best[0] * PICO), round(best[1] * PICO)), True


def _products(rows: list[tuple[int, int, float]]) -> tuple[list[tuple[int, int]], ...]:
    return (
        [(a, a) for a, _, _ in rows],
        [(a, b) for a, b, _ in rows],
        [(b, b) for _, b, _ in rows],
    )
