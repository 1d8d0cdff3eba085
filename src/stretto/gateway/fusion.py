"""OpenRouter Fusion's forms in a request: a model alias, a plugin object, a server tool. What they say becomes a `Wish`.

    {"model": "openrouter/fusion", ...}
    {"plugins": [{"id": "fusion", "analysis_models": ["a", "b"], "model": "a"}], ...}
    {"tools": [{"type": "openrouter:fusion", "parameters": {"analysis_models": ["a", "b"]}}], ...}

Under `stretto/...` names the panel always convenes, since who asks for it by name wants it; under OpenRouter's, and with
plugin or tool, the outer model decides unless `tool_choice` does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stretto.errors import RequestError
from stretto.gateway.wish import ALIASES, Wish
from stretto.types import Request
from stretto.wire.base import expect_bool, expect_list, expect_number, expect_object, expect_text

__all__ = ["wished"]

_TOOLS: Final = ("openrouter:fusion", "stretto:fusion")
_DEPTH: Final = b"x-openrouter-fusion-depth"
_MOST: Final = 8
_MANY_TOKENS: Final = 2**31 - 1


def wished(request: Request, name: str, headers: Mapping[bytes, bytes]) -> tuple[Request, Wish | None] | None:
    """The request without its wish for fusion, and the wish; `None` if it has none.

    The wish is `None` where the request forbids the panel and names another model: then nothing but the request without it is
    left. Raises `RequestError` for a wish that cannot be read, or one from inside another fusion.
    """
    alias = ALIASES.get(name)
    plugins = request.extra.get("plugins")
    tools = [tool for tool in request.tools if tool.get("type") in _TOOLS] if request.tools else []
    plugin = _plugin(plugins) if plugins else None
    if alias is None and plugin is None and not tools:
        return None
    _refuse_nested(headers)
    preset, asks = alias or ("", True)
    given = [
        _read(tool.get("parameters") or {}, f"tools[{request.tools.index(tool)}].parameters")
        for tool in tools
    ]
    enabled = True
    if plugin is not None:
        where, entry = plugin
        given.append(_read(entry, where))
        enabled = entry.get("enabled") is None or expect_bool(entry["enabled"], f"{where}.enabled")
    plain, choice = _without(request)
    wish = Wish(outer="" if alias else name, preset=preset, asks=asks, tool_choice=choice)
    for fields in reversed(given):  # the tool's own parameters count before the plugin's
        wish = replace(wish, **fields)
    forced = choice == "fusion" or (choice == "required" and not plain.tools)
    if forced:
        wish = replace(wish, asks=False, tool_choice=None)
    elif choice == "auto":
        wish = replace(wish, asks=True)
    named = choice is not None and choice not in ("auto", "required", "fusion")
    if named or (not enabled and not tools):
        plain = replace(plain, tool_choice=choice if plain.tools else None)
        return plain, replace(wish, alone=True) if alias else None
    return plain, wish


def _refuse_nested(headers: Mapping[bytes, bytes]) -> None:
    depth = headers.get(_DEPTH, b"").strip()
    if depth and depth != b"0":
        raise RequestError(
            "fusion_invocation_capped: this request comes from inside a fusion, and may not start another.",
            param="x-openrouter-fusion-depth",
        )


def _plugin(plugins: Any) -> tuple[str, Mapping[str, Any]] | None:
    """The fusion plugin and where it stands, if there is one. Other plugins are none of our business."""
    for index, entry in enumerate(plugins if isinstance(plugins, list) else ()):
        if isinstance(entry, dict) and entry.get("id") == "fusion":
            return f"plugins[{index}]", entry
    return None


def _read(given: Any, where: str) -> dict[str, Any]:
    """The fields of a wish that an object sets. What fusion does not know is left alone, as OpenRouter does."""
    told = {k: v for k, v in expect_object(given, where).items() if v is not None}
    found: dict[str, Any] = {}
    if "analysis_models" in told:
        here = f"{where}.analysis_models"
        models = tuple(expect_text(m, here) for m in expect_list(told["analysis_models"], here))
        if not 1 <= len(models) <= _MOST:
            raise RequestError(f"`{here}` takes 1 to {_MOST} models, not {len(models)}.", param=here)
        found["panel"] = models
    if "model" in told:
        found["analyst"] = expect_text(told["model"], f"{where}.model")
    if "preset" in told:
        found["preset"] = expect_text(told["preset"], f"{where}.preset")
    if "max_completion_tokens" in told:
        here = f"{where}.max_completion_tokens"
        found["max_tokens"] = expect_number(
            told["max_completion_tokens"], here, least=1, most=_MANY_TOKENS, whole=True
        )
    if "temperature" in told:
        found["temperature"] = expect_number(told["temperature"], f"{where}.temperature", least=0, most=2)
    if "reasoning" in told:
        reasoning = expect_object(told["reasoning"], f"{where}.reasoning")
        if reasoning.get("effort") is not None:
            found["effort"] = expect_text(reasoning["effort"], f"{where}.reasoning.effort")
    return found


def _without(request: Request) -> tuple[Request, Any]:
    """The request without fusion tools and plugin and with a free tool choice; and the choice that it made.

    `fusion` stands for naming the fusion tool.
    """
    tools = tuple(tool for tool in request.tools if tool.get("type") not in _TOOLS)
    extra = request.extra
    if (plugins := extra.get("plugins")) and isinstance(plugins, list):
        others = [p for p in plugins if not (isinstance(p, dict) and p.get("id") == "fusion")]
        extra = {k: v for k, v in extra.items() if k != "plugins"} | ({"plugins": others} if others else {})
    choice = request.tool_choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        if choice.get("type") in _TOOLS or named in (*_TOOLS, "fusion"):
            choice = "fusion"
    return replace(request, tools=tools, tool_choice=None, extra=extra), choice
