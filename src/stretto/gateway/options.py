"""Request options in `x-stretto-*` headers, for clients that cannot put a `stretto` object into the body.

`x-stretto-limits-usd|calls|seconds|depth|fanout`, `x-stretto-policy`, `-seed`, `-dial`, `-progress` (true or false), and
`-require`/`-exclude` as `label=value,label=value` (a label given twice lists alternatives).

Headers are often set once for a whole client, the body for one request. So where both speak, the stricter limit counts, and
constraints add up; of policy, seed, dial and progress the body's counts.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stretto.errors import RequestError
from stretto.types import Request
from stretto.wire.base import Options, parse_options

__all__ = ["from_headers", "joined"]

_PREFIX: Final = b"x-stretto-"
_WHOLE: Final = ("limits-calls", "limits-depth", "limits-fanout", "seed")
_DECIMAL: Final = ("limits-usd", "limits-seconds", "dial")
_LABELS: Final = ("require", "exclude")
_ALL: Final = (*_WHOLE, *_DECIMAL, *_LABELS, "policy", "progress")


def from_headers(headers: Mapping[bytes, bytes]) -> Options | None:
    """The options that stand in headers; `None` if there are none. Raises `RequestError` naming the header."""
    if _PREFIX not in b"\n".join(headers):
        return None
    given: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for header, raw in headers.items():
        if not header.startswith(_PREFIX):
            continue
        name, text = header[len(_PREFIX) :].decode("latin-1"), raw.decode("latin-1").strip()
        if name not in _ALL:
            raise RequestError(
                f"The header 'x-stretto-{name}' is not known; there are "
                + ", ".join(f"x-stretto-{n}" for n in _ALL)
                + "."
            )
        if name in _LABELS:
            given[name] = _labels(name, text)
        elif name == "policy":
            given[name] = text
        elif name == "progress":
            given[name] = _flag(name, text)
        elif name.startswith("limits-"):
            limits[name.removeprefix("limits-")] = _number(name, text)
        else:
            given[name] = _number(name, text)
    if limits:
        given["limits"] = limits
    return parse_options(given, "x-stretto")


def joined(request: Request, body: Options, headers: Options) -> Request:
    """The request, which has the body's options in it already, with those of the headers as well."""
    return replace(
        request,
        limits=request.limits.tightened(headers.limits),
        require=_both(request.require, headers.require),
        exclude={
            label: (*request.exclude.get(label, ()), *headers.exclude.get(label, ()))
            for label in {**request.exclude, **headers.exclude}
        },
        seed=request.seed if body.seed is not None else headers.seed,
        dial=headers.dial if body.dial is None and headers.dial is not None else request.dial,
    )


def _both(
    one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """Both requirements at once. Values that exclude each other leave none, so that no worker satisfies them."""
    found = {**other, **one}
    for label in one.keys() & other.keys():
        found[label] = tuple(value for value in one[label] if value in other[label])
    return found


def _number(name: str, text: str) -> int | float:
    try:
        value = int(text) if name in _WHOLE else float(text)
    except ValueError:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise RequestError(f"The header 'x-stretto-{name}' must be {kind}, not {text[:40]!r}.") from None
    if value != value:
        raise RequestError(f"The header 'x-stretto-{name}' must be a number, not {text[:40]!r}.")
    return value


def _flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise RequestError(f"The header 'x-stretto-{name}' must be true or false, not {text[:40]!r}.")
    return text == "true"


def _labels(name: str, text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in text.split(","):
        label, equals, value = item.strip().partition("=")
        if not equals or not label.strip() or not value.strip():
            raise RequestError(
                f"The header 'x-stretto-{name}' must read `label=value,...`, not {text[:80]!r}."
            )
        found.setdefault(label.strip(), []).append(value.strip())
    return found
