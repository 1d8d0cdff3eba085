"""What can be seen wrong with an answer without knowing the right one: checks that cost nothing.

An answer that passes may still be wrong. One that fails is not usable as it stands, whoever wrote it.
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

from stretto.policies.calls import function
from stretto.types import Answer, Request, ToolCall

__all__ = ["flaw"]

_FENCE: Final = re.compile(r"```(\w*)[^\n]{0,200}\n(.*?)(?:```|\Z)", re.DOTALL)
_LONGEST: Final = 20_000
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def flaw(request: Request, answer: Answer) -> str:
    """What is wrong with an answer as far as anybody can see, or "".

    Looked at: whether there is an answer, whether it was cut although nobody had asked for so little, whether tool calls name a
    tool that is offered with arguments that its schema could take, whether JSON that was asked for is JSON, whether Python and
    JSON in code blocks can be parsed.
    """
    message = answer.message
    if message.tool_calls:
        offered = {f["name"]: f for f in map(function, request.tools) if "name" in f}
        return next((told for call in message.tool_calls if (told := _bad_call(call, offered))), "")
    if message.refusal:
        return "a refusal"
    if not message.text.strip():
        return "no text"
    if answer.finish == "length" and request.max_tokens is None:
        return "it was cut at the worker's own limit"
    if request.tools and request.tool_choice == "required":
        return "a tool call was required and there is none"
    if (request.response_format or {}).get("type") in ("json_object", "json_schema"):
        return "" if _is_json(message.text) else "it is not JSON"
    return "" if answer.finish == "length" else _bad_code(message.text)


def _bad_call(call: ToolCall, offered: Mapping[str, Mapping[str, Any]]) -> str:
    if call.name not in offered:
        return f"it calls {call.name}, which is not offered"
    if call.kind != "function":
        return ""
    try:
        given = json.loads(call.arguments or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return f"the arguments of {call.name} are no JSON object"
    schema = offered[call.name].get("parameters")
    if not isinstance(schema, Mapping):
        return ""
    required = schema.get("required") or ()
    missing = [name for name in required if isinstance(name, str) and name not in given]
    if missing:
        return f"{call.name} lacks {', '.join(missing)}"
    properties = schema.get("properties")
    for name, value in given.items():
        about = properties.get(name) if isinstance(properties, Mapping) else None
        if isinstance(about, Mapping) and (told := _misfit(value, about)):
            return f"{name} of {call.name} {told}"
    return ""


def _misfit(value: Any, schema: Mapping[str, Any]) -> str:
    """Only what is plain: a simple type, an enumeration. Whole schemas are the engine's business."""
    kind = schema.get("type")
    allowed = _KINDS.get(kind) if isinstance(kind, str) else None
    if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and kind != "boolean")):
        return f"is not of type {kind}"
    choices = schema.get("enum")
    return "is none of the allowed values" if isinstance(choices, list) and value not in choices else ""


def _is_json(text: str) -> bool:
    fenced = _FENCE.search(text)
    try:
        json.loads(fenced.group(2) if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def _bad_code(text: str) -> str:
    for language, code in _FENCE.findall(text[:_LONGEST]) if len(text) <= _LONGEST else ():
        name = language.casefold()
        if name in ("json",) and not _is_json(code):
            return "its JSON cannot be parsed"
        if name in ("python", "py", "python3") and ">>>" not in code and not _parses(code):
            return "its Python cannot be parsed"
    return ""


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of what a model wrote, not of ours
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "..." in code and "…" not in code  # left out on purpose
    return True
