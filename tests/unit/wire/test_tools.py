"""Tools for workers that know functions only: custom tools and namespaces become functions, calls of them are turned back."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from stretto.types import Delta, Message, ToolCall
from stretto.wire import chat
from stretto.wire.tools import (
    Unwrapping,
    custom_names,
    joined_name,
    portable,
    split_names,
    unwrapped,
    unwrapped_input,
    wrapped_input,
)

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Edits", "format": GRAMMAR}}
SPACE = {
    "type": "namespace",
    "name": "agents",
    "tools": [
        {"type": "function", "name": "spawn", "parameters": {"type": "object"}, "defer_loading": True},
        {"type": "custom", "name": "tell"},
    ],
}


def test_functions_stay_as_they_are() -> None:
    """A function passes untouched, and so does the choice of it."""
    choice = {"type": "function", "function": {"name": "f"}}
    found = portable([FUNCTION], choice)
    assert found.tools[0] is FUNCTION
    assert (found.choice, found.custom, found.dropped) == (choice, frozenset(), ())


def test_custom_tools_become_functions_with_one_text() -> None:
    """The grammar of a custom tool stands in the description of its one argument; choosing it chooses the function."""
    found = portable([PATCH], {"type": "custom", "custom": {"name": "patch"}})
    function = found.tools[0]["function"]
    assert (function["name"], function["description"]) == ("patch", "Edits")
    assert function["parameters"]["required"] == ["input"]
    assert "lark grammar:\nstart: WORD" in function["parameters"]["properties"]["input"]["description"]
    assert found.custom == {"patch"}
    assert found.choice == {"type": "function", "function": {"name": "patch"}}


def test_namespaces_become_functions_with_joined_names() -> None:
    """Each tool inside a namespace is a function of its own; its names can be told apart again."""
    found = portable([SPACE])
    assert [tool["function"]["name"] for tool in found.tools] == ["agents__spawn", "agents__tell"]
    assert found.tools[0]["function"] == {"name": "agents__spawn", "parameters": {"type": "object"}}
    assert found.custom == {"agents__tell"} == custom_names([SPACE])
    assert split_names([SPACE])["agents__spawn"] == ("agents", "spawn")


def test_joined_names_keep_to_64_characters_and_apart() -> None:
    """Long names are shortened with a digest, so that two of them do not become one."""
    one, other = joined_name("n" * 40, "x" * 40), joined_name("n" * 40, "x" * 41)
    assert len(one) == len(other) == 64
    assert one != other


def test_tools_that_a_provider_runs_are_left_out_and_named() -> None:
    """A hosted tool has no stand-in; choosing it falls back to no choice, and both are told."""
    found = portable([FUNCTION, {"type": "web_search"}], {"type": "web_search"})
    assert found.tools == (FUNCTION,)
    assert found.choice is None
    assert found.dropped == ("tools.web_search", "tool_choice")


def test_a_choice_among_allowed_tools_becomes_those_tools() -> None:
    """What is not allowed is not offered; the mode becomes the choice."""
    allowed = {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "patch"}}]}
    found = portable([FUNCTION, PATCH], {"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool["function"]["name"] for tool in found.tools] == ["patch"]
    assert found.choice == "required"


@given(st.text(), st.lists(st.integers(1, 7)), st.booleans())
def test_an_input_is_read_from_any_pieces(text: str, cuts: list[int], ascii_only: bool) -> None:
    """Wherever its JSON is cut, the deltas join to the input, and are what the whole answer says."""
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(arguments[at : at + cut])
        at += cut
    reader = Unwrapping(chat.reader(), frozenset({"patch"}))
    deltas: list[Delta] = []
    for piece in [*pieces, arguments[at:]]:
        reader.feed(
            _chunk({"index": 0, "id": "c", "function": {"name": "patch", "arguments": piece}}), deltas
        )
    reader.feed(b'{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}', deltas)
    assert "".join(call[3] for delta in deltas for call in delta.tool_calls) == text
    assert reader.result().message.tool_calls == (ToolCall("c", "patch", text, "custom"),)


def _chunk(call: dict[str, Any]) -> bytes:
    return orjson.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


@given(st.text())
def test_an_input_survives_being_wrapped(text: str) -> None:
    """What goes to a worker as a function's arguments comes back as it was."""
    assert unwrapped_input(wrapped_input(text)) == text


def test_odd_arguments_are_taken_for_what_they_most_likely_mean() -> None:
    """Models write line breaks unescaped, other names, or plain text instead of the object."""
    assert unwrapped_input('{"input": "a\nb\\x"}') == "a\nbx"
    assert unwrapped_input('{"patch": "p"}') == "p"
    assert unwrapped_input("*** Begin Patch") == "*** Begin Patch"
    assert unwrapped_input('{"input": "cut of') == "cut of"
    assert unwrapped_input("{}") == ""
    assert unwrapped_input('{"a": 1}') == '{"a": 1}'


def test_odd_arguments_come_out_of_a_stream_too() -> None:
    """What is no wrapped input is held until the call is whole, then given as one piece."""
    reader = Unwrapping(chat.reader(), frozenset({"patch"}))
    deltas: list[Delta] = []
    for piece in ('{"patch"', ': "p"}'):
        reader.feed(
            _chunk({"index": 0, "id": "c", "function": {"name": "patch", "arguments": piece}}), deltas
        )
    assert [call[3] for delta in deltas for call in delta.tool_calls] == ["", ""]
    reader.feed(b'{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}', deltas)
    assert deltas[-1].tool_calls == ((0, "", "", "p"),)
    assert (reader.finished, reader.done, reader.error) == (True, False, None)


def test_only_calls_of_stand_ins_are_turned_back() -> None:
    """Calls of real functions stay; a message without stand-ins is the same object."""
    message = Message("assistant", None, (ToolCall("a", "f", "{}"), ToolCall("b", "patch", '{"input":"x"}')))
    found = unwrapped(message, frozenset({"patch"}))
    assert found.tool_calls == (ToolCall("a", "f", "{}"), ToolCall("b", "patch", "x", "custom"))
    assert unwrapped(found, frozenset({"other"})) is found
