import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RunNotFound
from stretto.ledger.events import (
    Answered,
    Asked,
    Event,
    Finished,
    Joined,
    Opened,
    Refused,
    Resumed,
    Said,
    Scored,
)
from stretto.ledger.memory import MemoryStore
from stretto.ledger.read import Reader, event_json, receipt, summary
from stretto.types import Denied, Failure, Left, Limits, Message, Usage
from tests.ledger_events import EVENTS, SECRET, arbitrary, bare, story


def asked(at: str, attempt: int, time: float, **fields: Any) -> Asked:
    """An intent."""
    return Asked(
        run="run_a", time=time, at=at, attempt=attempt, worker="small", endpoint="e", role="solver", **fields
    )


def answered(at: str, attempt: int, time: float, seconds: float, **fields: Any) -> Answered:
    """An outcome."""
    return Answered(run="run_a", time=time, at=at, attempt=attempt, worker="small", seconds=seconds, **fields)


def test_the_receipt_of_a_plain_run() -> None:
    """Every attempt, choice and figure of the run stands in its receipt, ready for JSON."""
    opened, *rest = story("run_a", key="k")
    assert isinstance(opened, Opened)
    opened = replace(opened, denied=(Denied("far", "region us"),), seed=7)
    told = receipt([opened, *rest])
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "run_id": "run_a",
        "status": "finished",
        "model": "route",
        "policy": "route",
        "version": "route-1",
        "purpose": "serve",
        "created": 100.0,
        "served_by": "small",
        "served_at": "1",
        "why": "only answer",
        "finish": "stop",
        "error": None,
        "usage": {"input": 12, "output": 5, "cached": 0, "reasoning": 0, "total": 17, "estimated": False},
        "cost_usd": 320e-12,
        "cost_pico": 320,
        "calls": 1,
        "consistent": True,
        "attempts": [
            {
                "at": "1",
                "attempt": 1,
                "worker": "small",
                "endpoint": "small@here",
                "role": "solver",
                "reason": "",
                "labels": {"region": "eu"},
                "want": "text",
                "max_tokens": 100,
                "reserved_usd": 500e-12,
                "started": pytest.approx(0.01),
                "outcome": "answered",
                "cost_usd": 320e-12,
                "cost_pico": 320,
                "usage": {
                    "input": 12,
                    "output": 5,
                    "cached": 0,
                    "reasoning": 0,
                    "total": 17,
                    "estimated": False,
                },
                "seconds": 0.1,
                "first_byte_seconds": 0.05,
                "finish": "stop",
                "model": "",
                "dropped": [],
                "error": None,
            }
        ],
        "choices": [
            {
                "at": "0",
                "picked": "small",
                "probability": 1.0,
                "reason": "cheapest",
                "by": "",
                "options": [
                    {"name": "small", "estimates": {"usd": 0.1}, "rejected": ""},
                    {"name": "large", "estimates": {"usd": 2.0}, "rejected": "dearer"},
                ],
            }
        ],
        "refused": [],
        "joined": [],
        "denied": [{"worker": "far", "reason": "region us"}],
        "limits": {"usd": 1.0, "calls": None, "seconds": None, "depth": 8, "fanout": 32},
        "left": {"usd": None, "calls": None, "seconds": None},
        "time": {
            "total_seconds": 0.12,
            "upstream_seconds": pytest.approx(0.1),
            "gateway_seconds": 0.02,
        },
        "scores": [],
        "pool": "pool-1",
        "seed": 7,
        "resumed": 0,
        "content_kept": True,
    }


def test_texts_are_told_only_when_asked_for() -> None:
    """With content, a receipt holds the request, the answer and what each attempt was asked and said; never the secret."""
    events = story("run_a")
    events[2] = replace(events[2], content=(Message("user", "in other words"),))  # type: ignore[type-var]
    plain, full = receipt(events), receipt(events, include_content=True)
    assert "What is" not in json.dumps(plain)
    assert "in other words" not in json.dumps(plain)
    assert full["request"]["messages"][0]["content"] == "What is run_a?"
    assert full["answer"]["content"] == "It is run_a."
    assert full["attempts"][0]["texts"]["asked"][0]["content"] == "in other words"
    assert full["attempts"][0]["texts"]["answered"]["content"] == "It is run_a."
    assert SECRET not in json.dumps(full)


def test_an_answer_that_no_attempt_said_is_told() -> None:
    """When the plan itself made the answer, that is the one in the receipt."""
    events = story("run_a")
    events[4] = replace(events[4], content=Message("assistant", "none of you"))  # type: ignore[type-var]
    assert receipt(events, include_content=True)["answer"]["content"] == "none of you"


def test_content_that_was_not_kept_is_told_as_missing() -> None:
    """A run of which only digests were kept has a receipt, without texts."""
    told = receipt([bare(event) for event in story("run_a")], include_content=True)
    assert not told["content_kept"]
    assert told["request"] is None
    assert told["answer"] is None
    assert told["attempts"][0]["texts"] == {"asked": None, "answered": None}


def test_outcomes_failures_and_refusals() -> None:
    """Failed, cancelled and lost attempts, refused steps and a fork's end are told apart, with their money."""
    limit = Failure("limit", "the money is spent")
    events: list[Event] = [
        story("run_a")[0],
        asked("0.0/0", 1, 100.0, reserved=50),
        asked("0.1/0", 1, 100.0, reserved=60),
        asked("0.2/0", 1, 100.0, reserved=70),
        answered("0.0/0", 1, 101.0, 1.0, error=Failure("timeout", status=None), cost=5, final=False),
        asked("0.0/0", 2, 101.0, reserved=50),
        answered("0.0/0", 2, 102.0, 1.0, cost=20, usage=Usage(3, 4)),
        answered(
            "0.1/0", 1, 102.0, 2.0, error=Failure("cancelled"), cost=7, usage=Usage(1, 1, estimated=True)
        ),
        Joined(run="run_a", time=102.0, at="0", arrived=(0,), dropped=(1, 2)),
        Refused(
            run="run_a", time=102.0, at="1", worker="large", role="judge", error=limit, left=Left(usd=10**9)
        ),
    ]
    told = receipt(events, live=False)
    assert told["status"] == "interrupted"
    assert [(a["at"], a["attempt"], a["outcome"], a["cost_pico"]) for a in told["attempts"]] == [
        ("0.0/0", 1, "failed", 5),
        ("0.1/0", 1, "cancelled", 7),
        ("0.2/0", 1, "unknown", 70),
        ("0.0/0", 2, "answered", 20),
    ]
    assert told["attempts"][0]["error"] == {"kind": "timeout", "message": ""}
    assert told["attempts"][2]["seconds"] is None
    assert (told["cost_pico"], told["calls"], told["consistent"]) == (102, 4, True)
    assert told["usage"]["total"] == 9
    assert told["usage"]["estimated"]
    assert told["joined"] == [{"at": "0", "arrived": [0], "dropped": [1, 2]}]
    assert told["refused"][0]["error"]["kind"] == "limit"
    assert told["left"]["usd"] == 0.001
    assert receipt(events)["status"] == "running"


@pytest.mark.parametrize("changes", [{"cost": 321}, {"calls": 2}, {"usage": Usage(12, 6)}])
def test_attempts_that_do_not_add_up_are_told(changes: dict[str, Any]) -> None:
    """When the settled figures are not the sum of the attempts, the receipt says so."""
    events = story("run_a")
    assert receipt(events)["consistent"]
    events[4] = replace(events[4], **changes)
    assert not receipt(events)["consistent"]


def test_a_lost_attempt_costs_what_was_reserved_for_it() -> None:
    """A resumed run settles its lost attempt at the reservation, and the receipt agrees."""
    events = [
        *story("run_a")[:3],
        Resumed(run="run_a", time=200.0, process="p", secret=SECRET),
        asked("1", 2, 200.0, reserved=500),
        answered("1", 2, 200.5, 0.5, cost=300, content=Said(Message("assistant", "yes"))),
        Finished(run="run_a", time=200.6, at="1", worker="small", cost=800, calls=2, seconds=0.6, own=0.1),
    ]
    told = receipt(events)
    assert told["consistent"]
    assert told["status"] == "finished"
    assert told["resumed"] == 1
    assert told["cost_pico"] == 800
    assert told["time"]["total_seconds"] == pytest.approx(0.61)
    assert told["time"]["upstream_seconds"] == pytest.approx(0.5)
    assert told["time"]["gateway_seconds"] == pytest.approx(0.11)


def test_overlapping_attempts_are_upstream_time_once() -> None:
    """The upstream's share of a run that has not settled is the union of its attempts, not their sum."""
    events: list[Event] = [
        story("run_a", time=100.0)[0],
        asked("0.0/0", 1, 101.0),
        asked("0.1/0", 1, 102.0),
        answered("0.0/0", 1, 104.0, 3.0),
        answered("0.1/0", 1, 105.0, 3.0),
        asked("1", 1, 107.0),
        answered("1", 1, 108.0, 1.0),
    ]
    assert receipt(events)["time"] == {
        "total_seconds": 8.0,
        "upstream_seconds": 5.0,
        "gateway_seconds": 3.0,
    }


def test_a_failed_run_says_why() -> None:
    """The failure of a run stands in its receipt and its summary."""
    events = story("run_a")
    events[4] = replace(events[4], error=Failure("overloaded", "busy", 2.0, 529), worker="")  # type: ignore[type-var]
    told = receipt(events)
    assert told["status"] == "failed"
    assert told["error"] == {"kind": "overloaded", "message": "busy", "retry_after": 2.0, "status": 529}
    assert summary(events).status == "failed"


def test_scores_are_told_with_their_comments() -> None:
    """Feedback is listed in order; the summary has the latest score."""
    scored = [
        Scored(run="run_a", time=200.0, score=0.2, by="judge"),
        Scored(run="run_a", time=300.0, score=0.9, by="me", at="1", content="good"),
    ]
    told = receipt([*story("run_a"), *scored])
    assert [(s["score"], s["comment"]) for s in told["scores"]] == [(0.2, ""), (0.9, "good")]
    assert summary([*story("run_a"), *scored]).score == 0.9


@given(arbitrary(Opened), st.lists(EVENTS, max_size=8))
def test_any_record_has_a_receipt(opened: Opened, events: list[Event]) -> None:
    """However odd the record, its receipt and its events are JSON, and hold no secret."""
    opened = replace(opened, secret=SECRET, limits=Limits())
    for include_content in (False, True):
        told = [receipt([opened, *events], include_content=include_content)]
        told += [event_json(event, include_content=include_content) for event in (opened, *events)]
        assert SECRET not in json.dumps(told)


def test_a_record_without_an_opening_is_no_run() -> None:
    """Feedback alone, on a run that is not there, makes no receipt."""
    with pytest.raises(RunNotFound):
        receipt(story("run_a")[1:])


def test_each_key_sees_its_own_runs_only() -> None:
    """A run of another key, or of none, does not exist for a key; without a key everything does."""
    store = MemoryStore()
    for number, key in enumerate(["k1", "k2", ""]):
        store.append(story(f"run_{number}", key=key))
    reader = Reader(store)
    assert reader.receipt("run_0", "k1")["run_id"] == "run_0"
    assert [found["run"] for found in reader.runs(key="k1")] == ["run_0"]
    assert [found["run"] for found in reader.runs()] == ["run_2", "run_1", "run_0"]
    assert reader.runs(limit=1)[0]["cost_usd"] == 320e-12
    told = set()
    for run, key in [("run_1", "k1"), ("run_2", "k1"), ("run_3", "k1"), ("run_0", "")]:
        for read in (reader.receipt, reader.events):
            with pytest.raises(RunNotFound) as error:
                read(run, key)
            told.add(str(error.value))
    assert len(told) == 1
    assert len(reader.events("run_1")) == 5
