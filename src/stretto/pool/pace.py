"""How a worker has been answering lately: what an expectation before a call rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Pace"]

_ANSWERS: Final = ("solver", "worker", "synthesizer")
"""Roles whose replies are answers, so that one tells how long the others may be."""
_TYPICAL: Final = 400.0
_GUESSED: Final[Mapping[str, float]] = {"planner": 200.0, "thinker": 200.0, "judge": 40.0, "verifier": 20.0}
"""Output tokens of a call that nothing is known of: of an answer, and of what is no answer."""


@dataclass(slots=True)
class Pace:
    """How a worker has been answering lately: moving averages of seconds a call and of output tokens; `None` before the first.

    `roles`: the same of output tokens for each role in which it was asked, since a verdict is shorter than an answer. `learned`:
    the tokens of its answers in what was learned from, for as long as nothing else is known.
    """

    seconds: float | None = None
    output: float | None = None
    roles: dict[str, float] = field(default_factory=dict)
    learned: float | None = None

    def note(self, seconds: float, output: float, role: str) -> None:
        """A call was answered."""
        before = self.roles.get(role)
        self.roles[role] = output if before is None else before + 0.1 * (output - before)
        if self.seconds is None or self.output is None:
            self.seconds, self.output = seconds, float(output)
        else:
            self.seconds += 0.1 * (seconds - self.seconds)
            self.output += 0.1 * (output - self.output)

    def expected(self, role: str, cap: int) -> float:
        """Output tokens of the next answer, at most `cap`: as in this role before, else as its answers usually are.

        Where neither is known, a guess by the role, which is never above half of the cap.
        """
        noted = self.roles.get(role)
        if noted is None and role not in _GUESSED:
            noted = next((self.roles[each] for each in _ANSWERS if each in self.roles), self.learned)
        if noted is not None:
            return min(cap, noted)
        return min(cap / 2, _GUESSED.get(role, _TYPICAL))
