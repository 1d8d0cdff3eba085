"""Exploration: rare, within the caller's limits, from the seed, and with the true chance of every option on record."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.policies.exploring import chances, draw, odds
from stretto.policies.route import Route, Rule, Uniform, When
from stretto.policies.solo import Solo
from stretto.steps import Ask, Choice, Note, Quote
from stretto.testing import by_hand, question
from stretto.types import Card, Limits, Message, Price, Request

WORTHS = {"best": 0.9, "near": 0.85, "far": 0.1}


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-2, 2), min_size=1),
    st.floats(0, 0.5),
    st.data(),
)
def test_chances_are_chances(worths: dict[str, float], explore: float, data: Any) -> None:
    """They sum to one; the best keeps 1 - explore; nobody else is below explore / (2 x others), and worth more is never rarer."""
    best = data.draw(st.sampled_from(sorted(worths)))
    found = chances(best, worths, explore)
    assert sum(found.values()) == pytest.approx(1)
    others = [name for name in worths if name != best]
    if not others:
        assert found == {best: 1.0}
        return
    assert found[best] == pytest.approx(1 - explore)
    assert all(found[name] >= explore / (2 * len(others)) - 1e-12 for name in others)
    for one in others:
        assert all(found[one] >= found[two] - 1e-12 for two in others if worths[one] >= worths[two])


def test_the_recorded_chance_is_how_often_it_is_drawn() -> None:
    """Over 20,000 seeds each option comes as often as its chance says, within four standard errors."""
    n = 20_000
    lots = [draw(question("hi", *WORTHS, seed=seed), "best", WORTHS, 0.2) for seed in range(n)]
    came = Counter(lot.picked for lot in lots)
    for name, chance in lots[0].chances.items():
        assert came[name] / n == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5)
    assert all(lot.explored == (lot.picked != "best") for lot in lots)


def test_one_seed_for_everything_still_explores() -> None:
    """A caller who always sends the same seed explores on one prompt in so many; the same prompt always draws the same."""
    lots = [draw(question(f"prompt {k}", *WORTHS, seed=0), "best", WORTHS, 0.2) for k in range(4000)]
    share = sum(lot.explored for lot in lots) / len(lots)
    assert share == pytest.approx(0.2, abs=0.03)
    assert draw(question("prompt 7", *WORTHS, seed=0), "best", WORTHS, 0.2) == lots[7]


def test_what_the_limits_would_refuse_is_never_drawn() -> None:
    """Under a money ceiling workers without a price, or too dear for one full answer, have no chance; the best always has one."""
    cards = (
        Card("best", Price.per_million(10, 50)),
        Card("cheap", Price.per_million(0.1, 0.4)),
        Card("dear", Price.per_million(10, 50)),
        Card("unknown", priced=False),
    )
    worths = dict.fromkeys((card.id for card in cards), 0.5)
    open_ = Request(messages=(Message("user", "hi"),), pool=cards)
    bound = Request(messages=(Message("user", "hi"),), pool=cards, limits=Limits(usd=10**10))
    assert set(odds(open_, "best", worths, 0.1)) == set(worths)
    assert set(odds(bound, "best", worths, 0.1)) == {"best", "cheap"}
    capped = Request(messages=(Message("user", "hi"),), pool=cards, limits=Limits(usd=10**10), max_tokens=100)
    assert "dear" in odds(capped, "best", worths, 0.1)
    gone = Request(messages=(Message("user", "hi"),), pool=cards[:1])
    assert odds(gone, "best", worths, 0.1) == {"best": 1.0}


def first(policy: Any, request: Request) -> tuple[Choice, Ask]:
    """The first choice of a plan, and the ask that it ends with."""
    steps, last = by_hand(policy.plan(request), lambda s: pytest.fail("no step expected"))
    assert isinstance(last, Ask)
    return next(s.choice for s in steps if isinstance(s, Note)), last


def chosen(seeds: Sequence[int], **settings: Any) -> list[tuple[Choice, Ask]]:
    """What a route without a table does, by seed. `a` is the cheapest."""
    prices = {"a": Price.per_million(1, 1), "b": Price.per_million(2, 2), "c": Price.per_million(3, 3)}
    return [first(Route(**settings), question("hi", "a", "b", "c", prices=prices, seed=s)) for s in seeds]


def test_route_explores_with_its_chance_and_says_so() -> None:
    """Three in ten requests go to another worker; the record holds every option's chance, the drawn one's as the choice's own."""
    found = chosen(range(600), explore=0.3)
    other = [choice for choice, _ in found if choice.picked != "a"]
    assert len(other) / 600 == pytest.approx(0.3, abs=0.06)
    assert {choice.picked for choice in other} == {"b", "c"}
    assert {choice.reason for choice in other} == {"exploring"}
    for choice, ask in found:
        numbers = {option.name: option.estimates["probability"] for option in choice.options}
        assert numbers == {"a": pytest.approx(0.7), "b": pytest.approx(0.15), "c": pytest.approx(0.15)}
        assert choice.probability == numbers[choice.picked]
        assert ask.worker == choice.picked
        assert [o.name for o in choice.options if not o.rejected] == [choice.picked]


def test_route_never_explores_by_default_or_against_a_rule() -> None:
    """Without the setting nothing changes; where the owner's rule holds, the rule is followed whatever the setting."""
    assert {choice.picked for choice, _ in chosen(range(50))} == {"a"}
    rule = Rule(When(contains=("hi",)), "b", Solo("b"))
    found = chosen(range(50), rules=(rule,), explore=0.5)
    assert {(choice.picked, choice.probability) for choice, _ in found} == {("b", 1.0)}


def test_route_stays_within_its_workers() -> None:
    """`among` holds for exploring too."""
    assert {choice.picked for choice, _ in chosen(range(200), among=("a", "b"), explore=0.5)} == {"a", "b"}


@pytest.mark.parametrize("policy", [Route(explore=0.2), Uniform()])
def test_the_outlook_holds_whoever_is_drawn(policy: Any) -> None:
    """The least and the most cover every worker that may be drawn; what is expected is their mean, weighed by chance."""
    prices = {"a": Price.per_million(1, 1), "b": Price.per_million(5, 5)}

    def quotes(ask: Ask) -> Quote:
        cost = prices[ask.worker].input
        return Quote(cost, 10 * cost, 1, 10)

    found = policy.outlook(question("hi", "a", "b", prices=prices), quotes)
    share = 0.2 if isinstance(policy, Route) else 0.5
    assert found.usd.expected == pytest.approx((1 - share) * 10**6 + share * 5 * 10**6)
    assert found.usd.most == 3 * 10 * 5 * 10**6
    assert (found.calls.least, found.calls.most) == (1, 3)
