"""Calls of functions are held against the functions that were offered, wherever answers are compared."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("numpy")

from stretto.evaluation.comparison import columns_of, recorded_columns
from stretto.evaluation.runner import Result
from stretto.evaluation.tables import Item, Said, Table
from stretto.evaluation.tasks import recorded_items
from stretto.learning.own_outcomes import Logged, Spoken, logged
from stretto.learning.shadows import pairs
from stretto.ledger.events import Answered, Asked, Event, Finished, Opened, Scored
from stretto.ledger.events import Said as Words
from stretto.testing import question
from stretto.types import Message, Request, ToolCall

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "default": "celsius"}},
            "required": ["city"],
        },
    },
}
SHORT = '[{"name": "weather", "arguments": {"city": "Rome"}}]'
LONG = '[{"name": "weather", "arguments": {"city": "Rome", "unit": "celsius"}}]'
OTHER = '[{"name": "weather", "arguments": {"city": "Rome", "unit": "kelvin"}}]'
WORKERS = {"a": SHORT, "b": LONG, "c": OTHER}


def called(text: str) -> Message:
    """A reply that makes the calls."""
    (call,) = json.loads(text)
    return Message("assistant", tool_calls=(ToolCall("1", call["name"], json.dumps(call["arguments"])),))


def asked() -> Request:
    """A request that offers the function."""
    return question("Weather in Rome?", *WORKERS, tools=(WEATHER,))


@pytest.mark.parametrize("offered", [True, False])
def test_a_default_given_is_a_default_left_out(offered: bool) -> None:
    """Recorded and live answers fall into the same classes; without the function, calls are compared as they are written."""
    tools = json.dumps([WEATHER]) if offered else ""
    item = Item("1", "Weather in Rome?", tools=tools, reference=SHORT)
    table = Table("calls", [item], {w: {"1": (Said(1.0, 0.1, answer=text),)} for w, text in WORKERS.items()})
    same = [[0, 0, 1]] if offered else [[0, 1, 2]]
    assert recorded_columns(table).classes.tolist() == same
    results = {w: [Result("1", w, 1.0, "", text, 1, 1, 1.0, w)] for w, text in WORKERS.items()}
    assert columns_of(recorded_items(table), results).classes.tolist() == same


def test_a_shadow_that_calls_the_same_agrees() -> None:
    """A candidate's call that is equal but for a default agrees with the served one."""

    def run(name: str, text: str, beside: str = "") -> Logged:
        spoken = Spoken("1", name, True, 1.0, {name: 1.0}, called(text), 1, 1, 1, 1.0, "")
        return Logged(
            name, 0.0, "serve", "solo", "v", "i", asked(), (spoken,), name, "1", 1, 1.0, beside=beside
        )

    for text, agree in ((LONG, True), (OTHER, False)):
        (pair,) = pairs([run("served", SHORT), run("shadow", text, "served")])
        assert pair.agree is agree


def test_a_score_is_that_of_every_call_that_asks_for_the_same() -> None:
    """Of a run whose answer was scored, a reply that calls the same has that score, and another has none."""
    told = replace(asked(), pool=())
    events: list[Event] = [
        Opened(run="r", time=0.0, model="p", policy="p", version="v", pool="", content=told)
    ]
    for at, (worker, text) in enumerate(WORKERS.items(), 1):
        of = {"run": "r", "time": 0.0, "at": str(at), "attempt": 1, "worker": worker}
        events.append(Asked(**of, endpoint=worker, role="solver"))  # type: ignore[arg-type]
        events.append(Answered(**of, content=Words(called(text))))  # type: ignore[arg-type]
    events += [Finished(run="r", time=1.0, at="1", worker="a"), Scored(run="r", time=2.0, score=1.0, by="me")]
    assert [reply.score for reply in logged(events, lambda version: ()).replies] == [1.0, 1.0, None]
