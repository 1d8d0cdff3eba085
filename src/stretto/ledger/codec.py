"""Events as JSON and back.

An event becomes up to two pieces: its chained record (every field but `content` and `secret`) and its content (JSON of
`content` alone). What joins them is a digest: BLAKE2b of the content's bytes, keyed with the run's secret.

Reading is lenient: fields that this version does not know are passed over, fields that an older one did not write get their
defaults. A float that JSON cannot say (infinite, not a number) comes back as not a number.
"""

import hashlib
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import orjson

from stretto.errors import LedgerError
from stretto.ledger.events import Event

__all__ = [
    "Shape",
    "content_line",
    "digest",
    "dumps",
    "erased_line",
    "from_record",
    "shape",
    "text_of",
]

_APART = ("content", "secret")

Decode = Callable[[Any], Any]


class Shape(NamedTuple):
    """How one type of event is written: `write(event, sequence, previous)` gives its chained record; whether content or a secret
    goes with it.
    """

    kind: str
    names: tuple[str, ...]
    write: Callable[[Any, int, str], dict[str, Any]]
    content: bool
    secret: bool


@cache
def shape(event: Any) -> Shape:
    """How events of this type are written."""
    hints = get_type_hints(event)
    own = [field.name for field in fields(event)]
    names = tuple(name for name in own if name not in _APART)
    # Made as source, the way `dataclasses` makes methods: a dict display is three times as fast as a loop over the fields, and
    # orjson writes a slotted dataclass several times slower than a dict. Every event of every call comes through here.
    items = ", ".join(f"{name!r}: {_display('event.' + name, hints[name])}" for name in names)
    source = f"lambda event, sequence, previous: {{'seq': sequence, 'prev': previous, 'kind': {event.kind!r}, {items}}}"
    write: Callable[[Any, int, str], dict[str, Any]] = eval(source, {})
    return Shape(event.kind, names, write, "content" in own, "secret" in own)


def _display(value: str, kind: Any) -> str:
    """The source of a value, a dataclass spread out as a dict."""
    if not is_dataclass(kind):
        return value
    return f"{{{', '.join(f'{field.name!r}: {value}.{field.name}' for field in fields(kind))}}}"


def dumps(value: Any) -> bytes:
    """JSON of plain data and dataclasses. Raises `LedgerError` for what JSON cannot hold."""
    try:
        return orjson.dumps(value, _plain)
    except orjson.JSONEncodeError as error:
        raise LedgerError(f"this cannot be recorded as JSON: {error}") from error


def digest(content: bytes, secret: str) -> str:
    """The keyed digest of a content: BLAKE2b, 256 bits, hexadecimal. A secret above BLAKE2b's 64 bytes is hashed first."""
    key = secret.encode()
    if len(key) > 64:
        key = hashlib.blake2b(key).digest()
    return hashlib.blake2b(content, digest_size=32, key=key).hexdigest()


def content_line(sequence: int, run: str, secret: str, text: bytes) -> bytes:
    """The line that keeps a content (its JSON `text`) apart, with the key of its digest."""
    return b'{"seq":%d,"run":%b,"secret":%b,"content":%b}\n' % (sequence, dumps(run), dumps(secret), text)


def text_of(line: bytes) -> bytes:
    """The JSON text of the content in such a line. Raises `ValueError` when there is none."""
    return line[line.index(b'"content":') + 10 : -2]


def erased_line(length: int) -> bytes:
    """What stands in the place of an erased content line of this length (newline included)."""
    return b'{"erased":"' + b"." * (length - 14) + b'"}\n'


def from_record(record: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> Event | None:
    """The event of a chained record and, if it was kept, of what was kept apart (`content`, `secret`).

    `None` for records that are no event of this version.
    """
    event = _kinds().get(record.get("kind", ""))
    if event is None:
        return None
    found = _fields(event)
    values = {name: found[name](value) for name, value in record.items() if name in found}
    for name in _APART:
        if name in found and kept is not None and name in kept:
            values[name] = found[name](kept[name])
    made: Event = event(**values)
    return made


@cache
def _kinds() -> dict[str, Any]:
    return {event.kind: event for event in get_args(Event)}


def _plain(value: Any) -> Any:
    """What orjson does not know: sets and mappings that are not dicts."""
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON data")


# --- decoding ----------------------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


@cache
def _fields(kind: Any) -> dict[str, Decode]:
    hints = get_type_hints(kind)
    return {field.name: _decoder(hints[field.name]) for field in fields(kind)}


@cache
def _decoder(kind: Any) -> Decode:
    """How a value of type `kind` is made from JSON data, worked out once."""
    if is_dataclass(kind):
        return _dataclass(kind)
    if kind is float:
        return _float
    origin, args = get_origin(kind), get_args(kind)
    if origin is Union or origin is types.UnionType:
        return _union(args)
    if origin is tuple:
        return _tuple(args)
    if origin is frozenset:
        return _collection(frozenset, _decoder(args[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = _decoder(args[1])
        return _same if value is _same else lambda data: {k: value(v) for k, v in data.items()}
    if kind is Any or kind in (str, int, bool, type(None)) or origin is Literal:
        return _same
    raise TypeError(f"no way to read a {kind}")


def _dataclass(kind: Any) -> Decode:
    def read(data: Mapping[str, Any]) -> Any:
        found = _fields(kind)
        return kind(**{name: found[name](value) for name, value in data.items() if name in found})

    return read


def _tuple(args: tuple[Any, ...]) -> Decode:
    if len(args) == 2 and args[1] is Ellipsis:
        return _collection(tuple, _decoder(args[0]))
    items = tuple(_decoder(arg) for arg in args)
    return lambda data: tuple(item(value) for item, value in zip(items, data, strict=True))


def _collection(make: Callable[[Any], Any], item: Decode) -> Decode:
    if item is _same:
        return make
    return lambda data: make(map(item, data))


def _union(args: tuple[Any, ...]) -> Decode:
    """By the JSON type of the data: a union of ours has at most one member that is a list, and one that is an object."""
    by_type: dict[type, Decode] = {}
    for arg in args:
        if (read := _decoder(arg)) is _same or read is _float:
            continue
        origin = get_origin(arg)
        by_type[list if origin in (tuple, frozenset) else dict] = read
    return lambda data: by_type.get(type(data), _same)(data)
