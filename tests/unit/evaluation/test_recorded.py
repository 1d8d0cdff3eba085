"""The recorded pool: what was recorded, through the one engine, at the recorded cost."""

import asyncio

import pytest

from stretto.engine.run import Engine, Run
from stretto.evaluation.recorded import RecordedPool, question
from stretto.evaluation.tables import Item, Said, Table
from stretto.evaluation.tasks import recorded_items
from stretto.policies.solo import Solo
from stretto.steps import Ask, Policy
from stretto.testing import MemoryStore
from stretto.types import PICO, Limits, Message, Request
from tests.recorded_tables import made

ONE = Table(
    "one",
    [Item("a", "What is 2+2?"), Item("b", "What is 2+2?"), Item("c", "And 3?")],
    {
        "w": {
            "a": (Said(1.0, 0.001234567, 10, 3, 0.5, "4"),),
            "b": (Said(0.0, 0.002, 10, 4, 0.5, None),),
            "c": tuple(Said(float(k), 0.001, 5, 5, None, f"s{k}") for k in range(2)),
        },
        "free": {"a": (Said(1.0, None, None, None, None, "four"),)},
    },
)


def run(policy: Policy, request: Request, table: Table = ONE, store: MemoryStore | None = None) -> Run:
    engine = Engine(RecordedPool(table), store or MemoryStore())
    return asyncio.run(engine.run(policy, request, purpose="evaluation"))


def test_a_worker_says_what_was_recorded_and_costs_what_it_cost() -> None:
    """Answer, tokens and money are the record's; the money is exact although no price per token gives it."""
    ran = run(Solo("w"), question(ONE.items[0]))
    assert ran.answer.text == "4"
    assert (ran.usage.input, ran.usage.output) == (10, 3)
    assert ran.cost == round(0.001234567 * PICO)


def test_a_text_beside_the_answer_is_the_reasoning() -> None:
    """The answer is what is said, its text what may be read of the worker's thoughts; an answer that was none stays none."""
    items = [Item("a", "What is 2+2?"), Item("b", "And 3?"), Item("c", "And 5?")]
    said = {
        "told": {
            "a": (Said(1.0, 0.1, answer="4", text="2 and 2: 4"),),
            "b": (Said(0.0, 0.1, text="I cannot"),),
        },
        "plain": {"c": (Said(1.0, 0.1, text="five"),)},
    }
    table = Table("texts", items, said)
    found = [
        run(Solo(w), question(items[k]), table).answer.message
        for w, k in (("told", 0), ("told", 1), ("plain", 2))
    ]
    assert [(m.text, m.reasoning) for m in found] == [("4", "2 and 2: 4"), ("", "I cannot"), ("five", "")]


def test_where_nobodys_answers_were_recorded_a_reply_says_so() -> None:
    """A dataset that holds scores only: a reply is not empty, is nobody else's, and is the same whether it was right or wrong.

    In a dataset where somebody's answer is known, none recorded is none given.
    """
    items = [
        Item("a", "What is 2+2?", "scores"),
        Item("b", "And 3?", "scores"),
        Item("c", "And 5?", "answers"),
    ]
    said = {
        "one": {
            "a": (Said(1.0, 0.1),),
            "b": (Said(0.0, 0.1),),
            "c": (Said(1.0, 0.1, answer="5"),),
        },
        "two": {"a": (Said(0.0, 0.1),), "b": (Said(1.0, 0.1),), "c": (Said(0.0, 0.1),)},
    }
    table = Table("parts", items, said)
    found = {(w, i.id): run(Solo(w), question(i), table).answer.message.text for w in said for i in items}
    assert found["one", "a"] == found["one", "b"] == "(one answered; what, is not recorded)"
    assert found["two", "a"] == "(two answered; what, is not recorded)"
    assert (found["one", "c"], found["two", "c"]) == ("5", "")
    for item, grade in zip(items, recorded_items(table), strict=True):
        for worker in said:
            answer = run(Solo(worker), question(item), table).answer
            assert asyncio.run(grade.check(answer, "")).score == said[worker][item.id][0].score


def test_equal_prompts_are_told_apart_by_the_item() -> None:
    """The request of an item finds that item; bare text finds the first item with that prompt."""
    assert run(Solo("w"), question(ONE.items[1])).answer.text == ""
    bare = Request(messages=(Message("user", " What is 2+2?\n"),))
    assert run(Solo("w"), bare).answer.text == "4"


def test_what_was_not_recorded_is_a_failure() -> None:
    """An unknown prompt, or a worker that was not asked, fails and costs nothing."""
    for policy, request in (
        (Solo("w"), Request(messages=(Message("user", "Who?"),))),
        (Solo("free"), question(ONE.items[2])),
    ):
        ran = run(policy, request)
        assert ran.answer.error is not None
        assert ran.answer.error.kind == "not_recorded"
        assert ran.cost == 0


def test_a_seed_draws_one_of_the_samples() -> None:
    """Resamples differ by their seed; without one the first sample answers."""
    pool = RecordedPool(ONE)
    ask = Ask("w", question(ONE.items[2]).messages)
    drawn = {
        s.answer for k in range(8) if (s := pool.said(Ask("w", ask.messages, params={"seed": k}))) is not None
    }
    assert drawn == {"s0", "s1"}
    assert run(Solo("w"), question(ONE.items[2])).answer.text == "s0"


def test_ceilings_hold_against_recorded_costs() -> None:
    """A run that may not spend what the call cost is refused before it."""
    request = question(ONE.items[0])
    poor = Request(messages=request.messages, limits=Limits(usd=round(0.001 * PICO)))
    refused = run(Solo("w"), poor).answer
    assert refused.error is not None
    assert refused.error.kind == "limit"


def test_every_call_is_in_the_ledger_as_an_evaluation() -> None:
    """Recorded runs are runs: the store lists them with their purpose and their cost."""
    store = MemoryStore()
    ran = run(Solo("w"), question(ONE.items[0]), store=store)
    listed = store.runs(purpose="evaluation")
    assert [s.run for s in listed] == [ran.id]


def test_prices_explain_recorded_costs() -> None:
    """A worker's card carries the price per token that fits its costs; one never priced says so."""
    rows = {str(k): (Said(1.0, k * 2e-6 + 7 * 8e-6, k, 7),) for k in range(1, 30)}
    table = Table("p", [Item(k, f"p{k}") for k in rows], {"w": rows, "free": {"1": (Said(1.0),)}})
    card, free = RecordedPool(table).cards()
    assert card.price.input == pytest.approx(2e-6 * PICO, rel=1e-3)
    assert card.price.output == pytest.approx(8e-6 * PICO, rel=1e-3)
    assert (card.priced, free.priced) == (True, False)


def test_the_score_cannot_be_seen_by_a_policy() -> None:
    """Neither the card nor the outcome holds a score: two records that differ in it alone look the same."""
    table = made(4)
    flipped = Table(
        "f",
        table.items,
        {
            w: {
                i.id: (Said(1 - s.score, s.cost, s.input, s.output, s.seconds, s.answer),)
                for i in table.items
                if (s := table.said(i.id, w)) is not None
            }
            for w in table.workers
        },
    )
    assert RecordedPool(table).cards() == RecordedPool(flipped).cards()
    one, two = (run(Solo("dear"), question(t.items[0]), t) for t in (table, flipped))
    assert (one.answer.text, one.cost, one.usage) == (two.answer.text, two.cost, two.usage)
