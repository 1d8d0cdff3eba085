"""Changing other programs' files: what Stretto puts in, and taking exactly that out again.

Pure functions of text. `None` stands for a file that is not there. Comments, order and everything else in TOML and YAML stay as
they are, since what is ours goes into marked blocks; a line of the owner's that would contradict it is kept as a marked comment.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from stretto.errors import ConfigError

__all__ = ["Edit", "JsonEdit", "Mapped", "Ours", "TomlEdit", "YamlEdit", "revert_json", "without_blocks"]

_BEGIN: Final = "# >>> stretto: from `stretto connect`; `--undo` takes it out again"
_END: Final = "# <<< stretto"
_ASIDE: Final = "#(stretto) "
"""Before a line of the owner's that says something else than ours."""

Mapped = tuple[str, ...]
"""Where a value stands in JSON: the keys from the outside in."""


class Edit(Protocol):
    """What Stretto has to say in one file."""

    @property
    def path(self) -> Path:
        """The file."""

    def apply(self, text: str | None) -> str:
        """The file with ours in it, however often it is applied. Raises `ConfigError` where that cannot be done safely."""


@dataclass(frozen=True, slots=True)
class Ours:
    """A file that is Stretto's alone."""

    path: Path
    text: str

    def apply(self, text: str | None) -> str:
        """The whole file."""
        return self.text


# --- marked blocks -----------------------------------------------------------------------------------------------


def without_blocks(text: str) -> str:
    """A file as it would be without our blocks; lines that were set aside are in force again."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if line.startswith(_BEGIN):
            inside = True
        elif inside:
            inside = not line.startswith(_END)
        else:
            kept.append(line.removeprefix(_ASIDE))
    return "".join(kept)


def _block(lines: Sequence[str]) -> str:
    return "\n".join((_BEGIN, *lines, _END, ""))


def _ended(text: str) -> str:
    """A text whose last line has its end."""
    return text if not text or text.endswith("\n") else text + "\n"


@dataclass(frozen=True, slots=True)
class TomlEdit:
    """Values at the top of a TOML file, and tables at its end. A table is its dotted name and its values."""

    path: Path
    values: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]

    def apply(self, text: str | None) -> str:
        """See `Edit`. The result is read back: everything else must mean what it meant before."""
        before = without_blocks(text or "")
        known = self._read(before)
        lines = before.splitlines(keepends=True)
        head = next((n for n, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
        ours = re.compile(rf"\s*(?:{'|'.join(map(re.escape, self.values))})\s*=")
        lines[:head] = [_ASIDE + line if ours.match(line) else line for line in lines[:head]]
        top = _block([_toml(key, value) for key, value in self.values.items()])
        tables = [self._table(name, values) for name, values in self.tables.items()]
        after = top + _ended("".join(lines)) + _block("\n\n".join(tables).split("\n"))
        try:
            same = self._others(tomllib.loads(after)) == self._others(known)
        except tomllib.TOMLDecodeError:
            same = False
        if not same:
            raise ConfigError(
                f"{self.path}: ours cannot be put in without changing what is yours. Put it in by hand:\n"
                f"{top}{_block(tables)}"
            )
        return after

    def _read(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"{self.path}: is not valid TOML ({error}); correct it, then try again"
            ) from None

    def _others(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What of a file is none of ours."""
        rest = {key: value for key, value in data.items() if key not in self.values}
        for name in self.tables:
            *outer, last = name.split(".")
            holder: Any = rest
            for key in outer:
                holder[key] = dict(holder.get(key, {}))
                holder = holder[key]
            holder.pop(last, None)
            if len(outer) == 1 and not rest[outer[0]]:
                del rest[outer[0]]
        return rest

    @staticmethod
    def _table(name: str, values: Mapping[str, Any]) -> str:
        return "\n".join((f"[{name}]", *(_toml(key, value) for key, value in values.items())))


def _toml(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"  # texts, numbers, flags: as in JSON


@dataclass(frozen=True, slots=True)
class YamlEdit:
    """Entries of a YAML file: `entries` of a list, or `values` at the top of a mapping."""

    path: Path
    values: Mapping[str, Any]
    entries: Sequence[Mapping[str, Any]] = ()

    def apply(self, text: str | None) -> str:
        """See `Edit`. YAML is not read here, so a file in a style that might not take a block is refused."""
        before = without_blocks(text or "")
        lines = before.splitlines(keepends=True)
        first = next((line for line in lines if line.strip() and not re.match(r"\s*#|---\s*$", line)), "")
        fits = first.startswith("- ") if self.entries else re.match(r"[\w-]+\s*:", first)
        ours = self._ours()
        if first and (not fits or any(re.match(r"---|\.\.\.", line) for line in lines[1:])):
            raise ConfigError(
                f"{self.path}: is written in a style that Stretto does not edit. Put it in by hand:\n{ours}"
            )
        if self.values:
            lines = self._set_aside(lines)
        return _ended("".join(lines)) + ours

    def _ours(self) -> str:
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.values.items()]
        for entry in self.entries:
            pairs = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
            lines += [("- " if n == 0 else "  ") + pair for n, pair in enumerate(pairs)]
        return _block(lines)

    def _set_aside(self, lines: Sequence[str]) -> list[str]:
        """Our keys with all that belongs to them become comments."""
        ours = re.compile(rf"(?:{'|'.join(map(re.escape, self.values))})\s*:")
        aside, kept = False, []
        for line in lines:
            if line.strip() and not line[0].isspace() and not line.startswith(("- ", "#")):
                aside = ours.match(line) is not None
            kept.append(_ASIDE + line if aside and line.strip() else line)
        return kept


# --- JSON --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JsonEdit:
    """Values of a JSON file, each by the keys that lead to it."""

    path: Path
    values: Mapping[Mapped, Any]

    def apply(self, text: str | None) -> str:
        """See `Edit`."""
        data = _json(self.path, text, self.values)
        for keys, value in self.values.items():
            holder = data
            for key in keys[:-1]:
                inner = holder.setdefault(key, {})
                if not isinstance(inner, dict):
                    raise ConfigError(
                        f'{self.path}: "{key}" should hold an object; correct it, then try again'
                    )
                holder = inner
            holder[keys[-1]] = value
        return _dumped(data, text)

    def before(self, text: str | None) -> list[dict[str, Any]]:
        """What stands in our places in a file: what `revert_json` needs to know."""
        data = _json(self.path, text, self.values)
        return [{"keys": list(keys), "set": value} | _at(data, keys) for keys, value in self.values.items()]


def revert_json(path: Path, text: str, changes: Sequence[Mapping[str, Any]]) -> str:
    """A JSON file with our values as they were before. What the owner has changed since stays."""
    data = _json(path, text, {})
    for change in reversed(changes):
        *outer, last = change["keys"]
        holders = [data]
        for key in outer:
            inner = holders[-1].get(key)
            if not isinstance(inner, dict):
                break
            holders.append(inner)
        else:
            if holders[-1].get(last) != change["set"]:
                continue
            if "was" in change:
                holders[-1][last] = change["was"]
                continue
            del holders[-1][last]
            for key, holder, inner in reversed(list(zip(outer, holders, holders[1:], strict=False))):
                if not inner:
                    del holder[key]
    return _dumped(data, text)


def _at(data: Any, keys: Mapped) -> dict[str, Any]:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return {}
        data = data[key]
    return {"was": data}


def _json(path: Path, text: str | None, values: Mapping[Mapped, Any]) -> dict[str, Any]:
    if text is None or not text.strip():
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        wanted = "\n".join(f"  {'.'.join(keys)} = {json.dumps(value)}" for keys, value in values.items())
        raise ConfigError(
            f"{path}: is not plain JSON ({error}); comments would be lost. Put it in by hand:\n{wanted}"
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: should hold an object; correct it, then try again")
    return data


def _dumped(data: Mapping[str, Any], like: str | None) -> str:
    """JSON, indented as the file was."""
    found = re.search(r'\n([ \t]+)"', like or "")
    indent: Any = found[1] if found else 2
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return text if like and like.strip() and not like.endswith("\n") else text + "\n"
