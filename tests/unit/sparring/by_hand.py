"""The sparring families solved a second time, by other code than the generators': read off the prompt, then worked out."""

import math
import re

from stretto.sparring.problems import Problem
from stretto.sparring.wordings import TEMPLATE_WORDS

_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_SIGNS = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl")),
    *((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_TWO = ("addition", "subtraction", "gcd")
_LISTS = ("sort-words", "longest-word", "first-letters", "reverse-words", "sort-numbers", "maximum")


def read(family: str, prompt: str) -> tuple[str, str, str]:
    """The payload of a problem in a known wording, its second number or shift, and its letter ("" where there is none)."""
    text = prompt.lower()
    numbers = re.findall(r"\d+", text)
    words = [w for w in re.findall(r"[a-z]+", text) if w not in TEMPLATE_WORDS]
    if family in _LISTS:
        found = re.search(r"[a-z0-9]+(?:, [a-z0-9]+)+", text)
        assert found
        return found.group(), "", ""
    if family in _TWO:
        first, second = sorted(numbers, key=int, reverse=True) if family == "subtraction" else numbers
        return first, second, ""
    if family in ("from-binary", "to-binary", "to-roman", "digit-sum"):
        return numbers[0], "", ""
    if family == "from-roman":
        return next(w for w in words if set(w) <= set(_ROMAN)), "", ""
    word = next(w for w in words if len(w) >= 3)
    letter = re.search(r"\b[a-z]\b", text) if family == "count-letter" else None
    return word, numbers[0] if numbers else "", letter.group() if letter else ""


def parameters(family: str, order: str) -> tuple[str, str]:
    """The second number and the letter in an order about an earlier reply."""
    number, letter = re.search(r"\d+", order), re.search(r"\b[a-z]\b", order.lower())
    return number.group() if number else "", letter.group() if letter and family == "count-letter" else ""


def solved(family: str, value: str, number: str = "", letter: str = "") -> str:
    """The right answer."""
    items = value.split(", ")
    return {
        "spell-backward": lambda: "".join(value[-n] for n in range(1, len(value) + 1)),
        "sort-letters": lambda: "".join(c * value.count(c) for c in map(chr, range(97, 123))),
        "count-vowels": lambda: str(len(re.findall("[aeiou]", value))),
        "count-letter": lambda: str(len(value.split(letter)) - 1),
        "shift-letters": lambda: "".join(chr((ord(c) - 97 + int(number)) % 26 + 97) for c in value),
        "drop-vowels": lambda: re.sub("[aeiou]", "", value),
        "addition": lambda: str(int(value) + int(number)),
        "subtraction": lambda: str(int(value) - int(number)),
        "to-binary": lambda: bin(int(value))[2:],
        "from-binary": lambda: str(sum(2**place for place, bit in enumerate(value[::-1]) if bit == "1")),
        "to-roman": lambda: _roman(int(value)),
        "from-roman": lambda: str(_number(value)),
        "digit-sum": lambda: str(sum(value.count(digit) * int(digit) for digit in "123456789")),
        "gcd": lambda: str(math.gcd(int(value), int(number))),
        "sort-words": lambda: ", ".join(_by_insertion(items)),
        "longest-word": lambda: next(w for w in items if all(len(w) > len(o) for o in items if o is not w)),
        "first-letters": lambda: "".join(re.findall(r"\b\w", value)),
        "reverse-words": lambda: ", ".join(items[-n] for n in range(1, len(items) + 1)),
        "sort-numbers": lambda: ", ".join(str(n) for n in range(1000) if str(n) in items),
        "maximum": lambda: str(max(map(int, items))),
    }[family]()


def payload(problem: Problem) -> list[str]:
    """What decides a simple problem's split: each word of its own, any other payload as a whole."""
    value, number, _ = read(problem.family, problem.prompt)
    if problem.family in _TWO:
        return ["+".join(sorted((value, number), key=int))]
    return value.split(", ") if value.replace(", ", "").isalpha() else [value]


def _roman(number: int) -> str:
    text = ""
    for size, sign in _SIGNS:
        while number >= size:
            text, number = text + sign, number - size
    return text


def _number(roman: str) -> int:
    sizes = [_ROMAN[c] for c in roman]
    return sum(-a if a < b else a for a, b in zip(sizes, [*sizes[1:], 0], strict=True))


def _by_insertion(items: list[str]) -> list[str]:
    done: list[str] = []
    for item in items:
        done.insert(sum(other < item for other in done), item)
    return done
