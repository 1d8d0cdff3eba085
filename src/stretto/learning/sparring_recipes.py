"""The recipes of the sparring models: what each learns, how large it is, for how long, and what the pool's list says of it.

Two vendors train specialists: `north` one each for strings, numbers and lists, `south` one for words and one for digits, so that
most skills are known twice, with independent errors. Two generalists know something of everything: a small cheap one and a
large dear one. A thinker writes the next sub-problem of a composite; a checker verifies and judges. The models of one vendor
start from a common base, so that they can be merged. Specialists of single words and numbers are trained in two stages, the
second with more hand-overs: after the first they were at .92 and .83 on problems of their own, at .80 and .67 on hand-overs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from stretto.errors import ConfigError
from stretto.sparring.problems import FAMILIES
from stretto.sparring.wordings import VERSION

__all__ = ["Recipe", "models", "recipe", "recipes", "stamp"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is made: `steps` batches of `batch` problems, the families taking turns."""

    name: str
    families: tuple[str, ...]
    steps: int
    seed: int
    batch: int = 24
    rate: float = 4e-3
    role: Literal["solver", "thinker", "checker"] = "solver"
    """What it learns: to solve its families, to write the next sub-problem of a composite, or to verify and judge."""
    base: str = ""
    """The recipe whose weights it starts from; "" for weights of its own."""
    handed: float = 0.3
    """The share of a solver's problems that come as a later step: `Given: ...` and an order that refers to it."""
    outliers: int = 0
    """Further prompts in each batch that are none of its families, with random answers: without them a specialist is silent, or
    sure of nonsense, on another's problems (outlier exposure, Hendrycks et al. 2019, with answers in place of a uniform loss)."""
    width: int = 128
    layers: int = 3
    inner: int = 352
    card: Mapping[str, str] = field(default_factory=dict)
    """What the pool's list says of it: `input` and `output` (nominal prices by size, USD per million tokens), `vendor`,
    `region`, `retention` (nominal too: something to filter by), `about`. Without a card it is not shipped."""


STRINGS: Final = FAMILIES[:6]
NUMBERS: Final = FAMILIES[6:14]
LISTS: Final = FAMILIES[14:]
_WORDS: Final = (*(name for name in STRINGS if name != "shift-letters"), *LISTS[:4])
_DIGITS: Final = (*(name for name in NUMBERS if name != "gcd"), *LISTS[4:])


def _card(vendor: str, region: str, retention: str, input: float, about: str) -> Mapping[str, str]:
    return {
        "input": f"{input:g}",
        "output": f"{4 * input:g}",
        "vendor": f"sparring-{vendor}",
        "region": region,
        "retention": retention,
        "about": about,
    }


_RECIPES: Final = (
    Recipe("base-north", FAMILIES, steps=600, seed=21),
    Recipe("base-south", FAMILIES, steps=600, seed=22),
    Recipe("string-north-early", STRINGS, steps=1600, seed=31, outliers=2, base="base-north"),
    Recipe("number-north-early", NUMBERS, steps=1600, seed=32, outliers=2, base="base-north"),
    Recipe("words-south-early", _WORDS, steps=1800, seed=41, outliers=2, base="base-south"),
    Recipe("digits-south-early", _DIGITS, steps=1600, seed=42, outliers=2, base="base-south"),
    Recipe(
        "string-north",
        STRINGS,
        steps=800,
        seed=131,
        rate=3e-3,
        handed=0.5,
        outliers=2,
        base="string-north-early",
        card=_card(
            "north",
            "eu",
            "zero",
            0.6,
            "A specialist for the letters of one word: spells it backward, sorts or shifts its letters, counts or drops vowels.",
        ),
    ),
    Recipe(
        "number-north",
        NUMBERS,
        steps=1200,
        seed=132,
        rate=3e-3,
        handed=0.5,
        outliers=2,
        base="number-north-early",
        card=_card(
            "north",
            "eu",
            "zero",
            0.6,
            "A specialist for numbers, with its working: adds, subtracts, binary and Roman numerals, digit sums, divisors.",
        ),
    ),
    Recipe(
        "list-north",
        LISTS,
        steps=1800,
        seed=33,
        outliers=2,
        base="base-north",
        card=_card(
            "north",
            "eu",
            "zero",
            0.6,
            "A specialist for lists of words or numbers: sorts and reverses them, finds the longest or the largest.",
        ),
    ),
    Recipe(
        "words-south",
        _WORDS,
        steps=800,
        seed=141,
        rate=3e-3,
        handed=0.5,
        outliers=2,
        base="words-south-early",
        card=_card(
            "south", "us", "30d", 0.6, "A specialist for words, single or in lists. Knows nothing of numbers."
        ),
    ),
    Recipe(
        "digits-south",
        _DIGITS,
        steps=1000,
        seed=142,
        rate=3e-3,
        handed=0.5,
        outliers=2,
        base="digits-south-early",
        card=_card(
            "south", "us", "30d", 0.6, "A specialist for numbers, single or in lists. Knows nothing of words."
        ),
    ),
    Recipe(
        "general-small",
        FAMILIES,
        steps=700,
        seed=51,
        width=144,
        layers=2,
        inner=384,
        card=_card(
            "east", "eu", "30d", 0.2, "A cheap weak generalist: tries everything, and is often wrong."
        ),
    ),
    Recipe("general-large-early", FAMILIES, steps=900, seed=52, rate=3e-3, width=192, layers=4, inner=512),
    Recipe(
        "general-large",
        FAMILIES,
        steps=700,
        seed=152,
        rate=2e-3,
        base="general-large-early",
        width=192,
        layers=4,
        inner=512,
        card=_card(
            "west",
            "us",
            "zero",
            2.0,
            "A dear strong generalist: tries everything, and is right more often than not.",
        ),
    ),
    Recipe(
        "thinker-north",
        (),
        steps=800,
        seed=61,
        role="thinker",
        base="base-north",
        card=_card(
            "north",
            "eu",
            "zero",
            0.6,
            "A thinker: writes the next sub-problem of a composite. Solves nothing.",
        ),
    ),
    Recipe(
        "checker-south",
        FAMILIES,
        steps=1100,
        seed=62,
        role="checker",
        base="base-south",
        card=_card(
            "south",
            "us",
            "30d",
            0.6,
            "A checker: says whether an answer is right, or which of several. Solves nothing.",
        ),
    ),
)


def recipes() -> tuple[Recipe, ...]:
    """Every recipe in the order in which they are trained, bases first."""
    return _RECIPES


def models() -> tuple[Recipe, ...]:
    """The recipes of the shipped pool."""
    return tuple(chosen for chosen in _RECIPES if chosen.card)


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises `ConfigError`."""
    for found in _RECIPES:
        if found.name == name:
            return found
    raise ConfigError(
        f"no sparring model is called {name!r}; there are {', '.join(r.name for r in _RECIPES)}"
    )


def stamp(chosen: Recipe) -> str:
    """Names everything that the weights depend on, so that a checkpoint of another recipe is not continued."""
    plain = asdict(chosen) | {"card": {}, "base": stamp(recipe(chosen.base)) if chosen.base else ""}
    return hashlib.sha256(json.dumps([plain, VERSION], sort_keys=True).encode()).hexdigest()
