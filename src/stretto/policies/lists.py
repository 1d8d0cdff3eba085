"""Three lists in a model's free text: read as Python literals, JSON or plain enumerations alike, with what models get wrong.

Written for hostile text: a hand-made reader of lists, texts and numbers with a bound on depth and on failed attempts, so that
its time grows with the length of the text, and nothing is ever evaluated. What stands inside a quoted text or inside a block
of thoughts is never taken for a list.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["Lists", "extract"]

_LONGEST: Final = 48_000
_DEEPEST: Final = 4
_FAILURES: Final = 8

_MODELS: Final = "model_ids?|model_id_list|models?|agent_ids?|agents?|worker_ids?|workers?"
_SUBTASKS: Final = "sub_?tasks?|sub_?task_list|tasks?|instructions?"
_ACCESS: Final = "access_lists?|access"
_STEPS: Final = "steps|workflow|plan"
_KINDS: Final = {"models": _MODELS, "subtasks": _SUBTASKS, "access": _ACCESS, "steps": _STEPS}
_PLAIN: Final = ("model_id", "model_ids", "subtasks", "subtask", "access_list", "access")
"""Names after which a list may stand without brackets, at the beginning of a line."""

_THOUGHTS: Final = re.compile(
    r"<(/?)(?:think|thinking|thought|thoughts|reasoning)>", re.IGNORECASE | re.ASCII
)
_NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_])"
    + "(?:" + "|".join(f"(?P<{kind}>{names})" for kind, names in _KINDS.items()) + ")"
    + r"(?![A-Za-z0-9_])[\"'`*) \t]{0,8}(?::[ \t]{0,4}list\[[A-Za-z\[\], ]{0,40}\][ \t]{0,4}=|:=|[:=])[`* \t]{0,8}"
    + r"|^[ \t`]{0,20}(?P<object>\{)|^[ \t`]{0,20}(?P<array>\[)(?=[\s]{0,40}\{)",
    re.IGNORECASE | re.ASCII | re.MULTILINE,
)  # fmt: skip
_BEFORE_NAME: Final = re.compile(r"[ \t]{0,8}(?:[-*•+]|[0-9]{1,2}[.)])?[ \t]{0,4}[*`\"']{0,4}\Z")
_MORE_ACCESS: Final = re.compile(r"[ \t]{0,8},[ \t]{0,8}(?:\[|[\"']?all\b)")
_BULLET: Final = re.compile(r"[ \t]{0,8}(?:[-*•+]|[0-9]{1,2}[.)])[ \t]{1,8}(\S[^\n]*)(?:\n|\Z)")
_SPACE: Final = re.compile(r"(?:[\s]|#[^\n]*\n|//[^\n]*\n)*")
_SEPARATION: Final = re.compile(r"(?:[\s,]|#[^\n]*\n|//[^\n]*\n)*")
_BARE: Final = re.compile(r"[^,\]\}\n]*")
_KEY: Final = re.compile(r"([A-Za-z_]{1,40})[ \t]{0,4}[:=]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}\Z")
_ENDS: Final = {
    quote: re.compile(rf"[\\{end}]") for quote, end in {'"': '"', "'": "'", "“": "”", "`": "`"}.items()
}
_AFTER_TEXT: Final = re.compile(r"[ \t\r\n]*(?:[,\]})#:]|//|\Z)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "", "\n": ""}
_PREFIX: Final = re.compile("[rfbu]{0,2}(?=[\"'“`])", re.IGNORECASE | re.ASCII)
_UNIT: Final = re.compile(r"u[0-9A-Fa-f]{4}")
_WORDS: Final[dict[str, Any]] = {"none": None, "null": None, "true": True, "false": False}


class Lists(NamedTuple):
    """What was found, as it was written: numbers, texts, lists, `None`, booleans, objects. Nothing of it is checked."""

    models: list[Any]
    subtasks: list[Any]
    access: list[Any]


class _Broken(Exception):
    """What begins like a list, a text or an object and is none."""


def extract(text: str) -> Lists | None:
    """The last complete triple of lists in a text, or `None`. Never raises."""
    text = _spoken(text)[-_LONGEST:]
    found: Lists | None = None
    partly: dict[str, list[Any]] = {}
    for kind, value in _assignments(text):
        if kind == "steps":
            if (lists := _of_steps(value)) is not None:
                found, partly = lists, {}
        elif kind == "object":
            if (lists := _of_object(value)) is not None:
                found, partly = lists, {}
        else:
            partly[kind] = value
            if len(partly) == 3:
                found, partly = Lists(**partly), {}
    return found


def _spoken(text: str) -> str:
    """The text without thoughts: what follows the last closed block of them, up to one that is not closed."""
    start, end = 0, len(text)
    for mark in _THOUGHTS.finditer(text):
        if mark.group(1):
            start, end = mark.end(), len(text)
        elif end == len(text):
            end = mark.start()
    return text[start:end]


def _assignments(text: str) -> Iterator[tuple[str, Any]]:
    """Every list in the text that has a name, and every object or list of objects that begins a line, in their order."""
    place, failures = 0, 0
    while failures < _FAILURES and (mark := _NAMED.search(text, place)) is not None:
        kind = mark.lastgroup or ""
        place = mark.end()
        try:
            if kind in ("object", "array"):
                value, place = _value(text, mark.end() - 1, 0)
                yield "steps" if kind == "array" else "object", value
                continue
            start = _skipped(text, place)
            if text.startswith("[", start):
                value, place = _value(text, start, 0)
                if kind == "access" and _MORE_ACCESS.match(text, place) and _begins_line(text, mark.start()):
                    value, place = _plain(text, start)
                yield kind, value
            elif kind == "steps":
                if text.startswith("{", start):
                    value, place = _value(text, start, 0)
                    yield "object", value
            elif mark.group(kind).casefold() in _PLAIN and _begins_line(text, mark.start()):
                items, place = _plain(text, place)
                if items:
                    yield kind, items
        except _Broken:
            failures += 1


def _begins_line(text: str, place: int) -> bool:
    """Whether nothing but a bullet and marks of emphasis stand before this place in its line."""
    start = text.rfind("\n", max(0, place - 20), place)
    if start < 0 and place > 20:
        return False
    return _BEFORE_NAME.match(text[start + 1 : place]) is not None


def _plain(text: str, place: int) -> tuple[list[Any], int]:
    """A list without brackets: items to the end of the line, or, where the line is empty, one bullet a line."""
    end = text.find("\n", place)
    line = text[place : end if end >= 0 else len(text)]
    if line.strip():
        items, _ = _items(line, 0, "", 0)
        return items, place + len(line)
    place, items = place + len(line) + 1, []
    while (bullet := _BULLET.match(text, place)) is not None:
        said = bullet.group(1).strip()
        items.append(_value(said, 0, 0)[0] if said[0] in "[\"'“" else _word(said))
        place = bullet.end()
    return items, min(place, len(text))


def _skipped(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _value(text: str, place: int, depth: int) -> tuple[Any, int]:
    """The value that begins at `place`, and where it ends."""
    if depth > _DEEPEST:
        raise _Broken
    first = text[place : place + 1]
    if first == "[":
        return _items(text, place + 1, "]", depth)
    if first == "(":
        return _items(text, place + 1, ")", depth)
    if first == "{":
        return _object(text, place + 1, depth)
    if (prefix := _PREFIX.match(text, place)) is not None:
        return _text(text, prefix.end())
    found = _BARE.match(text, place)
    said = found.group() if found else ""
    if not said:
        raise _Broken
    return _word(said.split(" #")[0]), place + len(said)


def _items(text: str, place: int, end: str, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while True:
        skipped = _SEPARATION.match(text, place)
        place = skipped.end() if skipped else place
        if place >= len(text):
            if end:
                raise _Broken
            return items, place
        if text[place] == end:
            return items, place + 1
        if text[place] in "])}":
            raise _Broken
        value, place = _value(text, place, depth + 1)
        items.append(value)


def _object(text: str, place: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while True:
        skipped = _SEPARATION.match(text, place)
        place = skipped.end() if skipped else place
        if text.startswith("}", place):
            return found, place + 1
        if (bare := _KEY.match(text, place)) is not None:
            key, place = bare.group(1), bare.end()
        elif text[place : place + 1] in _ENDS and place < len(text):
            key, place = _text(text, place)
            place = _skipped(text, place)
            if not text.startswith(":", place):
                raise _Broken
            place += 1
        else:
            raise _Broken
        found[key.casefold()], place = _value(text, _skipped(text, place), depth + 1)


def _text(text: str, place: int) -> tuple[str, int]:
    """A quoted text. A quotation mark ends it only where a comma or the end of the list follows: `'don't'` is one text."""
    quote = text[place]
    if text.startswith(quote * 3, place):
        end = text.find(quote * 3, place + 3)
        if end >= 0:
            return text[place + 3 : end], end + 3
    pieces: list[str] = []
    start = place + 1
    marks = _ENDS[quote]
    at = start
    while (mark := marks.search(text, at)) is not None:
        if mark.group() == "\\":
            pieces.append(text[start : mark.start()])
            said, start = _escaped(text, mark.end())
            pieces.append(said)
            at = start
        elif _AFTER_TEXT.match(text, mark.end()) is not None:
            pieces.append(text[start : mark.start()])
            return "".join(pieces), mark.end()
        else:
            at = mark.end()
    raise _Broken


def _escaped(text: str, place: int) -> tuple[str, int]:
    """What stands for an escape whose backslash stands before `place`."""
    letter = text[place : place + 1]
    if letter != "u":
        return _ESCAPES.get(letter, letter), place + 1
    units: list[int] = []
    while _UNIT.match(text, place) and len(units) < 2:
        units.append(int(text[place + 1 : place + 5], 16))
        place += 5
        if not (0xD800 <= units[0] < 0xDC00 and text.startswith("\\u", place)):
            break
        place += 1
    if not units:
        return "\\u", place + 1
    pair = b"".join(unit.to_bytes(2, "big") for unit in units)
    return pair.decode("utf-16-be", "replace"), place


def _word(said: str) -> Any:
    """A number, a word that stands for something, or the text itself."""
    said = said.strip().strip("`*").strip()
    if _NUMBER.match(said):
        return int(said)
    return _WORDS.get(said.casefold(), said)


# --- objects -----------------------------------------------------------------------------------------------------


def _entry(found: dict[str, Any], kind: str) -> tuple[bool, Any]:
    """The entry of an object under any of the names of a kind."""
    for key, value in found.items():
        if re.fullmatch(_KINDS[kind], key, re.IGNORECASE | re.ASCII):
            return True, value
    return False, None


def _of_steps(steps: Any) -> Lists | None:
    """A list of objects, one a step; an entry that one of them lacks makes the lists unequal."""
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return None
    lists = Lists([], [], [])
    for step in steps:
        for kind, column in zip(Lists._fields, lists, strict=True):
            there, value = _entry(step, kind)
            if there:
                column.append(value)
    return lists if any(lists) or not steps else None


def _of_object(found: Any) -> Lists | None:
    """An object that holds the steps, or the three lists."""
    if not isinstance(found, dict):
        return None
    there, steps = _entry(found, "steps")
    if there:
        return _of_steps(steps)
    entries = [_entry(found, kind) for kind in Lists._fields]
    if all(there and isinstance(value, list) for there, value in entries):
        return Lists(*(value for _, value in entries))
    return None
