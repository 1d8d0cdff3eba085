"""The skills behind the sparring problems: what each family draws, and how it is worked, by an algorithm.

A skill takes one value and gives one value; parameters (a second number, a letter, a shift) come with the wording. Values are
texts: `tree`, `347`, `pear, fig, apple`. What a skill takes and gives decides which skills can follow each other in a composite.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from types import MappingProxyType
from typing import Final, Literal

from stretto.sparring.wordings import TEMPLATE_WORDS

__all__ = ["SKILLS", "Kind", "Params", "Skill", "fresh_word", "word"]

Kind = Literal["word", "words", "number", "numbers", "binary", "roman"]
Params = Mapping[str, str]
Fresh = Callable[[str], bool]
"""Whether a word belongs to the split that is being drawn from."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One family. `draw` makes a payload, `params` what else the wording needs for it (`None`: it cannot be asked of this value).

    `solve` gives the answer and the line of steps that lead to it ("" where the answer is given at once).
    """

    name: str
    takes: Kind
    gives: Kind
    draw: Callable[[random.Random, Fresh], str]
    params: Callable[[random.Random, str], Params | None]
    solve: Callable[[str, Params], tuple[str, str]]


# --- payloads ----------------------------------------------------------------------------------------------------

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_VOWELS: Final = "aeiou"
_ONSETS: Final = (
    *"bcdfghjklmnprstvwyz",
    *(
        "bl",
        "br",
        "ch",
        "cl",
        "cr",
        "dr",
        "fl",
        "gr",
        "pl",
        "pr",
        "qu",
        "sh",
        "sl",
        "sp",
        "st",
        "str",
        "th",
        "tr",
    ),
)
_CODAS: Final = ("", "", *"dklmnprstx", "ck", "ll", "nd", "ng", "nt", "rd", "sh", "ss", "st")
_KNOWN: Final = frozenset(TEMPLATE_WORDS)


def word(rng: random.Random, least: int = 3, most: int = 10) -> str:
    """A word of `least` to `most` letters that looks like English, or, one time in four, random letters."""
    length = rng.randint(least, most)
    while True:
        if rng.random() < 0.25:
            made = "".join(rng.choice(_LETTERS) for _ in range(length))
        else:
            made = ""
            while len(made) < length:
                made += rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
            start = rng.choice((0, 0, 1)) if len(made) > length else 0
            made = made[start : start + length]
        if len(made) == length and made not in _KNOWN:
            return made


def fresh_word(rng: random.Random, fresh: Fresh, least: int = 3, most: int = 10) -> str:
    """A word for which `fresh` holds, of `least` to `most` letters."""
    while not fresh(made := word(rng, least, most)):
        pass
    return made


def _words(rng: random.Random, fresh: Fresh) -> str:
    count = rng.randint(3, 4)
    found: list[str] = []
    while len(found) < count:
        made = fresh_word(rng, fresh, 3, 6)
        if made not in found:
            found.append(made)
    return ", ".join(found)


def _one_longest(rng: random.Random, fresh: Fresh) -> str:
    """Words of which one is longer than all others."""
    while True:
        text = _words(rng, fresh)
        lengths = sorted(map(len, text.split(", ")))
        if lengths[-1] > lengths[-2]:
            return text


def _number(most: int, least: int = 1) -> Callable[[random.Random, Fresh], str]:
    """Numbers of few digits as often as of many."""

    def draw(rng: random.Random, fresh: Fresh) -> str:
        digits = rng.randint(len(str(least)), len(str(most)))
        return str(rng.randint(max(least, 10 ** (digits - 1)), min(most, 10**digits - 1)))

    return draw


def _numbers(rng: random.Random, fresh: Fresh) -> str:
    count, most = rng.randint(3, 5), rng.choice((20, 99, 999))
    return ", ".join(map(str, rng.sample(range(1, most + 1), count)))


def _binary(rng: random.Random, fresh: Fresh) -> str:
    bits = rng.randint(2, 10)
    return f"{rng.randint(2 ** (bits - 1), 2**bits - 1):b}"


def _roman(rng: random.Random, fresh: Fresh) -> str:
    return _as_roman(int(_number(1999)(rng, fresh)))


# --- parameters --------------------------------------------------------------------------------------------------


def _none(rng: random.Random, value: str) -> Params:
    return {}


def _when(check: Callable[[int], bool]) -> Callable[[random.Random, str], Params | None]:
    """No parameters, but only for numbers that pass."""
    return lambda rng, value: {} if check(int(value)) else None


def _letter(rng: random.Random, value: str) -> Params | None:
    """A letter, two times in three one that is there."""
    return {"c": rng.choice(value if rng.random() < 0.67 else _LETTERS)} if value else None


def _shift(rng: random.Random, value: str) -> Params:
    return {"k": str(rng.randint(1, 3))}


def _summand(rng: random.Random, value: str) -> Params | None:
    digits = rng.choices((1, 2, 3), (1, 2, 3))[0]
    return {"b": str(rng.randint(10 ** (digits - 1), 10**digits - 1))} if int(value) <= 9999 else None


def _subtrahend(rng: random.Random, value: str) -> Params | None:
    number = int(value)
    if number < 2:
        return None
    most = min(number, 10 ** rng.randint(1, len(value)))
    return {"b": str(rng.randint(1, most))}


def _partner(rng: random.Random, value: str) -> Params | None:
    """A second number up to 60, most often one with a common divisor."""
    number = int(value)
    if not 2 <= number <= 99:
        return None
    if rng.random() < 0.75:
        divisor = rng.choice([d for d in range(2, number + 1) if number % d == 0])
        return {"b": str(divisor * rng.randint(1, max(1, 60 // divisor)))}
    return {"b": str(rng.randint(2, 60))}


# --- how they are worked -----------------------------------------------------------------------------------------


def _direct(answer: Callable[[str], str]) -> Callable[[str, Params], tuple[str, str]]:
    return lambda value, params: (answer(value), "")


def _shifted(value: str, params: Params) -> tuple[str, str]:
    by = int(params["k"])
    return "".join(_LETTERS[(_LETTERS.index(c) + by) % 26] for c in value), ""


def _added(value: str, params: Params) -> tuple[str, str]:
    """Columns from the right, as pupils write them: `347+86` gives `7+6=13 4+8+1=13 3+0+1=4`."""
    a, b = value, params["b"]
    first, second, carry, steps = a[::-1], b[::-1], 0, []
    for place in range(max(len(first), len(second))):
        x, y = (int(digits[place]) if place < len(digits) else 0 for digits in (first, second))
        total = x + y + carry
        steps.append(f"{x}+{y}+1={total}" if carry else f"{x}+{y}={total}")
        carry = total // 10
    return str(int(a) + int(b)), " ".join(steps)


def _subtracted(value: str, params: Params) -> tuple[str, str]:
    """Columns from the right with borrowing: `347-86` gives `7-6=1 14-8=6 3-0-1=2`."""
    a, b = value, params["b"]
    first, second, borrow, steps = a[::-1], b[::-1], 0, []
    for place in range(len(first)):
        x, y = int(first[place]), int(second[place]) if place < len(second) else 0
        lent = 10 if x - y - borrow < 0 else 0
        steps.append(f"{x + lent}-{y}{'-1' if borrow else ''}={x + lent - y - borrow}")
        borrow = 1 if lent else 0
    return str(int(a) - int(b)), " ".join(steps)


def _to_binary(value: str, params: Params) -> tuple[str, str]:
    """Each half with its last bit: the answer is then the bits read from the right."""
    number = int(value)
    halves = [number >> shift for shift in range(number.bit_length())]
    return f"{number:b}", " ".join(f"{half}:{half & 1}" for half in halves)


def _from_binary(value: str, params: Params) -> tuple[str, str]:
    """Horner's rule: doubled and the next bit added, from the left."""
    return str(int(value, 2)), " ".join(str(int(value[: end + 1], 2)) for end in range(len(value)))


_ROMAN: Final = (
    ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"),
    ("", "x", "xx", "xxx", "xl", "l", "lx", "lxx", "lxxx", "xc"),
    ("", "c", "cc", "ccc", "cd", "d", "dc", "dcc", "dccc", "cm"),
    ("", "m"),
)


def _roman_parts(number: int) -> list[tuple[int, str]]:
    places = [(int(digit), place) for place, digit in enumerate(reversed(str(number)))]
    return [(digit * 10**place, _ROMAN[place][digit]) for digit, place in reversed(places) if digit]


def _as_roman(number: int) -> str:
    return "".join(part for _, part in _roman_parts(number))


_FROM_ROMAN: Final = {_as_roman(number): number for number in range(1, 2000)}


def _to_roman(value: str, params: Params) -> tuple[str, str]:
    return _as_roman(int(value)), " ".join(f"{part}:{roman}" for part, roman in _roman_parts(int(value)))


def _from_roman(value: str, params: Params) -> tuple[str, str]:
    number = _FROM_ROMAN[value]
    return str(number), " ".join(f"{roman}:{part}" for part, roman in _roman_parts(number))


def _digit_sum(value: str, params: Params) -> tuple[str, str]:
    totals = [sum(map(int, value[: end + 1])) for end in range(len(value))]
    return str(totals[-1]), " ".join(map(str, totals))


def _gcd(value: str, params: Params) -> tuple[str, str]:
    """Euclid's algorithm: the remainders, down to 0."""
    a, b = max(int(value), int(params["b"])), min(int(value), int(params["b"]))
    steps = [a, b]
    while b:
        a, b = b, a % b
        steps.append(b)
    return str(gcd(int(value), int(params["b"]))), " ".join(map(str, steps))


def _listed(items: list[str]) -> str:
    return ", ".join(items)


def _skill(
    name: str,
    takes: Kind,
    gives: Kind,
    draw: Callable[[random.Random, Fresh], str],
    solve: Callable[[str, Params], tuple[str, str]],
    params: Callable[[random.Random, str], Params | None] = _none,
) -> Skill:
    return Skill(name, takes, gives, draw, params, solve)


_ALL: Final = (
    _skill("spell-backward", "word", "word", fresh_word, _direct(lambda v: v[::-1])),
    _skill("sort-letters", "word", "word", fresh_word, _direct(lambda v: "".join(sorted(v)))),
    _skill(
        "count-vowels", "word", "number", fresh_word, _direct(lambda v: str(sum(c in _VOWELS for c in v)))
    ),
    _skill("count-letter", "word", "number", fresh_word, lambda v, p: (str(v.count(p["c"])), ""), _letter),
    _skill("shift-letters", "word", "word", fresh_word, _shifted, _shift),
    _skill(
        "drop-vowels",
        "word",
        "word",
        fresh_word,
        _direct(lambda v: "".join(c for c in v if c not in _VOWELS)),
    ),
    _skill("addition", "number", "number", _number(999), _added, _summand),
    _skill("subtraction", "number", "number", _number(999, 2), _subtracted, _subtrahend),
    _skill("to-binary", "number", "binary", _number(4095, 2), _to_binary, _when(lambda n: 2 <= n <= 4095)),
    _skill("from-binary", "binary", "number", _binary, _from_binary),
    _skill("to-roman", "number", "roman", _number(1999), _to_roman, _when(lambda n: 1 <= n <= 1999)),
    _skill("from-roman", "roman", "number", _roman, _from_roman),
    _skill("digit-sum", "number", "number", _number(99999, 10), _digit_sum, _when(lambda n: n >= 10)),
    _skill("gcd", "number", "number", _number(99, 2), _gcd, _partner),
    _skill("sort-words", "words", "words", _words, _direct(lambda v: _listed(sorted(v.split(", "))))),
    _skill("longest-word", "words", "word", _one_longest, _direct(lambda v: max(v.split(", "), key=len))),
    _skill("first-letters", "words", "word", _words, _direct(lambda v: "".join(w[0] for w in v.split(", ")))),
    _skill("reverse-words", "words", "words", _words, _direct(lambda v: _listed(v.split(", ")[::-1]))),
    _skill(
        "sort-numbers",
        "numbers",
        "numbers",
        _numbers,
        _direct(lambda v: _listed(sorted(v.split(", "), key=int))),
    ),
    _skill("maximum", "numbers", "number", _numbers, _direct(lambda v: max(v.split(", "), key=int))),
)

SKILLS: Final[Mapping[str, Skill]] = MappingProxyType({skill.name: skill for skill in _ALL})
"""Every family by its name."""
