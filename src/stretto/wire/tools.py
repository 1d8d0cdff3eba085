"""Tools for workers that know functions only: custom tools and namespaces as functions, and the calls of them turned back.

A custom tool takes free text. As a function it has one string argument, `input`; what comes back is unwrapped, also while it
streams, so that everybody but the worker sees the custom tool that the caller declared. The functions of a namespace get
names of their own, `namespace__name`; tools that a provider runs itself have no stand-in and are left out.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from stretto.types import Delta, Message, ToolCall, record
from stretto.wire.base import Completion, StreamReader

__all__ = [
    "Portable",
    "Unwrapping",
    "custom_names",
    "joined_name",
    "portable",
    "split_names",
    "unwrapped",
    "unwrapped_input",
    "wrapped_input",
]

_LONGEST_NAME: Final = 64
_FIELDS: Final = frozenset({"name", "description", "parameters", "strict"})


@record
class Portable:
    """Tools as functions. `custom` names those that stand for custom tools, `dropped` the kinds that were left out."""

    tools: tuple[Mapping[str, Any], ...]
    choice: Any
    custom: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()


def portable(tools: Iterable[Mapping[str, Any]], choice: Any = None) -> Portable:
    """`tools` and `tool_choice` (in Chat Completions' shape) for a worker that takes plain functions only.

    A choice among allowed tools becomes those tools with the choice's mode; one of a tool that is left out becomes none.
    """
    functions: list[Mapping[str, Any]] = []
    custom: set[str] = set()
    dropped: list[str] = []
    for tool in tools:
        for namespace, inner in _flat(tool):
            kind = inner.get("type")
            if kind == "function":
                functions.append(_function(inner, namespace))
            elif kind == "custom":
                functions.append(_wrapping(inner, namespace))
                custom.add(functions[-1]["function"]["name"])
            elif (name := f"tools.{kind}") not in dropped:
                dropped.append(name)
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools":
        allowed = _inside(choice, "allowed_tools")
        names = {_name(tool) for tool in allowed.get("tools", ()) if isinstance(tool, dict)}
        functions = [tool for tool in functions if tool["function"]["name"] in names]
        mode = allowed.get("mode")
        choice = mode if functions and isinstance(mode, str) else None
    elif kind is not None:
        name = _name(choice)
        known = any(tool["function"]["name"] == name for tool in functions)
        if not known:
            dropped.append("tool_choice")
        choice = {"type": "function", "function": {"name": name}} if known else None
    elif not functions:
        choice = None
    return Portable(tuple(functions), choice, frozenset(custom), tuple(dropped))


def _flat(tool: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """A tool, or those inside a namespace, each with the namespace's name."""
    if tool.get("type") != "namespace":
        return (("", tool),)
    inner = tool.get("tools")
    space = tool.get("name")
    space = space if isinstance(space, str) else ""
    return [(space, one) for one in (inner if isinstance(inner, list) else ()) if isinstance(one, dict)]


def _inside(tool: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """What a tool says of itself: in an object of its own (Chat Completions), or beside its type (inside a namespace)."""
    inner = tool.get(kind)
    return inner if isinstance(inner, dict) else tool


def _name(tool: Mapping[str, Any]) -> str:
    name = _inside(tool, str(tool.get("type"))).get("name")
    return name if isinstance(name, str) else ""


def _function(tool: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    given = _inside(tool, "function")
    if not namespace and given is not tool and "extra" not in tool:
        return tool
    function = {name: value for name, value in given.items() if name in _FIELDS and value is not None}
    return {"type": "function", "function": {**function, "name": joined_name(namespace, _name(tool))}}


def _wrapping(tool: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    given = _inside(tool, "custom")
    form = given.get("format")
    text = "The tool's input, as plain text."
    if isinstance(form, dict) and form.get("type") == "grammar":
        grammar = _inside(form, "grammar")
        syntax, definition = grammar.get("syntax"), grammar.get("definition")
        text = f"The tool's input, as plain text that follows this {syntax} grammar:\n{definition}"
    function: dict[str, Any] = {
        "name": joined_name(namespace, _name(tool)),
        "parameters": {
            "type": "object",
            "properties": {"input": {"type": "string", "description": text}},
            "required": ["input"],
            "additionalProperties": False,
        },
    }
    if given.get("description"):
        function["description"] = given["description"]
    return {"type": "function", "function": function}


# --- names -------------------------------------------------------------------------------------------------------


def joined_name(namespace: str, name: str) -> str:
    """The name by which a namespace's tool is called where there are no namespaces: at most 64 characters."""
    if not namespace:
        return name
    joined = f"{namespace}__{name}"
    if len(joined) <= _LONGEST_NAME:
        return joined
    digest = hashlib.blake2b(joined.encode(), digest_size=4).hexdigest()
    return f"{joined[: _LONGEST_NAME - 9]}_{digest}"


def split_names(tools: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Joined names of the tools in namespaces, and the namespace and name of each."""
    return {
        joined_name(namespace, name): (namespace, name)
        for tool in tools
        for namespace, inner in _flat(tool)
        if namespace and (name := _name(inner))
    }


def custom_names(tools: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The (joined) names of custom tools."""
    return frozenset(
        joined_name(namespace, _name(inner))
        for tool in tools
        for namespace, inner in _flat(tool)
        if inner.get("type") == "custom"
    )


# --- inputs ------------------------------------------------------------------------------------------------------

_START: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_WHOLE: Final = re.compile(r'(?:[^"\\]+|\\[^u]|\\u[0-9a-fA-F]{4})*', re.DOTALL)
_HALF: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LONGEST_ESCAPE: Final = len("\\u0000")


def wrapped_input(text: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return orjson.dumps({"input": text}).decode()


def unwrapped_input(arguments: str) -> str:
    """The input that the arguments of a stand-in hold. What is no such object is taken for the input itself."""
    reader = _Input()
    return reader.feed(arguments) + reader.finish()


def unwrapped(message: Message, custom: frozenset[str]) -> Message:
    """`message` with its calls of stand-ins turned back into calls of custom tools."""
    if not any(call.name in custom for call in message.tool_calls):
        return message
    calls = tuple(
        ToolCall(call.id, call.name, unwrapped_input(call.arguments), "custom")
        if call.name in custom and call.kind == "function"
        else call
        for call in message.tool_calls
    )
    return replace(message, tool_calls=calls)


class _Input:
    """Reads the text out of `{"input": "..."}`, which comes in pieces. Lenient: line breaks and odd escapes pass as they are."""

    __slots__ = ("_ended", "_inside", "_rest")

    def __init__(self) -> None:
        self._rest = ""
        self._inside = False
        self._ended = False

    def feed(self, piece: str) -> str:
        """The text that is certain once `piece` is there."""
        if self._ended:
            return ""
        self._rest += piece
        if not self._inside:
            start = _START.match(self._rest)
            if start is None:
                return ""
            self._inside, self._rest = True, self._rest[start.end() :]
        text = []
        while self._rest:
            whole = _WHOLE.match(self._rest)
            end = whole.end() if whole is not None else 0
            taken, rest = self._rest[:end], self._rest[end:]
            if rest.startswith('"'):
                self._ended, rest = True, ""
            elif (half := _HALF.search(taken)) is not None:
                taken, rest = taken[: half.start()], half[0] + rest
            text.append(taken)
            self._rest = rest
            if len(rest) < _LONGEST_ESCAPE or _HALF.match(rest[:_LONGEST_ESCAPE]):
                break
            text.append("\\\\")  # a backslash that begins no escape
            self._rest = rest[1:]
        return _decoded("".join(text))

    def finish(self) -> str:
        """What is left to say when nothing more comes."""
        if self._inside:
            return ""
        given, self._rest, self._ended = self._rest, "", True
        try:
            value = orjson.loads(given or "{}")
        except orjson.JSONDecodeError:
            return given
        if not isinstance(value, dict):
            return given
        texts = [text for text in value.values() if isinstance(text, str)]
        if isinstance(value.get("input"), str):
            return str(value["input"])
        return texts[0] if len(texts) == len(value) == 1 else "" if not value else given


def _decoded(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_character, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _character(escape: re.Match[str]) -> str:
    name = escape[1]
    return chr(int(name[1:], 16)) if len(name) > 1 else _ESCAPED.get(name, name)


class Unwrapping:
    """A reader of a stream whose calls of stand-ins come out as calls of custom tools: their arguments are the input's text."""

    __slots__ = ("_custom", "_inputs", "_reader", "done", "error", "finished")

    def __init__(self, reader: StreamReader, custom: frozenset[str]) -> None:
        self._reader = reader
        self._custom = custom
        self._inputs: dict[int, _Input] = {}
        self.finished, self.done, self.error = reader.finished, reader.done, reader.error

    def feed(self, data: bytes, into: list[Delta]) -> None:
        """See `StreamReader`."""
        deltas: list[Delta] = []
        self._reader.feed(data, deltas)
        for delta in deltas:
            if delta.tool_calls:
                into.append(replace(delta, tool_calls=tuple(map(self._fragment, delta.tool_calls))))
            else:
                into.append(delta)
        if self._reader.finished and not self.finished:
            rest = tuple(
                (index, "", "", text) for index, reader in self._inputs.items() if (text := reader.finish())
            )
            if rest:
                into.append(Delta(tool_calls=rest))
        self.finished, self.done, self.error = self._reader.finished, self._reader.done, self._reader.error

    def _fragment(self, fragment: tuple[int, str, str, str]) -> tuple[int, str, str, str]:
        index, id_, name, arguments = fragment
        if name in self._custom:
            self._inputs.setdefault(index, _Input())
        reader = self._inputs.get(index)
        return fragment if reader is None else (index, id_, name, reader.feed(arguments))

    def result(self) -> Completion:
        """See `StreamReader`."""
        found = self._reader.result()
        found.message = unwrapped(found.message, self._custom)
        return found
