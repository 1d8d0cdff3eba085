"""How much work a JSON Schema can make of an answer: schemas that double at each level would stop the whole gateway.

A schema of a few kilobytes may look at one place of an answer in 2**40 ways (`allOf` of twice the same `$ref`, forty deep), and a
recursive one in two ways more for each level of the answer. Both are counted here before anything is checked.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["MOST", "Ways", "levels"]

MOST: Final = 100_000
"""Ways to look at one place of an answer. A hundred thousand take some hundredths of a second."""

_REFS: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_SAME: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", *_REFS)
_SAME_BY_NAME: Final = ("dependentSchemas", "dependencies")
_BELOW: Final = (
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "contentSchema",
)
_NAMES: Final = ("$id", "id", "$anchor", "$dynamicAnchor")


class Ways:
    """Counts for one schema, which must be a valid one."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._known: dict[tuple[int, int], int] = {}
        self._parts: dict[int, tuple[list[Any], list[Any], list[list[Any]]]] = {}
        self._named: dict[str, Any] = {}
        self.refers = False
        """Whether a part of the schema is used in several places. Without that it looks in no more ways than it is long."""
        for each in _objects(schema):
            self.refers = self.refers or any(key in each for key in _REFS)
            for key in _NAMES:
                if isinstance(name := each.get(key), str):
                    self._named[name.removesuffix("#")] = each

    def at(self, depth: int) -> int:
        """In how many ways the schema may look at one place of an answer that has so many levels; `MOST` + 1 if in more."""
        found = 0
        for each in range(depth + 1):  # from the leaves up: the recursion stays as flat as the schema
            found = self._ways(self._root, each)
            if found > MOST:
                break
        return found

    def _ways(self, node: Any, depth: int) -> int:
        known = self._known.get((id(node), depth))
        if known is not None:
            return known
        if not isinstance(node, Mapping):
            return 1
        self._known[id(node), depth] = MOST + 1  # what a circle in place comes to: no schema may have one
        parts = self._parts.get(id(node))
        if parts is None:
            parts = self._parts[id(node)] = (list(self._in_place(node)), list(_below(node)), _one_below(node))
        here, below, one_below = parts
        found = 1
        for each in here:
            found += self._ways(each, depth)
        if depth:
            for each in below:
                found += self._ways(each, depth - 1)
            for group in one_below:
                found += max([self._ways(each, depth - 1) for each in group])
        found = self._known[id(node), depth] = min(found, MOST + 1)
        return found

    def _in_place(self, node: Mapping[str, Any]) -> Iterator[Any]:
        for key in _SAME:
            value = node.get(key)
            if isinstance(value, str) and key.startswith("$"):
                yield self._target(value)
            elif isinstance(value, list):
                yield from value
            elif isinstance(value, Mapping):
                yield value
        for key in _SAME_BY_NAME:
            yield from _members(node.get(key))

    def _target(self, ref: str) -> Any:
        """What a `$ref` points to; the whole schema where that cannot be told."""
        base, _, pointer = ref.partition("#")
        node = self._named.get(base, self._root) if base else self._root
        if pointer and not pointer.startswith("/"):
            return self._named.get(pointer, self._root)
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping) and step in node:
                node = node[step]
            elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
                node = node[int(step)]
            else:
                return self._root
        return node


def levels(value: Any) -> int:
    """How many levels an answer has below its first."""
    deep, row = 0, [value]
    while True:
        row = [each for inner in row for each in _members(inner)]
        if not row:
            return deep
        deep += 1


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _below(node: Mapping[str, Any]) -> Iterator[Any]:
    """Subschemas that may all look at the same place one level down."""
    for key in _BELOW:
        value = node.get(key)
        if isinstance(value, Mapping):
            yield value
        else:
            yield from _members(value)
    yield from _members(node.get("patternProperties"))


def _one_below(node: Mapping[str, Any]) -> list[list[Any]]:
    """Groups of subschemas of which only one looks at any place one level down."""
    groups = [list(_members(node.get(key))) for key in ("properties", "prefixItems")]
    return [group for group in groups if group]


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    row = [schema]
    while row:
        node = row.pop()
        if isinstance(node, Mapping):
            yield node
        row.extend(_members(node))
