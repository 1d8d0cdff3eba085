"""Room: workers whose context a request certainly passes are skipped before anybody is called."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stretto.engine.room import least_tokens
from stretto.engine.run import Engine, Run
from stretto.errors import TooLong
from stretto.ledger.memory import MemoryStore
from stretto.policies.cascade import Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.route import Route
from stretto.policies.solo import Solo
from stretto.pool.scripted import Scripted, ScriptedPool
from stretto.steps import Ask, Count, Policy, Quote
from stretto.types import Card, Failure, Message, Part, Price, Request

LONG = Request(messages=(Message("user", "word " * 100),))
NUMBERS = "prompt is too long: 100 tokens > 50 maximum"


def pool(**said: Any) -> ScriptedPool:
    """`small` holds 50 tokens and is the cheapest, `large` a thousand; `other` says nothing of its context."""
    room = {"small": 50, "large": 1000, "other": None}
    cards = {id: Card(id, Price(price, 1), context=room[id]) for price, id in enumerate(room, 1)}
    return ScriptedPool({id: [said.get(id, id)] for id in room}, cards=cards)


def played(policy: Policy, request: Request = LONG, at: ScriptedPool | None = None) -> Run:
    """One run."""
    return asyncio.run(Engine(at or pool(), MemoryStore()).run(policy, request))


def rungs(*names: str) -> tuple[Rung, ...]:
    return tuple(Rung(name, Solo(name), name) for name in names)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (Route(default="small"), "large"),
        (Fallback(("small", "large")), "large"),
        (Cascade(rungs("small", "large"), verifier="other", check="verifier"), "large"),
        (Fuse(("small", "large"), judge="large"), "large"),
    ],
)
def test_a_policy_passes_over_who_has_no_room(policy: Policy, served: str) -> None:
    """The others play; `small` is never asked, and the receipt says why."""
    there = pool()
    run = played(policy, at=there)
    assert run.answer.worker == served
    assert "small" not in {ask.worker for ask in there.asks}
    assert run.answer.error is None


@pytest.mark.parametrize(
    "policy", [Solo("small"), Fallback(("small",)), Route(among=("small",)), Fuse(("small",))]
)
def test_a_policy_of_those_without_room_fails_with_the_numbers(policy: Policy) -> None:
    """Its own workers have no room, others would: nobody is called."""
    there = pool()
    run = played(policy, at=there)
    assert there.asks == []
    assert run.answer.error is not None
    assert run.answer.error.kind == "too_long"
    assert NUMBERS in run.answer.error.message


def test_a_replay_fails_in_the_same_way() -> None:
    """What the record says of the pool is what the plan sees again."""
    store = MemoryStore()

    async def twice() -> tuple[Run, Run]:
        engine = Engine(pool(), store)
        first = await engine.run(Fallback(("small",)), LONG)
        return first, await engine.replay(first.id, Fallback(("small",)))

    first, again = asyncio.run(twice())
    assert first.answer.error == again.answer.error


def test_nobody_has_room() -> None:
    """The request is refused before a run begins, with the numbers of who has most."""
    only = Request(messages=(Message("user", "word " * 2000),), exclude={"worker": ("other",)})
    with pytest.raises(TooLong, match="prompt is too long: 2000 tokens > 1000 maximum"):
        played(Route(), only)


def test_a_failure_for_length_is_not_tried_again_and_the_next_worker_is() -> None:
    """What is found out by asking is a failure like others: the next in line is asked, once each."""
    there = pool(other=Scripted(error=Failure("too_long", "prompt is too long: 9 tokens > 8 maximum")))
    run = played(Fallback(("other", "large")), at=there)
    assert [ask.worker for ask in there.asks] == ["other", "large"]
    assert run.answer.worker == "large"


def test_an_exact_count_decides_where_words_do_not() -> None:
    """A tokeniser that is up is asked if the estimate from above does not fit; an estimate alone turns nobody away."""

    class Counted(ScriptedPool):
        exact = True

        async def count(self, ask: Ask, *, warm: bool = False) -> Count:
            assert warm
            return Count(400, self.exact)

        def quote(self, ask: Ask) -> Quote:
            return replace(super().quote(ask), input_tokens=600)

    long_word = Request(messages=(Message("user", "x" * 300),))
    for exact, served in ((True, "large"), (False, "small")):
        cards = {"small": Card("small", context=350), "large": Card("large", context=1000)}
        there = Counted({"small": ["s"], "large": ["l"]}, cards=cards)
        there.exact = exact
        assert played(Route(default="small"), long_word, there).answer.worker == served


def test_words_are_counted_in_every_part() -> None:
    """Text parts count; images and tools add nothing to what is certain."""
    parts = (Part("text", "one two"), Part("image_url", data={"image_url": {"url": "data:,"}}))
    messages = (Message("system", "be brief"), Message("user", parts), Message("assistant", None))
    assert least_tokens(Request(messages=messages)) == 4
