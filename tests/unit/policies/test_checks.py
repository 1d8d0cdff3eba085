"""What can be seen wrong with an answer without knowing the right one."""

from typing import Any

import pytest

from stretto.policies.checks import flaw
from stretto.types import Answer, Message, Request, ToolCall

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "required": ["city"],
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["c", "f"]},
            },
        },
    },
}


def asked(**fields: Any) -> Request:
    """A request."""
    return Request(messages=(Message("user", "hi"),), **fields)


def text(said: str, **fields: Any) -> Answer:
    """An answer of text."""
    return Answer(Message("assistant", said), **fields)


@pytest.mark.parametrize(
    ("answer", "fields", "told"),
    [
        (text("42"), {}, ""),
        (text("  \n"), {}, "no text"),
        (Answer(Message("assistant", refusal="No.")), {}, "a refusal"),
        (text("and then", finish="length"), {}, "cut"),
        (text("and then", finish="length"), {"max_tokens": 2}, ""),
        (text("It is sunny."), {"tools": (TOOL,), "tool_choice": "required"}, "required"),
        (text("It is sunny."), {"tools": (TOOL,)}, ""),
        (text("{}"), {"response_format": {"type": "json_object"}}, ""),
        (text("```json\n{}\n```"), {"response_format": {"type": "json_object"}}, ""),
        (text("Sure: {}"), {"response_format": {"type": "json_schema"}}, "not JSON"),
        (text("```python\ndef f():\n    return 1\n```"), {}, ""),
        (text("```python\ndef f(:\n```"), {}, "Python cannot be parsed"),
        (text("```python\ndef f(:\n```", finish="length"), {"max_tokens": 9}, ""),
        (text("```python\n>>> f(\n```"), {}, ""),
        (text('```json\n{"a": }\n```'), {}, "JSON cannot be parsed"),
        (text("```rust\nfn main(\n```"), {}, ""),
    ],
)
def test_text_is_looked_at_for_what_is_plainly_wrong(
    answer: Answer, fields: dict[str, Any], told: str
) -> None:
    """No text, a refusal, a cut that nobody asked for, JSON that is none, code that cannot be parsed; and nothing else."""
    found = flaw(asked(**fields), answer)
    assert told in found
    assert bool(found) == bool(told)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("look", '{"city": "Rome"}', ""),
        ("look", '{"city": "Rome", "days": 3, "unit": "c", "more": [1]}', ""),
        ("listen", "{}", "not offered"),
        ("look", "city=Rome", "no JSON object"),
        ("look", "[]", "no JSON object"),
        ("look", "", "lacks city"),
        ("look", '{"city": 3}', "city of look is not of type string"),
        ("look", '{"city": "Rome", "days": true}', "days of look is not of type integer"),
        ("look", '{"city": "Rome", "unit": "k"}', "none of the allowed"),
    ],
)
def test_a_call_must_be_one_that_its_tool_could_take(name: str, arguments: str, told: str) -> None:
    """The tool is offered, the arguments are an object, what is required is there, plain types and enumerations fit."""
    answer = Answer(Message("assistant", tool_calls=(ToolCall("1", name, arguments),)))
    found = flaw(asked(tools=(TOOL,)), answer)
    assert told in found
    assert bool(found) == bool(told)
