"""What the text of a reply tells of whether it is right: marks of its working, and the log-odds after reading it.

A reply that ends on "the closest option", uses none of the question's numbers, breaks off, or says a value that its working never
came to is less often right than its worker usually is. Numpy only, imported late; the marks themselves need nothing. Learned by
`learning.evidence.reading`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.policies.answers import value_of
from stretto.policies.evidence.options import LOOKS, looks
from stretto.policies.evidence.trees import Trees
from stretto.types import Message

__all__ = ["MARKS", "Asked", "Reading", "bare", "marks", "rows", "written"]

_READ: Final = 2500
"""So many characters of a reply are read: recorded texts are cut short, too."""

_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")
_OPTION: Final = re.compile(r"^[ \t]*\(?([A-P])[.):]\)?[ \t]+(\S[^\n]*)", re.MULTILINE)
_NAMED: Final = re.compile(r"\(([A-P])\)")
_NOWHERE: Final = (0.0,) * len(LOOKS)
_MOST: Final = 6.0
_SHORT: Final = 400
_LAST: Final = 5

_SAYINGS: Final = (
    ("closest", "nearest"),
    ("none of", "not listed", "not match", "not among", "not an option", "not provided", "not in the"),
    ("however", " but "),
    ("assum",),
    ("approx", "≈", "roughly", " about "),
    ("cannot", "can't", "unable", "impossible", "insufficient", "not enough", "not clear"),
    ("wait", "actually", "mistake", "recheck", "re-ev", "reconsider", "try again", "error", "incorrect"),
    ("likely", "probabl", "seem", " might ", " may ", " could ", "perhaps", "possibl"),
    ("therefore", "thus", "hence", " so "),
    ("given",),
    ("option", "choice"),
    (" if ",),
    ("let ", "let's"),
    ("not ", "n't "),
    ("step",),
    ("substitut", "simplif", "solv", "comput", "calculat"),
    ("=",),
    ("?",),
    ("\\",),
    ("*",),
)
"""Words and signs that are counted together."""

MARKS: Final = (
    *(
        "length",
        "cut",
        "lines",
        "no value",
        "value length",
        "value digits",
        "number",
        "size",
        "negative",
        "whole",
    ),
    *(
        "option place",
        "options",
        "option length",
        "option quoted",
        "option words",
        "option words before others",
    ),
    *("option number", "option number reached", "another option's number reached"),
    *("numbers", "different numbers", "numbers from prompt", "prompt numbers used", "decimals", "digits"),
    *("value reached", "value in prompt", "words from prompt", "prompt words used"),
    *(group[0] for group in _SAYINGS),
    *("prompt length", "option named", *LOOKS),
)
"""What is read off a reply, in this order. New ones go to the end: an artefact's trees know them by their place."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a prompt a reply is held against, found once for all its replies."""

    numbers: frozenset[float]
    words: frozenset[str]
    options: Mapping[str, tuple[str, frozenset[str], float | None]]
    looks: Mapping[str, Sequence[float]]
    length: float

    @classmethod
    def of(cls, prompt: str) -> "Asked":
        """Read a prompt."""
        found = dict(_OPTION.findall(prompt))
        if len(found) < 2:
            found = {}
        options = {
            letter: (text.strip().lower(), _words(text.lower()), next(iter(_numbers(text)), None))
            for letter, text in found.items()
        }
        seen = frozenset(_numbers(prompt)), _words(prompt.lower())
        return cls(*seen, options, looks(found) if found else {}, math.log1p(len(prompt)))


def written(message: Message, *, last_line: bool) -> str:
    """What there is to read: the worker's thoughts where it shows them, else its reply; with `last_line` always its reply."""
    return message.text if last_line else message.reasoning or message.text


def bare(text: str, value: str | None, tools: Sequence[Mapping[str, Any]] = ()) -> bool:
    """Whether a text is nothing but its answer, held against what the request offers: there is no working to read."""
    return value is not None and len(text) <= _SHORT and value_of(text, tools) == value


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def marks(asked: Asked, text: str, value: str | None) -> list[float]:
    """The marks of `MARKS` of one reply. `value`: what it says (`answers.said`), "" for nothing, `None`: not comparable."""
    text = text[:_READ]
    low = text.lower()
    found = _NUMBER.findall(text)
    numbers = [float(one.replace(",", "")) for one in found]
    words, different = _words(low), set(numbers)
    shared = len(different & asked.numbers)
    common = len(words & asked.words)
    number = _number(value)
    before = set(numbers[:-1])
    return [
        math.log1p(len(text)),
        float(len(text) == _READ),
        math.log1p(text.count("\n")),
        float(value == ""),
        math.log1p(len(value or "")),
        math.log1p(sum(map(str.isdigit, (value or "")[:200]))),
        float(number is not None),
        0.0 if number is None else math.log1p(min(abs(number), 1e12)),
        float(number is not None and number < 0),
        float(number is not None and number == int(number)),
        *_option(asked, value, low, words, numbers[-_LAST:]),
        math.log1p(len(numbers)),
        math.log1p(len(different)),
        shared / (len(different) + 1),
        shared / (len(asked.numbers) + 1),
        max((len(one) - one.find(".") - 1 for one in found if "." in one), default=0),
        max(map(len, found), default=0),
        float(number is not None and abs(number) in before),
        float(number is not None and abs(number) in asked.numbers),
        common / (len(words) + 1),
        common / (len(asked.words) + 1),
        *(math.log1p(sum(map(low.count, group))) for group in _SAYINGS),
        asked.length,
        _named(asked, text, value),
        *asked.looks.get(value or "", _NOWHERE),
    ]


def _named(asked: Asked, text: str, value: str | None) -> float:
    """Which share of the options that a text names by their letters is the chosen one."""
    if value is None or value not in asked.options:
        return 0.0
    named = _NAMED.findall(text)
    return named.count(value) / (len(named) + 1)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _option(
    asked: Asked, value: str | None, low: str, words: frozenset[str], last: Sequence[float]
) -> list[float]:
    """How the chosen one of several options stands against the working, and against the others."""
    chosen = asked.options.get(value or "")
    if chosen is None:
        return [0.0, float(len(asked.options)), *[0.0] * 7]
    text, own, number = chosen
    others = [option for letter, option in asked.options.items() if letter != value]
    share = len(own & words) / (len(own) + 1)
    return [
        1.0 + list(asked.options).index(value or ""),
        float(len(asked.options)),
        math.log1p(len(text)) - sum(math.log1p(len(o[0])) for o in others) / len(others),
        float(text[:40] in low),
        share,
        share - max(len(o[1] & words) / (len(o[1]) + 1) for o in others),
        float(number is not None),
        float(number is not None and number in last),
        float(any(o[2] in last for o in others if o[2] is not None)),
    ]


@dataclass(frozen=True, slots=True)
class Reading:
    """Boosted trees over a worker's log-odds, who it is, the mean log-odds of all, and the marks of its reply."""

    trees: Trees

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Reading":
        """From an artefact's data."""
        return cls(Trees.of(data["trees"]))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {"trees": self.trees.data}

    def after(self, logits: Any, read: Any) -> Any:
        """The log-odds of each worker once its reply was read (items, workers); as before where there was nothing to read (nan).

        `read`: the marks (items, workers, marks).
        """
        import numpy as np

        known = ~np.isnan(read[:, :, 0])
        out = np.array(logits, dtype=np.float64)
        if known.any():
            out[known] = np.clip(self.trees.log_odds(rows(logits, read)[known]), -_MOST, _MOST)
        return out


def rows(logits: Any, read: Any) -> Any:
    """What the trees see (items, workers, 3 + marks)."""
    import numpy as np

    items, workers = logits.shape
    worker = np.broadcast_to(np.arange(workers, dtype=np.float64), (items, workers))
    ease = np.broadcast_to(logits.mean(1, keepdims=True), (items, workers))
    return np.concatenate([np.stack([logits, worker, ease], axis=2), read], axis=2)
