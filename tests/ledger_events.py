"""Events for tests: arbitrary ones, and the plain story of one run."""

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from stretto.ledger.events import Answered, Asked, Chose, Event, Finished, Opened, Pooled, Said
from stretto.types import Card, Limits, Message, Price, Request, Usage

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | FINITE | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=6),
    int: WHOLE,
    bool: st.booleans(),
    float: FINITE,
    Any: JSON,
    type(None): st.none(),
}


def arbitrary(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that the ledger records."""
    if kind in LEAVES:
        return LEAVES[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of(*(arbitrary(arg) for arg in args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(arbitrary(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(arbitrary(arg) for arg in args))
    if origin is frozenset:
        return st.frozensets(arbitrary(args[0]), max_size=3)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(arbitrary(args[0]), arbitrary(args[1]), max_size=2)
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: arbitrary(hints[field.name]) for field in fields(kind)})


EVENTS: st.SearchStrategy[Event] = st.one_of(*(arbitrary(kind) for kind in typing.get_args(Event)))

SECRET = "0123456789abcdef0123456789abcdef"

POOLED = Pooled(
    time=1.0,
    version="pool-1",
    cards=(
        Card("small", Price.per_million(0.1, 0.4), {"region": "eu"}, frozenset({"text", "json"}), 8192),
        Card("large", Price.per_million(3, 15, 0.3), {}, frozenset({"text", "vision"})),
    ),
)


def story(
    run: str, *, time: float = 100.0, key: str = "", slab: str = "", purpose: str = "serve"
) -> list[Event]:
    """A settled run with one attempt: opened, chose, asked, answered, finished."""
    usage = Usage(12, 5)
    return [
        Opened(
            run=run,
            time=time,
            model="route",
            policy="route",
            version="route-1",
            purpose=purpose,
            key=key,
            limits=Limits(usd=10**12),
            pool="pool-1",
            secret=SECRET,
            content=Request(messages=(Message("user", f"What is {run}?"),), params={"temperature": 0.5}),
        ),
        Chose(
            run=run,
            time=time,
            at="0",
            picked="small",
            reason="cheapest",
            options=(("small", {"usd": 0.1}, ""), ("large", {"usd": 2.0}, "dearer")),
        ),
        Asked(
            run=run,
            time=time + 0.01,
            at="1",
            attempt=1,
            worker="small",
            endpoint="small@here",
            role="solver",
            labels={"region": "eu"},
            max_tokens=100,
            reserved=500,
            key=key,
            slab=slab,
            fingerprint="f" * 32,
        ),
        Answered(
            run=run,
            time=time + 0.11,
            at="1",
            attempt=1,
            worker="small",
            usage=usage,
            cost=320,
            seconds=0.1,
            first_byte=0.05,
            finish="stop",
            key=key,
            slab=slab,
            content=Said(Message("assistant", f"It is {run}.")),
        ),
        Finished(
            run=run,
            time=time + 0.12,
            at="1",
            worker="small",
            why="only answer",
            finish="stop",
            usage=usage,
            cost=320,
            calls=1,
            seconds=0.12,
            own=0.02,
            key=key,
        ),
    ]


def bare(event: Event) -> Event:
    """The event as it is left when its content is not kept."""
    names = {field.name for field in fields(event)}
    changes: dict[str, Any] = {}
    if "content" in names:
        changes["content"] = None
    if "secret" in names:
        changes["secret"] = ""
    return replace(event, **changes)
