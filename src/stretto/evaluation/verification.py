"""How well a signal tells right answers from wrong ones: separation, thresholds, calibration. Standard library only.

A signal is a list of `(value, right)`: how sure somebody was, higher is surer, and whether the answer was right.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from stretto.evaluation.intervals import Interval, wilson

__all__ = [
    "Bin",
    "Signal",
    "area",
    "balanced_accuracy",
    "balanced_at",
    "best_threshold",
    "calibration_error",
    "lowest_threshold",
    "reliability",
]

Signal = Sequence[tuple[float, bool]]


def area(signal: Signal) -> float | None:
    """The area under the ROC curve: how often a right answer has the higher value than a wrong one, ties counting half.

    `None` where all are right, or all wrong.
    """
    wrong = sorted(value for value, right in signal if not right)
    right = [value for value, right in signal if right]
    if not right or not wrong:
        return None
    wins = sum(bisect.bisect_left(wrong, value) + bisect.bisect_right(wrong, value) for value in right)
    return wins / (2 * len(right) * len(wrong))


def balanced_at(signal: Signal, threshold: float) -> float | None:
    """The mean of the share of right answers at or above `threshold` and of wrong ones below; `None` without both kinds."""
    right = [value >= threshold for value, good in signal if good]
    wrong = [value < threshold for value, good in signal if not good]
    if not right or not wrong:
        return None
    return (sum(right) / len(right) + sum(wrong) / len(wrong)) / 2


def best_threshold(signal: Signal) -> tuple[float, float]:
    """The threshold with the best balanced accuracy on these answers, and that accuracy; (1.0, 0.5) without both kinds."""
    right = sum(good for _, good in signal)
    wrong = len(signal) - right
    best = (1.0, 0.5)
    if not right or not wrong:
        return best
    accepted = mistaken = 0
    ordered = sorted(signal, reverse=True)
    for number, (value, good) in enumerate(ordered, 1):
        accepted += good
        mistaken += not good
        reached = (accepted / right + (wrong - mistaken) / wrong) / 2
        if (number == len(ordered) or ordered[number][0] < value) and reached > best[1]:
            best = (value, reached)
    return best


def balanced_accuracy(signal: Signal) -> float:
    """How well the signal separates right from wrong at its best threshold; 0.5 where there is nothing to separate."""
    return best_threshold(signal)[1]


def lowest_threshold(signal: Signal, precision: float) -> tuple[float, int, Interval] | None:
    """The lowest threshold at which the share of right answers among those accepted (value >= threshold) is surely `precision`.

    Surely: the lower end of its 95 % Wilson interval. So a few lucky answers are no reason: of .95 one needs 73 right of 73.
    Returns it with how many it accepts and the share; `None` if there is none.
    """
    found = None
    right = 0
    ordered = sorted(signal, reverse=True)
    for number, (value, good) in enumerate(ordered, 1):
        right += good
        if number < len(ordered) and ordered[number][0] == value:
            continue  # equally sure answers are accepted together or not at all
        share = wilson(right, number)
        if share.low >= precision:
            found = (value, number, share)
    return found


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same value: how many, their mean value, and the share that was right."""

    n: int
    value: float
    right: Interval


def reliability(signal: Signal, bins: int = 10) -> list[Bin]:
    """The signal in `bins` equal steps of 0..1; empty ones are left out."""
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for value, right in signal:
        held[min(bins - 1, int(value * bins))].append((value, right))
    return [
        Bin(len(part), sum(v for v, _ in part) / len(part), wilson(sum(r for _, r in part), len(part)))
        for part in held
        if part
    ]


def calibration_error(signal: Signal, bins: int = 10) -> float:
    """The expected calibration error (Guo et al. 2017): the mean distance of value and share right, over equal steps."""
    if not signal:
        raise ValueError("a calibration error needs at least one answer")
    return sum(b.n * abs(b.value - b.right.value) for b in reliability(signal, bins)) / len(signal)
