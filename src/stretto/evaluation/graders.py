"""Grading: how good an answer is, 0..1, and why. An algorithm decides wherever one can; a judge model only where none can.

Grader errors have moved published scores by tens of points, so each grade says what it compared: `why` is what
an audit reads.
"""

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from stretto.engine.run import Engine
from stretto.errors import ConfigError
from stretto.evaluation.sandbox import USUAL, Bounds, run_python
from stretto.policies.judging import verdict
from stretto.policies.solo import Solo
from stretto.types import NO_LIMITS, Answer, Limits, Message, Request

__all__ = [
    "GRADERS",
    "Grade",
    "Grader",
    "Judge",
    "choice",
    "code",
    "exact",
    "grader",
    "json_equal",
    "matches",
    "number",
]


@dataclass(frozen=True, slots=True)
class Grade:
    """A score 0..1 and what it rests on. `cost` (pico-dollars): what grading took, where a model did it."""

    score: float
    why: str
    cost: int = 0


Grader = Callable[[Answer, str], Awaitable[Grade]]
"""Grades an answer against a reference. Never raises for what an answer holds: that is a score of 0 with a reason."""

_NUMBER: Final = re.compile(
    r"(?:(?<![\w)])[-+])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
_FRACTION: Final = re.compile(r"(?<![\d.])((?:(?<![\w)])[-+])?\d+)\s*/\s*(\d+)(?![\d.])")
_MARKED: Final = re.compile(
    r"\\boxed\{([^{}]*)\}|####\s*(.+)|(?i:answer is)\s*:?\s*([^\n]+)|(?i:answer)\**\s*:\**\s*([$€£*(]*[-+]?\.?\d[^\n]*)"
)
_WRITTEN: Final = (
    (re.compile("\u2212"), "-"),  # the minus sign of mathematics
    (re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}"), r"\1/\2"),
    # thousands, as LaTeX and print set them apart
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|[\u00a0\u2009\u202f])(?=\d{3})"), ","),
)
_FENCE: Final = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)
_BOXED: Final = re.compile(r"\\boxed\{\s*(?:\\text\{)?\(?([A-Z])\)?")
_SETTLED: Final = re.compile(
    r"(?:(?i:\banswer|(?:choice|option)(?=\s*:|\s+is))(?i:\s+(?:is|would\s+be|must\s+be))?\s*:?"
    r"|\b(?i:pick|choose|select|go\s+with|going\s+with|opt\s+for|settle\s+on|say))"
    r"\s*(?i:option|choice|answer)?\s*:?\s*[*(]*([A-Z])(?![A-Za-z'\u2019])(?!\W{0,3}(?:or|and)\W{1,3}[A-Z]\b)"
    r"|(?i:choice|option)\s*[*(]*([A-Z])[*)]*\s+(?i:is|must\s+be)\s+(?i:the\s+)?(?i:correct|right|best|answer)\b"
)
_LINE: Final = re.compile(r"^[^\w\n]*([A-Z])(?:[^\w\n]*$|[.):])", re.MULTILINE)
_SMALL: Final = re.compile(r"\A\W*([a-z])\W*\Z")
_MENTIONED: Final = (
    re.compile(r"(?i:choice|option)\s*:?\s*[*(]*([A-Z])(?![A-Za-z'\u2019])"),
    re.compile(r"\(([A-Z])\)"),
)


def _yes(right: bool, said: object, wanted: object) -> Grade:
    return Grade(float(right), f"{_short(said)} {'=' if right else '≠'} {_short(wanted)}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _failed(answer: Answer) -> Grade | None:
    return Grade(0.0, f"no answer: {answer.error.kind}") if answer.error is not None else None


def exact(*, case: bool = False) -> Grader:
    """Equal texts, edges and runs of blanks aside; without `case`, upper and lower case are the same."""

    def plain(text: str) -> str:
        text = " ".join(text.split())
        return text if case else text.casefold()

    async def grade(answer: Answer, reference: str) -> Grade:
        return _failed(answer) or _yes(plain(answer.text) == plain(reference), answer.text, reference)

    return grade


def number(*, tolerance: float = 1e-6, relative: float = 1e-6) -> Grader:
    r"""The last number of an answer (that in `\boxed{}`, or after `####`, "answer is" or "answer:", first) within a tolerance.

    Thousands separators, currency and percent signs are passed over; `a/b` is a fraction. Of "3 + 4 = 7" what it comes to counts.
    A minus after a digit, as in "3-5", is no sign.
    """
    for name, value in (("tolerance", tolerance), ("relative", relative)):
        if not _is_number(value) or not 0 <= value < math.inf:
            raise ConfigError(f"grader number: {name} is {value!r}; it must be a number that is not negative")

    async def grade(answer: Answer, reference: str) -> Grade:
        if failed := _failed(answer):
            return failed
        wanted, said = _value(reference), _value(answer.text)
        if wanted is None:
            raise ConfigError(f"the reference {reference!r} holds no number")
        if said is None:
            return Grade(0.0, f"no number in {_short(answer.text)}")
        return _yes(math.isclose(said, wanted, rel_tol=relative, abs_tol=tolerance), said, wanted)

    return grade


def _value(text: str) -> float | None:
    for pattern, plain in _WRITTEN:
        text = pattern.sub(plain, text)
    for found in [next(filter(None, m)) for m in reversed(_MARKED.findall(text))]:
        ends = re.split(r"[(;]|[.,]\s", found)[0].rpartition("=")  # "3 + 4 = 7": what it comes to
        value = _first_or_last(ends[2], 0) if ends[1] else None
        if value is not None or (value := _first_or_last(found, 0)) is not None:
            return value
    return _first_or_last(text, -1)


def _first_or_last(text: str, which: int) -> float | None:
    text = re.sub(r"(?<=\d)\s*[%€$£]|[$€£]\s*", " ", text)
    fractions = _FRACTION.findall(text)
    numbers = _NUMBER.findall(text)
    if fractions and (which == 0 or numbers[-1] == fractions[-1][1]):
        top, bottom = fractions[which]
        return float(top) / float(bottom) if float(bottom) else None
    return float(numbers[which].replace(",", "")) if numbers else None


def choice() -> Grader:
    """The letter that an answer settles on: boxed; after "answer is", "I pick" and the like; at the head of a line; in brackets.

    Options that are gone through one after the other (lines A, B, C, ...) are not it, nor is one of several that are only
    mentioned, unless the last sentence mentions one alone. A small letter counts where it is the whole answer.
    """

    async def grade(answer: Answer, reference: str) -> Grade:
        if failed := _failed(answer):
            return failed
        wanted = reference.strip().strip("().").upper()
        if not re.fullmatch("[A-Z]", wanted):
            raise ConfigError(f"the reference {_short(reference)} is not the letter of an option")
        found = _settled(answer.text)
        if len(found) == 1:
            return _yes(found.upper() == wanted, found, wanted)
        told = f"no letter settled on, of {', '.join(found)}," if found else "no letter"
        return Grade(0.0, f"{told} in {_short(answer.text)}")

    return grade


def _settled(text: str) -> str:
    """The letter that a text settles on; several, or none, if it settles on none."""
    for pattern in (_BOXED, _SETTLED):
        if said := ["".join(filter(None, found.groups())) for found in pattern.finditer(text)]:
            return said[-1]
    if small := _SMALL.search(text):
        return "".join(small.groups())
    heads: list[str] = _LINE.findall(text)
    gone = next((k for k, letter in enumerate(heads) if ord(letter) != ord("A") + k), len(heads))
    if left := heads[gone if gone > 1 else 0 :]:
        return left[-1]
    several = "".join(dict.fromkeys(heads))
    last = re.split(r"(?<=[.!?])\s+|\n", text.strip())[-1]
    for pattern in _MENTIONED:
        for part in (text, last):
            told = "".join(dict.fromkeys(pattern.findall(part)))
            if len(told) == 1:
                return told
            several = several or told
    return several


def matches() -> Grader:
    """The reference is a regular expression that is found somewhere in the answer."""

    async def grade(answer: Answer, reference: str) -> Grade:
        if failed := _failed(answer):
            return failed
        try:
            found = re.search(reference, answer.text)
        except re.error as error:
            raise ConfigError(f"the reference {reference!r} is no regular expression: {error}") from None
        return Grade(float(found is not None), f"/{reference}/ {'found' if found else 'not found'}")

    return grade


def json_equal() -> Grader:
    """Equal JSON values, or equal tool calls: reference `[{"name": ..., "arguments": {...}}]` in any order, or one such call.

    Numbers count by value, so 2 = 2.0; the order of keys does not count, that of lists does. JSON in prose counts if it is
    fenced, or the only thing in it.
    """

    async def grade(answer: Answer, reference: str) -> Grade:
        if failed := _failed(answer):
            return failed
        try:
            wanted = json.loads(reference)
        except ValueError:
            raise ConfigError(f"the reference {reference[:80]!r} is not JSON") from None
        if answer.message.tool_calls:
            said: Any = [
                {"name": c.name, "arguments": _loads(c.arguments)} for c in answer.message.tool_calls
            ]
            wanted = [wanted] if _calls([wanted]) else wanted
        else:
            fenced = _FENCE.findall(answer.text)
            said = _loads(fenced[-1] if fenced else answer.text)
        if _calls(wanted) and _calls(said):
            return _yes(_sorted(said) == _sorted(wanted), said, wanted)
        return _yes(_plain(said) == _plain(wanted), said, wanted)

    return grade


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"not JSON": text}


def _calls(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "name" in v for v in value)


def _plain(value: Any) -> Any:
    """A value with numbers as numbers: bool is not a number here."""
    if isinstance(value, bool) or value is None:
        return ("constant", str(value))
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _sorted(calls: list[dict[str, Any]]) -> list[str]:
    def arguments(call: dict[str, Any]) -> Any:
        given = call.get("arguments", {})
        return _loads(given) if isinstance(given, str) else given

    return sorted(json.dumps([c["name"], _plain(arguments(c))], sort_keys=True) for c in calls)


def code(bounds: Bounds = USUAL) -> Grader:
    """The reference is a Python test program; it is run after the code of the answer, in a sandboxed process with limits.

    Right if the tests end with status 0. Of several fenced blocks all are taken, in order; without any, the whole text.
    """

    async def grade(answer: Answer, reference: str) -> Grade:
        if failed := _failed(answer):
            return failed
        program = "\n\n".join(_FENCE.findall(answer.text) or [answer.text])
        ran = await run_python(program, bounds, tests=reference)
        return Grade(float(ran.passed), "the tests passed" if ran.passed else ran.why)

    return grade


_JUDGE: Final = """You check an answer against a reference.

Question:
{question}

Reference answer:
{reference}

Answer to check:
{answer}

Does the answer say the same as the reference where it matters? Reply with yes or no."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A worker of the pool decides by yes or no; its calls are in the ledger with purpose `evaluation`.

    What it says is an opinion: its agreement with graders that know belongs into every report that rests on it. It is not asked
    about an answer that is the reference itself. Neither yes nor no is no grade: 0, with that reason. `limits` bound each of its
    calls.
    """

    engine: Engine
    worker: str
    question: str = ""
    limits: Limits = NO_LIMITS

    def within(self, limits: Limits) -> "Judge":
        """The same under stricter limits."""
        return replace(self, limits=self.limits.tightened(limits))

    async def __call__(self, answer: Answer, reference: str) -> Grade:
        """As a `Grader`."""
        if failed := _failed(answer):
            return failed
        if " ".join(answer.text.split()) == " ".join(reference.split()) != "":
            return Grade(1.0, "equal to the reference, so the judge was not asked")
        text = _JUDGE.format(question=self.question, reference=reference, answer=answer.text)
        request = Request(
            messages=(Message("user", text),),
            model=self.worker,
            params={"temperature": 0},
            limits=self.limits,
        )
        run = await self.engine.run(Solo(self.worker), request, purpose="evaluation")
        if run.answer.error is not None:
            return Grade(0.0, f"{self.worker} could not judge: {run.answer.error.kind}", run.cost)
        said = verdict(run.answer.text)
        if said is None:
            why = f"{self.worker} said neither yes nor no: {_short(run.answer.text)}"
            return Grade(0.0, why, run.cost)
        return Grade(float(said), f"{self.worker} said {'yes' if said else 'no'} (run {run.id})", run.cost)


GRADERS: Final[Mapping[str, Callable[..., Grader]]] = {
    "exact": exact,
    "number": number,
    "choice": choice,
    "regex": matches,
    "json": json_equal,
    "code": code,
}
"""The graders that a row of tasks may name, and what makes them from its options. (`judge` needs an engine.)"""


def grader(name: str, **options: Any) -> Grader:
    """The grader of a name. Raises `ConfigError` for a name or an option that does not exist."""
    if name not in GRADERS:
        raise ConfigError(f"there is no grader {name!r}; there are {', '.join(GRADERS)} and judge")
    if name == "code":
        try:
            bounds = Bounds(**options)
        except TypeError:
            raise ConfigError(f"grader code has no such option among {', '.join(options)}") from None
        for option, value in options.items():
            least = 0 if option == "processes" else 1e-3
            if not _is_number(value) or value < least:
                raise ConfigError(
                    f"grader code: {option} is {value!r}; it must be a number, at least {least:g}"
                )
        return code(bounds)
    try:
        return GRADERS[name](**options)
    except TypeError:
        raise ConfigError(f"grader {name} has no such option among {', '.join(options)}") from None
