"""What asking and verdicts are worth where replies cannot be compared, held against going through all cases one by one."""

import itertools
import math
from functools import cache
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from stretto.policies.evidence.pools import NEVER  # noqa: E402
from stretto.policies.evidence.prospects import (  # noqa: E402
    ACCEPTED,
    HEARD,
    OPEN,
    REJECTED,
    Prospects,
    hardness,
)

ODDS = (-0.3, 0.4, 1.2)
COSTS = (0.01, 0.03, 0.12)
YES, NO = 0.9, 0.8


def prospects(
    known: tuple[int, ...] = (OPEN,) * 3,
    *,
    odds: tuple[float, ...] = ODDS,
    costs: tuple[float, ...] = COSTS,
    verdict: float = 0.02,
    rates: tuple[float, float] = (YES, NO),
    spread: float = 1.3,
    lift: tuple[float, ...] = (1.0,) * 3,
    able: tuple[bool, ...] = (True,) * 3,
    shown: tuple[bool, ...] = (True,) * 3,
) -> Prospects:
    rows = [np.array([row]) for row in (odds, known, lift, able, shown)]
    return Prospects.of(*rows, costs, verdict, np.array([rates]), spread)


def by_cases(verdict: float, spread: float, lift: tuple[float, ...]) -> Any:
    """The same by going through every hardness and every set of right replies."""
    nodes, weights = hardness()
    flat = math.sqrt(1 + 0.346 * spread**2)

    @cache
    def chances(known: tuple[int, ...]) -> tuple[float, ...]:
        total, each = 0.0, [0.0] * 3
        for z, w in zip(nodes, weights, strict=True):
            right = [1 / (1 + math.exp(-(o * flat + spread * z))) for o in ODDS]
            for truth in itertools.product((False, True), repeat=3):
                p = float(w)
                for k, (now, good) in enumerate(zip(known, truth, strict=True)):
                    p *= right[k] if good else 1 - right[k]
                    p *= lift[k] if good and now != OPEN else 1.0
                    if now in (ACCEPTED, REJECTED):
                        yes = YES if good else 1 - NO
                        p *= yes if now == ACCEPTED else 1 - yes
                total += p
                for k, good in enumerate(truth):
                    each[k] += p * good
        return tuple(e / total for e in each)

    @cache
    def value(known: tuple[int, ...]) -> float:
        sure = chances(known)
        found = [max((s for s, now in zip(sure, known, strict=True) if now != OPEN), default=0.0)]
        for k, now in enumerate(known):
            then = [(*known[:k], n, *known[k + 1 :]) for n in (HEARD, ACCEPTED, REJECTED)]
            if now == OPEN:
                found.append(value(then[0]) - COSTS[k])
            elif now == HEARD:
                yes = sure[k] * YES + (1 - sure[k]) * (1 - NO)
                found.append(yes * value(then[1]) + (1 - yes) * value(then[2]) - verdict)
        return max(found)

    return chances, value


@pytest.mark.parametrize("spread", [0.0, 1.3])
@pytest.mark.parametrize("known", [(0, 0, 0), (1, 0, 0), (3, 1, 0), (2, 1, 1), (3, 3, 1), (1, 3, 2)])
def test_values_and_chances_are_those_of_all_cases(known: tuple[int, ...], spread: float) -> None:
    """From any state: how likely each reply is right, and what the best way to go on brings."""
    lift = (1.5, 1.0, 1.0)  # only of who has replied: of others nothing is known yet
    lift = tuple(v if now else 1.0 for v, now in zip(lift, known, strict=True))  # type: ignore[assignment]
    chances, value = by_cases(0.02, spread, lift)
    found = prospects(known, spread=spread, lift=lift)
    assert found.sure[0] == pytest.approx(chances(known), abs=1e-9)
    worths = found.worths()[0]
    best = max(worths) if any(known) else max(worths[1:])
    assert best == pytest.approx(value(known), abs=1e-9)


def test_what_cannot_be_done_is_worth_nothing() -> None:
    """Nobody is asked twice or shown before he has replied, and who may not be asked or shown never is."""
    worths = prospects((HEARD, OPEN, REJECTED), able=(True, False, True), shown=(False, True, True)).worths()[
        0
    ]
    assert worths[0] > 0
    assert all(worths[1:] == NEVER)
    fresh = prospects().worths()[0]
    assert all(fresh[1:4] > 0)
    assert all(fresh[4:] == NEVER)


def test_a_coins_verdict_is_never_worth_its_price() -> None:
    """It changes nothing that could be done, so it is worth what stopping or asking is, less its price."""
    for known in ((1, 0, 0), (1, 1, 0), (1, 1, 1)):
        worths = prospects(known, rates=(0.6, 0.4)).worths()[0]
        assert max(worths[4:]) == pytest.approx(max(worths[:4]) - 0.02, abs=1e-9)


def test_a_dear_verdict_is_not_bought() -> None:
    """A good verifier that costs more than all there is to win is worth less than doing without."""
    worths = prospects((1, 1, 1), verdict=0.6).worths()[0]
    assert max(worths[4:]) < max(worths[:4])
    cheap = prospects((1, 1, 1), verdict=0.001).worths()[0]
    assert max(cheap[4:]) > max(cheap[:4])


def test_a_verifier_makes_it_worth_while_to_begin_with_a_cheaper_worker() -> None:
    """Without verdicts a cheap reply would be thrown away; with them it may stand."""
    without = prospects(shown=(False,) * 3, spread=0.5).worths()[0]
    with_ = prospects(verdict=0.002, spread=0.5).worths()[0]
    assert int(without[1:4].argmax()) == 2
    assert int(with_[1:4].argmax()) < 2


def test_a_rejected_reply_makes_the_next_one_doubtful() -> None:
    """Prompts are hard for all: the more they are, the more a no to one says of the others."""
    alone = prospects((REJECTED, OPEN, OPEN), spread=0.0).sure[0, 2]
    together = prospects((REJECTED, OPEN, OPEN), spread=2.0).sure[0, 2]
    assert alone == pytest.approx(1 / (1 + math.exp(-ODDS[2])))
    assert together < alone - 0.05


def test_rows_do_not_touch_each_other() -> None:
    """Many items at once are as each by itself."""
    rows = [(OPEN, HEARD, ACCEPTED), (HEARD, HEARD, OPEN)]
    single = [prospects(known).worths()[0] for known in rows]
    count = len(rows)
    wide = Prospects.of(
        np.array([ODDS] * count),
        np.array(rows),
        np.ones((count, 3)),
        np.ones((count, 3), dtype=bool),
        np.ones((count, 3), dtype=bool),
        COSTS,
        0.02,
        np.array([(YES, NO)] * count),
        1.3,
    )
    assert wide.worths() == pytest.approx(np.array(single))
