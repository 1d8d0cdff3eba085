"""What is believed of workers that nobody has measured: a prior, read off their prices, and said to be one.

Measured on three sets of recorded outcomes of real models (97 pairs of a worker and a set, Apache-2.0): within a set, ten times
the cost of an answer goes with 0.62 more log-odds of being right (.34, .72, .81), and workers of one price still differ by half a
unit (standard deviation). So a dearer worker is more likely right, by little, and often it is not: of two, the dearer one was
better in 57 of 100 pairs where it cost up to three times as much, in 72 where it cost three to thirty times as much.
`recipes/prior_from_price.py` counts it again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from stretto.policies.route import blend
from stretto.types import Card

__all__ = ["SLOPE", "priors"]

SLOPE: Final = 0.62
"""Log-odds for ten times the price."""

_LEVEL: Final = 0.5
_LEAST: Final = 1_000


def priors(cards: Sequence[Card]) -> Mapping[str, float]:
    """The chance of each worker to be right, before anything is known: from its price beside the pool's median price.

    A worker without a known price, and one that is free, counts as one of the median price: nothing is known of it.
    """
    paid = sorted(blend(card) for card in cards if card.priced and blend(card) > 0)
    if not paid:
        return {card.id: _chance(_LEVEL) for card in cards}
    middle = max(_LEAST, paid[len(paid) // 2])

    def odds(card: Card) -> float:
        price = blend(card)
        return _LEVEL + SLOPE * math.log10(price / middle) if card.priced and price > 0 else _LEVEL

    return {card.id: _chance(odds(card)) for card in cards}


def _chance(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-4.0, min(4.0, odds))))
