"""Evidence read off answers: when two say the same, and how sure the worker was."""

import math
import re
from collections.abc import Sequence

from stretto.policies.transcript import canonical
from stretto.types import Answer, TokenLogprob

__all__ = ["comes_to", "confidence", "final_value", "same"]

_EDGES = " \t\r\n.,;:!?\"'`*_()[]{}"


def final_value(text: str) -> str:
    """What an answer comes to, for comparison: the last line, after its last ` = ` if it shows its working, without
    case, surrounding punctuation and repeated spaces."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return re.sub(r"\s+", " ", last.rsplit(" = ", 1)[-1].strip(_EDGES)).casefold()


def comes_to(answer: Answer) -> str:
    """What an answer comes to: its tool calls, by name and arguments in any order, else the final value of its text."""
    if answer.message.tool_calls:
        return "calls " + " ".join(sorted(map(canonical, answer.message.tool_calls)))
    return final_value(answer.text)


def same(a: Answer, b: Answer) -> bool:
    """Whether two answers come to the same."""
    return comes_to(a) == comes_to(b)


def confidence(logprobs: Sequence[TokenLogprob]) -> float | None:
    """The worker's own confidence, 0..1: the probability of its least certain token. `None` without log-probabilities.

    On small specialists this separates right from wrong better than a trained checker (SPARRING.md, B).
    """
    return math.exp(min(0.0, min(t.logprob for t in logprobs))) if logprobs else None
