"""What a data folder says, read with nothing but a JSON parser and SQL: an opinion independent of the code under test."""

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Books", "Money", "books", "money"]


@dataclass(slots=True)
class Books:
    """All journals of a data folder, added up. Money in pico-dollars."""

    chains: int = 0
    settled: int = 0
    unknown: int = 0
    asked: int = 0
    answered: int = 0
    open: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """Intents without an outcome: (run, step, attempt) -> the process that wrote them."""
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last end of each run."""


def books(data: Path) -> Books:
    """Add up what every process has written."""
    found = Books()
    reserved: dict[tuple[str, str, int], int] = {}
    for folder in sorted((data / "ledger").iterdir()):
        if not folder.is_dir():
            continue
        found.chains += 1
        for path in sorted(folder.glob("0*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                record = json.loads(line)
                kind = record["kind"]
                if kind == "finished":
                    found.finished[record["run"]] = record
                if kind not in ("asked", "answered"):
                    continue
                place = (record["run"], record["at"], record["attempt"])
                if kind == "asked":
                    found.asked += 1
                    assert place not in reserved, f"{place} was asked twice"
                    reserved[place] = record.get("reserved", 0)
                    found.open[place] = folder.name
                else:
                    found.answered += 1
                    found.open.pop(place)
                    found.settled += record.get("cost", 0)
    found.unknown = sum(reserved[place] for place in found.open)
    return found


@dataclass(frozen=True, slots=True)
class Money:
    """A key's money at one instant. Pico-dollars."""

    spent: int
    reserved: int

    @property
    def gone(self) -> int:
        """What may not pass the ceiling."""
        return self.spent + self.reserved


def money(connection: sqlite3.Connection, key: str) -> Money:
    """The money of a key over its whole life, from one read transaction."""
    connection.execute("BEGIN")
    try:
        closed = connection.execute(
            "SELECT coalesce(sum(spent), 0) FROM spending WHERE key = ? AND period = 'total'", (key,)
        ).fetchone()[0]
        spent, reserved = connection.execute(
            "SELECT coalesce(sum(spent), 0), coalesce(sum(max(0, granted - spent)), 0) FROM slabs WHERE key = ?",
            (key,),
        ).fetchone()
    finally:
        connection.execute("COMMIT")
    return Money(closed + spent, reserved)
