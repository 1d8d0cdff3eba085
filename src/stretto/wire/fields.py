"""What the requests of several formats have in common: the body, the model's name, sampling parameters."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from stretto.errors import RequestError
from stretto.wire.base import (
    bounded_json,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    refuse_transport_fields,
)

__all__ = ["SAMPLING", "Check", "expect_choice", "model_name", "number", "read_body", "sorted_out", "whole"]

Check = Callable[[Any, str], Any]
"""Takes a field's value and its path, returns the value. Raises `RequestError`."""


def read_body(body: bytes) -> dict[str, Any]:
    """A body that is a JSON object with a `model`. Raises `RequestError`."""
    try:
        given = bounded_json(body)
    except ValueError as error:
        raise RequestError(f"The body is {error}.") from None
    if type(given) is not dict:
        raise RequestError("The body must be a JSON object.")
    if "model" not in given:
        raise RequestError("`model` is missing; GET /v1/models lists what can be asked for.", param="model")
    return given


def model_name(value: Any) -> str:
    """`value`, which must be a name. Raises `RequestError`."""
    name = expect_text(value, "model")
    if not name or len(name) > 256 or not name.isprintable():
        raise RequestError("`model` must be a name of 1 to 256 printable characters.", param="model")
    return name


def sorted_out(
    given: Mapping[str, Any], params: Mapping[str, Check], fields: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """A body by what becomes of its fields: parameters (checked), `fields` (as they are), extra ones, names of ignored ones.

    `null` means not given. Raises `RequestError` for a parameter that is wrong, and for transport fields.
    """
    found: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        check = params.get(name)
        if check is not None:
            found[name] = check(value, name)
        elif name in fields:
            rest[name] = value
        else:
            extra[name] = value
    ignored = refuse_transport_fields(extra) if extra else ()
    for name in ignored:
        del extra[name]
    return found, rest, extra, ignored


def expect_choice(value: Any) -> Any:
    """A `tool_choice` in Chat Completions' shape: a mode, or an object. Raises `RequestError`."""
    if isinstance(value, str):
        return value
    choice = expect_object(value, "tool_choice")
    kind = expect_text(choice.get("type"), "tool_choice.type")
    if kind in ("function", "custom"):
        inner = expect_object(choice.get(kind), f"tool_choice.{kind}")
        expect_text(inner.get("name"), f"tool_choice.{kind}.name")
    elif kind == "allowed_tools":
        inner = expect_object(choice.get(kind), "tool_choice.allowed_tools")
        expect_text(inner.get("mode", "auto"), "tool_choice.allowed_tools.mode")
        for index, tool in enumerate(expect_list(inner.get("tools"), "tool_choice.allowed_tools.tools")):
            expect_object(tool, f"tool_choice.allowed_tools.tools[{index}]")
    return choice


def number(least: float, most: float) -> Check:
    """A check for a number within bounds."""
    return lambda value, where: expect_number(value, where, least=least, most=most)


def whole(least: float, most: float) -> Check:
    """A check for a whole number within bounds."""
    return lambda value, where: expect_number(value, where, least=least, most=most, whole=True)


def _stop(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return value
    return [expect_text(item, f"{where}[{index}]") for index, item in enumerate(expect_list(value, where))]


def _logit_bias(value: Any, where: str) -> Any:
    return {
        token: expect_number(bias, f"{where}.{token}") for token, bias in expect_object(value, where).items()
    }


SAMPLING: Final[Mapping[str, Check]] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "top_k": whole(-1, 2**31 - 1),
    "min_p": number(0, 1),
    "stop": _stop,
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "repetition_penalty": number(0, 100),
    "logit_bias": _logit_bias,
    "seed": whole(-(2**63), 2**64 - 1),
}
"""Sampling parameters that Chat Completions and Completions share, and how each is checked."""
