"""Whether two workers err together: if they do, neither a vote nor a second opinion is worth what independent errors promise."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stretto.evaluation.intervals import Interval, wilson

__all__ = ["Together", "together"]

Outcome = tuple[bool, str]
"""Whether an answer was right, and what it came to."""


@dataclass(frozen=True, slots=True)
class Together:
    """Two workers on the same problems. `strata` are kinds of problems; what is expected is taken within each of them."""

    n: int
    a_wrong: int
    b_wrong: int
    both_wrong: int
    expected: float
    """Both wrong, if within each kind of problem their errors were independent."""
    same_wrong: int
    """Both wrong with the same answer: what a vote takes for agreement."""
    phi: float | None
    """The correlation of their errors within kinds of problems, pooled; `None` where one never errs, or always."""

    @property
    def rescued(self) -> Interval | None:
        """Where the first was wrong: how often the second was right. `None` where the first was never wrong."""
        return wilson(self.a_wrong - self.both_wrong, self.a_wrong) if self.a_wrong else None


def together(strata: Iterable[Sequence[tuple[Outcome, Outcome]]]) -> Together:
    """Compare two workers on problems of one or more kinds; each element is one problem, answered by both.

    Pooled within kinds, because two workers that find the same kinds hard would otherwise seem to err together.
    """
    n = a_wrong = b_wrong = both = same = 0
    expected = covariance = spread_a = spread_b = 0.0
    for pairs in strata:
        size = len(pairs)
        if not size:
            continue
        a = sum(not first[0] for first, _ in pairs)
        b = sum(not second[0] for _, second in pairs)
        ab = sum(not first[0] and not second[0] for first, second in pairs)
        same += sum(not first[0] and not second[0] and first[1] == second[1] for first, second in pairs)
        n, a_wrong, b_wrong, both = n + size, a_wrong + a, b_wrong + b, both + ab
        expected += a * b / size
        covariance += ab - a * b / size
        spread_a += a * (size - a) / size
        spread_b += b * (size - b) / size
    phi = covariance / math.sqrt(spread_a * spread_b) if spread_a and spread_b else None
    return Together(n, a_wrong, b_wrong, both, expected, same, phi)
