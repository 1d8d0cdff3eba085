"""How each option of a question looks beside the others: what a reader can tell of it without knowing the answer.

Wrong options are often variations of the right one, so it is like many of them, and seldom the largest or smallest number. How
much that tells is learned from the outcomes of questions like those that are asked (`evidence.reading`).
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

__all__ = ["LOOKS", "looks"]

LOOKS: Final = (
    *("likeness", "likeness place", "most like", "option lengths"),
    *("number place", "significant digits", "significant digits beyond", "nearest number", "furthest number"),
    *("from middle number", "equal numbers"),
    *("begins alike", "ends alike", "signs alike", "words within", "first word shared", "last word shared"),
)
"""What is told of an option, in this order."""

_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SIGNS: Final = ".,;:$^\\()/"
_LONGEST: Final = 60
_TINY: Final = 1e-9


def looks(options: Mapping[str, str]) -> dict[str, list[float]]:
    """Of each letter the marks of `LOOKS`. `options`: what each of at least two letters stands for."""
    texts = [text.strip()[:_LONGEST] for text in options.values()]
    found = [_NUMBER.search(text) for text in texts]
    digits = [_digits(one.group()) if one else 0 for one in found]
    rows = zip(
        _likeness([text.lower() for text in texts]),
        _numbers([float(one.group().replace(",", "")) if one else None for one in found]),
        _looks(texts),
        strict=True,
    )
    length = math.log1p(sum(map(len, texts)) / len(texts))
    out = {}
    for letter, own, (like, number, look) in zip(options, digits, rows, strict=True):
        beyond = own - (sum(digits) - own) / (len(digits) - 1)
        out[letter] = [*like, length, number[0], float(own), beyond, *number[1:], *look]
    return out


def _digits(number: str) -> int:
    return len(number.replace(",", "").lstrip("0.").replace(".", ""))


def _likeness(texts: Sequence[str]) -> list[list[float]]:
    """How like the others each is (shared runs of three letters), beyond the usual; its place in that order; its nearest."""
    runs = [frozenset(text[k : k + 3] for k in range(max(1, len(text) - 2))) for text in texts]
    count = len(texts)
    like = [[0.0] * count for _ in texts]
    for a, first in enumerate(runs):
        for b in range(a):
            shared = len(first & runs[b])
            like[a][b] = like[b][a] = shared / (len(first) + len(runs[b]) - shared)
    mean = [sum(row) / (count - 1) for row in like]
    usual = sum(mean) / count
    return [
        [own - usual, sum(other < own for other in mean) / (count - 1), max(row)]
        for own, row in zip(mean, like, strict=True)
    ]


def _numbers(numbers: Sequence[float | None]) -> list[list[float]]:
    """Of each option's number its place among them, how far the nearest, the furthest and the middle one are (logarithms),
    and how many are equal; -1 and 0 where it has none.
    """
    known = sorted(number for number in numbers if number is not None)
    logs = [math.log(number + _TINY) for number in known]
    out = []
    for number in numbers:
        if number is None or len(known) < 2:
            out.append([-1.0, -1.0, -1.0, 0.0, 0.0])
            continue
        own = math.log(number + _TINY)
        apart = sorted(abs(own - other) for other in logs)[1:]  # the first is its own
        place = sum(other < number for other in known) / (len(known) - 1)
        equal = sum(gap < _TINY for gap in apart)
        out.append([place, min(apart[0], 20.0), min(apart[-1], 40.0), own - logs[len(logs) // 2], equal])
    return out


def _looks(texts: Sequence[str]) -> list[list[float]]:
    """Which share of the others begins and ends as it does, has as many signs, has all its words, and its first and last one."""
    words = [text.lower().split() or [""] for text in texts]
    sets = [frozenset(each) for each in words]
    others = len(texts) - 1
    shares = [
        _shares([(text[:1].isupper(), text[:1].isdigit()) for text in texts]),
        _shares(["a" if text[-1:].isalnum() else text[-1:] for text in texts]),
        _shares([sum(map(text.count, _SIGNS)) for text in texts]),
        [(sum(own <= other for other in sets) - 1) / others for own in sets],
        _shares([each[0] for each in words]),
        _shares([each[-1] for each in words]),
    ]
    return [list(row) for row in zip(*shares, strict=True)]


def _shares(kinds: Sequence[Hashable]) -> list[float]:
    count = Counter(kinds)
    return [(count[kind] - 1) / (len(kinds) - 1) for kind in kinds]
