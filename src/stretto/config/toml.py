"""Reading TOML with errors that help: what a value may be, and a table that knows on which line each of its keys stands."""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from stretto.errors import ConfigError

__all__ = [
    "Check",
    "File",
    "Table",
    "Wrong",
    "a_flag",
    "a_name",
    "a_number",
    "a_pattern",
    "a_text",
    "a_whole",
    "near",
    "one_of",
    "some_labels",
    "some_of",
    "some_texts",
]


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean "..."?` for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


# --- what a value may be -----------------------------------------------------------------------------------------

Check = Callable[[Any], Any]
"""Takes a value as TOML gives it, gives it as the settings hold it, or raises `Wrong`."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


class Wrong(Exception):
    """A value is not what its key takes; the text says what it takes."""


def a_text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise Wrong("takes a text in quotes")
    return value


def a_name(value: Any) -> str:
    """What a worker or policy may be called."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Wrong(
            "takes a name: up to 128 letters, digits and . _ : / @ + -, beginning with a letter or digit"
        )
    return value


def some_texts(value: Any) -> tuple[str, ...]:
    """A list of texts, at least one."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise Wrong('takes a list of texts, such as ["a", "b"]')
    return tuple(value)


def a_flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong("takes true or false")
    return value


def some_labels(value: Any) -> dict[str, str]:
    """A table of texts."""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Wrong('takes a table of texts, such as { vendor = "anthropic", region = "eu" }')
    return value


def a_number(least: float, most: float = math.inf) -> Check:
    """A number in a range, ends included."""

    def check(value: Any) -> float:
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not real or not least <= value <= most:
            raise Wrong(f"takes a number {_range(least, most)}")
        return float(value)

    return check


def a_whole(least: int, most: int | None = None) -> Check:
    """A whole number in a range, ends included."""

    def check(value: Any) -> int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            raise Wrong(f"takes a whole number {_range(least, math.inf if most is None else most)}")
        return int(value)

    return check


def _range(least: float, most: float) -> str:
    return f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"


def one_of(*words: str) -> Check:
    """One of a few words."""

    def check(value: Any) -> str:
        if value not in words:
            listed = ", ".join(f'"{word}"' for word in words)
            raise Wrong(f"takes one of {listed}{near(value, words) if isinstance(value, str) else ''}")
        return str(value)

    return check


def some_of(*words: str) -> Check:
    """A list of such words."""

    def check(value: Any) -> tuple[str, ...]:
        one = one_of(*words)
        return tuple(one(item) for item in some_texts(value))

    return check


def a_pattern(value: Any) -> str:
    """A regular expression."""
    try:
        re.compile(a_text(value))
    except re.error as error:
        raise Wrong(f"takes a regular expression, but {error}") from None
    return str(value)


# --- reading a table ---------------------------------------------------------------------------------------------


class File:
    """A configuration file's name and the line on which each key stands."""

    __slots__ = ("lines", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text.splitlines()
        self.lines = _index(self.text)

    def line(self, path: str) -> int | None:
        """The line of a dotted path: its own if it has one, else that of the key in its nearest parent that has."""
        if path in self.lines:
            return self.lines[path]
        parent, last = path, re.split(r"[.\[]", path)[-1].rstrip("]")
        while (cut := max(parent.rfind("."), parent.rfind("["))) > 0:
            parent = parent[:cut]
            if (start := self.lines.get(parent)) is not None:
                end = min((n for n in self.lines.values() if n > start), default=len(self.text) + 1)
                hits = [
                    n for n in range(start, end) if re.search(rf"\b{re.escape(last)}\s*=", self.text[n - 1])
                ]
                return hits[0] if len(hits) == 1 else start
        return None

    def where(self, path: str) -> str:
        """`FILE:LINE: PATH`, the beginning of every message."""
        line = self.line(path)
        return f"{self.name}:{line}: {path}" if line else f"{self.name}: {path}"

    def wrong(self, path: str, problem: str) -> ConfigError:
        """The error about `path`."""
        return ConfigError(f"{self.where(path)}: {problem}")


def _index(lines: list[str]) -> dict[str, int]:
    """The line of every table header and every key that begins a line, by dotted path with `[n]` for arrays of tables."""
    found: dict[str, int] = {}
    count: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            path = ""
            parts = [part.strip().strip("\"'") for part in header[2].split(".")]
            for depth, part in enumerate(parts, 1):
                path = f"{path}.{part}" if path else part
                if header[1] == "[[" and depth == len(parts):
                    count[path] = count.get(path, 0) + 1
                if path in count:
                    path = f"{path}[{count[path] - 1}]"
            prefix = path
            found.setdefault(path, number)
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            name = key[1].replace('"', "").replace("'", "")
            found.setdefault(f"{prefix}.{name}" if prefix else name, number)
    return found


class Table:
    """One table of the file, read key by key. `title` names it in errors."""

    __slots__ = ("data", "file", "path", "title")

    def __init__(self, file: File, path: str, data: Any, title: str = "") -> None:
        if not isinstance(data, dict):
            raise file.wrong(path, "takes a table of keys")
        self.file = file
        self.path = path
        self.data = data
        self.title = title

    def only(self, *keys: str) -> None:
        """Refuse every other key. Called first, so that a slip of the pen is named as what it is."""
        for key in self.data:
            if key not in keys:
                raise self.wrong(key, f"unknown key{near(key, keys) or '.'} Allowed: {', '.join(keys)}")

    def at(self, key: str) -> str:
        """The dotted path of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, problem: str) -> ConfigError:
        """The error about one key."""
        return self.file.wrong(self.at(key), problem + (f" ({self.title})" if self.title else ""))

    def get(self, key: str, check: Check, default: Any = None) -> Any:
        """The checked value of a key, or `default` if it is absent."""
        if key not in self.data:
            return default
        try:
            return check(self.data[key])
        except Wrong as wrong:
            raise self.wrong(key, str(wrong)) from None

    def need(self, key: str, check: Check, example: str) -> Any:
        """The checked value of a key that must be there."""
        if key not in self.data:
            raise self.file.wrong(self.path, f"needs the key `{key}`, such as {example}")
        return self.get(key, check)

    def table(self, key: str) -> "Table":
        """The table under a key; an empty one if it is absent."""
        return Table(self.file, self.at(key), self.data.get(key, {}), self.title)

    def tables(self, key: str, written: str) -> list["Table"]:
        """The array of tables under a key."""
        items = self.data.get(key, [])
        if not isinstance(items, list):
            raise self.wrong(key, f"is a list of tables; write {written}")
        return [Table(self.file, f"{self.at(key)}[{n}]", item, self.title) for n, item in enumerate(items)]
