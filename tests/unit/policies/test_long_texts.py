"""What callers send and workers answer is read in time that grows with its length, not with the square of it.

A pattern that is tried from every place of a long word takes minutes for a text of this size, in which a gateway answers nobody.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stretto.evaluation.graders import choice, number
from stretto.policies.answers import said, value_of
from stretto.policies.checks import flaw
from stretto.policies.route import features, order_words
from stretto.policies.situation import situation
from stretto.testing import question
from stretto.types import Answer, Message

LONG = 200_000
UNITS = ["x", "1", "0x", "_", "\n", " ", "(", "a,", "a, ", "1,", "A.\n", "`", "-", "sorry ", "I cannot "]


def graded(text: str) -> None:
    """What the graders that search a text make of it."""
    for grade, reference in ((choice(), "A"), (number(), "1")):
        asyncio.run(grade(Answer(Message("assistant", text)), reference))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "read",
    [
        features,
        order_words,
        lambda text: situation(question(text)),
        value_of,
        lambda text: said(Message("assistant", text), last_line=True),
        lambda text: flaw(question("?"), Answer(Message("assistant", text))),
        graded,
    ],
    ids=["features", "order_words", "situation", "value_of", "said", "flaw", "graded"],
)
def test_a_long_text_is_read_in_one_pass(read: Callable[[str], Any], unit: str) -> None:
    """Blobs, blank lines, lists: 200,000 characters of anything come back."""
    for text in (unit * (LONG // len(unit)), "q: " + unit * (LONG // len(unit)) + "!"):
        read(text)
