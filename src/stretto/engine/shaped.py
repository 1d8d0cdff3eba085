"""Structured output: an answer must fit the response format that the caller asked for, whoever wrote it.

Checked here, not believed: upstreams lose or ignore response formats. Schemas are compiled by `jsonschema-rs`, with regular
expressions that cannot run away and without fetching what a `$ref` points to.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stretto.engine.unrolled import MOST, Ways, levels
from stretto.errors import RequestError
from stretto.steps import Ask
from stretto.types import Failure, Message, Reply, Request, ToolCall

__all__ = ["Shape", "doubts", "repair"]

_UNCHECKED: Final = frozenset(("length", "content_filter"))
"""Answers that were cut say so themselves; callers look at the finish reason before they parse."""
_FENCE: Final = "```"
_STEPS: Final = 100_000
_DEEPEST: Final = 256
"""Levels of an answer that a schema with references is held against."""
_LONGEST: Final = 300

# A run is replayed by what was asked: changing this wording makes recorded repairs diverge.
_REPAIR: Final = """Your answer does not fit the required format: {complaint}

Answer the question again. Reply with the corrected JSON alone: no explanation, no code fence."""


class Shape:
    """A response format, ready to check answers."""

    def __init__(self, checker: "_Checker | None" = None, objects: bool = False) -> None:
        self._checker = checker
        self._objects = objects

    @classmethod
    def of(cls, request: Request) -> "Shape | None":
        """The shape that a request demands, if any. Raises `RequestError` for a schema that is none, or that lies elsewhere."""
        form = request.response_format
        if form is None or request.want != "text":
            return None
        if form.get("type") == "json_object":
            return cls(objects=True)
        if form.get("type") != "json_schema":
            return None
        inner = form.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        return cls() if schema is None else cls(_compiled(schema))

    def checked(self, reply: Reply) -> Reply:
        """The reply as it is if it fits (without a code fence around it), else the same reply with a `misfit` error.

        Tool calls, refusals and answers that were cut are no structured output and stay as they are.
        """
        message = reply.message
        if reply.error is not None or message.tool_calls or message.refusal or reply.finish in _UNCHECKED:
            return reply
        complaint = self.complaint(message.text)
        if not complaint:
            return reply
        inside = _unfenced(message.text)
        if inside and not self.complaint(inside):
            return replace(reply, message=replace(message, content=inside))
        return replace(reply, error=Failure("misfit", complaint))

    def complaint(self, text: str) -> str:
        """What is wrong with a text, in a line, or ""."""
        try:
            value = json.loads(text, parse_constant=_no_number)
        except RecursionError:
            return "it is nested too deeply"
        except ValueError as error:
            return f"it is not valid JSON ({error})"
        if self._objects and not isinstance(value, dict):
            return "it is valid JSON, but not an object"
        if self._checker is None:
            return ""
        validator, ways = self._checker
        if ways is not None and ((deep := levels(value)) > _DEEPEST or ways.at(deep) > MOST):
            return "it is nested too deeply to be checked against this schema"
        wrong = next(iter(validator.iter_errors(value)), None)
        if wrong is None:
            return ""
        where = "/".join(str(step) for step in wrong.instance_path)
        told = f"{wrong.message}, at {where}" if where else str(wrong.message)
        return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"


def repair(request: Request, reply: Reply) -> Ask:
    """The one further question to the worker whose answer does not fit."""
    complaint = reply.error.message if reply.error is not None else ""
    return Ask(
        reply.worker,
        (
            *request.messages,
            Message("assistant", reply.text),
            Message("user", _REPAIR.format(complaint=complaint)),
        ),
        speaks=True,
        reason=f"repairs its answer: {complaint}",
    )


def doubts(request: Request, message: Message) -> str:
    """What is wrong with the tool calls of an answer, or "". It goes out all the same, but marked: only its caller can tell.

    A call may name a tool that was not offered, have arguments that are no JSON object, or break the schema of a `strict` tool.
    """
    offered = {}
    for tool in request.tools:
        inner = tool.get(str(tool.get("type")))
        if isinstance(inner, Mapping):
            offered[inner.get("name")] = inner
    if len(offered) < len(request.tools):
        return ""  # hosted tools are called by other names than they are offered by
    found = [f"{call.name}: {wrong}" for call in message.tool_calls if (wrong := _doubt(call, offered))]
    return f"doubtful tool calls: {'; '.join(found)}" if found else ""


def _doubt(call: ToolCall, offered: Mapping[Any, Mapping[str, Any]]) -> str:
    tool = offered.get(call.name)
    if tool is None:
        return "no such tool was offered"
    if call.kind != "function":
        return ""
    checker = None
    if tool.get("strict") is True and isinstance(tool.get("parameters"), Mapping):
        try:
            checker = _compiled(tool["parameters"])
        except RequestError:
            return ""  # what its schema cannot say, it does not forbid
    return Shape(checker, objects=True).complaint(call.arguments or "{}")


def _unfenced(text: str) -> str:
    """What stands inside the code fence that is all of a text; "" if there is none."""
    lines = text.strip()
    if not lines.startswith(_FENCE) or not lines.endswith(_FENCE):
        return ""
    _, _, inside = lines.partition("\n")
    return inside.removesuffix(_FENCE).strip()


_Checker = tuple[Any, Ways | None]
"""A validator, and the ways that it goes if they may become so many that they have to be counted."""


def _compiled(schema: Any) -> _Checker:
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(
            schema,
            retriever=_fetch_nothing,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        told = str(error).splitlines()[0][:_LONGEST]
        raise RequestError(
            f"`response_format.json_schema.schema` cannot be used: {told}",
            param="response_format.json_schema.schema",
        ) from None
    ways = Ways(schema)
    if not ways.refers:
        return validator, None
    if ways.at(0) > MOST:
        raise RequestError(
            "`response_format.json_schema.schema` cannot be used: it looks at the same place in more than"
            f" {MOST} ways; combine fewer alternatives.",
            param="response_format.json_schema.schema",
        )
    return validator, ways


def _fetch_nothing(address: str) -> Any:
    raise ValueError("schemas that lie elsewhere are not fetched")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
