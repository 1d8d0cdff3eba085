"""Who is known to be right answers alone; everything else is left to the policy that would plan, and both are on record."""

from typing import Any

import pytest

from stretto.artifacts import Artifact
from stretto.engine.run import Engine
from stretto.policies.fallback import Fallback
from stretto.policies.masked import Masked
from stretto.policies.outright import Outright
from stretto.policies.route import Table
from stretto.policies.solo import Solo
from stretto.steps import Ask, Choice, Note, Outlook, Quote, layers, version
from stretto.testing import MemoryStore, ScriptedPool, by_hand
from stretto.types import Card, Message, Part, Price, Request

TEXT = frozenset({"text"})
POOL = (
    Card("small", Price(1, 1), abilities=TEXT),
    Card("big", Price(9, 9), abilities=TEXT),
    Card("boss", Price(90, 90), abilities=TEXT),
    Card("coordinator", Price(1, 1), {"role": "coordinator"}, TEXT),
)
TABLE = Table(
    Artifact(
        "stretto.route-table/1",
        data={
            "tasks": {
                "sums": {
                    "prior": 0.5,
                    "workers": {"small": [94, 98], "big": [96, 98], "coordinator": [98, 98]},
                },
                "chains": {"prior": 0.5, "workers": {"small": [4, 98], "big": [29, 98]}},
            },
            "words": {
                "add": {"sums": -1.0, "chains": -3.0},
                "then": {"sums": -5.0, "chains": -1.0},
                "minus": {"chains": -5.0},
            },
            "unseen": {"sums": -6.0, "chains": -6.0},
        },
    )
)
PLANS = Solo("boss", reason="plans")


def outright(**changed: Any) -> Outright:
    """A policy over one that only `boss` answers."""
    return Outright(**{"table": TABLE, "policy": PLANS, "name": "team", "least": 0.9, **changed})


def asked(prompt: str, pool: tuple[Card, ...] = POOL, **fields: Any) -> Request:
    """A request to this pool."""
    return Request(messages=(Message("user", prompt),), pool=pool, **fields)


def played(policy: Any, request: Request) -> tuple[list[Choice], Ask]:
    """What was chosen, and the tail ask."""
    steps, last = by_hand(policy.plan(request), lambda step: None)
    assert isinstance(last, Ask)
    return [step.choice for step in steps if isinstance(step, Note)], last


def quotes(ask: Ask) -> Quote:
    """Prices by worker."""
    price = next(card.price for card in POOL if card.id == ask.worker)
    return Quote(price.input, 2 * price.input, 1, 1)


def test_who_is_known_to_be_right_answers_alone_and_streams() -> None:
    """A tail ask that speaks, after one choice with everybody's record; a model with another job is nobody to ask."""
    (choice,), last = played(outright(), asked("add"))

    assert (last.worker, last.speaks) == ("big", True)
    assert choice.picked == "big"
    assert choice.by == TABLE.name
    assert "looks like sums" in choice.reason
    assert "big alone is right 97% of the time at sums" in choice.reason
    assert [o.name for o in choice.options] == ["team", "big", "small"]
    assert choice.options[0].rejected == "big alone is right 97% of the time at sums"
    assert choice.options[1].estimates == {"success": 0.97}
    assert choice.options[2].rejected


def test_if_that_worker_brings_nothing_the_next_best_is_asked() -> None:
    """The tail ask gives way to another one, so that it may stream all the same."""
    _, last = played(outright(), asked("add"))
    assert isinstance(last.otherwise, Ask)
    assert (last.otherwise.worker, last.otherwise.speaks) == ("small", True)
    _, last = played(outright(), asked("add", POOL[:1]))
    assert last.otherwise is None


@pytest.mark.parametrize(
    ("prompt", "fields", "why"),
    [
        ("then add", {}, "nobody is right 90% of the time"),
        ("add", {"pool": POOL[2:]}, "nobody is right 90% of the time"),
        ("add minus", {}, "looks like sums, but no prompt of sums ever said minus"),
        ("", {}, "no words"),
        ("sing", {}, "like no task that the table knows (sing)"),
        ("add", {"tools": ({"type": "function", "function": {"name": "f"}},)}, "without tools"),
    ],
)
def test_else_the_policy_plans_and_the_record_says_why(prompt: str, fields: Any, why: str) -> None:
    """Composites, strangers to the table, tools, and a pool of which nothing is known."""
    (choice,), last = played(outright(), asked(prompt, **fields))

    assert last.worker == "boss"
    assert choice.picked == "team"
    assert why in choice.reason
    assert all(option.rejected for option in choice.options[1:])


def test_pictures_are_nothing_that_a_table_of_texts_knows() -> None:
    """The words beside a picture may look like a task that they are not."""
    parts = (Part("text", "add"), Part("image_url", data={"url": "data:image/png;base64,AA"}))
    (choice,), last = played(outright(), Request(messages=(Message("user", parts),), pool=POOL))
    assert last.worker == "boss"
    assert "images" in choice.reason


def test_whoever_may_not_be_used_leaves_the_question_to_the_others() -> None:
    """Left out by the drift monitor, or not among those that the owner names: the next best one, if that is good enough."""
    _, last = played(Masked(outright(), (("big", "drift"),)), asked("add"))
    assert last.worker == "small"
    _, last = played(outright(among=("small",)), asked("add"))
    assert last.worker == "small"
    _, last = played(outright(among=("small",), least=0.96), asked("add"))
    assert last.worker == "boss"


def test_of_two_that_are_equally_right_the_cheaper_one_answers() -> None:
    """A tie is no reason to spend."""
    tasks = {"t": {"prior": 1.0, "workers": {"big": [9, 9], "small": [9, 9]}}}
    equal = Table(
        Artifact(
            "stretto.route-table/1",
            data={"tasks": tasks, "words": {"add": {"t": -1.0}}, "unseen": {"t": -9.0}},
        )
    )
    _, last = played(outright(table=equal), asked("add"))
    assert last.worker == "small"


def test_the_answer_is_as_warm_as_what_was_learned_unless_the_caller_says() -> None:
    """What the table tells of a worker was measured at some temperature."""
    _, last = played(outright(temperature=0.0), asked("add"))
    assert last.params == {"temperature": 0.0}
    _, last = played(outright(temperature=0.0), asked("add", params={"temperature": 0.7}))
    assert last.params == {}


def test_a_plan_names_the_policy_and_what_stands_around_it() -> None:
    """What the owner asked for is the type, and the version begins with it; mask and shortcut are told beside it."""
    team = Masked(outright(policy=Fallback(("boss",))), (("small", "garbled"),))
    pool = ScriptedPool({card.id: [] for card in POOL}, cards={card.id: card for card in POOL})
    seen = Engine(pool, MemoryStore()).preview(team, Request(messages=(Message("user", "then add"),)))
    assert (seen.policy, seen.around) == ("fallback", ("masked", "outright"))
    assert seen.version == version(team)
    assert version(team).startswith("fallback-")
    assert version(team) != version(team.policy)
    assert layers(PLANS) == ("solo",)


def test_the_outlook_is_of_one_call_where_somebody_answers_alone() -> None:
    """The choice is free and certain; the next best worker is all that may come on top."""
    found = outright().outlook(asked("add"), quotes)
    assert (found.calls.least, found.calls.most) == (1, 6)
    assert found.calls.expected == pytest.approx(1.02)
    assert found.usd.most == 3 * 2 * (9 + 1)
    assert outright().outlook(asked("then add"), quotes) == PLANS.outlook(asked("then add"), quotes)
    assert isinstance(outright().outlook(asked("add", POOL[:1]), quotes), Outlook)
