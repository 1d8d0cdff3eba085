"""Answer classes: what is the same answer, and what is none."""

import pytest

from stretto.policies.answers import classes, comparable, said, value_of, value_of_message
from stretto.types import Message, ToolCall

SAME = [
    ("(b)", "B."),
    ("1,234.50", "$1234.5"),
    ("50 %", "50"),
    ("3/4", "0.75"),
    ("[1, 2, 'a']", '[1,2,"A"]'),
    ("{'b': 1, 'a': True}", '{"a": true, "b": 1.0}'),
    ("[f(x=1, y='Rome')]", "[f(y='rome', x=1.0)]"),
    ("[g(1), f(2)]", "[f(2), g(1)]"),
    ('[{"f": "{\\"x\\": 1, \\"y\\": \\"Rome\\"}"}]', "[f(y='rome', x=1)]"),
    ('<tool_call>\n{"arguments": {"x": 1}, "name": "f"}\n</tool_call>', "```\n[functions.f(x=1)]\n```"),
    ("New  York", "'new york'"),
    ("'Bye, no, way!'", "bye, no, way"),
    ("'g'", "G"),
    ("70 minutes", "70"),
    ("-10 °F", "-10"),
    ("$1,500 dollars.", "1500"),
    ("\\boxed{12}", "$12$"),
    ("$\\frac{3}{4}$", "0.75"),
    ("[hotel.book(nights=2)]", "[hotel_book(nights=2)]"),
    ("[hotel\\_book(nights=2)]", "[hotel_book(nights=2)]"),
    ("", None),
]
DIFFERENT = [
    ("A", "B"),
    ("10", "100"),
    ("[1, 2]", "[2, 1]"),
    ("[f(x=1)]", "[f(x=2)]"),
    ("", "0"),
    ("1", "True"),
    ("0 0 5", "5"),
    ("3x", "3"),
    ("2 pi", "2"),
    ("3 or 4", "3"),
    ("9 * 2", "9"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equal_answers_have_one_value(a: str, b: str | None) -> None:
    """However it is written, one answer has one value."""
    assert value_of(a) == value_of(b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_answers_have_different_values(a: str, b: str) -> None:
    """What differs stays apart."""
    assert value_of(a) != value_of(b)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "[" * 5000,
        "1e999999",
        "f(" * 300,
        "\x00",
        "9" * 5000,
        "f(x=",
        "1/0",
        "[0x1for x in (1, 2)]",
    ],
)
def test_no_text_is_too_strange(text: str) -> None:
    """Deep, long and broken texts have a value too."""
    assert isinstance(value_of(text), str)


def test_calls_are_values() -> None:
    """A reply that calls tools is compared by its calls, in any order."""
    a, b = ToolCall("1", "f", '{"x":1,"y":2}'), ToolCall("2", "g", "{}")
    one, two = (Message("assistant", "", tool_calls=c) for c in ((a, b), (b, a)))
    assert value_of_message(one) == value_of_message(two)


@pytest.mark.parametrize(
    ("text", "whole", "last"),
    [
        ("3 + 4 = 7\nThe answer = 7", None, "7"),
        ("7", "7", "7"),
        ("[1,\n 2]", "[1,2]", "[1,2]"),
        ("def f():\n    return 1", None, None),
        ("  ", "", ""),
    ],
)
def test_what_a_reply_says(text: str, whole: str | None, last: str | None) -> None:
    """Whole replies are compared as they are; with working before the answer, by their last line; programs never."""
    message = Message("assistant", text)
    assert said(message, last_line=True) == last
    if whole is not None or last is None:
        assert said(message, last_line=False) == whole


def test_classes_are_numbered_as_they_come() -> None:
    """No answer is -1, the others count up from 0."""
    assert classes(["x", "", "y", "x"]) == [0, -1, 1, 0]


def test_programs_and_long_prose_are_not_compared() -> None:
    """There every answer is its own class."""
    assert comparable("42")
    assert not comparable("```python\nx = 1\n```")
    assert not comparable("def f():\n    return 1")
    assert not comparable("word " * 200)


@pytest.mark.parametrize(
    "text",
    [
        "I do not know.",
        "I don't know",
        "I cannot answer this question.",
        "I\u2019m sorry, but I can\u2019t determine the secret sentence.",
        "Sorry, I'm not sure.",
        "No idea",
        "**I'm unable to help with that.**",
        "As an AI language model, I cannot provide that.",
        "I don't know how to decode this.",
    ],
)
def test_a_refusal_is_no_answer(text: str) -> None:
    """Who says that it does not know, or cannot, has given no answer: two of them do not agree."""
    assert value_of(text) == ""
    assert said(Message("assistant", f"The clues are too few.\n{text}"), last_line=True) == ""
    assert classes([value_of(text), value_of("I do not know.")]) == [-1, -1]


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "None",
        "no",
        "N/A",
        "undetermined",
        "Cannot be determined",
        "Impossible",
        "Not enough information",
        "I",
        "Sorry",
        "I can't wait to see you again",
        "I cannot tell a lie",
        "I am not sure, but I think it is Rome.",
        "I don't know, 42",
        "I cannot determine it exactly: Rome",
        "I don't know. Rome.",
        '"I do not know"',
        "'I do not know'",
        "We cannot determine the answer from this.",
        "I cannot answer with anything other than Rome",
        "I cannot answer that. " * 12,
    ],
)
def test_what_may_be_an_answer_is_one(text: str) -> None:
    """What is said of the question, quoted, or goes on after the refusal, is an answer, and equal ones agree."""
    assert value_of(text) != ""
    assert classes([value_of(text), value_of(text)]) == [0, 0]
