"""Who plays where nobody was named: the usual workers of a pool, from cheap to dear."""

from collections.abc import Iterable, Sequence
from typing import Final

from stretto.artifacts import Artifact
from stretto.policies.judging import COMPACT, STANDARD, Wordings
from stretto.policies.route import Table
from stretto.types import Card

__all__ = [
    "PANEL",
    "RUNGS",
    "WORDINGS",
    "beside",
    "blend",
    "ladder",
    "panel",
    "reputed",
    "sure",
    "talkers",
    "usual",
    "wordings",
]

RUNGS: Final = 3
PANEL: Final = 4
_SAMPLES: Final = 3
_SHORT: Final = 2048
_EXTREME: Final = 10

WORDINGS: Final = {"standard": STANDARD, "compact": COMPACT}


def blend(card: Card) -> tuple[bool, float, str]:
    """Orders workers from cheap to dear; those without a known price come last."""
    return not card.priced, 0.75 * card.price.input + 0.25 * card.price.output, card.id


def ladder(cards: Sequence[Card]) -> tuple[str, ...]:
    """The cheapest usual worker, the dearest, and one midway."""
    ids = [card.id for card in usual(cards, RUNGS)]
    if len(ids) <= RUNGS:
        return tuple(ids)
    return ids[0], ids[len(ids) // 2], ids[-1]


def panel(cards: Sequence[Card], table: Artifact | None) -> tuple[str, ...]:
    """A few usual workers, the dearest first (a tied vote goes to who stands first); the only one several times.

    The few are the dearest; where a table has been learned, those who together know most: one after the other who adds most
    to what those before are right about at best.
    """
    ids = [card.id for card in usual(cards, PANEL)]
    if len(ids) == 1:
        return tuple(ids * _SAMPLES)
    if table is None or len(ids) <= PANEL:
        return tuple(ids[: -PANEL - 1 : -1])
    known = Table(table)
    right = [known.estimates(task) for task in table.data["tasks"]]
    chosen = list[str]()
    while len(chosen) < PANEL:
        free = [each for each in ids if each not in chosen]
        worth = {new: sum(max(of.get(w, 0.0) for w in (*chosen, new)) for of in right) for new in free}
        chosen.append(max(free, key=worth.__getitem__))
    return tuple(each for each in reversed(ids) if each in chosen)


def usual(cards: Sequence[Card], enough: int) -> list[Card]:
    """The workers that built-in policies play, from cheap to dear.

    Where there are more than `enough`, those without a known price are left out, and those that cost more than `_EXTREME` times
    the median of the paid ones: nobody should meet their bill without having named them.
    """
    usual = sorted(talkers(cards), key=blend)
    if len(usual) > enough:
        usual = [card for card in usual if card.priced] or usual
    paid = [price for _, price, _ in map(blend, usual) if price > 0]
    if len(usual) > enough and paid:
        usual = [card for card in usual if blend(card)[1] <= _EXTREME * paid[len(paid) // 2]]
    return usual


def reputed(cards: Sequence[Card], enough: int) -> list[Card]:
    """The usual workers, and those of any price that were measured elsewhere, from cheap to dear: their worth is known."""
    there = {card.id for card in usual(cards, enough)}
    there |= {c.id for c in talkers(cards) if c.priced and c.repute is not None and c.repute.measured}
    return sorted((card for card in cards if card.id in there), key=blend)


def talkers(cards: Sequence[Card]) -> list[Card]:
    """The workers that answer: whoever writes text, but for models with another job (label `role`)."""
    return [c for c in cards if "text" in c.abilities and c.labels.get("role", "solver") == "solver"]


def sure(cards: Sequence[Card], names: Iterable[str]) -> bool:
    """Whether all these workers tell how sure they are."""
    return all("logprobs" in card.abilities for card in cards if card.id in names)


def beside(cards: Sequence[Card], role: str) -> str:
    """The worker that was made for `role` (its label), such as "checker", or ""."""
    return next((card.id for card in cards if card.labels.get("role") == role), "")


def wordings(cards: Sequence[Card], named: str | None, reader: str | None) -> Wordings:
    """The texts for those who read answers: as named, else compact ones where the reader's context is short."""
    if named is not None:
        return WORDINGS[named]
    card = next((card for card in cards if card.id == reader), None)
    short = card is not None and card.context is not None and card.context <= _SHORT
    return WORDINGS["compact" if short else "standard"]
