"""The fields of OpenAI Responses that Chat Completions has in another shape: tools, tool choice, response format.

Our own shape is Chat Completions'. What a tool says beyond that stands beside it, in `extra`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from stretto.types import Usage, record
from stretto.wire.base import expect_list, expect_object, expect_text
from stretto.wire.fields import expect_choice
from stretto.wire.tools import portable

__all__ = [
    "Offer",
    "parse_choice",
    "parse_format",
    "parse_tools",
    "render_format",
    "render_tools",
    "render_usage",
    "usage_of",
]

_FUNCTION: Final = ("name", "description", "parameters", "strict")
_CUSTOM: Final = ("name", "description", "format")
_OURS: Final = frozenset({"function", "custom", "namespace"})


# --- from callers ------------------------------------------------------------------------------------------------


def parse_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools of a request. Raises `RequestError`. Namespaces and tools that a provider runs itself stay raw."""
    return tuple(
        [_parse_tool(raw, f"tools[{index}]") for index, raw in enumerate(expect_list(value, "tools"))]
    )


def _parse_tool(raw: Any, where: str) -> Mapping[str, Any]:
    tool = expect_object(raw, where)
    kind = expect_text(tool.get("type"), f"{where}.type")
    if kind == "namespace":
        expect_text(tool.get("name"), f"{where}.name")
        for index, inner in enumerate(expect_list(tool.get("tools"), f"{where}.tools")):
            here = f"{where}.tools[{index}]"
            expect_text(expect_object(inner, here).get("type"), f"{here}.type")
            expect_text(inner.get("name"), f"{here}.name")
    if kind not in ("function", "custom"):
        return tool
    if isinstance(tool.get(kind), dict):  # Chat Completions' shape, which some clients send here
        expect_text(tool[kind].get("name"), f"{where}.{kind}.name")
        return tool
    expect_text(tool.get("name"), f"{where}.name")
    known = _FUNCTION if kind == "function" else _CUSTOM
    inner = {name: tool[name] for name in known if tool.get(name) is not None}
    if kind == "custom" and "format" in inner:
        form = expect_object(inner["format"], f"{where}.format")
        if form.get("type") == "grammar":
            inner["format"] = {"type": "grammar", "grammar": _without_type(form)}
    extra = {
        name: value
        for name, value in tool.items()
        if name != "type" and name not in known and value is not None
    }
    return {"type": kind, kind: inner, "extra": extra} if extra else {"type": kind, kind: inner}


def _without_type(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name != "type"}


def parse_choice(value: Any) -> Any:
    """The `tool_choice` of a request. Raises `RequestError`."""
    if isinstance(value, str):
        return value
    choice = expect_object(value, "tool_choice")
    kind = expect_text(choice.get("type"), "tool_choice.type")
    if kind in choice:  # Chat Completions' shape, which some clients send here
        return expect_choice(choice)
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": expect_text(choice.get("name"), "tool_choice.name")}}
    if kind == "allowed_tools":
        tools = []
        for index, raw in enumerate(expect_list(choice.get("tools"), "tool_choice.tools")):
            tool = expect_object(raw, f"tool_choice.tools[{index}]")
            of = tool.get("type")
            named = of in ("function", "custom") and isinstance(tool.get("name"), str)
            tools.append({"type": of, of: {"name": tool["name"]}} if named else tool)
        mode = choice.get("mode") or "auto"
        return {"type": kind, kind: {"mode": expect_text(mode, "tool_choice.mode"), "tools": tools}}
    return choice


def parse_format(value: Any) -> Mapping[str, Any] | None:
    """`text.format` as a response format; plain text is none. Raises `RequestError`."""
    form = expect_object(value, "text.format")
    kind = expect_text(form.get("type"), "text.format.type")
    if kind == "text":
        return None
    if kind == "json_schema":
        expect_text(form.get("name"), "text.format.name")
        expect_object(form.get("schema"), "text.format.schema")
        inner = {name: item for name, item in form.items() if name != "type" and item is not None}
        return {"type": kind, kind: inner}
    return form


# --- towards upstreams -------------------------------------------------------------------------------------------


@record
class Offer:
    """Tools as an upstream is offered them. `custom` are functions that stand for custom tools, `dropped` what was left out."""

    tools: list[Mapping[str, Any]]
    choice: Any
    custom: frozenset[str]
    dropped: tuple[str, ...]


def render_tools(
    tools: Iterable[Mapping[str, Any]], choice: Any, *, native: bool, hosted: bool, own: bool
) -> Offer:
    """Tools and the choice among them. `native`: with custom tools and namespaces as such; `hosted`: with tools that the provider
    runs itself; `own`: the caller spoke this format, so that a function which does not say whether it is strict may be.
    """
    ours = [tool for tool in tools if tool.get("type") in _OURS]
    theirs = [tool for tool in tools if tool.get("type") not in _OURS]
    dropped: list[str] = []
    custom: frozenset[str] = frozenset()
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind is not None and kind not in ("function", "custom", "allowed_tools") and not hosted:
        dropped.append("tool_choice")
        choice = None
    if not native:
        plain = portable(ours, choice if kind in ("function", "custom", "allowed_tools") else None)
        ours, custom = list(plain.tools), plain.custom
        dropped.extend(plain.dropped)
        if kind in ("function", "custom", "allowed_tools"):
            choice = plain.choice
    if theirs and not hosted:
        dropped.extend(dict.fromkeys(f"tools.{tool.get('type')}" for tool in theirs))
        theirs = []
    rendered = [*(_render_tool(tool, own) for tool in ours), *theirs]
    return Offer(rendered, _render_choice(choice) if rendered else None, custom, tuple(dropped))


def _render_tool(tool: Mapping[str, Any], own: bool) -> Mapping[str, Any]:
    kind = tool["type"]
    inner = tool.get(kind)
    if not isinstance(inner, dict):
        return tool
    extra = tool.get("extra") if own else None
    flat = {"type": kind, **inner, **(extra if isinstance(extra, dict) else {})}
    if kind == "function":
        if not own:  # Chat Completions takes what is not said for a tool without parameters, not strict
            flat.setdefault("parameters", {"type": "object", "properties": {}})
            flat.setdefault("strict", False)
    elif isinstance(form := inner.get("format"), dict) and isinstance(form.get("grammar"), dict):
        flat["format"] = {"type": "grammar", **form["grammar"]}
    return flat


def _render_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type")
    inner = choice.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, dict):
        return choice
    if kind != "allowed_tools":
        return {"type": kind, **inner}
    allowed = [_render_choice(tool) for tool in inner.get("tools", ())]
    return {"type": kind, "mode": inner.get("mode", "auto"), "tools": allowed}


def render_format(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """A response format as `text.format`."""
    inner = form.get("json_schema")
    if form.get("type") != "json_schema" or not isinstance(inner, dict):
        return form
    return {"type": "json_schema", "name": "answer", **inner}


# --- usage -------------------------------------------------------------------------------------------------------


def render_usage(usage: Usage, served: Usage) -> dict[str, Any]:
    """The `usage` object: true totals, and what of them orchestration took (all attempts but the one that answered)."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": 0,
            "orchestration_input_tokens": usage.input - served.input,
            "orchestration_input_cached_tokens": usage.cached - served.cached,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "orchestration_output_tokens": usage.output - served.output,
        },
        "total_tokens": usage.input + usage.output,
    }


def usage_of(raw: Any) -> Usage | None:
    """An upstream's `usage`. Where its total is more than its parts, the rest is output."""
    if type(raw) is not dict:
        return None
    given, written = _count(raw.get("input_tokens")), _count(raw.get("output_tokens"))
    written = max(written, _count(raw.get("total_tokens")) - given)
    if not given and not written:
        return None
    inside, outside = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    cached = _count(inside.get("cached_tokens")) if type(inside) is dict else 0
    reasoning = _count(outside.get("reasoning_tokens")) if type(outside) is dict else 0
    return Usage(given, written, min(cached, given), min(reasoning, written))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 1 << 40 else 0
