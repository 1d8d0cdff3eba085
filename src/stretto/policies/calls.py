"""When calls of functions ask for the same thing, held against the functions that a request offers.

A call that leaves an optional argument out asks for what one does that gives it at its default, or empty. Without the functions
calls are compared as they are written.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["function", "literal", "tools_of", "value"]

_DEFAULT: Final = re.compile(
    r"\bdefaults?\b(?:\s+(?:value|unit|units|set|is|are|to|it|being|of))*\s*[:=]?\s*['\"`]?"
    r"(?:(-?\d[\d,]*(?:\.\d+)?)|([^'\"`.,;)]+))",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_PLACE: Final = re.compile(r"\d+")


def tools_of(text: str) -> tuple[Mapping[str, Any], ...]:
    """The functions of a recorded item: a JSON list, or one object; none where it is neither."""
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(t for t in (found if isinstance(found, list) else [found]) if isinstance(t, Mapping))


def function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a tool says of its function, however the wire wraps it."""
    found = tool.get("function", tool)
    return found if isinstance(found, Mapping) else {}


def literal(value: Any) -> str:
    """A JSON or Python value as text; texts in one case, without blanks and punctuation."""
    if isinstance(value, bool) or value is None:
        return str(value).casefold()
    if isinstance(value, int | float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return re.sub(r"[\s\"'`.,;:!?_-]+", "", value).casefold()
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{literal(k)}:{literal(v)}" for k, v in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(v) for v in value) + "]"
    if isinstance(value, ast.expr):
        return re.sub(r"\s+", "", ast.unparse(value)).casefold()
    return repr(value)


def value(calls: Iterable[tuple[str, Mapping[str, Any]]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """Calls in one form, whatever their order. Arguments without a name stand under their places, from "0"."""
    known: dict[str, _Offered | None] = {}
    found = []
    for name, given in calls:
        plain = _name(name)
        if plain not in known:
            about = next((f for f in map(function, tools) if _name(str(f.get("name", ""))) == plain), None)
            known[plain] = None if about is None else _Offered.of(about)
        if (offer := known[plain]) is not None:
            given = offer.taken(given)
        named = sorted(f"{k}={_told(v)}" for k, v in given.items() if not _PLACE.fullmatch(k))
        found.append(
            f"{plain}({','.join([*(_told(v) for k, v in given.items() if _PLACE.fullmatch(k)), *named])})"
        )
    return " ".join(sorted(found))


def _name(name: str) -> str:
    """A function's name: upstreams that allow no dots write underscores in their place."""
    return name.casefold().removeprefix("functions.").replace(".", "_").removeprefix("functions_")


@dataclass(frozen=True, slots=True)
class _Offered:
    """A function on offer: its arguments in their order, and of each that may be left out what says the same as that."""

    order: tuple[str, ...]
    defaults: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "_Offered":
        """From its JSON schema. A default may stand in the schema, or be told in an argument's description."""
        schema = about.get("parameters") or about.get("input_schema")
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if not isinstance(properties, Mapping):
            return cls((), {})
        required = schema.get("required") if isinstance(schema, Mapping) else ()
        needed = set(map(str, required)) if isinstance(required, list | tuple) else set()
        free = {name: _defaults(of) for name, of in properties.items() if name not in needed}
        return cls(tuple(properties), free)

    def taken(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments by their names, without those that say what leaving them out says."""
        named = {
            (self.order[int(k)] if _PLACE.fullmatch(k) and int(k) < len(self.order) else k): v
            for k, v in given.items()
        }
        return {k: v for k, v in named.items() if k not in self.defaults or not _idle(v, self.defaults[k])}


def _told(value: Any) -> str:
    """The value of an argument as text: a number in quotes is that number, and ** in a formula is ^."""
    return literal(_unquoted(value))


def _unquoted(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NUMBER.fullmatch(text) else value.replace("**", "^")
    if isinstance(value, dict):
        return {k: _unquoted(v) for k, v in value.items()}
    return [_unquoted(v) for v in value] if isinstance(value, list | tuple) else value


def _idle(value: Any, defaults: frozenset[str]) -> bool:
    return value is None or value in ("", [], {}) or _told(value) in defaults


def _defaults(about: Any) -> frozenset[str]:
    if not isinstance(about, Mapping):
        return frozenset()
    found = {_told(about["default"])} if "default" in about else set()
    if told := _DEFAULT.search(str(about.get("description", ""))):
        number, text = told.groups()
        found.add(literal(float(number.replace(",", ""))) if number else _told(text))
    return frozenset(found)
