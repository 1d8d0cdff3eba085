"""The checker of Responses streams finds what is wrong with them: a check that cannot fail would prove nothing."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.responses_events import faults, object_faults

GOLDEN = Path(__file__).parents[2] / "golden"
STREAMS = [
    json.loads(path.read_text())["events"] for path in sorted(GOLDEN.glob("responses_exchange_*.json"))
]


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


@pytest.mark.parametrize("events", STREAMS)
def test_good_streams_have_no_faults(events: list[dict[str, Any]]) -> None:
    """The recorded streams keep to the specification."""
    assert faults(events) == []


@pytest.mark.parametrize("events", STREAMS)
def test_any_event_that_is_missing_or_twice_is_missed(events: list[dict[str, Any]]) -> None:
    """Each event of a stream is needed, once, whatever the numbers say; only the keep-alive may come again."""
    for at, event in enumerate(events):
        assert faults(numbered(events[:at] + events[at + 1 :])) != [], event["type"]
        if event["type"] != "response.in_progress":
            assert faults(numbered([*events[: at + 1], *events[at:]])) != [], event["type"]


@pytest.mark.parametrize("events", STREAMS)
def test_any_field_that_is_missing_or_of_another_kind_is_missed(events: list[dict[str, Any]]) -> None:
    """Each field that the specification requires of an event is needed, and has to be what it says."""
    for at, event in enumerate(events):
        for field in event:
            if field in ("logprobs", "name"):  # the specification does not require these
                continue
            for change in ({}, {field: [1.5]}):
                bad = {**{name: value for name, value in event.items() if name != field}, **change}
                assert faults([*events[:at], bad, *events[at + 1 :]]) != [], (event["type"], field)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("response", "output", 0, "id"), None),
        (("response", "usage", "input_tokens_details"), {}),
        (("response", "status"), "failed"),
        (("response", "incomplete_details"), {"reason": "x"}),
        (("response", "id"), "resp_other"),
        (("response", "output"), []),
        (("response", "tools"), [{"type": "function"}]),
        (("sequence_number",), 3),
    ],
)
def test_what_is_wrong_inside_the_last_event_is_found(path: tuple[Any, ...], value: Any) -> None:
    """Objects are checked to their leaves, and the last response against what was told before it."""
    events = copy.deepcopy(STREAMS[0])
    place = events[-1]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert faults(events) != []


def test_a_response_without_a_field_is_told_so() -> None:
    """The fault names the field by its path."""
    response = copy.deepcopy(STREAMS[0][-1]["response"])
    del response["usage"]["total_tokens"]
    del response["metadata"]
    assert object_faults(response, "ResponseResource") == [
        "ResponseResource.usage.total_tokens: is missing",
        "ResponseResource.metadata: is missing",
    ]
