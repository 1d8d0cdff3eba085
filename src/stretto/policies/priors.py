"""What is believed of workers that nobody has measured here: read off their models' repute, else off their prices.

Of prices alone, on three sets of recorded outcomes of real models (97 pairs of a worker and a set, Apache-2.0): within a set, ten
times the cost of an answer goes with 0.62 more log-odds of being right (.34, .72, .81), and workers of one price still differ by
half a unit (standard deviation). Of two, the dearer one was better in 57 of 100 pairs where it cost up to three times as much, in
72 where it cost three to thirty times as much (`recipes/prior_from_price.py`). A model's repute (`Card.repute`) says more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from stretto.policies.route import blend
from stretto.types import Card

__all__ = ["PRICES", "SLOPE", "Second", "believed", "passed_over", "price_of", "priors", "second", "worths"]

SLOPE: Final = 0.62
"""Log-odds for ten times the price."""

PRICES: Final = (
    *(0.0005, 0.003, 0.006, 0.01, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1),
    *(0.115, 0.13, 0.15, 0.18, 0.21, 0.25, 0.32, 0.4, 0.6, 1.0),
)
"""How much being right a call of the best worker is worth, from dial 1 to dial 0: those that evidence is learned with."""

_LEVEL: Final = 0.5
_LEAST: Final = 1_000
_UNKNOWN: Final = 0.7
"""The error, in log-odds, where only a price is known."""

_SPREAD: Final = 2.5
"""How much items of a set differ, in log-odds: workers are right and wrong together (2.0 to 3.25 on four recorded sets)."""

_ALIKE: Final = 0.2
"""How often two that are wrong say the same (.09 to .34 on three sets)."""

_AMONG: Final = 5
"""So many others are considered for a second opinion: those that are worth most alone."""

_NODES: Final = (
    (-3.190993201781528, 0.0000396),
    (-2.266580584531843, 0.0049436),
    (-1.468553289216668, 0.0884745),
    (-0.723551018752838, 0.4326516),
    (0.0, 0.7202352),
    (0.723551018752838, 0.4326516),
    (1.468553289216668, 0.0884745),
    (2.266580584531843, 0.0049436),
    (3.190993201781528, 0.0000396),
)
"""Where a normal distribution is looked at (Gauss and Hermite, nine places), with weights."""


def believed(cards: Sequence[Card]) -> bool:
    """Whether of any of these more is known than its price."""
    return any(card.repute is not None for card in cards)


def priors(cards: Sequence[Card]) -> Mapping[str, float]:
    """The chance of each worker to be right, before anything is known: by its repute, else from its price beside the others'.

    A worker without a known price, and one that is free, counts as one of the median price: nothing is known of it. Beside
    workers of repute it counts as they do on average, at its price.
    """
    paid = sorted(blend(card) for card in cards if card.priced and blend(card) > 0)
    middle = max(_LEAST, paid[len(paid) // 2]) if paid else _LEAST

    def by_price(card: Card) -> float:
        price = blend(card)
        return SLOPE * math.log10(price / middle) if card.priced and price > 0 else 0.0

    level = [card.repute.odds - by_price(card) for card in cards if card.repute is not None]
    usual = sum(level) / len(level) if level else _LEVEL
    return {c.id: _chance(usual + by_price(c) if c.repute is None else c.repute.odds) for c in cards}


def price_of(dial: float) -> float:
    """The price that a dial stands for, as in `sequential`: how much being right a call of the best worker has to add."""
    last = len(PRICES) - 1
    return PRICES[min(last, max(0, round((1 - dial) * last)))]


def worths(cards: Sequence[Card], guess: Mapping[str, float], dial: float) -> Mapping[str, float]:
    """What asking each worker alone is worth: its chance, less its price in calls of the likeliest one at the dial's price."""
    unit, price = _unit(cards, guess), price_of(dial)
    return {id: guess[id] - price * paid / unit for id, paid in _paid(cards).items()}


def passed_over(cards: Sequence[Card], guess: Mapping[str, float]) -> Mapping[str, str]:
    """Who costs more than another (`cards` from cheap to dear) and is believed to be right less often, and why it is out."""
    found, best = dict[str, str](), -1
    for k, card in enumerate(cards):
        if best >= 0 and guess[card.id] <= guess[cards[best].id]:
            found[card.id] = f"dearer than {cards[best].id} and believed less often right"
        else:
            best = k
    return found


@dataclass(frozen=True, slots=True)
class Second:
    """A second opinion of `worker`, and who decides where it differs. `worth`: the chance that it adds, less its price."""

    worker: str
    decides: str
    worth: float


def second(cards: Sequence[Card], guess: Mapping[str, float], first: str, dial: float) -> Second | None:
    """Whose second opinion on a short answer of `first` is worth most; `None` where none is worth its price.

    Where the two differ a third is asked: who agrees with one of them settles it, else the likeliest of the three.
    """
    unit, price = _unit(cards, guess), price_of(dial)
    cost = {id: price * paid / unit for id, paid in _paid(cards).items()}
    alone = worths(cards, guess, dial)
    others = sorted((card.id for card in cards if card.id != first), key=lambda id: -alone[id])[:_AMONG]
    given = {id: _at_nodes(guess[id]) for id in (first, *others)}
    best: Second | None = None
    for other, third in permutations(others, 2):
        gain, differ = _gain(given, guess, (first, other, third))
        worth = gain - cost[other] - differ * cost[third]
        if worth > (best.worth if best else 0.0):
            best = Second(other, third, worth)
    return best


def _gain(
    given: Mapping[str, Sequence[float]], guess: Mapping[str, float], three: tuple[str, str, str]
) -> tuple[float, float]:
    """How much oftener the answer is right than the first one's alone, and how often the first two differ."""
    speaks = three.index(max(three, key=lambda worker: guess[worker]))
    gain = differ = 0.0
    for (_, weight), a, b, c in zip(_NODES, *(given[worker] for worker in three), strict=True):
        two = a * b + c * (a + b - 2 * a * b)
        alone = (a * (1 - b) * (1 - c), (1 - a) * b * (1 - c), (1 - a) * (1 - b) * c)[speaks]
        # the two who are wrong may agree, and settle it
        gain += weight / _WEIGHT * (two + (1 - _ALIKE) * alone - a)
        differ += weight / _WEIGHT * (1 - a * b - _ALIKE * (1 - a) * (1 - b))
    return gain, differ


_WEIGHT: Final = sum(weight for _, weight in _NODES)


def _at_nodes(chance: float) -> Sequence[float]:
    """A worker's chances at items from hard to easy, which come to `chance` on the whole."""
    odds = _odds(chance) * math.sqrt(1 + 0.346 * _SPREAD * _SPREAD)
    return [1 / (1 + math.exp(-(odds + math.sqrt(2) * _SPREAD * place))) for place, _ in _NODES]


def _unit(cards: Sequence[Card], guess: Mapping[str, float]) -> float:
    """What a call of the best worker takes: the mean price of those that may well be the best, being within an error of it."""
    paid, best = _paid(cards), max(_odds(guess[card.id]) for card in cards)
    error = {card.id: _UNKNOWN if card.repute is None else card.repute.error for card in cards}
    near = [paid[id] for id in paid if _odds(guess[id]) + error[id] >= best]
    return max(1.0, sum(near) / len(near))


def _paid(cards: Sequence[Card]) -> Mapping[str, float]:
    """What each worker takes; one without a known price counts as the dearest."""
    dearest = max(blend(card) for card in cards)
    return {card.id: blend(card) if card.priced else dearest for card in cards}


def _odds(chance: float) -> float:
    return math.log(chance / (1 - chance))


def _chance(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-4.0, min(4.0, odds))))
