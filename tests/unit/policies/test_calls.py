"""When calls ask for the same thing, held against the functions on offer."""

import json
from typing import Any

import pytest

from stretto.policies.answers import said, value_of, value_of_message
from stretto.policies.calls import tools_of
from stretto.types import Message, ToolCall

BOOK: dict[str, Any] = {
    "name": "hotel.book",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "view": {"type": "string", "description": "What to look out on. Default is 'any'."},
            "limit": {"type": "number", "description": "Default value is 1,500.5 EUR."},
            "breakfast": {"type": "boolean", "default": False},
            "wishes": {"type": "array"},
        },
        "required": ["city", "nights"],
    },
}
TOOLS = (BOOK, {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}})
PLAIN = "[hotel.book(city='Rome', nights=2)]"


@pytest.mark.parametrize(
    "text",
    [
        "[hotel_book(city='rome', nights=2, view='any')]",
        "[hotel.book(city='Rome', nights=2, breakfast=False)]",
        "[hotel.book(city='Rome', nights=2, breakfast=false, wishes=[])]",
        "hotel.book('Rome', 2, limit=1500.5)",
        '[{"hotel_book": "{\\"city\\": \\"Rome\\", \\"nights\\": 2, \\"view\\": \\"\\"}"}]',
        '[{"name": "functions.hotel.book", "arguments": {"nights": 2, "city": "Rome", "limit": null}}]',
    ],
)
def test_a_default_that_is_given_says_what_leaving_it_out_says(text: str) -> None:
    """Whether the default stands in the schema or in the description, and however the call is written."""
    assert value_of(text, TOOLS) == value_of(PLAIN, TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "[hotel.book(city='Rome', nights=2, view='sea')]",
        "[hotel.book(city='Rome', nights=2, breakfast=True)]",
        "[hotel.book(city='Rome', nights=2, stars=4)]",
        "[hotel.book(city='', nights=2)]",
        "[hotel.book(city='Rome')]",
        "[hotel.book(city='Rome', nights=2), find()]",
    ],
)
def test_what_asks_for_something_else_stays_apart(text: str) -> None:
    """Another value, an argument that nobody knows, and a required one that is empty or missing are told apart."""
    assert value_of(text, TOOLS) != value_of(PLAIN, TOOLS)


def test_numbers_in_quotes_are_numbers() -> None:
    """And a power is one, whichever language it is written in."""
    assert value_of("f(x='2.5', y=['1.0'], z='3*x**2')") == value_of("f(x=2.5, y=[1], z='3*x^2')")
    assert value_of("f(x='2.5')") != value_of("f(x='25')")
    assert value_of("f(x='1.2.3')") != value_of("f(x=1.2)")


def test_without_the_functions_calls_are_compared_as_written() -> None:
    """Nobody knows a default then."""
    assert value_of("[hotel.book(city='Rome', nights=2, breakfast=False)]") != value_of(PLAIN)
    assert value_of("[functions.intersect(a='1')]") == value_of('[{"functions_intersect": "{\\"a\\": 1}"}]')


def test_tool_calls_have_the_value_of_the_same_calls_as_text() -> None:
    """What was learned from recorded texts holds for replies that come as tool calls, whatever the order."""
    book = ToolCall("1", "hotel_book", '{"nights": 2, "city": "Rome", "breakfast": false}')
    find = ToolCall("2", "find", "")
    for calls in ((book, find), (find, book)):
        message = Message("assistant", "", tool_calls=calls)
        told = value_of_message(message, TOOLS)
        assert told == value_of("[find(), hotel.book(city='Rome', nights=2)]", TOOLS)
        assert said(message, last_line=True, tools=TOOLS) == told
    broken = Message("assistant", "", tool_calls=(ToolCall("1", "find", "{broken"),))
    assert value_of_message(broken, TOOLS) != value_of_message(
        Message("assistant", "", tool_calls=(find,)), TOOLS
    )


def test_the_functions_of_a_recorded_item() -> None:
    """A list, or one object; what is neither offers nothing."""
    assert tools_of(json.dumps(BOOK)) == (BOOK,)
    assert tools_of(json.dumps([BOOK])) == (BOOK,)
    assert tools_of("") == tools_of("no JSON") == tools_of("3") == ()


@pytest.mark.parametrize(
    "parameters", [None, [], {}, {"properties": []}, {"properties": {"city": "text"}, "required": 3}]
)
def test_no_schema_is_too_strange(parameters: Any) -> None:
    """Callers send what they like."""
    assert value_of(PLAIN, [{"name": "hotel.book", "parameters": parameters}]) == value_of(PLAIN)
