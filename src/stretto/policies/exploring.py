"""Exploration: now and then somebody else than the best guess is asked, so that there is something to learn from later.

With chance `explore` another option is drawn, half by lot and half by a softmax over what each is thought to be worth; so no
option's chance is below `explore / (2 x others)`, and weights of logged choices stay bounded. The draw comes from the request's
seed and prompt, the chance of every option is recorded, and what the request's limits would refuse is never drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stretto.types import Card, Request, Usage

__all__ = ["Lot", "chances", "draw", "odds"]

_TEMPERATURE: Final = 0.1
"""A difference in worth of this much (of 1) makes an option e times likelier in the softmax half."""

_ROOM: Final = 4096
_ATTACHMENT: Final = 4096


@dataclass(frozen=True, slots=True)
class Lot:
    """What was drawn, with the chance that each option had."""

    picked: str
    chances: Mapping[str, float]
    explored: bool = False


def chances(best: str, worths: Mapping[str, float], explore: float) -> dict[str, float]:
    """The chance of every option of `worths`: 1 - explore for `best`, the rest among the others."""
    others = [name for name in worths if name != best]
    if not others or explore <= 0:
        return {name: float(name == best) for name in worths}
    top = max(worths[name] for name in others)
    weights = {name: math.exp((worths[name] - top) / _TEMPERATURE) for name in others}
    total = sum(weights.values())
    found = {name: explore * (0.5 * weights[name] / total + 0.5 / len(others)) for name in others}
    return {name: found.get(name, 1.0 - explore) for name in worths}


def odds(request: Request, best: str, worths: Mapping[str, float], explore: float) -> dict[str, float]:
    """The chances of `best` and of those others that the request can pay."""
    cards = {card.id: card for card in request.pool}
    within = {n: w for n, w in worths.items() if n == best or (n in cards and _affordable(cards[n], request))}
    return chances(best, within, explore)


def draw(request: Request, best: str, worths: Mapping[str, float], explore: float) -> Lot:
    """Draw one of the options of `worths` (`best` is one of them). Equal seeds and prompts draw the same.

    The prompt is part of the label: a caller who sends one seed with everything still explores on one prompt in so many.
    """
    found = odds(request, best, worths, explore)
    left = request.random("explore", request.prompt).random()
    for name, chance in found.items():
        left -= chance
        if left < 0:
            return Lot(name, found, name != best)
    return Lot(best, found)


def _affordable(card: Card, request: Request) -> bool:
    """Whether the request's money surely pays one call with a full-sized answer; exploring must not make a run fail.

    Tokens are bounded from above: one a byte of text, and a flat sum for each attachment.
    """
    if request.limits.usd is None:
        return True
    if not card.priced:
        return False
    size = sum(len(m.text.encode("utf-8", "replace")) + 16 for m in request.messages)
    size += sum(_ATTACHMENT for m in request.messages if isinstance(m.content, tuple) for _ in m.content)
    size += sum(len(repr(tool)) for tool in request.tools)
    most = request.max_tokens or min(card.max_output or _ROOM, _ROOM)
    return card.price.of(Usage(size, most)) <= request.limits.usd
