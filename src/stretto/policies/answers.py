"""When two replies say the same: the value that an answer comes to, in one normal form.

Letters, numbers, Python and JSON literals, function calls, and texts each have theirs; "" is an answer that is none (empty, or a
refusal), which is evidence too. Where answers cannot be compared (free text, programs), every answer is a class of its own.
"""

import ast
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final

from stretto.policies.signals import final_value
from stretto.policies.transcript import canonical
from stretto.types import Message

__all__ = ["classes", "comparable", "said", "value_of", "value_of_message"]

_MONEY: Final = re.compile(r"^[$€£]?\s*([-+]?\s?[\d,]*\.?\d+(?:[eE][-+]?\d+)?)\.?\s*[%$€£]?$")
_MEASURE: Final = re.compile(
    r"^[$€£]?\s*([-+]?[\d,]*\.?\d+)\s*\$?\s*"
    r"(?:°\s?[CFK]?|(?!(?:pi|sqrt|root|times|and|or|to|mod)\b)[A-Za-z]{2,}(?:\s[A-Za-z]+){0,3})\.?$"
)
_LATEX: Final = re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_LATEX_FRACTION: Final = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")
_FRACTION: Final = re.compile(r"^([-+]?\d+)\s*/\s*(\d+)$")
_LETTER: Final = re.compile(r"^\(?([A-Za-z])\)?[.:)]?$")
_PROGRAM: Final = re.compile(r"```|^\s*(?:def|class|import|from|#include|function)\b", re.MULTILINE)
_WRAPPING: Final = re.compile(r"^```\w*\n|\n?```\s*$|</?tool_call>")
_LONG: Final = 400


def value_of(text: str | None) -> str:
    """The value of an answer as text; equal values are the same answer. A number is one without its unit: "9 days" is 9."""
    text = (text or "").strip()
    if not text:
        return ""
    if "\\" in text or text[0] == "$":
        text = _plain(text)
    if found := _LETTER.match(text):
        return found[1].upper()
    if found := _FRACTION.match(text):
        return f"{int(found[1]) / int(found[2]):.6g}" if int(found[2]) else text
    if found := _MONEY.match(text) or _MEASURE.match(text):
        try:
            return f"{float(found[1].replace(',', '').replace(' ', '')):.6g}"
        except ValueError:
            pass
    if len(text) <= 20_000 and (text[0] in "[({<`'\"-0123456789TFNtfn" or "(" in text[:80]):
        parsed = _parsed(_WRAPPING.sub("", text).strip())
        if parsed is not None:
            return parsed
    return _bare(text)


def _bare(text: str) -> str:
    """A text for comparison: without blanks, quotes, and marks at its end, in one case; one letter is a choice."""
    bare = re.sub(r"[\s\"'`]+", "", text).rstrip(".!").casefold()
    return bare.upper() if len(bare) == 1 and bare.isalpha() else bare


def _plain(text: str) -> str:
    """LaTeX around a number or a word taken away."""
    text = _LATEX_FRACTION.sub(r"\1/\2", _LATEX.sub(r"\1", text.replace("\\_", "_")))
    return (
        text.strip("$ ")
        .removeprefix("\\(")
        .removesuffix("\\)")
        .replace("\\$", "")
        .replace("\\%", "%")
        .strip()
        or text
    )


def _parsed(text: str) -> str | None:
    """A JSON or Python literal printed again, or calls in a canonical form; `None` if it is neither."""
    try:
        value = json.loads(text)
        return _bare(value) if isinstance(value, str) else _json_calls(value) or _literal(value)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of what a model wrote, not of ours
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    try:
        value = ast.literal_eval(tree)
        return _bare(value) if isinstance(value, str) else _literal(value)
    except (ValueError, TypeError, RecursionError):
        pass
    elements = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    if elements and all(isinstance(e, ast.Call) for e in elements):
        return " ".join(sorted(_call(e) for e in elements if isinstance(e, ast.Call)))
    return None


def _json_calls(value: Any) -> str:
    """Calls as JSON: `{"name": f, "arguments": {...}}` or `{f: {...}}`, one or a list; "" if it is something else."""
    found = []
    for call in value if isinstance(value, list) else [value]:
        if isinstance(call, dict) and set(call) >= {"name", "arguments"}:
            name, given = str(call["name"]), call["arguments"]
        elif isinstance(call, dict) and len(call) == 1:
            ((name, given),) = call.items()
        else:
            return ""
        given = json.loads(given) if isinstance(given, str) and given.startswith("{") else given
        if not isinstance(given, dict):
            return ""
        found.append(f"{_name(name)}({','.join(sorted(f'{k}={_literal(v)}' for k, v in given.items()))})")
    return " ".join(sorted(found))


def _literal(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).casefold()
    if isinstance(value, int | float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return re.sub(r"[\s\"'`.,;:!?_-]+", "", value).casefold()
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{_literal(k)}:{_literal(v)}" for k, v in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(v) for v in value) + "]"
    return repr(value)


def _call(call: ast.Call) -> str:
    given = [_argument(a) for a in call.args]
    named = sorted(f"{k.arg}={_argument(k.value)}" for k in call.keywords)
    return f"{_name(ast.unparse(call.func))}({','.join([*given, *named])})"


def _name(name: str) -> str:
    """A function's name: upstreams that allow no dots write underscores in their place."""
    return name.casefold().removeprefix("functions.").replace(".", "_")


def _argument(node: ast.expr) -> str:
    try:
        return _literal(ast.literal_eval(node))
    except (ValueError, TypeError, RecursionError):
        return re.sub(r"\s+", "", ast.unparse(node)).casefold()


def comparable(text: str) -> bool:
    """Whether equality says anything about this answer: not for programs and long prose."""
    if len(text) <= _LONG and not _PROGRAM.search(text):
        return True
    return len(text) <= 20_000 and _parsed(_WRAPPING.sub("", text).strip()) is not None


def value_of_message(message: Message) -> str:
    """The value of a reply: its tool calls in any order, else its text."""
    if message.tool_calls:
        return " ".join(sorted(map(canonical, message.tool_calls)))
    return value_of(message.text)


def said(message: Message, *, last_line: bool) -> str | None:
    """The value of a whole reply, "" for none, `None` where it cannot be compared.

    With `last_line` a reply of several lines that is no literal as a whole counts by its last one: working
    comes before an answer.
    """
    text = message.text.strip()
    if message.tool_calls or not text:
        return value_of_message(message)
    if not comparable(text) and not last_line:
        return None
    if last_line and "\n" in text and _parsed(_WRAPPING.sub("", text).strip()) is None:
        if _PROGRAM.search(text):
            return None
        text = final_value(text)
    return value_of(text) if comparable(text) else None


def classes(values: Sequence[str]) -> list[int]:
    """Numbers from 0 for the different values in the order they come, -1 for "" (no answer)."""
    seen: dict[str, int] = {}
    return [-1 if v == "" else seen.setdefault(v, len(seen)) for v in values]
