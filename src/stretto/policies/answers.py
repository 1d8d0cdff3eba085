"""When two replies say the same: the value that an answer comes to, in one normal form.

Letters, numbers, Python and JSON literals, function calls, and texts each have theirs; "" is an answer that is none (empty, or a
refusal, see `refuses`), which is evidence too: two who know nothing do not agree on anything. Where answers cannot be compared
(free text, programs), every answer is a class of its own.
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stretto.policies.calls import literal
from stretto.policies.calls import value as calls_value
from stretto.policies.signals import final_value
from stretto.types import Message, ToolCall

__all__ = ["classes", "comparable", "refuses", "said", "value_of", "value_of_message"]

_MONEY: Final = re.compile(r"^[$€£]?\s*([-+]?\s?[\d,]*\.?\d+(?:[eE][-+]?\d+)?)\.?\s*[%$€£]?$")
_MEASURE: Final = re.compile(
    r"^[$€£]?\s*([-+]?[\d,]*\.?\d+)\s*\$?\s*"
    r"(?:°\s?[CFK]?|(?!(?:pi|sqrt|root|times|and|or|to|mod)\b)[A-Za-z]{2,}(?:\s[A-Za-z]+){0,3})\.?$"
)
_LATEX: Final = re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_LATEX_FRACTION: Final = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")
_FRACTION: Final = re.compile(r"^([-+]?\d+)\s*/\s*(\d+)$")
_LETTER: Final = re.compile(r"^\(?([A-Za-z])\)?[.:)]?$")
_PROGRAM: Final = re.compile(r"```|^[^\S\n]*(?:def|class|import|from|#include|function)\b", re.MULTILINE)
_REFUSAL: Final = re.compile(
    r"""\W*
    (?:(?:(?:I\ am|I'm)\ (?:so\ |very\ |really\ |truly\ )?)?(?:sorry|afraid)|(?:my\ )?apologies|I\ apologi[sz]e|unfortunately)?
    (?:,|\.|!|:|;|\ that)?\ ?(?:but\ |however,?\ )?
    (?:as\ an\ AI(?:\ language)?(?:\ model|\ assistant)?,?\ )?
    (?: I\ (?:really\ |honestly\ |simply\ |just\ )?(?:do\ not|don't)\ know\b
      | (?:I\ am|I'm)\ not\ (?:sure|certain)\b
      | I\ have\ no\ (?:idea|clue|answer)\b
      | no\ idea\b
      | (?: I\ (?:cannot|can't|can\ not|could\ not|couldn't|will\ not|won't|(?:must\ )?decline\ to)
          | (?:I\ am|I'm|I\ was)\ (?:unable|not\ able)\ to )
        \ (?:\w+ly\ )?
        (?: answer | help | assist | comply | determine | deduce | decode | decipher | decrypt | solve | provide | fulfill? | give
          | generate | respond | complete\ (?:this|that|your|the)\ (?:request|task) | discuss | do\ (?:that|this|it)
          | (?:say|tell)(?:\ for\ (?:sure|certain))?(?=\W*\Z) )\b
    )
    (?P<rest>(?:\ [^.!?;:=\d\n]*)?)
    \W*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_YET: Final = re.compile(
    r"\b(?:but|however|though|although|yet|still|unless|except|until|if|guess|think|believe|suspect|suppose|probably|perhaps|maybe"
    r"|likely|would|should|might|other than|more than|less than|answer is)\b",
    re.IGNORECASE,
)
"""What may bring an answer after all."""
_WRAPPING: Final = re.compile(r"^```\w*\n|\n?```\s*$|</?tool_call>")
_WRITTEN: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
_LONG: Final = 400
_SHORT: Final = 200


def value_of(text: str | None, tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """The value of an answer as text; equal values are the same answer. A number is one without its unit: "9 days" is 9.

    "" is no answer: nothing, or a refusal. `tools`: what the request offers, against which calls are held (`policies.calls`).
    """
    text = (text or "").strip()
    if not text:
        return ""
    if "\\" in text or text[0] == "$":
        text = _plain(text)
    if found := _LETTER.match(text):
        return found[1].upper()
    if found := _FRACTION.match(text):
        return f"{int(found[1]) / int(found[2]):.6g}" if int(found[2]) else text
    if len(text) <= _LONG and (found := _MONEY.match(text) or _MEASURE.match(text)):
        try:
            return f"{float(found[1].replace(',', '').replace(' ', '')):.6g}"
        except ValueError:
            pass
    if len(text) <= 20_000 and (text[0] in "[({<`'\"-0123456789TFNtfn" or "(" in text[:80]):
        parsed = _parsed(_WRAPPING.sub("", text).strip(), tools)
        if parsed is not None:
            return parsed
    return "" if refuses(text) else _bare(text)


def refuses(text: str) -> bool:
    """Whether a text is a refusal and nothing else: one short English sentence that says "I do not know" or "I cannot".

    Recognised, also after "Sorry," and the like: "I don't know", "I'm not sure", "I have no idea", "No idea", and "I cannot" (or
    "am unable to", "won't", ...) with a word such as answer, help, assist, comply, determine, solve, decode, provide, give.
    Whatever might be an answer is one: what is said of the question ("unknown", "none", "no", "N/A", "impossible", "cannot be
    determined" are answers, and to puzzles right ones), a text in quotes, one with a number, and one that goes on ("I am not
    sure, but I think it is Rome").
    """
    if len(text) > _SHORT or text[0] in "\"'`“‘[({":
        return False
    found = _REFUSAL.fullmatch(re.sub(r"\s+", " ", text.replace("\u2019", "'")))
    return found is not None and _YET.search(found["rest"]) is None


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


def _parsed(text: str, tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
    """A JSON or Python literal printed again, or calls in a canonical form; `None` if it is neither."""
    try:
        value = json.loads(text)
        return _bare(value) if isinstance(value, str) else _json_calls(value, tools) or literal(value)
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
        return _bare(value) if isinstance(value, str) else literal(value)
    except (ValueError, TypeError, RecursionError):
        pass
    elements = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    calls = [e for e in elements if isinstance(e, ast.Call)]
    if elements and len(calls) == len(elements):
        return calls_value([(ast.unparse(call.func), _arguments(call)) for call in calls], tools)
    return None


def _json_calls(value: Any, tools: Sequence[Mapping[str, Any]]) -> str:
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
        found.append((name, given))
    return calls_value(found, tools)


def _arguments(call: ast.Call) -> dict[str, Any]:
    """The arguments of a call as it is written in Python; those without a name under their places."""
    given = {str(place): _argument(node) for place, node in enumerate(call.args)}
    return given | {str(k.arg): _argument(k.value) for k in call.keywords}


def _argument(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        return _WRITTEN.get(node.id, node.id) if isinstance(node, ast.Name) else node


def comparable(text: str) -> bool:
    """Whether equality says anything about this answer: not for programs and long prose."""
    if len(text) <= _LONG and not _PROGRAM.search(text):
        return True
    return len(text) <= 20_000 and _parsed(_WRAPPING.sub("", text).strip()) is not None


def value_of_message(message: Message, tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """The value of a reply: its tool calls in any order, else its text."""
    if message.tool_calls:
        return calls_value([(call.name, _given(call)) for call in message.tool_calls], tools)
    return value_of(message.text, tools)


def _given(call: ToolCall) -> dict[str, Any]:
    """The arguments of a tool call; what is no JSON object is one argument."""
    try:
        given = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        given = call.arguments
    return given if isinstance(given, dict) else {"0": given}


def said(message: Message, *, last_line: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
    """The value of a whole reply, "" for none, `None` where it cannot be compared.

    With `last_line` a reply of several lines that is no literal as a whole counts by its last one: working
    comes before an answer. `tools`: as for `value_of`.
    """
    text = message.text.strip()
    if message.tool_calls or not text:
        return value_of_message(message, tools)
    if not comparable(text) and not last_line:
        return None
    if last_line and "\n" in text and _parsed(_WRAPPING.sub("", text).strip()) is None:
        if _PROGRAM.search(text):
            return None
        text = final_value(text)
    return value_of(text, tools) if comparable(text) else None


def classes(values: Sequence[str]) -> list[int]:
    """Numbers from 0 for the different values in the order they come, -1 for "" (no answer)."""
    seen: dict[str, int] = {}
    return [-1 if v == "" else seen.setdefault(v, len(seen)) for v in values]
