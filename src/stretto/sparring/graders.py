"""Grading: does a text hold the right answer? Decided by an algorithm, never by a model."""

from typing import Final

from stretto.sparring.problems import Problem

__all__ = ["grade", "normalise"]

_EDGE: Final = " \t\r\n.,;:!?\"'`*"


def normalise(text: str) -> str:
    """What counts of an answer: the part after the last ` = `, in lower case, without quotes and punctuation at its ends, with
    one space after each comma.
    """
    bare = text.rpartition(" = ")[2].strip(_EDGE).lower()
    return ", ".join(item.strip() for item in bare.split(",")) if "," in bare else bare


def grade(problem: Problem, text: str) -> float:
    """1.0 where `text` gives the problem's answer, exactly after `normalise`; else 0.0.

    A thinker's answer is a sub-problem, which may itself end with ` = ?`: only its ends and its capitals are forgiven.
    """
    if problem.family == "thinker":
        return float(text.strip(_EDGE).lower() == problem.answer.strip(_EDGE).lower())
    return float(normalise(text) == problem.answer)
