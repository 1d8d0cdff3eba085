"""Graders: exact after normalisation, and only the part after the last ` = ` counts."""

import pytest

from stretto.sparring.graders import grade, normalise
from stretto.sparring.problems import Problem

SUM = Problem("addition/1/0", "addition", "What is 9 plus 3?", "12", "9+3=12", "test")
WORD = Problem("spell-backward/1/0", "spell-backward", "Spell dog backward.", "god", "", "test")


@pytest.mark.parametrize("text", ["12", "9+3=12 = 12", "9+3=11 = 12", " 12.\n", "**12**", "9 + 3 = 12"])
def test_right_sums(text: str) -> None:
    """A sum is right with or without its working, whatever punctuation stands around it."""
    assert grade(SUM, text) == 1.0


@pytest.mark.parametrize("text", ["", "112", "9+3=12", "12 = 9+3", "the answer is 12", "1 2"])
def test_wrong_sums(text: str) -> None:
    """A text whose last part is not the number itself is wrong."""
    assert grade(SUM, text) == 0.0


@pytest.mark.parametrize(
    ("text", "score"), [("god", 1.0), ("God.", 1.0), ('"god"', 1.0), ("dog", 0.0), ("g o d", 0.0)]
)
def test_words(text: str, score: float) -> None:
    """Capitals, quotes and a full stop do not matter, letters do."""
    assert grade(WORD, text) == score


def test_normalise_keeps_inner_characters() -> None:
    """Only the ends are cleaned."""
    assert normalise(" It's = A.B ") == "a.b"
