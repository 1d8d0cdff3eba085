"""Token estimates err high, by a known measure."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.pool.estimate import input_tokens, likely, most_tokens
from stretto.steps import Ask
from stretto.types import Message, Part, ToolCall

COUNTED = [("antidisestablishmentarianism", 6), ("2 + 2 = 4", 7), ("お誕生日おめでとう", 9)]
"""Texts and their tokens in OpenAI's cl100k_base tokeniser, as published in its documentation."""

DEAREST = json.loads((Path(__file__).parent / "token_counts.json").read_bytes())
"""Texts by kind, each with the most tokens that a real tokeniser (o200k, cl100k, Llama 3, Claude 2) makes of it."""


@pytest.mark.parametrize(("text", "tokens"), COUNTED)
def test_never_below_a_real_count(text: str, tokens: int) -> None:
    """Known counts of a real tokeniser are not above the estimate."""
    assert most_tokens(text) >= tokens


@pytest.mark.parametrize("kind", sorted(DEAREST))
def test_errs_high_by_kind_of_text(kind: str) -> None:
    """Languages, code, JSON, emoji: the estimate is at least the count of the dearest of four real tokenisers."""
    for text, tokens in DEAREST[kind]:
        assert most_tokens(text) >= tokens


def test_a_list_of_token_ids_is_counted_exactly() -> None:
    """Ids in the place of text are as many tokens as there are."""
    one, two = (
        input_tokens(Ask("w", (Message("user", (Part("tokens", data={"tokens": [7] * n}),)),)))
        for n in (1, 500)
    )
    assert two - one == 499


@given(st.text())
def test_dense_counts_bytes(text: str) -> None:
    """For byte-level tokenisers the estimate is the number of bytes, and the usual estimate is not above that."""
    assert most_tokens(text, dense=True) == len(text.encode(errors="replace"))
    assert most_tokens(text) <= most_tokens(text, dense=True)
    assert likely(most_tokens(text)) <= most_tokens(text)


@given(st.text(), st.text())
def test_more_text_is_not_less(first: str, second: str) -> None:
    """Appending never lowers an estimate."""
    assert most_tokens(first + second) >= max(most_tokens(first), most_tokens(second))


@pytest.mark.parametrize(
    "more",
    [
        {"tools": ({"type": "function", "function": {"name": "f", "description": "x" * 100}},)},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x" * 100}}},
        {"messages": (Message("user", "hi"), Message("assistant", None, (ToolCall("a", "f", "x" * 100),)))},
        {"messages": (Message("user", (Part("text", "hi"), Part("image_url", "", {"url": "data:"}))),)},
        {"messages": (Message("user", (Part("file", "", {"data": "x" * 400}),)),)},
        {"messages": (Message("assistant", "hi", reasoning="x" * 100),)},
    ],
)
def test_everything_counts(more: dict[str, Any]) -> None:
    """Tools, schemas, calls, images, files and earlier reasoning all count as input."""
    plain = input_tokens(Ask("w", (Message("user", "hi"),)))
    asked = {"messages": (Message("user", "hi"),), **more}
    assert input_tokens(Ask("w", **asked)) >= plain + 48
