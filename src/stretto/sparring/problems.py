"""Sparring problems: plain-English tasks made from a seed, each with one right answer.

Four families. Two are about the letters of a word (`spell-backward`, `sort-letters`), two about numbers (`addition`,
`to-binary`). The payload (the word, the numbers) decides the split, by its hash: a payload that was trained on is never tested,
in any family and under any wording.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from stretto.sparring.wordings import POLITE, TEMPLATE_WORDS, TEMPLATES

__all__ = ["FAMILIES", "Problem", "Split", "problems", "split_of"]

Split = Literal["train", "calibration", "test"]

FAMILIES: Final = tuple(TEMPLATES)
"""The names of the problem families."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_VOWELS: Final = "aeiou"
_ONSETS: Final = (
    "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl gr pl pr qu sh sl sp st str th tr"
)
_CODAS: Final = "d k l m n p r s t x ck ll nd ng nt rd sh ss st"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: `id` is `family/seed/index` and makes the same problem again."""

    id: str
    family: str
    prompt: str
    answer: str
    working: str
    """The line of steps that a number specialist writes before ` = `; empty where the answer is given directly."""
    split: Split

    @property
    def worked(self) -> str:
        """The answer as a careful worker writes it: `working = answer`, or the answer alone."""
        return f"{self.working} = {self.answer}" if self.working else self.answer


def split_of(payload: str) -> Split:
    """The split that a payload belongs to: 8 of 10 are for training, one each for calibration and test."""
    bucket = hashlib.blake2b(payload.encode(), digest_size=8).digest()[0] % 10
    return "train" if bucket < 8 else "calibration" if bucket == 8 else "test"


def problems(families: Sequence[str], split: Split, n: int, seed: int) -> list[Problem]:
    """`n` problems of `split`, the families taking turns; equal arguments give equal problems."""
    if unknown := [name for name in families if name not in _MAKERS]:
        raise ValueError(f"unknown problem family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; there are {', '.join(get_args(Split))}")
    if not families:
        raise ValueError("at least one problem family is needed")
    return [_problem(families[index % len(families)], split, seed, index) for index in range(n)]


def _problem(family: str, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"{family}/{split}/{seed}/{index}")
    while True:  # rejection: four of five draws are for training, one in ten for each other split
        payload, fields, answer, working = _MAKERS[family](rng)
        if split_of(payload) == split:
            break
    prompt = _vary(rng.choice(TEMPLATES[family]).format_map(fields), fields, rng)
    return Problem(f"{family}/{seed}/{index}", family, prompt, answer, working, split)


def _vary(prompt: str, fields: Mapping[str, str], rng: random.Random) -> str:
    """The same prompt as different people type it: quotes, no full stop, politeness."""
    if "w" in fields and rng.random() < 0.15:
        quote = rng.choice("\"'")
        prompt = prompt.replace(f" {fields['w']}", f" {quote}{fields['w']}{quote}", 1)
    if prompt.endswith(".") and rng.random() < 0.15:
        prompt = POLITE + prompt[0].lower() + prompt[1:]
    if rng.random() < 0.15:
        prompt = prompt.rstrip(".?").rstrip()
    return prompt


# --- payloads: (payload, fields of the wording, answer, working) ---------------------------------------------------


_Made = tuple[str, Mapping[str, str], str, str]


def _word(rng: random.Random) -> str:
    """A word of 3 to 10 letters that looks like English, or, one time in four, random letters."""
    length = rng.randint(3, 10)
    onsets, codas = _ONSETS.split(), ["", "", *_CODAS.split()]
    while True:
        if rng.random() < 0.25:
            word = "".join(rng.choice(_LETTERS) for _ in range(length))
        else:
            word = ""
            while len(word) < length:
                word += rng.choice(onsets) + rng.choice(_VOWELS) + rng.choice(codas)
            start = rng.choice((0, 0, 1)) if len(word) > length else 0
            word = word[start : start + length]
        if len(word) == length and word not in TEMPLATE_WORDS:
            return word


def _spell_backward(rng: random.Random) -> _Made:
    word = _word(rng)
    return word, {"w": word}, word[::-1], ""


def _sort_letters(rng: random.Random) -> _Made:
    word = _word(rng)
    return word, {"w": word}, "".join(sorted(word)), ""


def _addition(rng: random.Random) -> _Made:
    a, b = (
        rng.randint(10 ** (digits - 1), 10**digits - 1) for digits in rng.choices((1, 2, 3), (1, 2, 3), k=2)
    )
    low, high = sorted((a, b))
    return f"{low}+{high}", {"a": str(a), "b": str(b)}, str(a + b), _columns(a, b)


def _columns(a: int, b: int) -> str:
    """Column addition from the right, as pupils write it: `347+86` gives `7+6=13 4+8+1=13 3+0+1=4`."""
    first, second, carry, lines = str(a)[::-1], str(b)[::-1], 0, []
    for place in range(max(len(first), len(second))):
        x, y = (int(digits[place]) if place < len(digits) else 0 for digits in (first, second))
        total = x + y + carry
        lines.append(f"{x}+{y}+1={total}" if carry else f"{x}+{y}={total}")
        carry = total // 10
    return " ".join(lines)


def _to_binary(rng: random.Random) -> _Made:
    number = rng.randint(2, rng.choice((63, 255, 1023, 4095)))
    halves = [number >> shift for shift in range(number.bit_length())]
    # Each half with its last bit: the answer is then the bits read from the right.
    working = " ".join(f"{half}:{half & 1}" for half in halves)
    return str(number), {"n": str(number)}, f"{number:b}", working


_MAKERS: Final[Mapping[str, Callable[[random.Random], _Made]]] = MappingProxyType(
    {
        "spell-backward": _spell_backward,
        "sort-letters": _sort_letters,
        "addition": _addition,
        "to-binary": _to_binary,
    }
)
