"""Room: into whose context a request cannot fit, as far as that is certain before anybody is asked.

An estimate that errs high is right for money and wrong here: it would turn away what fits. Two things are certain: a tokeniser
makes no less than one token of a word between spaces, and what a worker's own tokeniser counts is so.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from stretto.steps import Ask, Pool
from stretto.types import Card, Denied, Request

__all__ = ["NOBODY", "by_words", "crowded", "least_tokens", "suspects", "told"]

NOBODY: Final[Mapping[str, str]] = {}
"""Everybody has room, or may have."""
_MOST_A_CHARACTER: Final = 4


def least_tokens(request: Request) -> int:
    """No fewer tokens than this go in: the words of the messages."""
    return sum([len(text.split()) for text in _texts(request)])


async def crowded(pool: Pool, request: Request) -> Mapping[str, str]:
    """Workers whose context the request certainly passes, with the reason; usually known without counting anything.

    A tokeniser is asked only where it is up already, and where the estimate from above does not fit.
    """
    cards = suspects(pool.cards(), request)
    if not cards:
        return NOBODY
    found = dict(by_words(cards, request))
    doubtful: list[tuple[Card, Ask]] = []
    for card in cards:
        if card.id not in found:
            ask = Ask(card.id, speaks=True).bound(request, "")
            if pool.quote(ask).input_tokens >= (card.context or 0):
                doubtful.append((card, ask))
    counts = await asyncio.gather(*[pool.count(ask, warm=True) for _, ask in doubtful])
    for (card, _), count in zip(doubtful, counts, strict=True):
        if count.exact and card.context is not None and count.tokens >= card.context:
            found[card.id] = _reason(count.tokens, card.context)
    return found


def suspects(cards: Sequence[Card], request: Request) -> list[Card]:
    """Those that a request of this size might not fit into; in next to no time, since every request comes through here."""
    if request.want == "embedding":
        return []  # each text for itself, and many servers cut them off by design
    size = 0
    for text in _texts(request):
        size += len(text) if text.isascii() else _MOST_A_CHARACTER * len(text)
    if request.tools:
        size += sum([len(str(tool)) for tool in request.tools])
    size += 16 * len(request.messages) + 64
    return [card for card in cards if card.context is not None and card.context <= size]


def by_words(cards: Iterable[Card], request: Request) -> Mapping[str, str]:
    """Of these workers, those whose context does not even hold the words."""
    words = least_tokens(request)
    return {
        card.id: _reason(words, card.context) + ", at one token a word"
        for card in cards
        if card.context is not None and words >= card.context
    }


def told(denied: Iterable[Denied], cards: Sequence[Card]) -> str:
    """Why nobody has room: the reason of the one with the most; "" if nobody was denied for that."""
    sizes = {card.id: card.context or 0 for card in cards}
    short = [each for each in denied if each.too_long]
    return max(short, key=lambda each: sizes.get(each.worker, 0)).reason if short else ""


def _reason(tokens: int, context: int) -> str:
    return f"prompt is too long: {tokens} tokens > {context} maximum"


def _texts(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.content]
